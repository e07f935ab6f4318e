//! Carries the bytes of one connection in one direction.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Connection, Fault, Shared, Way, locked};

/// How much is read at a time.
const PIECE: usize = 16 << 10;

/// Long enough for the other side to read bytes before the connection is cut.
const READ: Duration = Duration::from_millis(200);

/// Holds answers back until requests have passed.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    /// What clients sent since the gate was shut.
    sent: Vec<u8>,
    /// What they must have sent before answers pass.
    awaited: Vec<String>,
}

impl Gate {
    /// Shuts it until all of these were sent; opens it if there are none.
    pub(super) fn shut(&self, awaited: Vec<String>) {
        *locked(&self.state) = Held { sent: Vec::new(), awaited };
        self.changed.notify_all();
    }

    fn sent(&self, bytes: &[u8]) {
        let mut state = locked(&self.state);
        let Held { sent, awaited } = &mut *state;
        if !awaited.is_empty() {
            sent.extend_from_slice(bytes);
            awaited.retain(|text| !mentions(sent, text));
            self.changed.notify_all();
        }
    }

    fn wait(&self) {
        let state = locked(&self.state);
        let shut = |held: &mut Held| !held.awaited.is_empty();
        drop(self.changed.wait_while(state, shut).unwrap_or_else(PoisonError::into_inner));
    }
}

fn mentions(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len().max(1)).any(|part| part == text.as_bytes())
}

/// Carries until one side hangs up or the connection is cut.
pub(super) fn all(shared: &Shared, connection: &Connection, way: Way) {
    let (from, to) = match way {
        Way::ToServer => (&connection.client, &connection.server),
        Way::ToClient => (&connection.server, &connection.client),
    };
    let mut from = BufReader::with_capacity(PIECE, from);
    let rewrite = shared.rewrite.as_ref().filter(|_| way == Way::ToServer);
    let mut silent = false;
    loop {
        let piece = match rewrite {
            Some(rewrite) => rewrite(&mut from).ok().flatten(),
            None => some(&mut from).ok(),
        };
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else { return };
        if !silent && !carry(shared, connection, way, &piece, to, &mut silent) {
            return;
        }
    }
}

/// What has come.
fn some(from: &mut BufReader<&TcpStream>) -> io::Result<Vec<u8>> {
    let piece = loop {
        match from.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?.to_vec(),
        }
    };
    from.consume(piece.len());
    Ok(piece)
}

/// Carries one piece. False: the connection is over.
fn carry(
    shared: &Shared,
    connection: &Connection,
    way: Way,
    piece: &[u8],
    to: &TcpStream,
    silent: &mut bool,
) -> bool {
    match way {
        Way::ToServer => shared.gate.sent(piece),
        Way::ToClient => shared.gate.wait(),
    }
    let now = {
        let now = locked(&shared.conditions);
        if now.loses(connection.number, way) {
            connection.lost[way as usize].store(true, Ordering::SeqCst);
            return true;
        }
        now.clone()
    };
    if connection.has_lost(way) {
        return false;
    }
    let hit = now.hit(connection.number);
    if let Some((text, by)) = &now.slow
        && way == Way::ToServer
        && hit
        && mentions(piece, text)
    {
        shared.struck.store(true, Ordering::SeqCst);
        thread::sleep(*by);
    }
    if hit && !now.latency.is_zero() {
        thread::sleep(now.latency);
    }
    let count = &connection.passed[way as usize];
    let before = count.load(Ordering::SeqCst);
    let plan = locked(&shared.plan).take_if(|plan| {
        (plan.connection, plan.way) == (connection.number, way) && plan.after < before + piece.len() as u64
    });
    let pass = plan.as_ref().map_or(piece.len(), |plan| {
        usize::try_from(plan.after.saturating_sub(before)).unwrap_or(piece.len())
    });
    count.fetch_add(pass as u64, Ordering::SeqCst);
    if write(to, &piece[..pass], hit && now.bytewise).is_err() {
        return false;
    }
    let Some(plan) = plan else { return true };
    shared.struck.store(true, Ordering::SeqCst);
    match plan.fault {
        Fault::Cut => false,
        Fault::Lose => {
            *silent = true;
            true
        }
        Fault::Instead(bytes) => {
            let _ = write(to, &bytes, false);
            thread::sleep(READ);
            false
        }
    }
}

fn write(mut to: &TcpStream, bytes: &[u8], bytewise: bool) -> io::Result<()> {
    if !bytewise {
        return to.write_all(bytes);
    }
    for byte in bytes {
        to.write_all(std::slice::from_ref(byte))?;
        thread::yield_now();
    }
    Ok(())
}
