//! A file that somebody damaged: any word may be anything. Verbs and views may then refuse or answer nonsense, but they
//! come to an end and never panic.

use super::super::arena::CELL;
use super::super::{Arena, Kind, Now, Trace};
use super::history::random_ask;
use super::{Dice, Lines, lines};

fn busy(dice: &mut Dice) -> Lines {
    let mut l = lines();
    for step in 0..120 {
        let which = usize::try_from(dice.below(6)).expect("small");
        any_verb(&mut l, dice, which, 1_000_000 + step);
    }
    l
}

fn any_verb(l: &mut Lines, dice: &mut Dice, which: usize, ns: u64) {
    let now = Now { ns, wall_us: ns, ceiling: i64::MAX };
    let key = vec![b'a' + u8::try_from(which).expect("small"); 1 + which * 80];
    let kind = [Kind::Mutex, Kind::ReadWrite, Kind::Semaphore][which % 3];
    let id = u128::from(dice.below(30)) * 0x1_0000_0001_0000_0001 + 1;
    let note = vec![1; usize::try_from(dice.below(900)).expect("small")];
    match dice.below(14) {
        0..7 => drop(l.attempt(&random_ask(id, &key, kind, dice, ns, &note), now)),
        7 => drop(l.renew(id, &key, Some(&note), now)),
        8 => drop(l.release(id, &key, ns, Trace::Nothing, now)),
        9 => drop(l.release(id, &key, ns, Trace::Mark, now)),
        10 => drop(l.release(id, &key, ns, Trace::For(100), now)),
        11 => drop(l.evict(&key, None, &note, now)),
        12 => drop(l.reap(1 + u32::try_from(which).expect("small") % 3, now)),
        _ => drop(l.sweep(5, now)),
    }
}

#[test]
fn damage_never_panics_and_never_hangs() {
    let mut noticed = 0;
    for seed in 1..400u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut l = busy(&mut dice);
        let cells = u64::from(l.arena().cells());
        for _ in 0..=dice.below(4) {
            let cell = if dice.below(8) == 0 { 0 } else { dice.below(cells.min(60)) };
            let at = usize::try_from(cell).expect("small") * CELL
                + usize::try_from(dice.below(20)).expect("small");
            let word = match dice.below(5) {
                0 => dice.next(),
                1 => dice.below(60),
                2 => dice.below(60) | dice.below(60) << 32,
                3 => u64::MAX,
                _ => l.arena().get(at) ^ 1 << dice.below(64),
            };
            l.arena_mut().set(at, word);
        }
        l.arena_mut().commit();
        for step in 0..40 {
            let which = usize::try_from(dice.below(6)).expect("small");
            let ns = 1_000_100 + step * dice.below(60);
            any_verb(&mut l, &mut dice, which, ns);
            let now = Now { ns: 1_000_200, wall_us: 1, ceiling: i64::MAX };
            l.view(b"a", 9, now);
            l.page(b"a", b"", None, 9, 9, now);
            l.holder_slots(b"a", &mut Vec::new());
            l.peek(u128::from(step) + 1);
        }
        noticed += u32::from(l.arena().faulty());
    }
    assert!(noticed > 50, "damage was noticed only {noticed} times");
}
