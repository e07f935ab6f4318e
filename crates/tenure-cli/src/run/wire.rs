//! What `tenure run` and its guardian tell each other, over a pair of sockets. The end of one process is the end of
//! its socket: that is how the other learns of it.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use super::sys::Arrived;

/// The longest message, in bytes.
const LONGEST: usize = 32 * 1024;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Guardian: the lock is ours; may the command start?
    Granted,
    /// Parent: yes, signals are handled from now on; or, after [`End`](Message::End): understood. Between the parent
    /// and its witness: is there more to report, and no.
    Go,
    /// Guardian: the command runs as this process.
    Started(i32),
    /// Guardian: say this on stderr.
    Note(String),
    /// Guardian: exit with this code, and say this first. It ends as well, unless it has others to wait for.
    End { code: u8, lingers: bool, text: String },
    /// Parent: this signal is the command's. Witness: this signal arrived.
    Signal(Arrived),
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        let rest;
        let (tag, a, b, text) = match self {
            Message::Granted => (b'g', 0, 0, ""),
            Message::Go => (b'y', 0, 0, ""),
            Message::Started(pid) => (b'p', *pid, 0, ""),
            Message::Note(text) => (b'n', 0, 0, text.as_str()),
            Message::End { code, lingers, text } => {
                (b'e', i32::from(*code), i32::from(*lingers), text.as_str())
            }
            Message::Signal(Arrived { signal, code, pid, uid, value }) => {
                rest = format!("{pid} {uid} {value}");
                (b's', *signal, *code, rest.as_str())
            }
        };
        let mut out = vec![tag];
        out.extend(a.to_ne_bytes());
        out.extend(b.to_ne_bytes());
        out.extend(crate::who::shortened(text.to_owned(), LONGEST - 9).into_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Message> {
        let (tag, rest) = bytes.split_first()?;
        let (a, rest) = rest.split_first_chunk()?;
        let (b, text) = rest.split_first_chunk()?;
        let (a, b) = (i32::from_ne_bytes(*a), i32::from_ne_bytes(*b));
        let text = || String::from_utf8_lossy(text).into_owned();
        Some(match tag {
            b'g' => Message::Granted,
            b'y' => Message::Go,
            b'p' => Message::Started(a),
            b'n' => Message::Note(text()),
            b'e' => Message::End { code: u8::try_from(a).ok()?, lingers: b != 0, text: text() },
            b's' => {
                let text = text();
                let mut rest = text.split(' ');
                let (pid, uid) = (rest.next()?.parse().ok()?, rest.next()?.parse().ok()?);
                let value = rest.next()?.parse().ok()?;
                Message::Signal(Arrived { signal: a, code: b, pid, uid, value })
            }
            _ => return None,
        })
    }
}

/// One end.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    /// The other end is gone.
    gone: Cell<bool>,
}

impl Link {
    /// Both ends.
    ///
    /// # Errors
    /// Too many open files.
    pub(super) fn pair() -> io::Result<(Link, Link)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let link = |socket| Link { socket, gone: Cell::new(false) };
        Ok((link(a), link(b)))
    }

    /// Sends. That the other end is gone shows when it is received from.
    pub(super) fn send(&self, message: &Message) {
        // A note is not worth waiting for a parent that is stopped.
        let patience =
            if matches!(message, Message::Note(_)) { SendFlags::DONTWAIT } else { SendFlags::empty() };
        let bytes = message.encode();
        while send(&self.socket, &bytes, SendFlags::NOSIGNAL | patience) == Err(rustix::io::Errno::INTR) {}
    }

    /// Receives; `None`: the other end is gone. Blocks until either.
    pub(super) fn receive(&self) -> Option<Message> {
        let mut bytes = vec![0u8; LONGEST];
        loop {
            match recv(&self.socket, bytes.as_mut_slice(), RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                Ok((length, _)) if length > 0 => return Message::decode(&bytes[..length]),
                _ => {
                    self.gone.set(true);
                    return None;
                }
            }
        }
    }

    /// Whether the other end was seen to be gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// What to poll for a message, until the other end is gone: then it would be readable for ever.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        (!self.gone.get()).then(|| PollFd::new(&self.socket, PollFlags::IN))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent_and_the_end_is_seen() {
        let (a, b) = Link::pair().expect("sockets");
        let all = [
            Message::Granted,
            Message::Go,
            Message::Started(4711),
            Message::Note("naïve\n".into()),
            Message::End { code: 255, lingers: true, text: String::new() },
            Message::Signal(Arrived { signal: 64, code: -1, pid: 4711, uid: u32::MAX, value: u64::MAX }),
        ];
        for message in &all {
            a.send(message);
        }
        for message in all {
            assert_eq!(b.receive(), Some(message));
        }
        a.send(&Message::Note("é".repeat(LONGEST)));
        assert!(matches!(b.receive(), Some(Message::Note(text)) if text.chars().all(|c| c == 'é')));
        drop(a);
        assert_eq!(b.receive(), None);
    }
}
