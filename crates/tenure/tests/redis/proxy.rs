//! A TCP proxy between a client and its server that does what networks do.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// What happens to the bytes of one connection in one direction, once so many have passed.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is cut.
    Cut,
    /// Nothing passes any more, and nobody is told.
    Swallow,
    /// These bytes pass instead of what follows.
    Instead(Vec<u8>),
}

/// Where it happens.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// On which connection, counted from 0 as they are made.
    pub(crate) connection: usize,
    pub(crate) way: Way,
    /// After how many bytes in that direction.
    pub(crate) after: u64,
    pub(crate) fault: Fault,
}

#[derive(Default)]
struct Shared {
    plan: Mutex<Option<Plan>>,
    struck: AtomicBool,
    /// Bytes go one at a time, each in a packet of its own.
    trickle: AtomicBool,
    made: AtomicUsize,
    /// Bytes that passed: of each connection, to the server and to the client.
    passed: Mutex<Vec<Arc<[AtomicU64; 2]>>>,
    open: Mutex<Vec<TcpStream>>,
    refuse: AtomicBool,
    /// The port of the server, which may be another one some time.
    server: AtomicU16,
    /// Requests that mention this take so long, and whatever is behind them waits.
    slow: Mutex<Option<(String, Duration)>>,
    gate: Gate,
    stop: AtomicBool,
}

/// Holds answers back until requests have passed.
#[derive(Default)]
struct Gate {
    passed: Mutex<Passed>,
    more: Condvar,
}

#[derive(Default)]
struct Passed {
    /// What clients sent since the gate was shut.
    sent: Vec<u8>,
    /// What they must have sent before answers pass.
    awaited: Vec<String>,
}

impl Gate {
    fn sent(&self, bytes: &[u8]) {
        let mut passed = self.passed.lock().expect("no panic");
        let Passed { sent, awaited } = &mut *passed;
        if !awaited.is_empty() {
            sent.extend_from_slice(bytes);
            awaited.retain(|text| !sent.windows(text.len()).any(|part| part == text.as_bytes()));
            self.more.notify_all();
        }
    }

    fn wait(&self) {
        let passed = self.passed.lock().expect("no panic");
        drop(self.more.wait_while(passed, |p| !p.awaited.is_empty()).expect("no panic"));
    }
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) fn to(server: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { server: AtomicU16::new(server), ..Shared::default() });
        let all = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if all.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                if !all.refuse.load(Ordering::SeqCst) {
                    join(&all, client, all.server.load(Ordering::SeqCst));
                }
            }
        });
        Proxy { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What is to happen, once.
    pub(crate) fn plan(&self, plan: Plan) {
        self.shared.struck.store(false, Ordering::SeqCst);
        *self.shared.plan.lock().expect("no panic") = Some(plan);
    }

    /// Whether it happened.
    pub(crate) fn struck(&self) -> bool {
        self.shared.struck.load(Ordering::SeqCst)
    }

    pub(crate) fn trickle(&self) {
        self.shared.trickle.store(true, Ordering::SeqCst);
    }

    /// How many bytes have passed on a connection.
    pub(crate) fn passed(&self, connection: usize, way: Way) -> u64 {
        let passed = self.shared.passed.lock().expect("no panic");
        passed.get(connection).map_or(0, |both| both[way as usize].load(Ordering::SeqCst))
    }

    /// How many connections were made.
    pub(crate) fn made(&self) -> usize {
        self.shared.made.load(Ordering::SeqCst)
    }

    /// From now on another server is behind the address; connections to the one before are cut.
    pub(crate) fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
        self.refuse();
        self.accept();
    }

    /// Requests that mention `text` take so long from now on.
    pub(crate) fn slow_down(&self, text: &str, by: Duration) {
        *self.shared.slow.lock().expect("no panic") = Some((text.to_owned(), by));
    }

    /// No answer passes until requests that mention each of these did.
    pub(crate) fn hold_answers(&self, awaited: Vec<String>) {
        *self.shared.gate.passed.lock().expect("no panic") = Passed { sent: Vec::new(), awaited };
    }

    /// Accepts no connection until `accept`; those that are there stay.
    pub(crate) fn refuse_more(&self) {
        self.shared.refuse.store(true, Ordering::SeqCst);
    }

    /// Cuts all connections, and accepts none until `accept`.
    pub(crate) fn refuse(&self) {
        self.refuse_more();
        for stream in self.shared.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn accept(&self) {
        self.shared.refuse.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.refuse();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn join(shared: &Arc<Shared>, client: TcpStream, server: u16) {
    let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { return };
    let number = shared.made.fetch_add(1, Ordering::SeqCst);
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    shared.passed.lock().expect("no panic").push(counts.clone());
    for stream in [&client, &upstream] {
        let _ = stream.set_nodelay(true);
        shared.open.lock().expect("no panic").push(stream.try_clone().expect("a socket"));
    }
    for way in [Way::ToServer, Way::ToClient] {
        let (from, to) = match way {
            Way::ToServer => (&client, &upstream),
            Way::ToClient => (&upstream, &client),
        };
        let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
        let (shared, counts) = (shared.clone(), counts.clone());
        std::thread::spawn(move || {
            pump(&shared, number, way, &from, &to, &counts);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

fn pump(
    shared: &Shared,
    number: usize,
    way: Way,
    mut from: &TcpStream,
    mut to: &TcpStream,
    counts: &[AtomicU64; 2],
) {
    let count = &counts[way as usize];
    let mut buffer = [0u8; 16 << 10];
    let mut swallow = false;
    loop {
        let most = if shared.trickle.load(Ordering::SeqCst) { 1 } else { buffer.len() };
        let Ok(n @ 1..) = from.read(&mut buffer[..most]) else { return };
        if swallow {
            continue;
        }
        match way {
            Way::ToServer => shared.gate.sent(&buffer[..n]),
            Way::ToClient => shared.gate.wait(),
        }
        let slow = shared.slow.lock().expect("no panic").clone();
        if let Some((text, by)) = slow.filter(|_| way == Way::ToServer)
            && buffer[..n].windows(text.len()).any(|part| part == text.as_bytes())
        {
            shared.struck.store(true, Ordering::SeqCst);
            std::thread::sleep(by);
        }
        let before = count.load(Ordering::SeqCst);
        let plan = shared.plan.lock().expect("no panic").clone();
        let plan = plan.filter(|p| p.connection == number && p.way == way && p.after < before + n as u64);
        let pass = plan.as_ref().map_or(n, |p| usize::try_from(p.after.saturating_sub(before)).unwrap_or(0));
        count.fetch_add(pass as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..pass]).is_err() {
            return;
        }
        let Some(plan) = plan else { continue };
        if shared.struck.swap(true, Ordering::SeqCst) {
            continue;
        }
        match plan.fault {
            Fault::Cut => return,
            Fault::Swallow => swallow = true,
            Fault::Instead(bytes) => {
                let _ = to.write_all(&bytes);
                // Long enough for the other side to have read it; then this connection is over.
                std::thread::sleep(Duration::from_millis(200));
                return;
            }
        }
    }
}
