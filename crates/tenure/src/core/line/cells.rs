//! Where each field lies. Every cell has a kind (its tag) and a link in its first word; text that does not fit into its
//! cell goes on in a chain of text cells.

use std::cmp::Ordering;

use super::arena::CELL;
use super::{Arena, Kind, Lines, Refusal};

/// No cell: cell 0 is the root.
pub(super) const NONE: u32 = 0;
/// `tag << 32 | link`, in every cell but the root. The link is the next free cell, or the next cell of a text.
pub(super) const HEAD: usize = 0;

pub(super) const FREE: u32 = 0x4652_4545;
pub(super) const LOCK: u32 = 0x4c4f_434b;
pub(super) const CLAIM: u32 = 0x434c_4149;
pub(super) const TEXT: u32 = 0x5445_5854;
pub(super) const SLOT: u32 = 0x534c_4f54;
pub(super) const ENDS: u32 = 0x454e_4453;

/// The longest text (a key, a note, a reason) in bytes. A text is written and freed in one step, so it has an end.
pub(super) const TEXT_MAX: usize = 1024;

/// The root, cell 0.
pub(super) mod root {
    /// Names the layout of all cells, and its version.
    pub(in super::super) const MAGIC: usize = 0;
    /// The first free cell.
    pub(in super::super) const FREE: usize = 1;
    /// The first cell that was never used.
    pub(in super::super) const NEXT: usize = 2;
    /// The last token given.
    pub(in super::super) const LAST: usize = 3;
    /// The tree of locks.
    pub(in super::super) const LOCKS: usize = 4;
    /// The tree of claims and marks by id.
    pub(in super::super) const INDEX: usize = 5;
    /// First and last mark, oldest first.
    pub(in super::super) const MARKS: usize = 6;
    /// How many locks and claims.
    pub(in super::super) const COUNTS: usize = 7;
    /// How many marks.
    pub(in super::super) const MARK_COUNT: usize = 8;
    /// What the hash of keys begins with.
    pub(in super::super) const SEED: usize = 9;
    /// The tree of process slots.
    pub(in super::super) const SLOTS: usize = 10;
    /// "tenure", layout 2.
    pub(in super::super) const MAGIC_WORD: u64 = 0x7465_6e75_7265_0002;
}

/// A lock that is held or waited for.
pub(super) mod lock {
    /// 128 bits of hash.
    pub(in super::super) const HASH: usize = 1;
    /// Children in the tree of locks.
    pub(in super::super) const LINKS: usize = 3;
    /// The earliest end of a lease in this subtree of locks.
    pub(in super::super) const SOON: usize = 4;
    /// The trees of held and waiting claims.
    pub(in super::super) const LINE: usize = 5;
    /// The kind (low), and how the last hold ended (high).
    pub(in super::super) const KIND: usize = 6;
    /// The sum of the weights held.
    pub(in super::super) const USED: usize = 7;
    /// The place of the next claim.
    pub(in super::super) const NEXT_SEQ: usize = 8;
    /// The token that readers share until the next writer, or 0.
    pub(in super::super) const SHARED: usize = 9;
    /// The token of the newest grant, or 0.
    pub(in super::super) const NEWEST: usize = 10;
    /// When the last eviction was (µs since the epoch), or 0.
    pub(in super::super) const BROKEN_AT: usize = 11;
    /// The token that it took.
    pub(in super::super) const BROKEN_TOKEN: usize = 12;
    /// Its reason.
    pub(in super::super) const BROKEN: super::Text = super::Text { head: 13, inline: 32, words: 0 };
    /// `namespace/name`.
    pub(in super::super) const KEY: super::Text = super::Text { head: 14, inline: 15, words: 17 };
}

/// A claim, or the mark that one leaves.
pub(super) mod claim {
    /// 128 bits.
    pub(in super::super) const ID: usize = 1;
    /// Children in the index.
    pub(in super::super) const INDEX_LINKS: usize = 3;
    /// Children in the held or waiting tree. A mark: the next mark.
    pub(in super::super) const LINE_LINKS: usize = 4;
    /// How many claims in this subtree of the line.
    pub(in super::super) const SIZE: usize = 5;
    /// The earliest end of a lease in this subtree of the line.
    pub(in super::super) const SOON: usize = 6;
    /// The lock's cell (low) and the process slot (high).
    pub(in super::super) const LOCK_SLOT: usize = 7;
    /// The state (lowest byte), how the hold before it ended (next byte), and the weight (high).
    pub(in super::super) const STATE: usize = 8;
    /// The capacity that it names (low), and the least in this subtree of the line (high).
    pub(in super::super) const CAPACITY: usize = 9;
    /// The place in line.
    pub(in super::super) const SEQ: usize = 10;
    /// When its lease ends. A mark: when it goes.
    pub(in super::super) const END: usize = 11;
    /// Since when it waits or holds, in µs since the epoch.
    pub(in super::super) const SINCE: usize = 12;
    /// The token, or 0.
    pub(in super::super) const TOKEN: usize = 13;
    /// The lease of a holder.
    pub(in super::super) const TTL: usize = 14;
    /// The lease of a waiter.
    pub(in super::super) const WAITING_TTL: usize = 15;
    /// The next and the previous claim of the same slot.
    pub(in super::super) const SLOT_LINKS: usize = 16;
    /// Who and why. A mark: the reason of an eviction.
    pub(in super::super) const NOTE: super::Text = super::Text { head: 17, inline: 18, words: 14 };
}

/// A process slot that claims were anchored to.
pub(super) mod slot {
    /// Its number.
    pub(in super::super) const NUMBER: usize = 1;
    /// Children in the tree of slots.
    pub(in super::super) const LINKS: usize = 3;
    /// The first of its claims.
    pub(in super::super) const FIRST: usize = 4;
}

/// What a claim cell is. The first three stand in a line.
pub(super) mod state {
    pub(in super::super) const HELD: u32 = 1;
    pub(in super::super) const WAITING: u32 = 2;
    /// Released, and still granted for a while.
    pub(in super::super) const KEPT: u32 = 3;
    /// The same; becomes a mark when that while is over.
    pub(in super::super) const KEPT_THEN_MARK: u32 = 4;
    /// Withdrawn.
    pub(in super::super) const MARK: u32 = 5;
    /// Evicted.
    pub(in super::super) const EVICTED: u32 = 6;
}

/// Where a text begins: its head (next cell, length) and the words in the cell itself.
pub(super) struct Text {
    pub(super) head: usize,
    pub(super) inline: usize,
    pub(super) words: usize,
}

#[allow(clippy::cast_possible_truncation)] // the low half
pub(super) const fn lo(word: u64) -> u32 {
    word as u32
}

pub(super) const fn hi(word: u64) -> u32 {
    lo(word >> 32)
}

pub(super) const fn pair(low: u32, high: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

#[inline]
pub(super) fn get<A: Arena>(a: &A, cell: u32, field: usize) -> u64 {
    a.get(cell as usize * CELL + field)
}

/// Writes a word if it differs: what does not change needs no undoing.
#[inline]
pub(super) fn set<A: Arena>(a: &mut A, cell: u32, field: usize, word: u64) {
    let at = cell as usize * CELL + field;
    if a.get(at) != word {
        a.set(at, word);
    }
}

pub(super) fn id_of<A: Arena>(a: &A, cell: u32) -> u128 {
    u128::from(get(a, cell, claim::ID)) << 64 | u128::from(get(a, cell, claim::ID + 1))
}

/// Spreads the bits of a word over all of it.
pub(super) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 128 bits of hash. Equal hashes are told apart by their bytes, so its quality decides speed, never identity.
pub(super) fn hash(seed: u64, key: &[u8]) -> [u64; 2] {
    fn fold(a: u64, b: u64) -> u64 {
        let wide = u128::from(a) * u128::from(b);
        #[allow(clippy::cast_possible_truncation)] // both halves
        let (high, low) = ((wide >> 64) as u64, wide as u64);
        high ^ low
    }
    let (mut a, mut b) = (mix(seed ^ key.len() as u64), mix(seed.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15));
    for word in words(key) {
        a = fold(a ^ word, 0xA076_1D64_78BD_642F) ^ a.rotate_left(23);
        b = fold(b ^ word, 0xE703_7ED1_A0B4_28DB) ^ b.rotate_left(41);
    }
    [mix(a), mix(b ^ a.rotate_left(17))]
}

/// The words that keep a text: little-endian, the last one filled up with zeros.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (whole, rest) = bytes.as_chunks::<8>();
    let last = rest.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b));
    let last = (!rest.is_empty()).then_some(last);
    whole.iter().map(|c| u64::from_le_bytes(*c)).chain(last)
}

/// Walks over the words of a text.
struct Words {
    cell: u32,
    field: usize,
    end: usize,
    next: u32,
}

impl Words {
    fn new<A: Arena>(a: &A, cell: u32, t: &Text) -> (Words, usize) {
        let head = get(a, cell, t.head);
        let mut len = hi(head) as usize;
        if len > TEXT_MAX {
            a.fault();
            len = 0;
        }
        (Words { cell, field: t.inline, end: t.inline + t.words, next: lo(head) }, len)
    }

    fn next<A: Arena>(&mut self, a: &A) -> u64 {
        if self.field == self.end {
            self.cell = self.next;
            let head = get(a, self.cell, HEAD);
            if self.cell == NONE || hi(head) != TEXT {
                a.fault();
                return 0;
            }
            (self.next, self.field, self.end) = (lo(head), HEAD + 1, CELL);
        }
        self.field += 1;
        get(a, self.cell, self.field - 1)
    }
}

/// Any total order of texts in which only equal bytes are equal: by length, then by words.
pub(super) fn compare<A: Arena>(a: &A, bytes: &[u8], cell: u32, t: &Text) -> Ordering {
    let (mut kept, len) = Words::new(a, cell, t);
    let mut order = bytes.len().cmp(&len);
    for word in words(bytes) {
        if order != Ordering::Equal {
            break;
        }
        order = word.cmp(&kept.next(a));
    }
    order
}

/// The same order, of the texts of two cells.
pub(super) fn compare_cells<A: Arena>(a: &A, one: u32, other: u32, t: &Text) -> Ordering {
    let ((mut x, n), (mut y, m)) = (Words::new(a, one, t), Words::new(a, other, t));
    let mut order = n.cmp(&m);
    for _ in 0..n.div_ceil(8) {
        if order != Ordering::Equal {
            break;
        }
        order = x.next(a).cmp(&y.next(a));
    }
    order
}

/// A copy of a text.
pub(super) fn text<A: Arena>(a: &A, cell: u32, t: &Text) -> Vec<u8> {
    let (mut words, len) = Words::new(a, cell, t);
    let mut out = Vec::with_capacity(len.next_multiple_of(8));
    for _ in 0..len.div_ceil(8) {
        out.extend_from_slice(&words.next(a).to_le_bytes());
    }
    out.truncate(len);
    out
}

impl<A: Arena> Lines<A> {
    #[inline]
    pub(super) fn at(&self, cell: u32, field: usize) -> u64 {
        get(&self.arena, cell, field)
    }

    #[inline]
    pub(super) fn set(&mut self, cell: u32, field: usize, word: u64) {
        set(&mut self.arena, cell, field, word);
    }

    /// For cells that were allocated in this step.
    #[inline]
    pub(super) fn put(&mut self, cell: u32, field: usize, word: u64) {
        self.arena.put(cell as usize * CELL + field, word);
    }

    pub(super) fn root(&self, field: usize) -> u64 {
        self.at(NONE, field)
    }

    pub(super) fn set_root(&mut self, field: usize, word: u64) {
        self.set(NONE, field, word);
    }

    pub(super) fn tag(&self, cell: u32) -> u32 {
        hi(self.at(cell, HEAD))
    }

    pub(super) fn kind(&self, lock: u32) -> Result<Kind, Refusal> {
        match lo(self.at(lock, lock::KIND)) {
            1 => Ok(Kind::Mutex),
            2 => Ok(Kind::ReadWrite),
            3 => Ok(Kind::Semaphore),
            _ => Err(self.corrupt()),
        }
    }

    pub(super) fn corrupt(&self) -> Refusal {
        self.arena.fault();
        Refusal::Corrupt
    }

    /// A cell to write to with `put`. Its first word is on the free list until the commit, so that one is set.
    pub(super) fn alloc(&mut self, tag: u32) -> Result<u32, Refusal> {
        let cell = lo(self.root(root::FREE));
        if cell != NONE {
            let head = self.at(cell, HEAD);
            if hi(head) != FREE {
                return Err(self.corrupt());
            }
            self.set_root(root::FREE, u64::from(lo(head)));
            self.set(cell, HEAD, pair(NONE, tag));
            return Ok(cell);
        }
        let cell = lo(self.root(root::NEXT));
        if cell >= self.arena.cells() && !(self.arena.grow() && cell < self.arena.cells()) {
            return Err(Refusal::Full);
        }
        self.set_root(root::NEXT, u64::from(cell) + 1);
        self.put(cell, HEAD, pair(NONE, tag));
        Ok(cell)
    }

    /// Gives a cell back when the step is committed, not before: until then it may have to be undone.
    pub(super) fn free(&mut self, cell: u32) {
        self.dead.push(cell);
    }

    /// Ends a step.
    pub(super) fn commit(&mut self) -> Result<(), Refusal> {
        if !self.dead.is_empty() {
            let mut first = lo(self.root(root::FREE));
            while let Some(cell) = self.dead.pop() {
                self.set(cell, HEAD, pair(first, FREE));
                first = cell;
            }
            self.set_root(root::FREE, u64::from(first));
        }
        if self.arena.faulty() {
            return Err(Refusal::Corrupt);
        }
        self.arena.commit();
        Ok(())
    }

    /// Ends a verb: what an uncommitted step did is undone.
    pub(super) fn finish<T>(&mut self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        let result = if self.arena.faulty() { Err(Refusal::Corrupt) } else { result };
        self.by_id.forget();
        self.by_name.forget();
        if result.is_err() {
            self.recover();
        }
        result
    }

    /// Writes as much of a text as there is room for, over one that was freed (or never was); says how many bytes.
    pub(super) fn write_text(
        &mut self,
        cell: u32,
        t: &Text,
        bytes: &[u8],
        fresh: bool,
    ) -> Result<usize, Refusal> {
        let bytes = &bytes[..bytes.len().min(TEXT_MAX)];
        let (here, rest) = bytes.split_at(bytes.len().min(t.words * 8));
        for (i, word) in words(here).enumerate() {
            if fresh {
                self.put(cell, t.inline + i, word);
            } else {
                self.set(cell, t.inline + i, word);
            }
        }
        let (mut first, mut last, mut written) = (NONE, NONE, here.len());
        for part in rest.chunks((CELL - 1) * 8) {
            let more = match self.alloc(TEXT) {
                Err(Refusal::Full) => break,
                other => other?,
            };
            for (i, word) in words(part).enumerate() {
                self.put(more, HEAD + 1 + i, word);
            }
            if last == NONE {
                first = more;
            } else {
                self.put(last, HEAD, pair(more, TEXT));
            }
            last = more;
            written += part.len();
        }
        let head = pair(first, u32::try_from(written).unwrap_or(0));
        if fresh {
            self.put(cell, t.head, head);
        } else {
            self.set(cell, t.head, head);
        }
        Ok(written)
    }

    /// Gives the cells of a text back. The text itself must be written anew, or its cell freed.
    #[inline]
    pub(super) fn free_text(&mut self, cell: u32, t: &Text) {
        let first = lo(self.at(cell, t.head));
        if first != NONE {
            self.free_texts(first);
        }
    }

    fn free_texts(&mut self, mut next: u32) {
        for _ in 0..=TEXT_MAX / ((CELL - 1) * 8) {
            if next == NONE {
                return;
            }
            let head = self.at(next, HEAD);
            if hi(head) != TEXT {
                break;
            }
            self.free(next);
            next = lo(head);
        }
        if next != NONE {
            self.arena.fault();
        }
    }
}
