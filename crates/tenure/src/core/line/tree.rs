//! The ordered tree: an intrusive treap. Its links and sums lie in the cells that it orders; a node's priority is a
//! mix of what it is ordered by or of its random id, so the shape follows from the content.
//!
//! A walk ends after [`DEEPEST`] levels: a treap of all cells that an arena can have is far from that deep, so a deeper
//! one is no tree at all, and a damaged file can neither hold a walk for ever nor overflow the stack.

use std::cmp::Ordering;

use super::Arena;
use super::cells::{NONE, claim, compare, compare_cells, get, hi, id_of, lo, lock, mix, pair, set, slot};

pub(super) const DEEPEST: u32 = 160;

/// How a tree is ordered, and where its links and sums lie. `self` is what is looked for.
pub(super) trait Order {
    const LINKS: usize;
    /// What a [`Way`] to it can be known again by; `None`: ways are not kept.
    fn hint<A: Arena>(&self, _: &A) -> Option<u128> {
        None
    }
    /// How what is looked for compares with `node`.
    fn cmp<A: Arena>(&self, a: &A, node: u32) -> Ordering;
    /// A parent's priority is at least its children's.
    fn prio<A: Arena>(a: &A, node: u32) -> u64;
    /// Computes the sums of `node` from its children; says whether that changed any.
    fn pull<A: Arena>(a: &mut A, node: u32) -> bool;
}

/// The index: claims and marks by id.
pub(super) struct ById(pub(super) u128);
/// A line: claims by their place.
pub(super) struct BySeq(pub(super) u64);
/// Locks, by a key that may have no cell.
pub(super) struct ByName<'a> {
    pub(super) hash: [u64; 2],
    pub(super) key: &'a [u8],
}
/// Locks, by the cell of one.
pub(super) struct ByLock(pub(super) u32);
/// Process slots by their number.
pub(super) struct BySlot(pub(super) u32);

impl Order for ById {
    const LINKS: usize = claim::INDEX_LINKS;

    fn hint<A: Arena>(&self, _: &A) -> Option<u128> {
        Some(self.0)
    }

    fn cmp<A: Arena>(&self, a: &A, node: u32) -> Ordering {
        self.0.cmp(&id_of(a, node))
    }

    fn prio<A: Arena>(a: &A, node: u32) -> u64 {
        mix(get(a, node, claim::ID) ^ get(a, node, claim::ID + 1).rotate_left(32))
    }

    fn pull<A: Arena>(_: &mut A, _: u32) -> bool {
        false
    }
}

impl Order for BySeq {
    const LINKS: usize = claim::LINE_LINKS;

    fn cmp<A: Arena>(&self, a: &A, node: u32) -> Ordering {
        self.0.cmp(&get(a, node, claim::SEQ))
    }

    fn prio<A: Arena>(a: &A, node: u32) -> u64 {
        ById::prio(a, node)
    }

    fn pull<A: Arena>(a: &mut A, node: u32) -> bool {
        let (left, right) = children::<BySeq, A>(a, node);
        let word = get(a, node, claim::CAPACITY);
        let (mut count, mut soonest, mut fewest) = (1u64, get(a, node, claim::END), lo(word));
        for child in [left, right] {
            if child != NONE {
                count = count.saturating_add(size(a, child));
                soonest = soonest.min(soon(a, child));
                fewest = fewest.min(least(a, child));
            }
        }
        if count == get(a, node, claim::SIZE) && soonest == get(a, node, claim::SOON) && fewest == hi(word) {
            return false;
        }
        set(a, node, claim::SIZE, count);
        set(a, node, claim::SOON, soonest);
        set(a, node, claim::CAPACITY, pair(lo(word), fewest));
        true
    }
}

impl Order for ByName<'_> {
    const LINKS: usize = lock::LINKS;

    fn hint<A: Arena>(&self, _: &A) -> Option<u128> {
        Some(u128::from(self.hash[0]) << 64 | u128::from(self.hash[1]))
    }

    fn cmp<A: Arena>(&self, a: &A, node: u32) -> Ordering {
        let hash = [get(a, node, lock::HASH), get(a, node, lock::HASH + 1)];
        self.hash.cmp(&hash).then_with(|| compare(a, self.key, node, &lock::KEY))
    }

    fn prio<A: Arena>(a: &A, node: u32) -> u64 {
        get(a, node, lock::HASH + 1)
    }

    fn pull<A: Arena>(a: &mut A, node: u32) -> bool {
        let soonest = lock_soon_of(a, node);
        let same = soonest == get(a, node, lock::SOON);
        set(a, node, lock::SOON, soonest);
        !same
    }
}

impl Order for ByLock {
    const LINKS: usize = lock::LINKS;

    fn hint<A: Arena>(&self, a: &A) -> Option<u128> {
        Some(u128::from(get(a, self.0, lock::HASH)) << 64 | u128::from(get(a, self.0, lock::HASH + 1)))
    }

    fn cmp<A: Arena>(&self, a: &A, node: u32) -> Ordering {
        if self.0 == node {
            return Ordering::Equal;
        }
        let hash = |n| [get(a, n, lock::HASH), get(a, n, lock::HASH + 1)];
        hash(self.0).cmp(&hash(node)).then_with(|| compare_cells(a, self.0, node, &lock::KEY))
    }

    fn prio<A: Arena>(a: &A, node: u32) -> u64 {
        ByName::prio(a, node)
    }

    fn pull<A: Arena>(a: &mut A, node: u32) -> bool {
        ByName::pull(a, node)
    }
}

impl Order for BySlot {
    const LINKS: usize = slot::LINKS;

    fn cmp<A: Arena>(&self, a: &A, node: u32) -> Ordering {
        u64::from(self.0).cmp(&get(a, node, slot::NUMBER))
    }

    fn prio<A: Arena>(a: &A, node: u32) -> u64 {
        mix(get(a, node, slot::NUMBER))
    }

    fn pull<A: Arena>(_: &mut A, _: u32) -> bool {
        false
    }
}

/// How many claims are in this subtree of a line.
pub(super) fn size<A: Arena>(a: &A, node: u32) -> u64 {
    if node == NONE { 0 } else { get(a, node, claim::SIZE) }
}

/// The earliest end of a lease in this subtree of a line.
pub(super) fn soon<A: Arena>(a: &A, node: u32) -> u64 {
    if node == NONE { u64::MAX } else { get(a, node, claim::SOON) }
}

/// The least capacity that a claim in this subtree of a line names.
pub(super) fn least<A: Arena>(a: &A, node: u32) -> u32 {
    if node == NONE { u32::MAX } else { hi(get(a, node, claim::CAPACITY)) }
}

/// The earliest end of a lease in this subtree of locks.
pub(super) fn lock_soon<A: Arena>(a: &A, node: u32) -> u64 {
    if node == NONE { u64::MAX } else { get(a, node, lock::SOON) }
}

/// The earliest end of a lease in one lock's line.
pub(super) fn line_soon<A: Arena>(a: &A, node: u32) -> u64 {
    let line = get(a, node, lock::LINE);
    soon(a, lo(line)).min(soon(a, hi(line)))
}

/// What [`lock_soon`] of a lock must be.
pub(super) fn lock_soon_of<A: Arena>(a: &A, node: u32) -> u64 {
    let (left, right) = children::<ByLock, A>(a, node);
    line_soon(a, node).min(lock_soon(a, left)).min(lock_soon(a, right))
}

#[inline]
pub(super) fn children<O: Order, A: Arena>(a: &A, node: u32) -> (u32, u32) {
    let links = get(a, node, O::LINKS);
    (lo(links), hi(links))
}

/// Gives `node` these children; says whether its sums changed.
#[inline]
fn link<O: Order, A: Arena>(a: &mut A, node: u32, left: u32, right: u32) -> bool {
    set(a, node, O::LINKS, pair(left, right));
    O::pull(a, node)
}

/// The way from a root down to a node, or to where it would be. Kept, so that what was found can be changed without
/// searching again; a change of the tree's shape through it ends it.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// The nodes above, and whether the way goes on to the left.
    steps: Vec<(u32, bool)>,
    found: u32,
    hint: Option<u128>,
}

impl Way {
    /// No longer knows a way: somebody else may change the tree.
    pub(super) fn forget(&mut self) {
        self.hint = None;
    }
}

fn too_deep<A: Arena>(a: &A, depth: u32) -> bool {
    let deep = depth > DEEPEST;
    if deep {
        a.fault();
    }
    deep
}

/// The node that equals `key`, or [`NONE`].
pub(super) fn find<O: Order, A: Arena>(a: &A, mut node: u32, key: &O) -> u32 {
    for _ in 0..=DEEPEST {
        if node == NONE {
            return NONE;
        }
        let (left, right) = children::<O, A>(a, node);
        match key.cmp(a, node) {
            Ordering::Equal => return node,
            Ordering::Less => node = left,
            Ordering::Greater => node = right,
        }
    }
    a.fault();
    NONE
}

/// The same, and the way there.
pub(super) fn seek<O: Order, A: Arena>(a: &A, root: u32, key: &O, way: &mut Way) -> u32 {
    way.steps.clear();
    (way.found, way.hint) = (NONE, key.hint(a));
    let mut node = root;
    for _ in 0..=DEEPEST {
        if node == NONE {
            return NONE;
        }
        let (left, right) = children::<O, A>(a, node);
        let order = key.cmp(a, node);
        if order == Ordering::Equal {
            way.found = node;
            return node;
        }
        let goes_left = order == Ordering::Less;
        way.steps.push((node, goes_left));
        node = if goes_left { left } else { right };
    }
    a.fault();
    NONE
}

/// Takes the way that is known, or finds it.
fn again<O: Order, A: Arena>(a: &A, root: u32, key: &O, way: &mut Way, found: u32) {
    let hint = key.hint(a);
    if hint.is_none() || hint != way.hint || found != way.found {
        seek(a, root, key, way);
    }
}

/// Puts `node`, which `key` is equal to, into the tree; returns the new root.
pub(super) fn insert<O: Order, A: Arena>(a: &mut A, root: u32, node: u32, key: &O, way: &mut Way) -> u32 {
    again(a, root, key, way, NONE);
    if way.found != NONE {
        a.fault();
        return root;
    }
    let prio = O::prio(a, node);
    let mut below = NONE;
    while let Some(&(last, _)) = way.steps.last()
        && O::prio(a, last) < prio
    {
        below = last;
        way.steps.pop();
    }
    let (left, right) = split(a, below, key, 0);
    link::<O, A>(a, node, left, right);
    replace::<O, A>(a, root, way, node)
}

/// Takes `node`, which `key` is equal to, out of the tree; returns the new root. It must be there.
pub(super) fn remove<O: Order, A: Arena>(a: &mut A, root: u32, node: u32, key: &O, way: &mut Way) -> u32 {
    again(a, root, key, way, node);
    if way.found != node {
        a.fault();
        return root;
    }
    let (left, right) = children::<O, A>(a, node);
    let rest = merge::<O, A>(a, left, right, 0);
    replace::<O, A>(a, root, way, rest)
}

/// Puts another subtree where the way leads, and brings the sums above up to date; returns the new root.
fn replace<O: Order, A: Arena>(a: &mut A, root: u32, way: &mut Way, sub: u32) -> u32 {
    way.forget();
    let Some((parent, goes_left)) = way.steps.pop() else { return sub };
    let (left, right) = children::<O, A>(a, parent);
    let (left, right) = if goes_left { (sub, right) } else { (left, sub) };
    if link::<O, A>(a, parent, left, right) {
        pull_up::<O, A>(a, way);
    }
    root
}

/// Computes the sums anew from the end of the way to the root, as far as they change.
fn pull_up<O: Order, A: Arena>(a: &mut A, way: &Way) {
    for &(node, _) in way.steps.iter().rev() {
        if !O::pull(a, node) {
            break;
        }
    }
}

/// Brings the sums up to date after something changed in `node`, which `key` is equal to.
pub(super) fn refresh<O: Order, A: Arena>(a: &mut A, root: u32, node: u32, key: &O, way: &mut Way) {
    again(a, root, key, way, node);
    if way.found != node {
        a.fault();
    } else if O::pull(a, node) {
        pull_up::<O, A>(a, way);
    }
}

/// What is less than `key`, and what is greater.
fn split<O: Order, A: Arena>(a: &mut A, root: u32, key: &O, depth: u32) -> (u32, u32) {
    if root == NONE || too_deep(a, depth) {
        return (NONE, NONE);
    }
    let (left, right) = children::<O, A>(a, root);
    match key.cmp(a, root) {
        Ordering::Less => {
            let (less, greater) = split(a, left, key, depth + 1);
            link::<O, A>(a, root, greater, right);
            (less, root)
        }
        Ordering::Greater => {
            let (less, greater) = split(a, right, key, depth + 1);
            link::<O, A>(a, root, left, less);
            (root, greater)
        }
        Ordering::Equal => {
            a.fault();
            (NONE, NONE)
        }
    }
}

fn merge<O: Order, A: Arena>(a: &mut A, left: u32, right: u32, depth: u32) -> u32 {
    if left == NONE || right == NONE {
        return left.max(right);
    }
    if too_deep(a, depth) {
        return left;
    }
    if O::prio(a, left) > O::prio(a, right) {
        let (outer, inner) = children::<O, A>(a, left);
        let inner = merge::<O, A>(a, inner, right, depth + 1);
        link::<O, A>(a, left, outer, inner);
        left
    } else {
        let (inner, outer) = children::<O, A>(a, right);
        let inner = merge::<O, A>(a, left, inner, depth + 1);
        link::<O, A>(a, right, inner, outer);
        right
    }
}

/// The first in line.
pub(super) fn first<A: Arena>(a: &A, mut node: u32) -> u32 {
    for _ in 0..=DEEPEST {
        let (left, _) = children::<BySeq, A>(a, node);
        if left == NONE || node == NONE {
            return node;
        }
        node = left;
    }
    a.fault();
    NONE
}

/// A claim of this line whose lease ends at `now` or before. There must be one.
pub(super) fn expired<A: Arena>(a: &A, mut node: u32, now: u64) -> u32 {
    for _ in 0..=DEEPEST {
        if node == NONE || get(a, node, claim::END) <= now {
            return node;
        }
        let (left, right) = children::<BySeq, A>(a, node);
        node = if soon(a, left) <= now { left } else { right };
    }
    a.fault();
    NONE
}

/// A lock in whose line a lease ends at `now` or before. There must be one.
pub(super) fn overdue<A: Arena>(a: &A, mut node: u32, now: u64) -> u32 {
    for _ in 0..=DEEPEST {
        if node == NONE || line_soon(a, node) <= now {
            return node;
        }
        let (left, right) = children::<ByLock, A>(a, node);
        node = if lock_soon(a, left) <= now { left } else { right };
    }
    a.fault();
    NONE
}

/// How many stand before `seq`, and the earliest end of a lease among them.
pub(super) fn ahead<A: Arena>(a: &A, mut node: u32, seq: u64) -> (u64, u64) {
    let (mut count, mut soonest) = (0u64, u64::MAX);
    for _ in 0..=DEEPEST {
        if node == NONE {
            return (count, soonest);
        }
        let (left, right) = children::<BySeq, A>(a, node);
        let here = get(a, node, claim::SEQ);
        if here < seq {
            count = count.saturating_add(size(a, left)).saturating_add(1);
            soonest = soonest.min(soon(a, left)).min(get(a, node, claim::END));
        }
        node = if here < seq { right } else { left };
    }
    a.fault();
    (count, soonest)
}

/// Visits the nodes in order until `visit` says false or `fuel` runs out; says whether it came to the end.
pub(super) fn walk<O: Order, A: Arena>(
    a: &A,
    root: u32,
    fuel: &mut u32,
    visit: &mut dyn FnMut(u32) -> bool,
) -> bool {
    walk_below::<O, A>(a, root, fuel, visit, 0)
}

fn walk_below<O: Order, A: Arena>(
    a: &A,
    node: u32,
    fuel: &mut u32,
    visit: &mut dyn FnMut(u32) -> bool,
    depth: u32,
) -> bool {
    if node == NONE {
        return true;
    }
    if *fuel == 0 || depth > DEEPEST {
        a.fault();
        return false;
    }
    *fuel -= 1;
    let (left, right) = children::<O, A>(a, node);
    walk_below::<O, A>(a, left, fuel, visit, depth + 1)
        && visit(node)
        && walk_below::<O, A>(a, right, fuel, visit, depth + 1)
}
