//! Breadth-first search through all states of a model.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// Something with states and steps.
pub(crate) trait Model {
    /// Cloned for every step.
    type State: Clone;
    /// What can happen.
    type Step: Copy + Debug;

    /// Where it begins.
    fn start(&self) -> Self::State;
    /// What tells this state from others: all that decides about what can happen from here on.
    fn hash(&self, state: &Self::State, hash: &mut Both);
    /// Everything that can happen next.
    fn steps(&self, state: &Self::State, steps: &mut Vec<Self::Step>);
    /// Lets it happen. An error is a broken promise.
    fn go(&self, state: &mut Self::State, step: Self::Step) -> Result<(), String>;
    /// What this state shows, as bits, that some state must show.
    fn shows(&self, state: &Self::State) -> u32;
}

/// 128 bits of hash: of a hundred million states no two are taken for one, but for a chance of one in 10^22.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Both(u64, u64);

impl Hasher for Both {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 60);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = fold(self.0 ^ n, 0xA076_1D64_78BD_642F);
        self.1 = fold(self.1 ^ n.rotate_left(32), 0xE703_7ED1_A0B4_28DB) ^ self.1.rotate_left(29);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Both halves of a product, so that every bit counts.
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a ^ 0x9E37_79B9_7F4A_7C15) * u128::from(b);
    (wide >> 64) as u64 ^ wide as u64 ^ a.rotate_left(17)
}

/// What the search came to.
#[derive(Debug)]
struct Found {
    states: usize,
    steps: usize,
    /// All that was shown by some state.
    shown: u32,
    /// How many states were found and not looked at.
    left: usize,
    /// The shortest way to a broken promise, and the promise.
    broken: Option<(Vec<String>, String)>,
}

/// More states than this: the bounds of the model are too wide.
const MOST: usize = 20_000_000;

/// Searches until a promise is broken, nothing is left, or so many states are known.
fn search<M: Model>(model: &M, most: usize) -> Found {
    let hash = |state: &M::State| {
        let mut both = Both(1, 2);
        model.hash(state, &mut both);
        both
    };
    let start = model.start();
    let mut seen = HashSet::from([hash(&start)]);
    // Each state's predecessor, and which of its steps led here: a failure is told as a way.
    let mut ways: Vec<(u32, u8)> = vec![(0, 0)];
    let mut front = vec![(0, start)];
    let mut found = Found { states: 1, steps: 0, shown: 0, left: 0, broken: None };
    let mut steps = Vec::new();
    while !front.is_empty() && seen.len() < most {
        let mut next = Vec::new();
        for (number, state) in front {
            steps.clear();
            model.steps(&state, &mut steps);
            for (which, step) in steps.iter().enumerate() {
                found.steps += 1;
                let mut after = state.clone();
                if let Err(what) = model.go(&mut after, *step) {
                    found.broken = Some((way(model, &ways, number, *step), what));
                    return found;
                }
                found.shown |= model.shows(&after);
                if seen.insert(hash(&after)) {
                    next.push((u32::try_from(ways.len()).expect("few states"), after));
                    ways.push((number, u8::try_from(which).expect("few steps")));
                }
            }
        }
        found.states = seen.len();
        assert!(found.states < MOST, "more than {MOST} states");
        front = next;
    }
    found.left = front.len();
    found
}

/// The steps to a state, and one more from there.
fn way<M: Model>(model: &M, ways: &[(u32, u8)], mut at: u32, last: M::Step) -> Vec<String> {
    let mut taken = Vec::new();
    while at != 0 {
        let (before, which) = ways[at as usize];
        taken.push(which);
        at = before;
    }
    let (mut state, mut way) = (model.start(), Vec::new());
    for which in taken.into_iter().rev() {
        let mut steps = Vec::new();
        model.steps(&state, &mut steps);
        let step = steps[usize::from(which)];
        way.push(format!("{step:?}"));
        model.go(&mut state, step).expect("it went well before");
    }
    way.push(format!("{last:?}"));
    way
}

/// The model as it is: exhausted, with no promise broken, and with everything shown that `must` be, bit by bit.
pub(crate) fn holds<M: Model>(model: &M, must: &[(u32, &str)]) -> Result<String, String> {
    judged(&search(model, usize::MAX), must).map(|told| format!("all of {told}"))
}

/// The same, of the states that are nearest to the start, if there are more than `most`; what must be shown may lie beyond.
pub(crate) fn holds_within<M: Model>(model: &M, most: usize, must: &[(u32, &str)]) -> Result<String, String> {
    let found = search(model, most);
    match found.left {
        0 => judged(&found, must).map(|told| format!("all of {told}")),
        left => Ok(format!("{}, and {left} left to look at", judged(&found, &[])?)),
    }
}

fn judged(found: &Found, must: &[(u32, &str)]) -> Result<String, String> {
    if let Some((way, what)) = &found.broken {
        return Err(format!("{what}\n  {}", way.join("\n  ")));
    }
    let never: Vec<&str> =
        must.iter().filter(|(bit, _)| found.shown & bit == 0).map(|(_, name)| *name).collect();
    if !never.is_empty() {
        return Err(format!("in {} states this never happens: {}", found.states, never.join(", ")));
    }
    Ok(format!("{} states by {} steps, no promise broken", found.states, found.steps))
}

/// A broken variant: refuted, by one of these rules.
pub(crate) fn refuted<M: Model>(model: &M, rules: &[&str]) -> Result<String, String> {
    let found = search(model, usize::MAX);
    let Some((way, what)) = &found.broken else {
        return Err(format!("nothing is wrong with it in {} states", found.states));
    };
    let by = rules.iter().any(|rule| what.starts_with(&format!("{rule}:")));
    let told = format!("refuted after {} states, in {} steps: {what}", found.states, way.len());
    if by { Ok(told) } else { Err(format!("{told}, which is none of {rules:?}\n  {}", way.join("\n  "))) }
}
