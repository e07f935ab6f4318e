//! What a claim says about its owner, as the line keeps it: a format byte, the process id (4 bytes, little-endian),
//! the lengths of user, host and program (a byte each), these three, and the reason.
//!
//! Two notes are equal only if all they say is; a text that is too long is cut at a character.

use super::Owner;

const FORMAT: u8 = 1;
const FIXED: usize = 8;
/// The longest user, host and program, in bytes.
const LONGEST: [usize; 3] = [128, 253, 255];
/// The longest reason, in bytes.
const REASON: usize = 256;

/// Writes a note over what is in `out`.
pub(super) fn encode(owner: &Owner, reason: &str, out: &mut Vec<u8>) {
    let [user, host, program] = LONGEST;
    let texts = [cut(&owner.user, user), cut(&owner.host, host), cut(&owner.program, program)];
    out.clear();
    out.push(FORMAT);
    out.extend_from_slice(&owner.pid.to_le_bytes());
    out.extend(texts.iter().map(|t| u8::try_from(t.len()).unwrap_or(u8::MAX)));
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(cut(reason, REASON).as_bytes());
}

/// What a note says. Whatever it says: one that is damaged or of another format says little, and never fails.
pub(super) fn decode(note: &[u8]) -> (Owner, String) {
    let mut owner = Owner { user: String::new(), host: String::new(), pid: 0, program: String::new() };
    let (Some(&[FORMAT, a, b, c, d, user, host, program]), Some(mut rest)) =
        (note.first_chunk::<FIXED>(), note.get(FIXED..))
    else {
        return (owner, String::new());
    };
    let mut take = |len: u8| {
        let (text, after) = rest.split_at(usize::from(len).min(rest.len()));
        rest = after;
        String::from_utf8_lossy(text).into_owned()
    };
    owner.pid = u32::from_le_bytes([a, b, c, d]);
    (owner.user, owner.host, owner.program) = (take(user), take(host), take(program));
    let reason = String::from_utf8_lossy(rest).into_owned();
    (owner, reason)
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(owner: &Owner, reason: &str) -> Vec<u8> {
        let mut out = vec![9; 9];
        encode(owner, reason, &mut out);
        out
    }

    fn owner(user: &str, host: &str, program: &str) -> Owner {
        Owner { user: user.into(), host: host.into(), pid: 0xDEAD_BEEF, program: program.into() }
    }

    #[test]
    fn a_note_says_what_it_was_told() {
        for (o, reason) in [(owner("", "", ""), ""), (owner("ä", "hôst", "p r"), "nightly\u{1F319} run")] {
            assert_eq!(decode(&note(&o, reason)), (o, reason.to_owned()));
        }
        assert_ne!(note(&owner("a", "bc", ""), "x"), note(&owner("ab", "c", ""), "x"));
        assert_ne!(note(&owner("a", "b", "c"), ""), note(&owner("a", "b", ""), "c"));
    }

    #[test]
    fn long_texts_are_cut_at_a_character_and_fit_into_a_line() {
        let long = "é".repeat(999);
        let bytes = note(&owner(&long, &long, &long), &long);
        assert!(bytes.len() <= 1024);
        let (o, reason) = decode(&bytes);
        assert_eq!((o.user.len(), o.host.len(), o.program.len(), reason.len()), (128, 252, 254, 256));
        assert!(long.starts_with(&o.host) && long.starts_with(&reason));
    }

    #[test]
    fn every_damaged_note_is_read() {
        let good = note(&owner("user", "host", "program"), "reason");
        for end in 0..good.len() {
            decode(&good[..end]);
        }
        for at in 0..good.len() {
            for bad in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut note = good.clone();
                note[at] = bad;
                decode(&note);
            }
        }
    }
}
