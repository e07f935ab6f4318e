//! A TCP proxy before a Redis server that changes the scripts which clients load: the client and the server are the real
//! ones, and what runs is a few lines away from what is shipped.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What to replace in a script, and by what.
pub(crate) type Patch = (&'static str, &'static str);

/// The proxy. Lives as long as the process.
#[derive(Debug)]
pub(crate) struct Patched {
    /// Where it listens.
    pub(crate) address: String,
    applied: Arc<Vec<AtomicUsize>>,
}

impl Patched {
    pub(crate) fn before(server: &str, patches: &'static [Patch]) -> io::Result<Patched> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?.to_string();
        let applied: Arc<Vec<AtomicUsize>> = Arc::new(patches.iter().map(|_| AtomicUsize::new(0)).collect());
        let (counts, server) = (applied.clone(), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is down is seen as one that hangs up.
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let counts = counts.clone();
                thread::spawn(move || join(&client, &upstream, patches, &counts));
            }
        });
        Ok(Patched { address, applied })
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    /// The patches that no script had a place for.
    pub(crate) fn idle(&self) -> usize {
        self.applied.iter().filter(|n| n.load(Ordering::SeqCst) == 0).count()
    }
}

fn join(client: &TcpStream, server: &TcpStream, patches: &[Patch], counts: &[AtomicUsize]) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*server, &mut &*client);
            let _ = client.shutdown(Shutdown::Both);
        });
        let mut requests = BufReader::new(client);
        while let Ok(Some(words)) = request(&mut requests) {
            if (&*server).write_all(&patched(words, patches, counts)).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    });
}

/// The next request of a client: an array of strings. `None`: it has hung up.
fn request(from: &mut impl BufRead) -> io::Result<Option<Vec<Vec<u8>>>> {
    let Some(count) = number(from, b'*')? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        let length = number(from, b'$')?.unwrap_or(0);
        let mut word = vec![0; length + 2];
        from.read_exact(&mut word)?;
        word.truncate(length);
        words.push(word);
    }
    Ok(Some(words))
}

fn number(from: &mut impl BufRead, kind: u8) -> io::Result<Option<usize>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let digits = line.strip_prefix(char::from(kind)).and_then(|rest| rest.trim_end().parse().ok());
    digits.map(Some).ok_or_else(|| io::Error::other("not a request"))
}

fn patched(mut words: Vec<Vec<u8>>, patches: &[Patch], counts: &[AtomicUsize]) -> Vec<u8> {
    if let [script, load, source] = &mut words[..]
        && (script.as_slice(), load.as_slice()) == (b"SCRIPT", b"LOAD")
        && let Ok(text) = str::from_utf8(source)
    {
        let mut text = text.to_owned();
        for ((old, new), count) in patches.iter().zip(counts) {
            count.fetch_add(text.matches(old).count(), Ordering::SeqCst);
            text = text.replace(old, new);
        }
        *source = text.into_bytes();
    }
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(&word);
        out.extend_from_slice(b"\r\n");
    }
    out
}
