//! How many clients were inside at a time: from every client's own stays, what part of the time there were none, exactly
//! one, or several.

/// A stay between acquire and release, in ns of the boot clock.
pub(super) type Stay = (u64, u64);

/// Shares of the time between the first entry and the last exit; they add up to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Presence {
    pub(super) none: f64,
    pub(super) one: f64,
    pub(super) several: f64,
}

impl Presence {
    /// Counts stays. No stay, no shares.
    pub(super) fn of(stays: &[Stay]) -> Presence {
        let mut edges: Vec<(u64, i64)> = stays.iter().flat_map(|s| [(s.0, 1), (s.1.max(s.0), -1)]).collect();
        // At the same instant an exit comes first: a hand-over is no overlap.
        edges.sort_unstable();
        let (mut inside, mut ns) = (0i64, [0u64; 3]);
        for pair in edges.windows(2) {
            inside += pair[0].1;
            ns[usize::try_from(inside.clamp(0, 2)).unwrap_or(0)] += pair[1].0 - pair[0].0;
        }
        #[allow(clippy::cast_precision_loss)] // ns of one run
        let [none, one, several] = ns.map(|part| part as f64 / ns.iter().sum::<u64>().max(1) as f64);
        Presence { none, one, several }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(stays: &[Stay]) -> [f64; 3] {
        let p = Presence::of(stays);
        [p.none, p.one, p.several]
    }

    #[test]
    fn one_after_another_is_exactly_one() {
        assert_eq!(shares(&[(0, 10), (10, 20), (20, 40)]), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn gaps_and_overlaps_are_told_apart() {
        assert_eq!(shares(&[(0, 40), (60, 100)]), [0.2, 0.8, 0.0]);
        assert_eq!(shares(&[(0, 60), (40, 100)]), [0.0, 0.8, 0.2]);
        assert_eq!(shares(&[(0, 100), (10, 60), (20, 30)]), [0.0, 0.5, 0.5]);
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(shares(&[]), [0.0; 3]);
        assert_eq!(shares(&[(5, 5)]), [0.0; 3]);
    }
}
