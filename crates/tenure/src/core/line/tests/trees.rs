//! The tree against the standard library's.

use std::collections::BTreeMap;

use super::super::cells::{self, NONE, claim};
use super::super::tree::{self, BySeq, Way};
use super::super::{Arena, VecArena};
use super::Dice;

/// Cells 1 to `n`, of which cell `c` has the place `seq(c)`.
fn arena(n: u32, seq: impl Fn(u32) -> u64, dice: &mut Dice) -> VecArena {
    let mut a = VecArena::default();
    while a.cells() <= n {
        assert!(a.grow());
    }
    for c in 1..=n {
        cells::set(&mut a, c, claim::SEQ, seq(c));
        cells::set(&mut a, c, claim::ID, dice.next());
        cells::set(&mut a, c, claim::ID + 1, dice.next());
    }
    a
}

fn depth(a: &VecArena, node: u32) -> u32 {
    if node == NONE {
        return 0;
    }
    let (left, right) = tree::children::<BySeq, _>(a, node);
    1 + depth(a, left).max(depth(a, right))
}

#[test]
fn random_operations_agree_with_a_sorted_map() {
    for seed in 1..40u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut a = arena(200, |c| u64::from(c) * 7919 % 1009, &mut dice);
        let mut model: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
        let (mut root, mut way) = (NONE, Way::default());
        for _ in 0..600 {
            let c = u32::try_from(dice.below(200)).expect("small") + 1;
            let seq = cells::get(&a, c, claim::SEQ);
            let end = dice.below(1000);
            match (model.contains_key(&seq), dice.below(3)) {
                (false, _) => {
                    cells::set(&mut a, c, claim::END, end);
                    root = tree::insert(&mut a, root, c, &BySeq(seq), &mut way);
                    model.insert(seq, (c, end));
                }
                (true, 0) => {
                    cells::set(&mut a, c, claim::END, end);
                    tree::refresh(&mut a, root, c, &BySeq(seq), &mut way);
                    model.insert(seq, (c, end));
                }
                (true, _) => {
                    root = tree::remove(&mut a, root, c, &BySeq(seq), &mut way);
                    model.remove(&seq);
                }
            }
            assert_eq!(tree::find(&a, root, &BySeq(seq)), model.get(&seq).map_or(NONE, |m| m.0));
            assert_eq!(tree::first(&a, root), model.values().next().map_or(NONE, |m| m.0));
            assert_eq!(tree::size(&a, root), model.len() as u64);
            assert_eq!(tree::soon(&a, root), model.values().map(|m| m.1).min().unwrap_or(u64::MAX));
            let before: Vec<u64> = model.range(..seq).map(|(_, m)| m.1).collect();
            let soonest = before.iter().copied().min().unwrap_or(u64::MAX);
            assert_eq!(tree::ahead(&a, root, seq), (before.len() as u64, soonest));
            let soonest = tree::soon(&a, root);
            if root != NONE {
                assert_eq!(cells::get(&a, tree::expired(&a, root, soonest), claim::END), soonest);
            }
            let (mut order, mut fuel) = (Vec::new(), 1000);
            assert!(tree::walk::<BySeq, _>(&a, root, &mut fuel, &mut |n| {
                order.push(n);
                true
            }));
            assert!(order.iter().eq(model.values().map(|m| &m.0)));
            assert!(!a.faulty());
        }
    }
}

#[test]
fn a_line_stays_shallow_although_it_grows_at_one_end() {
    let mut a = arena(20_000, u64::from, &mut Dice(77));
    let (mut root, mut way) = (NONE, Way::default());
    for c in 1..=20_000 {
        root = tree::insert(&mut a, root, c, &BySeq(u64::from(c)), &mut way);
    }
    assert!(depth(&a, root) < tree::DEEPEST / 2, "{}", depth(&a, root));
    for c in 1..=19_999u32 {
        root = tree::remove(&mut a, root, c, &BySeq(u64::from(c)), &mut way);
    }
    assert_eq!((root, tree::size(&a, root)), (20_000, 1));
}

#[test]
fn damaged_links_end_a_walk_and_fault_the_arena() {
    for bad in [1u64, 1 << 32, 0x7fff_ffff, 1 | 1 << 32] {
        let mut a = arena(3, u64::from, &mut Dice(5));
        a.set(super::super::arena::CELL + claim::LINE_LINKS, bad);
        let (key, mut fuel, mut way) = (BySeq(2), 1000, Way::default());
        tree::find(&a, 1, &key);
        tree::first(&a, 1);
        tree::ahead(&a, 1, 9);
        tree::walk::<BySeq, _>(&a, 1, &mut fuel, &mut |_| true);
        tree::insert(&mut a, 1, 2, &key, &mut way);
        tree::remove(&mut a, 1, 3, &BySeq(3), &mut way);
        tree::refresh(&mut a, 1, 1, &BySeq(0), &mut way);
        assert!(a.faulty(), "{bad:x}");
    }
}
