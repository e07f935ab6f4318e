//! A small arena for the product's line: cheap to copy.

use tenure::core::line::Arena;
use tenure::core::line::arena::CELL;

/// Grows by two cells at a time.
#[derive(Clone, Default)]
pub(super) struct Small {
    words: Vec<u64>,
    undo: Vec<(usize, u64)>,
}

impl Arena for Small {
    fn get(&self, at: usize) -> u64 {
        self.words[at]
    }

    fn set(&mut self, at: usize, word: u64) {
        self.undo.push((at, self.words[at]));
        self.words[at] = word;
    }

    fn put(&mut self, at: usize, word: u64) {
        self.words[at] = word;
    }

    fn cells(&self) -> u32 {
        u32::try_from(self.words.len() / CELL).expect("few cells")
    }

    fn grow(&mut self) -> bool {
        self.words.resize(self.words.len() + 2 * CELL, 0);
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
        panic!("the line is damaged");
    }

    fn faulty(&self) -> bool {
        false
    }
}
