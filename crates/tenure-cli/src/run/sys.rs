//! The system calls that nobody wraps safely: fork, signal masks and dispositions, ties to a parent, signalfd.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;
use rustix::process::Pid;

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

    /// Gives this process back its signals as they were. Async-signal-safe.
    pub(super) fn restore(self) {
        dispose(libc::SIGPIPE, SIGPIPE_IGNORED.load(Ordering::Relaxed));
        dispose(libc::SIGCHLD, self.child_ignored);
        // SAFETY: `self.mask` is a valid signal set, and no old mask is asked for.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut()) };
    }

    /// The same just before the command is executed: the standard library has set them to its own liking.
    pub(super) fn restore_in(self, command: &mut Command) {
        // SAFETY: the closure allocates nothing, takes no lock and makes only async-signal-safe calls; `self` is a copy
        // that lives in it.
        unsafe {
            command.pre_exec(move || {
                self.restore();
                Ok(())
            })
        };
    }
}

/// Ties this process to the thread that forked it, which must be the main thread of `parent`: the kernel kills it when
/// that thread ends.
///
/// # Errors
/// The parent is gone already, or the kernel refuses.
pub(super) fn die_with(parent: Pid) -> io::Result<()> {
    // SAFETY: prctl(2) with these arguments touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // It may have died before that: then nobody would send the signal.
    match rustix::process::getppid() == Some(parent) {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// Ends a forked process at once: buffers and exit handlers are its parent's.
pub(super) fn leave(code: i32) -> ! {
    // SAFETY: _exit(2) touches no memory and does not return.
    unsafe { libc::_exit(code) }
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

/// The newest process id: that of a child which ends at once.
pub(super) fn newest_pid() -> Option<i32> {
    // SAFETY: the child makes one system call, which is async-signal-safe, so it may be that of a process with threads.
    match unsafe { libc::fork() } {
        0 => leave(0),
        pid => {
            let child = Pid::from_raw(pid.max(0))?;
            let _ = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
            Some(pid)
        }
    }
}

/// Blocks every signal in this thread and those that it starts. A fault of our own is not silenced: the kernel ends a
/// process whose own fault is blocked.
pub(super) fn block_all() {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is initialised by sigfillset before it is used; the other calls only read or change it.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
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

/// Removes the handlers that Rust's runtime has for faults: they would swallow a SIGSEGV that somebody sends.
pub(super) fn plain_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        if !is_ignored(signal) {
            dispose(signal, false);
        }
    }
}

/// A signal that arrived, as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Its number.
    pub(super) signal: i32,
    /// How it was sent: above zero by the kernel, `SI_QUEUE` with a value.
    pub(super) code: i32,
    /// Who sent it.
    pub(super) pid: i32,
    pub(super) uid: u32,
    /// What sigqueue(3) sent with it.
    pub(super) value: u64,
}

impl Arrived {
    /// Whether several of this number are several signals.
    pub(super) fn queues(&self) -> bool {
        self.signal >= 32
    }

    /// Sends it on to a process: the same signal, with its value and its sender where it has a value.
    pub(super) fn forward(&self, pid: i32) {
        if self.code != libc::SI_QUEUE || self.queue(pid).is_err() {
            let _ = kill(pid, self.signal);
        }
    }

    #[cfg(target_pointer_width = "64")]
    fn queue(&self, pid: i32) -> io::Result<()> {
        /// A `siginfo_t` of a signal with a value.
        #[repr(C, align(8))]
        struct Info {
            numbers: [c_int; 4],
            pid: i32,
            uid: u32,
            value: u64,
            rest: [u64; 12],
        }
        const { assert!(size_of::<Info>() == size_of::<libc::siginfo_t>()) };
        let (pid_of_sender, numbers) = (self.pid, [self.signal, 0, self.code, 0]);
        let info = Info { numbers, pid: pid_of_sender, uid: self.uid, value: self.value, rest: [0; 12] };
        // SAFETY: the kernel reads a whole siginfo_t, which `info` is by size and layout, and writes nothing.
        let done = unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, self.signal, &raw const info) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    #[cfg(not(target_pointer_width = "64"))]
    fn queue(&self, _: i32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
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
        Some(Arrived {
            signal: c_int::try_from(info.ssi_signo).ok()?,
            code: info.ssi_code,
            pid: i32::try_from(info.ssi_pid).unwrap_or(0),
            uid: info.ssi_uid,
            value: info.ssi_ptr,
        })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
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

/// Lets go of what belongs to the command: its files, so that a reader of its output sees the end when the command
/// ends, and its working directory, so that this can be unmounted.
pub(super) fn let_go() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    close_inherited();
    let _ = rustix::process::chdir("/");
}

/// Closes the descriptors beyond the standard three that this process has from its parent: everything that we open
/// ourselves closes on exec, and what came through an exec does not.
fn close_inherited() {
    let listed = std::fs::read_dir("/proc/self/fd");
    let all: Vec<c_int> = match listed {
        Ok(listed) => listed.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect(),
        // Without /proc: those that can be, within reason.
        Err(_) => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            (0..c_int::try_from(limit.unwrap_or(u64::MAX).min(65_536)).unwrap_or(1024)).collect()
        }
    };
    for fd in all.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: F_GETFD touches no memory; a number that is not open any more is an error.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: no value in this program owns a descriptor that survives exec.
            unsafe { libc::close(fd) };
        }
    }
}

/// Makes a forked helper let go of everything, and gives it a name of its own instead of the command line: `pkill -f`
/// for `tenure run` must not hit it.
pub(super) fn become_nobody(name: &std::ffi::CStr) {
    let _ = rustix::thread::set_name(name);
    let_go();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split_whitespace().collect();
    // Fields 48 and 49 of proc_pid_stat(5), counted from the third.
    let bound = |n: usize| fields.get(n - 3).and_then(|field| field.parse::<usize>().ok()).unwrap_or(0);
    let (start, end) = (bound(48), bound(49));
    if start != 0 && start < end {
        // SAFETY: the kernel's record of where the arguments of this process lie: writable memory of its stack. No other
        // thread exists in a forked process, and this one does not read its arguments any more.
        unsafe { std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(start), 0, end - start) };
    }
}
