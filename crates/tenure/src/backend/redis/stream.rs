//! The bytes to and from the server: TCP, with or without TLS. Never blocks, and can be written to from any thread.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How much is read at once.
const CHUNK: usize = 64 << 10;
/// After this long without an answer to its probes, the kernel gives a connection up.
const SILENCE: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: TcpStream,
    tls: Option<Mutex<ClientConnection>>,
}

/// How a connection is encrypted.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// A socket as `std::io` sees it: `WouldBlock` instead of waiting.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// Connects. Runs in a tokio runtime with its I/O driver on, and belongs to that runtime.
    pub(super) async fn connect(host: &str, port: u16, tls: Option<&Tls>) -> io::Result<Stream> {
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        keep_alive(&tcp);
        let mut stream = Stream { tcp, tls: None };
        if let Some(tls) = tls {
            let session =
                ClientConnection::new(tls.config.clone(), tls.name.clone()).map_err(io::Error::other)?;
            stream.tls = Some(Mutex::new(session));
            stream.shake_hands().await?;
        }
        Ok(stream)
    }

    async fn shake_hands(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.tls else { return Ok(()) };
        let session = session.get_mut().unwrap_or_else(PoisonError::into_inner);
        while session.is_handshaking() || session.wants_write() {
            match session.write_tls(&mut Socket(&self.tcp)) {
                Ok(_) if session.wants_write() => continue,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tcp.writable().await?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if !session.is_handshaking() {
                break;
            }
            self.tcp.readable().await?;
            match session.read_tls(&mut Socket(&self.tcp)) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => _ = session.process_new_packets().map_err(io::Error::other)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Resolves when there may be something to receive.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    /// Resolves when there may be room to send.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Appends what has arrived. 0: the other side is done. `WouldBlock`: nothing yet.
    pub(super) fn receive(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        let Some(session) = &self.tls else { return self.receive_plain(into) };
        let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match read_some(&mut session.reader(), into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // TLS that ends without saying so may have been cut short; what was received stays judged by the parser.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            let n = session.read_tls(&mut Socket(&self.tcp))?;
            session.process_new_packets().map_err(io::Error::other)?;
            if n == 0 && session.reader().read(&mut []).is_ok() {
                return Ok(0);
            }
        }
    }

    fn receive_plain(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        into.reserve(CHUNK);
        let (room, mut got) = (into.capacity() - into.len(), 0);
        let outcome = self.tcp.try_io(Interest::READABLE, || {
            got = rustix::io::read(&self.tcp, spare_capacity(into))?;
            // There was less than there is room for, so there is no more until the socket says so again: one call less
            // than to ask. (As tokio's own readers do; that the other side is done is remembered apart from this.)
            if (1..room).contains(&got) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if got > 0 { Ok(got) } else { outcome.map(|()| 0) }
    }

    /// Sends as much as there is room for: how many bytes were taken, and whether all that was taken has left.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let Some(session) = &self.tls else {
            return match self.tcp.try_write(bytes) {
                Ok(n) => Ok((n, n == bytes.len())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((0, false)),
                Err(error) => Err(error),
            };
        };
        let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
        if !push_out(&mut session, &self.tcp)? {
            return Ok((0, false));
        }
        let taken = session.writer().write(bytes)?;
        let left = push_out(&mut session, &self.tcp)?;
        Ok((taken, left && taken == bytes.len()))
    }

    /// Ends the connection: whoever reads sees its end.
    pub(super) fn shut(&self) {
        // It may be closed already, which is what is wanted.
        let _ = rustix::net::shutdown(&self.tcp, rustix::net::Shutdown::Both);
    }
}

fn read_some(from: &mut dyn Read, into: &mut Vec<u8>) -> io::Result<usize> {
    let before = into.len();
    into.resize(before + CHUNK, 0);
    let result = from.read(&mut into[before..]);
    into.truncate(before + result.as_ref().ok().copied().unwrap_or(0));
    result
}

/// Sends what the session has encrypted. False: there is no room for all of it.
fn push_out(session: &mut ClientConnection, tcp: &TcpStream) -> io::Result<bool> {
    while session.wants_write() {
        match session.write_tls(&mut Socket(tcp)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Lets the kernel notice a peer that is gone without a word. What it cannot set, our own deadlines notice later.
fn keep_alive(tcp: &TcpStream) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_keepalive(tcp, true);
    let _ = sockopt::set_tcp_keepidle(tcp, SILENCE);
    let _ = sockopt::set_tcp_keepintvl(tcp, SILENCE / 4);
    let _ = sockopt::set_tcp_keepcnt(tcp, 3);
    #[cfg(target_os = "linux")]
    let _ = sockopt::set_tcp_user_timeout(tcp, 10_000);
}
