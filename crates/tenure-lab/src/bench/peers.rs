//! What Tenure is measured against on one host: the bare flock(2) call, and a bare futex.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::futex;

use super::job::{Part, Peer, Work};
use super::measure::{HOLD, Span};
use super::tally::Tally;
use crate::failure::{Doing, Failure, Outcome};
use crate::num::boot_ns;

/// Measures a peer: a thread for each task, each with a descriptor of its own.
pub(super) fn run(part: &Part, ready: &mut dyn FnMut() -> Outcome<Span>) -> Outcome<Vec<Tally>> {
    match (part.peer, part.work) {
        (Peer::Futex, Work::Handoff) => futexes(part, ready),
        (Peer::Flock, Work::Handoff) => {
            let files = part.sides.iter().map(|_| open(part, 0)).collect::<Outcome<Vec<_>>>()?;
            let span = ready()?;
            threads(files, |file| alternate(&file, span))
        }
        (Peer::Flock, Work::Solo | Work::Spread | Work::Storm | Work::Fan) => {
            let spread = part.work == Work::Spread;
            let files = (0..part.tasks).map(|n| open(part, if spread { n } else { 0 }));
            let files = files.collect::<Outcome<Vec<_>>>()?;
            let span = ready()?;
            let mut total = Tally::default();
            for one in threads(files, |file| cycle(&file, span))? {
                total.merge(one);
            }
            Ok(vec![total])
        }
        (peer, work) => Err(Failure::usage(
            format!("the peer {} has no workload {}", peer.name(), work.name()),
            "futex does handoff; flock does all but holds",
        )),
    }
}

fn threads<T: Send>(inputs: Vec<T>, work: impl Fn(T) -> Tally + Sync) -> Outcome<Vec<Tally>> {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = inputs.into_iter().map(|one| scope.spawn(move || work(one))).collect();
        let lost = || Failure::run("a thread ended early", "see what it wrote above");
        running.into_iter().map(|thread| thread.join().map_err(|_| lost())).collect()
    })
}

fn open(part: &Part, number: u32) -> Outcome<File> {
    let path = part.dir.join(format!("flock-{number}"));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.doing(|| format!("open {}", path.display()))
}

fn cycle(file: &File, span: Span) -> Tally {
    let (mut tally, mut cycles) = (Tally::default(), 0);
    wait_until(span.from);
    loop {
        let before = boot_ns();
        if before >= span.until {
            break;
        }
        if let Err(error) = flock(file, FlockOperation::LockExclusive) {
            tally.failed(error);
            continue;
        }
        tally.acquire.add(boot_ns() - before);
        match flock(file, FlockOperation::Unlock) {
            Ok(()) => cycles += 1,
            Err(error) => tally.failed(error),
        }
    }
    tally.cycles = vec![cycles];
    tally
}

fn alternate(file: &File, span: Span) -> Tally {
    let (mut tally, mut cycles) = (Tally::default(), 0);
    wait_until(span.from);
    while boot_ns() < span.until {
        if let Err(error) = flock(file, FlockOperation::LockExclusive) {
            tally.failed(error);
            continue;
        }
        let acquired = boot_ns();
        sleep(HOLD);
        let releasing = boot_ns();
        match flock(file, FlockOperation::Unlock) {
            Ok(()) => cycles += 1,
            Err(error) => tally.failed(error),
        }
        tally.stamps.push((acquired, releasing));
    }
    tally.cycles = vec![cycles];
    tally
}

fn wait_until(at: u64) {
    sleep(Duration::from_nanos(at.saturating_sub(boot_ns())));
}

/// One word of a file, mapped by both sides.
struct Word(*mut AtomicU32);

// SAFETY: it is only accessed through an atomic, and it is unmapped only when nobody has it any more.
unsafe impl Send for Word {}
// SAFETY: as above.
unsafe impl Sync for Word {}

impl Word {
    fn map(part: &Part) -> Outcome<Word> {
        let path = part.dir.join("futex");
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.doing(|| format!("open {}", path.display()))?;
        file.set_len(4).doing(|| "size the futex's file".into())?;
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new shared mapping, at an address that the kernel chooses, of a file that is four bytes long and
        // that nobody makes shorter.
        let at = unsafe { mmap(null_mut(), 4, flags, MapFlags::SHARED, &file, 0) };
        at.map(|at| Word(at.cast())).doing(|| "map the futex's file".into())
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: `map` made the mapping: a page, so aligned, readable and writable, and mapped while `self` lives.
        unsafe { &*self.0 }
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; references to it do not outlive `self`.
        let _ = unsafe { munmap(self.0.cast(), 4) };
    }
}

/// Two sides that wake each other: a side's turn is the word's value.
fn futexes(part: &Part, ready: &mut dyn FnMut() -> Outcome<Span>) -> Outcome<Vec<Tally>> {
    let words = part.sides.iter().map(|side| Ok((*side, Word::map(part)?))).collect::<Outcome<Vec<_>>>()?;
    let span = ready()?;
    threads(words, |(side, word)| take_turns(side, word.word(), span))
}

fn take_turns(side: u32, word: &AtomicU32, span: Span) -> Tally {
    let mut tally = Tally::default();
    let patience = futex::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    wait_until(span.from);
    let mut cycles = 0;
    while boot_ns() < span.until {
        let turn = word.load(Ordering::Acquire);
        if turn != side {
            // Woken, out of time, or too late to sleep: look again in any case.
            let _ = futex::wait(word, futex::Flags::empty(), turn, Some(&patience));
            continue;
        }
        let acquired = boot_ns();
        sleep(HOLD);
        let releasing = boot_ns();
        word.store(1 - side, Ordering::Release);
        if let Err(error) = futex::wake(word, futex::Flags::empty(), 1) {
            tally.failed(error);
        }
        cycles += 1;
        tally.stamps.push((acquired, releasing));
    }
    tally.cycles = vec![cycles];
    tally
}
