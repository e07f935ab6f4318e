//! Messages of the command to a service manager (`Type=notify` of systemd, sd_notify(3)).
//!
//! The manager goes by the process that sends: by default it hears the main process of the unit and ignores all others.
//! The main process is `tenure run`, because the manager started it. Therefore the command gets the address of a socket
//! of ours in `NOTIFY_SOCKET`, and `tenure run` sends on what arrives there, with the files that come with it.
//!
//! Lines that name another main process are left out. The unit's main process stays `tenure run`: it ends with the
//! command, and a manager that followed another process would not listen to it any more.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::datagram::{self, Datagram};
use super::descendants;
use super::parent::raw;

/// Where a service manager listens.
pub(super) const VARIABLE: &str = "NOTIFY_SOCKET";
/// How many names are tried for our socket.
const NAMES: u32 = 100;
/// How long the last messages may take if the manager is slow.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Between the command and the service manager.
#[derive(Debug)]
pub(super) struct Relay {
    /// Where the command sends.
    ours: UnixDatagram,
    /// Its address, as `NOTIFY_SOCKET` says it.
    name: OsString,
    /// Connected to the manager, so that poll(2) says when it has room.
    manager: UnixDatagram,
    address: SocketAddr,
    /// A message for which the manager had no room.
    held_up: Option<Datagram>,
}

impl Relay {
    /// If a service manager listens. Where it cannot be reached the command finds that out by itself, as without us.
    pub(super) fn from_environment() -> Option<Relay> {
        let address = address(&std::env::var_os(VARIABLE)?)?;
        Relay::between(address).ok()
    }

    fn between(address: SocketAddr) -> io::Result<Relay> {
        let manager = connect(&address)?;
        let (ours, name) = listen()?;
        Ok(Relay { ours, name, manager, address, held_up: None })
    }

    /// What the command is told.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// What to wait for: a message, or room for the one that is held up.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        match self.held_up {
            None => PollFd::new(&self.ours, PollFlags::IN),
            Some(_) => PollFd::new(&self.manager, PollFlags::OUT),
        }
    }

    /// Sends on what is there, as far as the manager has room.
    pub(super) fn pass_on(&mut self) {
        loop {
            let message = match self.held_up.take() {
                Some(message) => message,
                None => match datagram::receive(&self.ours) {
                    Ok(message) if message.whole && is_from_here(&message) => match without_main(message) {
                        Some(message) => message,
                        None => continue,
                    },
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            if self.send(&message).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                self.held_up = Some(message);
                return;
            }
        }
    }

    /// Sends on the last messages, before `tenure run` ends: then the manager does not listen any more.
    pub(super) fn finish(mut self) {
        let end = Instant::now() + LAST_WORDS;
        loop {
            self.pass_on();
            let left = end.saturating_duration_since(Instant::now());
            if self.held_up.is_none() || left.is_zero() {
                return;
            }
            let _ = poll(&mut [self.poll_fd()], Timespec::try_from(left).ok().as_ref());
        }
    }

    fn send(&mut self, message: &Datagram) -> io::Result<()> {
        match send(&self.manager, message) {
            // A manager that was restarted listens at the same address.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) =>
            {
                self.manager = connect(&self.address)?;
                send(&self.manager, message)
            }
            result => result,
        }
    }
}

/// A path, or an abstract name behind `@`; `None` for what is not a Unix socket.
fn address(value: &OsStr) -> Option<SocketAddr> {
    match value.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(value).ok(),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        _ => None,
    }
}

fn connect(address: &SocketAddr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(address)?;
    Ok(socket)
}

/// A socket of our own. Its name is abstract, so it needs no directory, and goes with the last process that has it open.
fn listen() -> io::Result<(UnixDatagram, OsString)> {
    for n in 0..NAMES {
        let name = format!("tenure-run/{}/{n}", std::process::id());
        match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?) {
            Ok(socket) => {
                rustix::net::sockopt::set_socket_passcred(&socket, true)?;
                return Ok((socket, format!("@{name}").into()));
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

/// Anybody can send to an abstract name. Accepted are the descendants of `tenure run`, its own user, and root, who could send
/// in its name anyway. A descendant of the same user may have ended since it sent.
fn is_from_here(message: &Datagram) -> bool {
    let me = rustix::process::geteuid().as_raw();
    message.uid.is_some_and(|uid| uid == me || uid == 0)
        || descendants::is_below(message.pid, raw(rustix::process::getpid()))
}

/// The message without the lines about a main process; `None` if nothing is left of it.
fn without_main(mut message: Datagram) -> Option<Datagram> {
    let is_main = |line: &&[u8]| line.starts_with(b"MAINPID");
    if message.bytes.split(|b| *b == b'\n').any(|line| is_main(&line)) {
        let kept: Vec<_> = message.bytes.split(|b| *b == b'\n').filter(|line| !is_main(line)).collect();
        message.bytes = kept.join(&b'\n');
        if message.bytes.iter().all(|b| *b == b'\n') {
            return None;
        }
    }
    Some(message)
}

fn send(socket: &UnixDatagram, message: &Datagram) -> io::Result<()> {
    let files: Vec<_> = message.files.iter().map(AsFd::as_fd).collect();
    let mut space = vec![std::mem::MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&files).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(ErrorKind::InvalidInput.into()); // cannot be: the space was measured
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(socket, &[io::IoSlice::new(&message.bytes)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    fn manager(name: &str) -> (UnixDatagram, SocketAddr) {
        let name = format!("tenure-test/{}/{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).expect("a short name");
        let socket = UnixDatagram::bind_addr(&address).expect("nobody else has it");
        rustix::net::sockopt::set_socket_passcred(&socket, true).expect("a socket");
        (socket, address)
    }

    fn text(message: &Datagram) -> &str {
        std::str::from_utf8(&message.bytes).expect("text")
    }

    #[test]
    fn files_come_along_and_order_stays() {
        let (manager, address) = manager("files");
        let mut relay = Relay::between(address).expect("sockets");
        let command = connect(&super::address(relay.name()).expect("an address")).expect("it listens");
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"kept").expect("room");
        let stored = Datagram {
            bytes: b"FDSTORE=1\nFDNAME=x".to_vec(),
            files: vec![file.into(), rustix::io::dup(&command).expect("a descriptor")],
            pid: 0,
            uid: None,
            whole: true,
        };
        send(&command, &stored).expect("room");
        command.send(b"READY=1").expect("room");
        relay.pass_on();
        let first = datagram::receive(&manager).expect("the first");
        assert_eq!((text(&first), first.files.len()), ("FDSTORE=1\nFDNAME=x", 2));
        assert_eq!((first.pid.unsigned_abs(), first.whole), (std::process::id(), true));
        let mut file = std::fs::File::from(first.files.into_iter().next().expect("two"));
        let mut content = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut content)).expect("a file");
        assert_eq!(content, "kept");
        assert_eq!(text(&datagram::receive(&manager).expect("the second")), "READY=1");
        let nothing = datagram::receive(&manager).expect_err("that was all");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    }

    /// It must hand on signals meanwhile, so it does not wait in a system call.
    #[test]
    fn a_manager_that_has_no_room_is_waited_for_and_one_that_restarts_is_found_again() {
        let (first, address) = manager("room");
        let mut relay = Relay::between(address.clone()).expect("sockets");
        let command = connect(&super::address(relay.name()).expect("an address")).expect("it listens");
        command.set_nonblocking(true).expect("a socket");
        let mut sent = 0;
        while relay.held_up.is_none() {
            command.send(format!("STATUS={sent}").as_bytes()).expect("the relay has room");
            sent += 1;
            relay.pass_on();
        }
        for n in 0..sent {
            assert_eq!(text(&datagram::receive(&first).expect("in order")), format!("STATUS={n}"));
            relay.pass_on();
        }
        assert!(relay.held_up.is_none());
        drop(first);
        let again = UnixDatagram::bind_addr(&address).expect("free again");
        command.send(b"WATCHDOG=1").expect("room");
        relay.finish();
        let mut bytes = [0; 64];
        let length = again.recv(&mut bytes).expect("it was sent before");
        assert_eq!(&bytes[..length], b"WATCHDOG=1");
    }

    #[test]
    fn the_main_process_stays_the_same() {
        let kept = |bytes: &[u8]| {
            let message =
                Datagram { bytes: bytes.to_vec(), files: Vec::new(), pid: 0, uid: None, whole: true };
            without_main(message).map(|message| String::from_utf8(message.bytes).expect("text"))
        };
        assert_eq!(kept(b"READY=1\nMAINPID=7\nSTATUS=MAINPID=").as_deref(), Some("READY=1\nSTATUS=MAINPID="));
        assert_eq!(kept(b"MAINPID=7\n"), None);
        assert_eq!(kept(b"MAINPIDFD=1\nMAINPIDFDID=4"), None);
        assert_eq!(kept(b"STATUS=x\n").as_deref(), Some("STATUS=x\n"));
        assert_eq!(kept(b"").as_deref(), Some(""));
    }

    #[test]
    fn only_unix_sockets_are_relayed() {
        for (value, known) in
            [("/run/x", true), ("@x", true), ("vsock:2:9", false), ("", false), ("x", false)]
        {
            assert_eq!(address(OsStr::new(value)).is_some(), known, "{value}");
        }
    }

    #[test]
    fn a_stranger_is_not_heard() {
        let from = |pid, uid| Datagram { bytes: Vec::new(), files: Vec::new(), pid, uid, whole: true };
        let me = rustix::process::geteuid().as_raw();
        assert!(is_from_here(&from(0, Some(me))) && is_from_here(&from(1, Some(0))));
        assert!(!is_from_here(&from(1, Some(me + 1))) && !is_from_here(&from(0, Some(me + 1))));
        assert!(!is_from_here(&from(1, None)));
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("a child");
        assert!(is_from_here(&from(i32::try_from(child.id()).expect("an id"), Some(me + 1))));
        child.kill().and_then(|()| child.wait()).expect("ours");
    }
}
