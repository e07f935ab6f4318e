//! Judges what processes did, by stamps of the boot clock, which all processes of a machine share.

use serde::{Deserialize, Serialize};

use super::{Face, Verdict, ensure};

/// One hold, as its holder saw it. Times are on the boot clock, in ns.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    /// When it was asked for.
    pub(crate) asked: u64,
    /// When the acquire had returned.
    pub(crate) from: u64,
    /// When the release was called, or the deadline that was believed then if that is sooner; the end of a process
    /// that was killed.
    pub(crate) to: u64,
    pub(crate) token: i64,
    pub(crate) process: u32,
}

/// No two overlap (S1); tokens, where there are any, are unique, and grow in real time (S2).
pub(crate) fn judge(holds: &mut [Held], face: Face) -> Verdict<()> {
    holds.sort_unstable_by_key(|h| h.from);
    for pair in holds.windows(2) {
        let [a, b] = pair else { continue };
        ensure!(a.to <= b.from, "S1: two believe that they hold at once: {a:?} and {b:?}");
    }
    if face == Face::Permit {
        return Ok(());
    }
    // The highest token among those whose acquire had returned before this one was asked for.
    let mut by_asked: Vec<&Held> = holds.iter().collect();
    by_asked.sort_unstable_by_key(|h| h.asked);
    let (mut returned, mut highest) = (0, 0);
    for hold in by_asked {
        while returned < holds.len() && holds[returned].from < hold.asked {
            highest = highest.max(holds[returned].token);
            returned += 1;
        }
        ensure!(hold.token > highest, "S2: token {} after {highest}: {hold:?}", hold.token);
    }
    let mut tokens: Vec<i64> = holds.iter().map(|h| h.token).collect();
    tokens.sort_unstable();
    ensure!(tokens.windows(2).all(|t| t[0] != t[1]), "S2: two grants share a token");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(asked: u64, from: u64, to: u64, token: i64) -> Held {
        Held { asked, from, to, token, process: 1 }
    }

    #[test]
    fn a_good_history_passes() {
        assert!(judge(&mut [held(0, 1, 5, 10), held(2, 5, 9, 11), held(6, 10, 11, 12)], Face::Mutex).is_ok());
    }

    #[test]
    fn what_is_wrong_is_found() {
        assert!(judge(&mut [held(0, 1, 5, 10), held(2, 4, 9, 11)], Face::Mutex).is_err(), "overlap");
        assert!(
            judge(&mut [held(0, 1, 5, 10), held(6, 7, 9, 9)], Face::Mutex).is_err(),
            "a token that goes back"
        );
        assert!(judge(&mut [held(0, 1, 5, 10), held(0, 7, 9, 10)], Face::Mutex).is_err(), "a token twice");
    }
}
