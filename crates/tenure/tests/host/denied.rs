//! System calls that a sandbox refuses: an error when the store is opened, and never a panic, a hang or a lock that nobody
//! can keep.
#![allow(unsafe_code)]

use std::path::Path;

use tenure::ErrorKind;
use tenure::backend::host::faults;

use crate::kit::{Dir, Role, open, refused};
use crate::roles::used;

/// Answers one system call with an error from now on, in this thread and those that it starts.
fn deny(call: libc::c_long, errno: i32) {
    let statement = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let number = u32::try_from(call).expect("a small number");
    let errno = u32::try_from(errno).expect("a small number");
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: these two calls read their arguments and the four statements that `filter` points to, all of which live
    // until they return.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    assert!(done, "no filter: {}", std::io::Error::last_os_error());
}

/// Opens a store that is there, or makes one, without a system call; says that it is refused.
pub(crate) fn denied(dir: &Path, args: &[&str]) {
    let (call, words) = match args[0] {
        "eventfd" => (libc::SYS_eventfd2, "eventfd"),
        "futex" => (libc::SYS_futex, "futex"),
        "mmap" => (libc::SYS_mmap, "mmap"),
        "thread" => (libc::SYS_clone3, "thread"),
        other => panic!("no call {other}"),
    };
    let errno = args[1].parse().expect("a number");
    deny(call, errno);
    if args[0] == "thread" {
        deny(libc::SYS_clone, errno);
    }
    refused(used(dir), ErrorKind::Unavailable, words);
    // Ends without what was taken away.
    // SAFETY: ends this process at once.
    unsafe { libc::_exit(0) }
}

#[test]
fn a_refused_system_call_is_an_error_before_anything_is_taken() {
    for call in ["eventfd", "futex", "mmap", "thread"] {
        for errno in [libc::EPERM, libc::ENOSYS, libc::EAGAIN] {
            // Of these only a thread can be out of reach for a while.
            if errno == libc::EAGAIN && call != "thread" {
                continue;
            }
            for there in [true, false] {
                let dir = Dir::new();
                if there {
                    faults::check(&dir.0).expect("made");
                }
                Role::start("denied", &dir.0, &[call, &errno.to_string()]).ends();
                let client = open(&dir.0).expect("opens");
                assert!(client.lines().is_empty(), "{call}: it took a lock that it cannot keep");
                client.take(&client.claim("used"));
            }
        }
    }
}
