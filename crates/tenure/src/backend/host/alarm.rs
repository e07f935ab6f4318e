//! The death alarm: notices that a process is gone while somebody here waits, and removes what it left behind.
//!
//! The kernel tells at once where it can: a pidfd for each other process. Where a pid means nothing here (another pid
//! namespace), or the pidfd cannot be had, a look at the slots' byte locks each second finds the death. Whether a
//! process is dead is decided by its byte lock alone, never by its pid.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::bell::Lazy;
use super::place;
use super::slots::Who;
use super::store::Inner;
use crate::error::{Error, Result};

/// How many processes are watched by pidfd; the others by the heartbeat alone.
const WATCHED: usize = 128;
const HEARTBEAT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// After how long without anybody waiting the heartbeat stops.
const IDLE: Duration = Duration::from_secs(30);
/// How long a process that the kernel called dead may keep its byte lock: the files are closed a moment before or
/// after, and freeing much memory takes its time.
const LAST_BREATH: Duration = Duration::from_millis(100);

/// Where other threads reach the alarm thread.
#[derive(Debug)]
pub(super) struct Alarm {
    thread: Lazy,
    bell: OwnedFd,
    /// It sleeps without an end, since nobody waits.
    idle: AtomicBool,
    /// Whom it has looked at.
    known: Mutex<HashSet<Who>>,
}

impl Alarm {
    pub(super) fn new() -> Result<Alarm> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| match e {
            Errno::MFILE | Errno::NFILE => Error::unavailable(
                "no file descriptor is left",
                "close files, or raise the limit (ulimit -n)",
            )
            .because(e),
            e => place::denied("eventfd", e),
        })?;
        Ok(Alarm { thread: Lazy::default(), bell, idle: AtomicBool::new(false), known: Mutex::default() })
    }

    /// Somebody here waits, behind `others` who live.
    pub(super) fn watch(store: &Arc<Inner>, others: &[Who]) {
        let alarm = &store.alarm;
        alarm.thread.start(store, "tenure-alarm", run);
        let known = alarm.known.lock().unwrap_or_else(PoisonError::into_inner);
        let all = others.iter().all(|who| known.contains(who));
        drop(known);
        if !all || alarm.idle.swap(false, SeqCst) {
            alarm.nudge();
        }
    }

    /// Makes the thread look at all slots now.
    pub(super) fn nudge(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

/// The alarm thread.
fn run(store: &Arc<Inner>) {
    let mut watched: HashMap<Who, OwnedFd> = HashMap::new();
    let mut waited = store.runtime.now();
    while !store.stopped() {
        look_round(store, &mut watched);
        let now = store.runtime.now();
        if !store.waiting.is_empty() {
            waited = now;
        }
        // Set before the last look, as whoever waits looks at it after saying so.
        store.alarm.idle.store(now.since(waited) > IDLE, SeqCst);
        let idle = store.alarm.idle.load(SeqCst) && store.waiting.is_empty();
        for who in poll_all(store, &watched, idle) {
            watched.remove(&who);
            bury(store, who);
        }
    }
}

/// Sleeps until somebody watched is gone, the alarm is nudged, or the heartbeat is due. Says who is gone.
fn poll_all(store: &Inner, watched: &HashMap<Who, OwnedFd>, idle: bool) -> Vec<Who> {
    let order: Vec<Who> = watched.keys().copied().collect();
    let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&store.alarm.bell, PollFlags::IN)];
    fds.extend(watched.values().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
    match poll(&mut fds, if idle { None } else { Some(&HEARTBEAT) }) {
        Ok(_) => {}
        Err(Errno::INTR) => return Vec::new(),
        // More descriptors than this process may have open by now: the heartbeat does without.
        Err(_) => {
            std::thread::sleep(Duration::from_secs(1));
            return Vec::new();
        }
    }
    if !fds[0].revents().is_empty() {
        let _ = rustix::io::read(&store.alarm.bell, &mut [0; 8]);
    }
    order.into_iter().zip(&fds[1..]).filter(|(_, fd)| !fd.revents().is_empty()).map(|(who, _)| who).collect()
}

/// Watches everybody whom it does not watch yet, and buries who died unwatched.
fn look_round(store: &Inner, watched: &mut HashMap<Who, OwnedFd>) {
    let slots = store.slots();
    let all: HashSet<Who> = slots.all().filter(|who| *who != store.me).collect();
    watched.retain(|who, _| all.contains(who));
    for &who in &all {
        let fd = (watched.len() < WATCHED && !watched.contains_key(&who))
            .then(|| slots.pid_here(who))
            .flatten()
            .and_then(Pid::from_raw)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Asked after the pidfd was opened: if it lives now, the pidfd is its own and not that of a later process.
        if !slots.alive(who, store.me) {
            watched.remove(&who);
            reap(store, who);
        } else if let Some(fd) = fd {
            watched.insert(who, fd);
        }
    }
    *store.alarm.known.lock().unwrap_or_else(PoisonError::into_inner) = all;
}

/// A pidfd says that a process is gone. It is dead for us when its byte lock is.
fn bury(store: &Inner, who: Who) {
    let until = store.runtime.now() + LAST_BREATH;
    let mut pause = Duration::from_micros(20);
    while store.slots().alive(who, store.me) {
        if store.runtime.now() > until {
            return; // the heartbeat goes on asking
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(2));
    }
    reap(store, who);
}

fn reap(store: &Inner, who: Who) {
    if let Err(e) = store.reap(who) {
        tracing::warn!(error = %e, "claims of a dead process stay until their leases end");
    }
}
