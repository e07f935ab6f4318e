//! Datagrams of a Unix socket, with the files that they carry and what the kernel says about their sender.
//!
//! Not by rustix: it reads the sender's process id as a number that is never zero, and of a process outside of our pid
//! namespace the kernel says zero.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use libc::c_int;

/// The longest datagram, in bytes. Service managers read 4 KiB.
const LONGEST: usize = 64 * 1024;
/// Room for 253 files, the most that Linux sends at once, and for the credentials: in words, for the alignment.
const CONTROL: usize = 160;
const _: () = {
    let numbers = size_of::<c_int>() * 253;
    // SAFETY: the macros of C, pure arithmetic.
    let space =
        unsafe { libc::CMSG_SPACE(numbers as u32) + libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) };
    assert!(space as usize <= CONTROL * size_of::<u64>());
};

/// One datagram.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) bytes: Vec<u8>,
    pub(super) files: Vec<OwnedFd>,
    /// Its sender: zero if the kernel does not say.
    pub(super) pid: i32,
    /// The sender's user; `None` if the kernel does not say.
    pub(super) uid: Option<u32>,
    /// All of it arrived.
    pub(super) whole: bool,
}

/// The next one, if one is there. The socket must have `SO_PASSCRED`.
///
/// # Errors
/// None is there (`WouldBlock`), or the socket is broken.
pub(super) fn receive(socket: &UnixDatagram) -> io::Result<Datagram> {
    let mut bytes = vec![0u8; LONGEST];
    let mut control = [0u64; CONTROL];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr is integers and pointers, for which zeroes are valid.
    let mut head: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    (head.msg_iov, head.msg_iovlen) = (&raw mut part, 1);
    head.msg_control = control.as_mut_ptr().cast();
    head.msg_controllen = size_of::<[u64; CONTROL]>() as _;
    let length = loop {
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: `head` describes writable memory of the stated sizes, which lives until the end of this function.
        match unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut head, flags) } {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            length => break usize::try_from(length).unwrap_or(0),
        }
    };
    bytes.truncate(length);
    let whole = head.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
    let mut datagram = Datagram { bytes, files: Vec::new(), pid: 0, uid: None, whole };
    // SAFETY: the kernel wrote whole headers into `control`, and set the length to what it wrote.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(&raw const head) };
    while !at.is_null() {
        // SAFETY: `at` points to a header that the kernel wrote.
        let (kind, data) = unsafe { (((*at).cmsg_level, (*at).cmsg_type), libc::CMSG_DATA(at)) };
        // SAFETY: as above; the length counts the header, and is never less than it.
        let size = unsafe { (*at).cmsg_len as usize - data.offset_from_unsigned(at.cast()) };
        match kind {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for n in 0..size / size_of::<c_int>() {
                    // SAFETY: the data are so many descriptors, which are new and nobody's but ours.
                    datagram
                        .files
                        .push(unsafe { OwnedFd::from_raw_fd(data.cast::<c_int>().add(n).read_unaligned()) });
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size >= size_of::<libc::ucred>() => {
                // SAFETY: the data are one ucred, three integers.
                let sender = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                (datagram.pid, datagram.uid) = (sender.pid, Some(sender.uid));
            }
            _ => {}
        }
        // SAFETY: as for the first.
        at = unsafe { libc::CMSG_NXTHDR(&raw const head, at) };
    }
    Ok(datagram)
}
