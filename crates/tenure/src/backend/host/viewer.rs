//! Looks at a store that this process cannot take part in: one on a read-only file system, or another user's, for root.
//!
//! It reads the file and never maps it, locks it or writes to it. A shard is read without its lock, so it may change
//! meanwhile. The copy counts only if the same step was under way before and after, with as many entries in its undo log;
//! then that step is undone in the copy (`rescue.rs` says why this makes it whole).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::chunks::{self, CHUNKS};
use super::create::{self, Found};
use super::format::{self, Header, LOG_MAX, header, shard};
use super::look::{self, Asked, Rows, Shards};
use super::place::{Dir, refused};
use super::store::{Halt, Outcome};
use crate::backend::{Page, Query};
use crate::core::line::arena::{CELL, VecArena};
use crate::core::line::{Arena, LineRow, Lines, NEXT_WORD, Now};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::runtime::Runtime;

/// How often a shard that changes all the time is read again at once. Then the caller waits a little and repeats.
const TRIES: u32 = 100;
/// For how long.
const PATIENCE: Duration = Duration::from_secs(1);

/// One look at a store.
pub(super) struct Viewer<'a> {
    dir: &'a Dir,
    file: OwnedFd,
    header: Header,
    runtime: &'a Arc<dyn Runtime>,
}

/// One page of the store in a directory; empty if there is none, or one that an earlier boot has left.
pub(super) fn inspect(dir: &Dir, runtime: &Arc<dyn Runtime>, query: &Query) -> Outcome<Page> {
    let Found::Good(file, header) = create::find(dir, create::boot_id()?)? else {
        return Ok(Page::default());
    };
    look::inspect(&Viewer { dir, file, header, runtime }, query)
}

/// What came of reading a shard.
enum Copy {
    Whole(Box<Lines<VecArena>>),
    /// It changed meanwhile.
    Changed,
}

impl Viewer<'_> {
    fn now(&self) -> Now {
        Now { ns: self.runtime.now().nanos(), wall_us: self.runtime.wall_us(), ceiling: i64::MAX }
    }

    /// Reads words, counted from the beginning of the file.
    fn words(&self, at: usize, count: usize) -> Result<Vec<u64>> {
        self.words_at((at * 8) as u64, count)
    }

    fn words_at(&self, at: u64, count: usize) -> Result<Vec<u64>> {
        let path = self.dir.file(create::STORE);
        let mut bytes = vec![0; count * 8];
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pread(self.file.as_fd(), &mut bytes[done..], at + done as u64) {
                Ok(0) => return Err(create::damaged(&path, "is cut off")),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(refused(e, "the store cannot be read", &path)),
            }
        }
        Ok(bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect())
    }

    fn word(&self, at: usize) -> Result<u64> {
        Ok(self.words(at, 1)?.first().copied().unwrap_or_default())
    }

    /// A copy of the lines of a shard.
    fn lines(&self, number: usize) -> Outcome<Lines<VecArena>> {
        for _ in 0..TRIES {
            if let Copy::Whole(lines) = self.copy(number)? {
                return Ok(*lines);
            }
            std::thread::yield_now();
        }
        let what = format!("the store in {} changes faster than it can be read", self.dir.path.display());
        let error = Error::unavailable(what, "try again, or look as the user that it belongs to");
        Err(Halt::Stuck(PATIENCE, error))
    }

    fn copy(&self, number: usize) -> Result<Copy> {
        let generation = self.word(header::generation_w(number))?;
        let area = format::area(number, generation);
        // The step: how many entries its log has, and how many steps there were before.
        let step = || self.words(shard::logged_w(area), 2);
        let before = step()?;
        let cells = usize::try_from(self.word(shard::cells_w(area))?).unwrap_or(usize::MAX);
        let table = self.words(shard::chunk_w(area, 0), CHUNKS)?;
        let mut words: Vec<u64> = Vec::new();
        let (mut chunk, mut used) = (0, cells.min(chunks::CELLS_MAX));
        while chunk < CHUNKS && chunks::start(chunk) < used {
            let count = (chunks::start(chunk + 1).min(used) - chunks::start(chunk)) * CELL;
            words.extend(self.words_at(table[chunk], count)?);
            if chunk == 0 {
                let next = words.get(NEXT_WORD).copied().unwrap_or_default();
                used = used.min(usize::try_from(next).unwrap_or(usize::MAX).max(1));
            }
            chunk += 1;
        }
        words.truncate(used * CELL);
        let logged = before.first().map_or(0, |&n| usize::try_from(n).map_or(LOG_MAX, |n| n.min(LOG_MAX)));
        let log = self.words(shard::log_w(area).start, 2 * logged)?;
        if step()? != before || self.word(header::generation_w(number))? != generation {
            return Ok(Copy::Changed);
        }
        for [index, old] in log.as_chunks::<2>().0.iter().rev() {
            if let Some(word) = usize::try_from(*index).ok().and_then(|at| words.get_mut(at)) {
                *word = *old;
            }
        }
        let seed = format::mix(self.header.seed ^ number as u64);
        match Lines::with_seed(VecArena::of(words), seed) {
            Ok(lines) => Ok(Copy::Whole(Box::new(lines))),
            Err(refusal) => Err(self.damaged(&format!("is damaged ({refusal:?})"))),
        }
    }

    fn damaged(&self, how: &str) -> Error {
        create::damaged(&self.dir.file(create::STORE), how)
    }

    /// What `look` finds, unless the copy turns out to be no line.
    fn seen<T>(&self, shard: usize, look: impl FnOnce(&Lines<VecArena>, Now) -> T) -> Outcome<(T, Now)> {
        let (lines, now) = (self.lines(shard)?, self.now());
        let found = look(&lines, now);
        if lines.arena().faulty() {
            return Err(self.damaged("is damaged").into());
        }
        Ok((found, now))
    }
}

impl Shards for Viewer<'_> {
    fn shard_of(&self, key: &[u8]) -> usize {
        format::shard_of(self.header.seed, key)
    }

    fn used(&self, _: usize) -> bool {
        true
    }

    fn row(&self, shard: usize, key: &Key, waiting_max: usize) -> Outcome<(Option<LineRow>, Now)> {
        self.seen(shard, |lines, now| lines.view(key.full().as_bytes(), waiting_max, now))
    }

    fn rows(&self, shard: usize, asked: &Asked<'_>) -> Outcome<Rows> {
        let Asked { namespace, prefix, after, limit, waiting_max } = *asked;
        let look =
            |lines: &Lines<VecArena>, now| lines.page(namespace, prefix, after, limit, waiting_max, now);
        let ((rows, next), now) = self.seen(shard, look)?;
        Ok((rows, next, now))
    }
}
