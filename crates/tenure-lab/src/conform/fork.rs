//! A process that forks with a lock in its hand: the child must neither believe nor release anything.
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, WaitOptions, waitpid};
use tenure::Locks;

use super::faces::{Lock, hide};
use super::worker::{Event, Where, take};
use crate::any_guard::AnyGuard;
use crate::failure::{Doing, Failure, Outcome};
use crate::process::Link;

/// The part of the parent: forks with a guard, a lock and a client in hand, and tells what the child found; an empty
/// text if all is well.
pub(super) fn play(link: &Link, place: &Where, name: &str) -> Outcome<()> {
    let locks = place.connect(30_000)?;
    let lock = place.face.lock(&locks, name)?;
    let guard = take(link, &lock)?;
    let again = (locks.clone(), lock);
    let (mut wrong, guard) = forked(guard, |guard| as_child(again, guard))?;
    // The parent's copies are untouched by whatever the child did.
    if let Err(lost) = guard.check() {
        wrong += &format!("the parent lost its lock: {lost}; ");
    }
    let line = locks.blocking_inspect(name)?.map(|mut line| {
        hide(&mut line);
        line.holders.len()
    });
    match line {
        Some(1) => {}
        other => wrong += &format!("the parent's hold is not listed any more: {other:?}; "),
    }
    if let Err(error) = guard.blocking_release() {
        wrong += &format!("the parent cannot release: {error}; ");
    }
    link.tell(&Event::Found(wrong));
    Ok(())
}

/// What the child finds that must not be.
fn as_child((locks, lock): (Locks, Lock), guard: AnyGuard) -> String {
    let mut wrong = String::new();
    if guard.check().is_ok() {
        wrong += "the child believes that it holds; ";
    }
    match lock.blocking_try_lock() {
        Err(error) if error.kind() == tenure::ErrorKind::Config => {}
        other => wrong += &format!("a lock call of the child said {other:?}; "),
    }
    if let Ok(seen) = locks.blocking_inspect(guard.key().name()) {
        wrong += &format!("the child may look through its parent's client: {seen:?}; ");
    }
    if guard.blocking_release().is_ok() {
        wrong += "the child may release; ";
    }
    drop((lock, locks));
    wrong
}

/// Runs `work` in a forked child, with the child's copy of the guard; gives back what it said, and the guard.
fn forked(guard: AnyGuard, work: impl FnOnce(AnyGuard) -> String) -> Outcome<(String, AnyGuard)> {
    let (mut hears, mut tells) = std::io::pipe().doing(|| "make a pipe".into())?;
    // SAFETY: the child has one thread, a copy of this one. It calls nothing that needs another thread of its parent:
    // the C library repairs its own locks (the allocator's, the standard streams') in a child, the engine refuses to
    // work there, which is what is tried here, and should it wait for a lock that nobody will ever let go, the alarm
    // ends it. It leaves by `_exit`, so none of the parent's handlers or destructors run twice.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: async-signal-safe; no handler is installed, so the alarm ends the child.
        unsafe { libc::alarm(20) };
        let said =
            catch_unwind(AssertUnwindSafe(|| work(guard))).unwrap_or_else(|_| "the child panicked; ".into());
        let told = tells.write_all(said.as_bytes()).and_then(|()| tells.write_all(b"."));
        // SAFETY: ends this process without running anything else.
        unsafe { libc::_exit(i32::from(told.is_err())) };
    }
    drop(tells);
    let Some(child) = Pid::from_raw(pid) else {
        let cause = std::io::Error::last_os_error();
        return Err(Failure::run("this process cannot fork", "see the cause").because(cause));
    };
    let mut said = String::new();
    hears.read_to_string(&mut said).doing(|| "hear the child".into())?;
    waitpid(Some(child), WaitOptions::empty()).doing(|| "wait for the child".into())?;
    // The full stop is the proof that it came to its end.
    Ok((
        said.strip_suffix('.').map_or_else(|| format!("{said}the child hung or died; "), str::to_owned),
        guard,
    ))
}
