//! Whether the structure is whole: what every step must leave behind, wherever a writer was killed. For tests.

use std::collections::HashMap;

use super::cells::{
    self, CLAIM, ENDS, FREE, HEAD, LOCK, NONE, SLOT, TEXT, TEXT_MAX, Text, claim, hi, lo, lock, root, slot,
    state,
};
use super::tree::{self, ById, ByLock, BySeq, BySlot, Order};
use super::{Arena, Kind, Lines, RW_CAPACITY, ends};

type Checked<T> = Result<T, String>;

macro_rules! ensure {
    ($cond:expr, $($arg:tt)+) => { if !$cond { return Err(format!($($arg)+)); } };
}

impl<A: Arena> Lines<A> {
    /// Looks at every cell. Checks that each is in exactly one place, that trees are ordered and balanced by their
    /// priorities, that sums and counts are right, that no line is empty, and that what is held fits.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn check(&self) -> Result<(), String> {
        ensure!(!self.arena.faulty(), "the arena is marked as faulty");
        ensure!(self.root(root::MAGIC) == root::MAGIC_WORD, "the root has no magic word");
        let next = lo(self.root(root::NEXT));
        ensure!(next <= self.arena.cells(), "more cells used than there are");
        let mut seen = Seen { at: HashMap::new(), next };
        let locks = lo(self.root(root::LOCKS));
        self.tree::<ByLock>(locks, LOCK, &|l| ByLock(l), 0, &mut seen, "locks")?;
        let locks = self.nodes::<ByLock>(locks);
        let mut claims = Vec::new();
        for &l in &locks {
            self.check_lock(l, &mut claims, &mut seen)?;
        }
        let marks = self.check_marks(&mut seen)?;
        self.check_index(&claims, &marks)?;
        self.check_slots(&claims, &mut seen)?;
        let counts = self.counts();
        let found = (locks.len(), claims.len(), marks.len());
        let told = (counts.locks as usize, counts.claims as usize, counts.marks as usize);
        ensure!(found == told, "counts of locks, claims, marks are {told:?}, there are {found:?}");
        for cell in 1..=ends::CELLS {
            ensure!(self.tag(cell) == ENDS, "cell {cell} of the ends has another tag");
        }
        let mut free = lo(self.root(root::FREE));
        while free != NONE {
            seen.once(free, "the free list")?;
            ensure!(self.tag(free) == FREE, "cell {free} on the free list has another tag");
            free = lo(self.at(free, HEAD));
        }
        ensure!(
            seen.at.len() as u32 + 1 + ends::CELLS == next,
            "{} cells of {next} are in no place",
            next as usize - 1 - ends::CELLS as usize - seen.at.len()
        );
        ensure!(!self.arena.faulty(), "looking at it faulted the arena");
        Ok(())
    }

    /// The cells of one tree, in order.
    fn nodes<O: Order>(&self, top: u32) -> Vec<u32> {
        let (mut out, mut fuel) = (Vec::new(), self.arena.cells());
        tree::walk::<O, A>(&self.arena, top, &mut fuel, &mut |n| {
            out.push(n);
            true
        });
        out
    }

    /// Order and priorities of a tree; each cell seen once.
    fn tree<O: Order>(
        &self,
        node: u32,
        tag: u32,
        key: &dyn Fn(u32) -> O,
        depth: u32,
        seen: &mut Seen,
        what: &str,
    ) -> Checked<()> {
        if node == NONE {
            return Ok(());
        }
        ensure!(depth < tree::DEEPEST, "the tree of {what} is too deep");
        seen.once(node, what)?;
        ensure!(self.tag(node) == tag, "cell {node} among {what} has another tag");
        let (left, right) = tree::children::<O, A>(&self.arena, node);
        for (child, side) in [(left, std::cmp::Ordering::Less), (right, std::cmp::Ordering::Greater)] {
            if child != NONE {
                ensure!(
                    key(child).cmp(&self.arena, node) == side,
                    "{what}: {child} is on the wrong side of {node}"
                );
                let fits = O::prio(&self.arena, child) <= O::prio(&self.arena, node);
                ensure!(fits, "{what}: {child} has a higher priority than its parent {node}");
            }
            self.tree(child, tag, key, depth + 1, seen, what)?;
        }
        let nodes = [(left, true), (right, false)].map(|(n, last)| self.edge::<O>(n, last));
        for (edge, side) in nodes.into_iter().zip([std::cmp::Ordering::Less, std::cmp::Ordering::Greater]) {
            ensure!(
                edge == NONE || key(edge).cmp(&self.arena, node) == side,
                "{what} are out of order at {node}"
            );
        }
        Ok(())
    }

    /// The last or first node below.
    fn edge<O: Order>(&self, mut node: u32, last: bool) -> u32 {
        for _ in 0..tree::DEEPEST {
            let (left, right) = tree::children::<O, A>(&self.arena, node);
            let next = if last { right } else { left };
            if node == NONE || next == NONE {
                break;
            }
            node = next;
        }
        node
    }

    fn check_text(&self, cell: u32, t: &Text, seen: &mut Seen) -> Checked<()> {
        let head = self.at(cell, t.head);
        let len = hi(head) as usize;
        ensure!(len <= TEXT_MAX, "cell {cell} has a text of {len} bytes");
        let (mut next, mut room) = (lo(head), t.words * 8);
        while next != NONE {
            ensure!(room < len, "cell {cell} has a text chain that is too long");
            seen.once(next, "a text")?;
            ensure!(self.tag(next) == TEXT, "text cell {next} has another tag");
            next = lo(self.at(next, HEAD));
            room += (super::arena::CELL - 1) * 8;
        }
        ensure!(room >= len, "cell {cell} has a text chain that is too short");
        Ok(())
    }

    fn check_lock(&self, l: u32, claims: &mut Vec<u32>, seen: &mut Seen) -> Checked<()> {
        self.check_text(l, &lock::KEY, seen)?;
        self.check_text(l, &lock::BROKEN, seen)?;
        let key = cells::text(&self.arena, l, &lock::KEY);
        let hash = cells::hash(self.root(root::SEED), &key);
        ensure!(
            [self.at(l, lock::HASH), self.at(l, lock::HASH + 1)] == hash,
            "lock {l} has another key's hash"
        );
        ensure!(
            self.at(l, lock::SOON) == tree::lock_soon_of(&self.arena, l),
            "lock {l}: its earliest end is wrong"
        );
        let kind = self.kind(l).map_err(|_| format!("lock {l} has no kind"))?;
        let (holders, waiters) = self.line(l);
        ensure!(self.at(l, lock::LINE) != 0, "lock {l} is empty");
        let seq = |c: u32| BySeq(self.at(c, claim::SEQ));
        let mut used = 0u64;
        let mut last = None;
        for (line, held) in [(holders, true), (waiters, false)] {
            self.tree::<BySeq>(line, CLAIM, &seq, 0, seen, if held { "holders" } else { "waiters" })?;
            for c in self.nodes::<BySeq>(line) {
                self.check_claim(l, c, held, seen)?;
                let place = self.at(c, claim::SEQ);
                ensure!(last.is_none_or(|p| p < place), "lock {l}: a waiter stands before a holder");
                ensure!(place < self.at(l, lock::NEXT_SEQ), "lock {l}: claim {c} has a place to come");
                last = Some(place);
                used += if held { u64::from(self.weight(c)) } else { 0 };
                claims.push(c);
            }
        }
        ensure!(used == self.at(l, lock::USED), "lock {l}: the weight used is not the sum of the holders'");
        match kind {
            Kind::Mutex => ensure!(used <= 1, "lock {l}: a mutex with {used} holders"),
            Kind::ReadWrite => ensure!(used <= u64::from(RW_CAPACITY), "lock {l}: a writer is not alone"),
            Kind::Semaphore => {}
        }
        ensure!(self.at(l, lock::NEWEST) <= self.root(root::LAST), "lock {l} has a token to come");
        Ok(())
    }

    fn check_claim(&self, l: u32, c: u32, held: bool, seen: &mut Seen) -> Checked<()> {
        self.check_text(c, &claim::NOTE, seen)?;
        ensure!(lo(self.at(c, claim::LOCK_SLOT)) == l, "claim {c} points to another lock");
        let stands = match self.state(c) {
            state::HELD | state::KEPT | state::KEPT_THEN_MARK => held,
            state::WAITING => !held,
            _ => false,
        };
        ensure!(stands, "claim {c} is not what its place says");
        ensure!(self.weight(c) > 0, "claim {c} has no weight");
        let capacity = lo(self.at(c, claim::CAPACITY));
        ensure!(self.weight(c) <= capacity, "claim {c} never fits");
        let (left, right) = tree::children::<BySeq, A>(&self.arena, c);
        let size = tree::size(&self.arena, left) + tree::size(&self.arena, right) + 1;
        ensure!(tree::size(&self.arena, c) == size, "claim {c}: the size below it is wrong");
        let soon = tree::soon(&self.arena, left).min(tree::soon(&self.arena, right));
        ensure!(
            tree::soon(&self.arena, c) == soon.min(self.at(c, claim::END)),
            "claim {c}: its earliest end is wrong"
        );
        let least = tree::least(&self.arena, left).min(tree::least(&self.arena, right));
        ensure!(
            tree::least(&self.arena, c) == least.min(capacity),
            "claim {c}: the least capacity below it is wrong"
        );
        let token = self.at(c, claim::TOKEN);
        let has = self.kind(l).is_ok_and(|k| k != Kind::Semaphore) && held;
        ensure!((token != 0) == has, "claim {c} has the token {token}");
        Ok(())
    }

    fn check_marks(&self, seen: &mut Seen) -> Checked<Vec<u32>> {
        let marks = self.root(root::MARKS);
        let (mut c, mut out) = (lo(marks), Vec::new());
        while c != NONE {
            seen.once(c, "marks")?;
            ensure!(self.tag(c) == CLAIM, "mark {c} has another tag");
            ensure!(matches!(self.state(c), state::MARK | state::EVICTED), "mark {c} is a claim");
            self.check_text(c, &claim::NOTE, seen)?;
            out.push(c);
            c = lo(self.at(c, claim::LINE_LINKS));
        }
        ensure!(out.last().copied().unwrap_or(NONE) == hi(marks), "the last mark is not the last");
        Ok(out)
    }

    /// The index holds claims and marks, and nothing else.
    fn check_index(&self, claims: &[u32], marks: &[u32]) -> Checked<()> {
        let mut known = Seen { at: HashMap::new(), next: lo(self.root(root::NEXT)) };
        let index = lo(self.root(root::INDEX));
        self.tree::<ById>(index, CLAIM, &|c| ById(self.id(c)), 0, &mut known, "the index")?;
        for c in claims.iter().chain(marks) {
            ensure!(known.at.remove(c).is_some(), "claim {c} is not in the index");
        }
        ensure!(known.at.is_empty(), "the index knows claims that stand nowhere");
        Ok(())
    }

    fn check_slots(&self, claims: &[u32], seen: &mut Seen) -> Checked<()> {
        let slots = lo(self.root(root::SLOTS));
        let number = |s: u32| lo(self.at(s, slot::NUMBER));
        self.tree::<BySlot>(slots, SLOT, &|s| BySlot(number(s)), 0, seen, "slots")?;
        let mut anchored: HashMap<u32, u32> = claims
            .iter()
            .map(|&c| (c, hi(self.at(c, claim::LOCK_SLOT))))
            .filter(|&(_, s)| s != super::NO_SLOT)
            .collect();
        for s in self.nodes::<BySlot>(slots) {
            let (mut previous, mut c) = (NONE, lo(self.at(s, slot::FIRST)));
            while c != NONE {
                ensure!(
                    anchored.remove(&c) == Some(number(s)),
                    "claim {c} is on the list of slot {}",
                    number(s)
                );
                let links = self.at(c, claim::SLOT_LINKS);
                ensure!(hi(links) == previous, "claim {c} has another predecessor on its slot's list");
                (previous, c) = (c, lo(links));
            }
        }
        ensure!(anchored.is_empty(), "claims are on no slot's list: {anchored:?}");
        Ok(())
    }
}

/// Where each cell was met.
struct Seen {
    at: HashMap<u32, String>,
    next: u32,
}

impl Seen {
    fn once(&mut self, cell: u32, what: &str) -> Checked<()> {
        ensure!(cell != NONE && cell < self.next, "cell {cell} among {what} was never allocated");
        match self.at.insert(cell, what.to_owned()) {
            None => Ok(()),
            Some(other) => Err(format!("cell {cell} is among {what} and among {other}")),
        }
    }
}
