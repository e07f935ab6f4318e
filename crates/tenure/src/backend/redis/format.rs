//! Records of claims as the scripts keep them, and the notes in them.

use std::time::Duration;

use super::answer;
use super::digits::{self, micros};
use crate::backend::{Claim, ClaimId, Kind, Owner, Previous, Seen};
use crate::token::Token;

/// Weight, capacity and the two leases, as digits of fixed width. A mutex has no capacity but 1: in its place, how many
/// tokens it asks for.
pub(super) fn terms(claim: &Claim) -> String {
    let capacity = if claim.kind == Kind::Mutex { claim.cohort.tokens } else { claim.capacity };
    let mut out = String::with_capacity(160);
    digits::push(&mut out, claim.weight.into(), 10);
    digits::push(&mut out, capacity.into(), 10);
    digits::push(&mut out, lease(claim.ttl), 11);
    digits::push(&mut out, lease(claim.waiting), 11);
    out
}

/// What an attempt asks for, and who: terms, the client that is told, and the note.
pub(super) fn asked(client: &str, claim: &Claim) -> String {
    let mut out = terms(claim);
    out.push_str(client);
    write_note(&mut out, claim);
    out
}

/// How an attempt asks: kind, whether it is to stand in line, and birth in µs on the server's clock.
pub(super) fn how(claim: &Claim, birth: u64) -> String {
    let mut out = String::with_capacity(18);
    out.push_str(answer::digit(claim.kind));
    out.push(if claim.stand { '1' } else { '0' });
    digits::push(&mut out, birth, 16);
    out
}

/// A lease as the scripts are told it, in µs: as much as there are digits for.
pub(super) fn lease(asked: Duration) -> u64 {
    micros(asked).min(99_999_999_999)
}

/// The client that is told, and the note.
pub(super) fn who(client: &str, claim: &Claim) -> String {
    let mut out = String::with_capacity(128);
    out.push_str(client);
    write_note(&mut out, claim);
    out
}

/// Who asks and why: user, host, pid, program and reason, between tabs; and how many tasks wait behind it, if any do.
pub(super) fn note(claim: &Claim) -> String {
    let mut out = String::with_capacity(128);
    write_note(&mut out, claim);
    out
}

/// The same in the dialect, where nobody stands behind a claim.
pub(super) fn plain_note(claim: &Claim) -> String {
    let mut out = String::with_capacity(128);
    write_asker(&mut out, claim);
    out
}

fn write_note(out: &mut String, claim: &Claim) {
    write_asker(out, claim);
    if claim.cohort.behind > 0 {
        out.push('\t');
        digits::push(out, claim.cohort.behind.into(), 1);
    }
}

fn write_asker(out: &mut String, claim: &Claim) {
    let owner = &claim.owner;
    write_field(out, &owner.user);
    out.push('\t');
    write_field(out, &owner.host);
    out.push('\t');
    digits::push(out, owner.pid.into(), 1);
    out.push('\t');
    write_field(out, &owner.program);
    out.push('\t');
    write_field(out, &claim.reason);
}

/// A field without tabs and line ends.
fn write_field(out: &mut String, text: &str) {
    if !text.bytes().any(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        return out.push_str(text);
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
}

fn read_field(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => break,
            },
            c => c,
        });
    }
    out
}

/// Owner and reason of a note, and how many tasks wait behind the claim; what cannot be read is empty.
pub(super) fn read_note(note: &str) -> (Owner, String, u32) {
    let mut fields = note.split('\t');
    let mut next = || read_field(fields.next().unwrap_or_default());
    let (user, host, pid, program, reason) = (next(), next(), next(), next(), next());
    let behind = next().parse().unwrap_or(0);
    (Owner { user, host, pid: pid.parse().unwrap_or(0), program }, reason, behind)
}

/// A claim's record.
pub(super) struct Record<'a> {
    text: &'a str,
}

impl<'a> Record<'a> {
    /// Reads a record. `None`: it is of another version, or too short.
    pub(super) fn new(text: &'a str) -> Option<Record<'a>> {
        (text.starts_with('1') && text.len() >= 93 && text.is_char_boundary(93)).then_some(Record { text })
    }

    fn number(&self, from: usize, to: usize) -> Option<u64> {
        digits::number(self.text.get(from..to)?)
    }

    /// The capacity that it assumes; of a mutex, how many tokens it asked for.
    pub(super) fn capacity(&self) -> Option<u32> {
        u32::try_from(self.number(13, 23)?).ok()
    }

    /// How the hold before it ended.
    pub(super) fn previous(&self) -> Previous {
        self.text.get(2..3).and_then(answer::previous).unwrap_or_default()
    }

    /// How long its lease is, in µs: as a holder, as a waiter, or for how long it was released for later.
    fn lease(&self) -> Option<u64> {
        match self.text.get(1..2)? {
            "h" => self.number(23, 34),
            "w" => self.number(34, 45),
            _ => self.number(23, 45),
        }
    }

    /// What `inspect` shows of it.
    pub(super) fn seen(&self, id: &str, end: u64, now: u64) -> Option<Seen> {
        let (owner, reason, behind) = read_note(self.text.get(93..)?);
        // Where the server's clock was set back, a lease that nobody has renewed since seems to last longer than any.
        let left = Duration::from_micros(end.saturating_sub(now).min(self.lease()?));
        Some(Seen {
            claim: ClaimId(digits::unhex(id)?).short(),
            owner,
            reason,
            since_us: self.number(45, 61)?.min(now),
            expires_in: Some(left),
            weight: u32::try_from(self.number(3, 13)?).ok()?,
            token: Token::new(i64::try_from(self.number(61, 77)?).ok()?),
            behind,
        })
    }
}

/// What `inspect` shows of the holder of a key of the dialect: who, if it is one of ours.
pub(super) fn plain_seen(record: &str, holder: &[u8], expires_in: Option<Duration>, now: u64) -> Seen {
    let stranger = || {
        // Whatever the value is, it may authorise a release: only a hash of it is shown.
        let mixed = holder
            .iter()
            .fold(1_u128, |h, b| (h ^ u128::from(*b)).wrapping_mul(0x0100_0000_01B3).rotate_left(7));
        let owner =
            Owner { user: String::new(), host: String::new(), pid: 0, program: "another program".into() };
        Seen {
            claim: ClaimId(mixed).short(),
            owner,
            reason: String::new(),
            since_us: 0,
            expires_in,
            weight: 1,
            token: None,
            behind: 0,
        }
    };
    let ours = || {
        let id = record.get(17..49).filter(|id| record.starts_with('1') && id.as_bytes() == holder)?;
        let (owner, reason, _) = read_note(record.get(76..)?);
        let lease = Duration::from_millis(digits::number(record.get(65..76)?)?);
        Some(Seen {
            claim: ClaimId(digits::unhex(id)?).short(),
            owner,
            reason,
            since_us: digits::number(record.get(49..65)?)?.min(now),
            expires_in: expires_in.map(|left| left.min(lease)),
            weight: 1,
            token: Token::new(i64::try_from(digits::number(record.get(1..17)?)?).ok()?),
            behind: 0,
        })
    };
    ours().unwrap_or_else(stranger)
}
