//! The memory that a line lives in.

/// Words in one cell. Cells are numbered from 0; cell 0 is the root, so 0 also means "no cell".
pub const CELL: usize = 32;

/// Memory for [`Lines`](super::Lines): words, addressed as `cell * CELL + field`.
///
/// A verb is a few *steps*; each step reads and writes words and ends in [`commit`](Arena::commit). Whatever a step
/// wrote with [`set`](Arena::set) is undone by [`abort`](Arena::abort), or by whoever finds the arena after its writer
/// was killed: between steps the structure is always whole.
pub trait Arena {
    /// The word at `at`. Out of range: 0, and the arena becomes [`faulty`](Arena::faulty).
    fn get(&self, at: usize) -> u64;
    /// Writes a word; undone unless the step is committed.
    fn set(&mut self, at: usize, word: u64);
    /// Writes a word of a cell that nothing links to yet: need not be undone.
    fn put(&mut self, at: usize, word: u64);
    /// How many cells may be used.
    fn cells(&self) -> u32;
    /// Makes room for more cells. False: there is no more room.
    fn grow(&mut self) -> bool;
    /// Ends a step: what was set stays.
    fn commit(&mut self);
    /// Undoes what was set since the last commit.
    fn abort(&mut self);
    /// Notes that the structure is not what it must be.
    fn fault(&self);
    /// Whether that was noted.
    fn faulty(&self) -> bool;
}

/// The plain arena: a vector that grows. Steps are never cut short here, but a refused verb still undoes its own.
#[derive(Clone, Debug, Default)]
pub struct VecArena {
    words: Vec<u64>,
    undo: Vec<(usize, u64)>,
    bad: std::cell::Cell<bool>,
}

/// At most this many cells (1 GiB): an end, so that a runaway program gets an error and not the machine's last page.
const CELLS_MAX: usize = 4 << 20;

impl VecArena {
    /// An arena with this content.
    pub fn of(words: Vec<u64>) -> VecArena {
        VecArena { words, ..VecArena::default() }
    }
}

impl Arena for VecArena {
    fn get(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or_else(|| {
            self.fault();
            0
        })
    }

    fn set(&mut self, at: usize, word: u64) {
        match self.words.get_mut(at) {
            Some(w) => {
                self.undo.push((at, *w));
                *w = word;
            }
            None => self.fault(),
        }
    }

    fn put(&mut self, at: usize, word: u64) {
        match self.words.get_mut(at) {
            Some(w) => *w = word,
            None => self.fault(),
        }
    }

    fn cells(&self) -> u32 {
        u32::try_from(self.words.len() / CELL).unwrap_or(u32::MAX)
    }

    fn grow(&mut self) -> bool {
        let cells = self.words.len() / CELL;
        if cells >= CELLS_MAX {
            return false;
        }
        self.words.resize((cells * 2).max(64) * CELL, 0);
        true
    }

    fn commit(&mut self) {
        self.undo.clear();
    }

    fn abort(&mut self) {
        for (at, word) in self.undo.drain(..).rev() {
            self.words[at] = word;
        }
    }

    fn fault(&self) {
        self.bad.set(true);
    }

    fn faulty(&self) -> bool {
        self.bad.get()
    }
}
