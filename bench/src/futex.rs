//! Waking a process that sleeps on a futex: the least that any hand-over between processes can cost.

#![allow(unsafe_code)] // one mapping, shared with a child

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::thread::futex;

use crate::flock::{HOLD, Scratch, spawn};
use crate::report::{Measured, now};
use crate::{Fault, Plan};

/// What the two processes share.
#[repr(C)]
struct Shared {
    /// Counts the wakes; odd while the child sleeps or is about to.
    turn: AtomicU32,
    /// When the child woke.
    woke: AtomicU64,
}

/// The last turn: the child ends.
const END: u32 = u32::MAX;

/// Sleeps for as long as a holder of the hand-off workload holds, wakes the child, asks when it woke; again and again.
pub(crate) fn run(plan: &Plan) -> Result<(), Fault> {
    let file = Scratch::new("futex")?;
    File::options().write(true).open(&file.0)?.set_len(4096)?;
    let shared = map(&file.0)?;
    let mut child = spawn(&["futex"], plan.time, &file.0)?;
    let end = now() + u64::try_from(plan.time.as_nanos())?;
    let mut latencies = Vec::new();
    while now() < end {
        let turn = await_odd(shared);
        thread::sleep(HOLD);
        let before = now();
        wake(shared, turn + 1)?;
        await_odd(shared);
        latencies.push(shared.woke.load(Ordering::Acquire).saturating_sub(before));
    }
    wake(shared, END)?;
    child.wait()?;
    let cycles = vec![latencies.len() as u64];
    Measured { peer: "futex wake", work: "handoff".into(), cycles, time: plan.time, latencies }.print();
    Ok(())
}

/// Sleeps, and notes when it woke.
pub(crate) fn child(_plan: &Plan, file: &str) -> Result<(), Fault> {
    let shared = map(Path::new(file))?;
    loop {
        let turn = shared.turn.fetch_add(1, Ordering::AcqRel) + 1;
        while shared.turn.load(Ordering::Acquire) == turn {
            let _ = futex::wait(&shared.turn, futex::Flags::empty(), turn, None); // interrupted or woken: look
        }
        shared.woke.store(now(), Ordering::Release);
        if shared.turn.load(Ordering::Acquire) == END {
            return Ok(());
        }
    }
}

fn wake(shared: &Shared, turn: u32) -> Result<(), Fault> {
    shared.turn.store(turn, Ordering::Release);
    futex::wake(&shared.turn, futex::Flags::empty(), 1)?;
    Ok(())
}

/// Waits until the child is about to sleep.
fn await_odd(shared: &Shared) -> u32 {
    loop {
        let turn = shared.turn.load(Ordering::Acquire);
        if turn % 2 == 1 {
            return turn;
        }
        thread::yield_now();
    }
}

fn map(path: &Path) -> Result<&'static Shared, Fault> {
    let file = File::options().read(true).write(true).open(path)?;
    // SAFETY: a new mapping of 4096 bytes at an address of the kernel's choice; the file has that length and keeps it.
    let at = unsafe {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        mmap(std::ptr::null_mut(), 4096, access, MapFlags::SHARED, &file, 0)?
    };
    // SAFETY: mapped until the process ends, aligned to a page, zeroed by set_len, and only ever accessed as atomics.
    Ok(unsafe { &*at.cast::<Shared>() })
}
