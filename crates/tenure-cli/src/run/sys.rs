//! The system calls that nobody wraps safely: fork, signal masks and dispositions, signalfd.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;

/// Signals that a thread causes itself: blocking them would turn a fault into silence.
const FAULTS: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGSYS];

/// Whether SIGPIPE was ignored when this process began. Rust's runtime ignores it before `main`, so that has to be
/// seen earlier.
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before the runtime of Rust and before `main`.
#[used]
// SAFETY: `.init_array` holds pointers to C functions that take what `main` takes and may ignore it; this one calls
// only sigaction(2) and stores an atomic, neither of which needs an initialised runtime.
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = {
    extern "C" fn early() {
        SIGPIPE_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
    }
    early
};

/// Whether a signal is ignored.
fn is_ignored(signal: c_int) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, and `now` is writable memory of the right type.
    let done = unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: a sigaction of zeroes is valid, whether or not the call filled it.
    done == 0 && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Gives a signal its default action, or ignores it. Async-signal-safe.
fn dispose(signal: c_int, ignore: bool) {
    // SAFETY: SIG_DFL and SIG_IGN run no code of ours.
    unsafe { libc::signal(signal, if ignore { libc::SIG_IGN } else { libc::SIG_DFL }) };
}

/// What a process hands on to its children about signals, as it was before we changed anything.
#[derive(Clone, Copy)]
pub(super) struct Inherited {
    mask: libc::sigset_t,
    child_ignored: bool,
}

impl Inherited {
    /// As it is now.
    pub(super) fn now() -> Inherited {
        let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: no new mask is given, and `mask` is writable memory of the right type, valid also as zeroes.
        let mask = unsafe {
            libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
            mask.assume_init()
        };
        Inherited { mask, child_ignored: is_ignored(libc::SIGCHLD) }
    }

    /// Lets the command start as if we were not there: its signals as they were, and its end tied to the thread that
    /// starts it, which must be the guardian's main thread.
    pub(super) fn restore_in(self, command: &mut Command) {
        let guardian = std::process::id();
        let restore = move || {
            // SAFETY: system calls only, all async-signal-safe; `self.mask` is a copy that lives in the closure.
            unsafe {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The guardian may have died before that: then nobody would send the signal.
                if u32::try_from(libc::getppid()).ok() != Some(guardian) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                dispose(libc::SIGPIPE, SIGPIPE_IGNORED.load(Ordering::Relaxed));
                dispose(libc::SIGCHLD, self.child_ignored);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut());
            }
            Ok(())
        };
        // SAFETY: the closure allocates nothing, takes no lock and makes only async-signal-safe calls.
        unsafe { command.pre_exec(restore) };
    }
}

/// Which side of a fork this is.
pub(super) enum Side {
    /// The new process.
    Child,
    /// The old one, with the new one's id.
    Parent(i32),
}

/// Forks. Only while this process has one thread: then the child may do anything that the parent may.
///
/// # Errors
/// No memory or too many processes.
pub(super) fn fork() -> io::Result<Side> {
    // SAFETY: the caller has one thread, so no lock can be held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid)),
    }
}

/// Blocks every signal that can be blocked sensibly, in this thread and those that it starts.
pub(super) fn block_all() {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is initialised by sigfillset before it is used; the other calls only read or change it.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for signal in FAULTS {
            libc::sigdelset(set.as_mut_ptr(), signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Signals that end a process, for one that has something to tidy up first.
pub(crate) struct Endings(libc::sigset_t);

impl Endings {
    /// Blocks them in this thread and those that it starts. Those that are ignored stay so.
    pub(crate) fn block() -> Endings {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: `set` is initialised by sigemptyset before it is used; the other calls only read or change it.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
                if !is_ignored(signal) {
                    libc::sigaddset(set.as_mut_ptr(), signal);
                }
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            Endings(set.assume_init())
        }
    }

    /// Waits for one of them.
    pub(crate) fn wait(&self) -> c_int {
        loop {
            let mut signal = 0;
            // SAFETY: the set lives in `self`, and `signal` is writable.
            if unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } == 0 {
                return signal;
            }
        }
    }

    /// Ends this process by it.
    pub(crate) fn end_by(&self, signal: c_int) -> ! {
        dispose(signal, false);
        // SAFETY: the set lives in `self`; raise(3) sends the signal to this thread, where it is not blocked any more.
        unsafe {
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const self.0, std::ptr::null_mut());
            libc::raise(signal);
        }
        std::process::exit(128 + signal);
    }
}

/// Children of this process are waited for from now on, whatever its parent had set.
pub(super) fn keep_children() {
    dispose(libc::SIGCHLD, false);
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    /// Its number.
    pub(super) signal: i32,
    /// The process that sent it; `None` for the kernel, which signals a terminal's whole foreground group.
    pub(super) sender: Option<i32>,
}

/// Signals to read instead of to suffer; they must be blocked.
pub(super) struct SignalFd(File);

impl SignalFd {
    /// SIGCHLD alone, or everything but SIGCHLD.
    ///
    /// # Errors
    /// Too many open files.
    pub(super) fn new(children: bool) -> io::Result<SignalFd> {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: `set` is initialised before it is used, and signalfd copies it; the descriptor that it returns is
        // ours alone.
        unsafe {
            if children {
                libc::sigemptyset(set.as_mut_ptr());
                libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
            } else {
                libc::sigfillset(set.as_mut_ptr());
                for signal in FAULTS {
                    libc::sigdelset(set.as_mut_ptr(), signal);
                }
                libc::sigdelset(set.as_mut_ptr(), libc::SIGCHLD);
            }
            match libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(SignalFd(File::from(OwnedFd::from_raw_fd(fd)))),
            }
        }
    }

    /// The next signal, if one is there.
    pub(super) fn next(&mut self) -> Option<Arrived> {
        let mut bytes = [0u8; size_of::<libc::signalfd_siginfo>()];
        loop {
            match self.0.read(&mut bytes) {
                Ok(n) if n == bytes.len() => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
        // SAFETY: signalfd wrote one whole signalfd_siginfo, a plain struct of integers; read_unaligned needs no
        // alignment.
        let info = unsafe { bytes.as_ptr().cast::<libc::signalfd_siginfo>().read_unaligned() };
        let signal = c_int::try_from(info.ssi_signo).ok()?;
        // Codes above zero are the kernel's own: SI_KERNEL for a terminal's signals.
        let sender = (info.ssi_code <= 0).then(|| i32::try_from(info.ssi_pid).unwrap_or(0));
        Some(Arrived { signal, sender })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The group of this process; `None` where its leader is outside this process's namespace and so has no number here.
pub(super) fn group() -> Option<i32> {
    // SAFETY: getpgrp(2) takes nothing and cannot fail.
    Some(unsafe { libc::getpgrp() }).filter(|group| *group > 0)
}

/// The group and the session of `pid`, one of ours; `None` where their leader is outside this process's namespace. The
/// kernel then says zero, which no process identifier of the library can hold.
pub(super) fn group_and_session(pid: i32) -> Option<(i32, i32)> {
    // SAFETY: getpgid(2) and getsid(2) touch no memory.
    let (group, session) = unsafe { (libc::getpgid(pid), libc::getsid(pid)) };
    (group > 0 && session > 0).then_some((group, session))
}

/// Sends a signal to one process.
///
/// # Errors
/// There is no such process, or it belongs to somebody else.
pub(super) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH)); // zero and below would name a group
    }
    // SAFETY: kill(2) touches no memory.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes the descriptors beyond the standard three that this process has from its parent: everything that we open
/// ourselves closes on exec, and what came through an exec does not.
///
/// # Errors
/// /proc cannot be read.
pub(super) fn close_inherited() -> io::Result<()> {
    let listed = std::fs::read_dir("/proc/self/fd")?;
    let all: Vec<c_int> = listed.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in all.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: F_GETFD touches no memory; a number that is not open any more is an error.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: no value in this program owns a descriptor that survives exec.
            unsafe { libc::close(fd) };
        }
    }
    Ok(())
}
