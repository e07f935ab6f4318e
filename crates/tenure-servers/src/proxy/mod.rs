//! A TCP proxy between clients and their server that does what networks do. The only one of the workspace's tests: trials
//! of one backend, chaos and wrong scripts share it and its faults.
//!
//! - here: the proxy, its connections, and what it counts.
//! - `faults`: the vocabulary of faults.
//! - `carry`: how bytes pass, or do not.

mod carry;
mod faults;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use carry::Gate;
pub use faults::{Conditions, Fault, Plan, Way};

/// Connecting to a server of this machine takes no longer, unless its queue of connections is full.
const CONNECTING: Duration = Duration::from_secs(5);

/// Reads the next request of a client and returns what is sent to the server instead; `None` if the client hung up.
pub type Rewrite = Box<dyn Fn(&mut dyn BufRead) -> io::Result<Option<Vec<u8>>> + Send + Sync>;

/// What the threads of a proxy share.
struct Shared {
    /// The port of the server.
    server: AtomicU16,
    rewrite: Option<Rewrite>,
    conditions: Mutex<Conditions>,
    plan: Mutex<Option<Plan>>,
    struck: AtomicBool,
    gate: Gate,
    made: AtomicUsize,
    /// How many bytes passed on each connection, to the server and to the client.
    passed: Mutex<Vec<Arc<[AtomicU64; 2]>>>,
    /// Those that are open, by number.
    open: Mutex<HashMap<usize, Arc<Connection>>>,
    stop: AtomicBool,
}

/// One connection of a client, and the one to the server behind it.
struct Connection {
    number: usize,
    client: TcpStream,
    server: TcpStream,
    passed: Arc<[AtomicU64; 2]>,
    /// Whether bytes of this way were lost.
    lost: [AtomicBool; 2],
}

impl Connection {
    /// Closes both ends.
    fn cut(&self) {
        for stream in [&self.client, &self.server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn has_lost(&self, way: Way) -> bool {
        self.lost[way as usize].load(Ordering::SeqCst)
    }
}

/// A path to a server of this machine. Dropping it cuts all connections and closes the port.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("port", &self.port).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Starts a proxy before the server at this port.
    ///
    /// # Errors
    /// If the machine has no free port.
    pub fn to(server: u16) -> io::Result<Proxy> {
        Proxy::start(server, None)
    }

    /// Starts a proxy that changes what clients send.
    ///
    /// # Errors
    /// If the machine has no free port.
    pub fn rewriting(server: u16, rewrite: Rewrite) -> io::Result<Proxy> {
        Proxy::start(server, Some(rewrite))
    }

    fn start(server: u16, rewrite: Option<Rewrite>) -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            server: AtomicU16::new(server),
            rewrite,
            conditions: Mutex::default(),
            plan: Mutex::default(),
            struck: AtomicBool::new(false),
            gate: Gate::default(),
            made: AtomicUsize::new(0),
            passed: Mutex::default(),
            open: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let all = shared.clone();
        thread::spawn(move || accept(&all, &listener));
        Ok(Proxy { port, shared })
    }

    /// Returns the proxy's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns a URL of this scheme that leads through the proxy.
    #[must_use]
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Changes the conditions of the path. Connections that lost bytes are cut when the loss ends: what is missing can
    /// never be made up for.
    pub fn set(&self, change: impl FnOnce(&mut Conditions)) {
        // The lock is held throughout: what is lost under the conditions before is known here.
        let mut now = locked(&self.shared.conditions);
        change(&mut now);
        for connection in locked(&self.shared.open).values() {
            let over = |way| connection.has_lost(way) && !now.loses(connection.number, way);
            if Way::BOTH.into_iter().any(over) {
                connection.cut();
            }
        }
    }

    /// Cuts the open connections that the conditions apply to; with `half`, only those of that half.
    pub fn reset(&self, half: Option<usize>) {
        let hit = Conditions { half, ..Conditions::default() };
        for connection in locked(&self.shared.open).values().filter(|c| hit.hit(c.number)) {
            connection.cut();
        }
    }

    /// Plans one fault at one byte of one connection. It replaces the plan before.
    pub fn plan(&self, plan: Plan) {
        self.shared.struck.store(false, Ordering::SeqCst);
        *locked(&self.shared.plan) = Some(plan);
    }

    /// Returns whether the planned fault happened, or a request was slowed down.
    #[must_use]
    pub fn struck(&self) -> bool {
        self.shared.struck.load(Ordering::SeqCst)
    }

    /// Holds answers back until requests that mention each of these texts have passed.
    pub fn hold_answers(&self, awaited: Vec<String>) {
        self.shared.gate.shut(awaited);
    }

    /// Closes new connections at once, until [`accept`](Self::accept). Open ones stay.
    pub fn refuse_more(&self) {
        locked(&self.shared.conditions).refuse = true;
    }

    /// Cuts all connections, and closes new ones at once until [`accept`](Self::accept).
    pub fn refuse(&self) {
        self.refuse_more();
        self.reset(None);
    }

    /// Accepts connections again.
    pub fn accept(&self) {
        locked(&self.shared.conditions).refuse = false;
    }

    /// Leads to another server from now on, and cuts the connections to the one before.
    pub fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
        self.refuse();
        self.accept();
    }

    /// Returns how many connections were made so far.
    #[must_use]
    pub fn made(&self) -> usize {
        self.shared.made.load(Ordering::SeqCst)
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        locked(&self.shared.open).len()
    }

    /// Returns how many bytes have passed on a connection. Connections are counted from 0 as they are made.
    #[must_use]
    pub fn passed(&self, connection: usize, way: Way) -> u64 {
        locked(&self.shared.passed)
            .get(connection)
            .map_or(0, |both| both[way as usize].load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.refuse();
        self.shared.gate.shut(Vec::new());
        // Wakes the thread that accepts.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for client in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        if !locked(&shared.conditions).refuse {
            // A server that is down looks like one that hangs up.
            let _ = join(shared, client);
        }
    }
}

/// Connects a client with the server.
fn join(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, shared.server.load(Ordering::SeqCst)));
    let server = TcpStream::connect_timeout(&address, CONNECTING)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let passed = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let number = {
        let mut all = locked(&shared.passed);
        all.push(passed.clone());
        all.len() - 1
    };
    let connection =
        Arc::new(Connection { number, client, server, passed, lost: [const { AtomicBool::new(false) }; 2] });
    locked(&shared.open).insert(number, connection.clone());
    shared.made.store(number + 1, Ordering::SeqCst);
    if locked(&shared.conditions).refuse {
        connection.cut();
    }
    for way in Way::BOTH {
        let (shared, connection) = (shared.clone(), connection.clone());
        thread::spawn(move || {
            carry::all(&shared, &connection, way);
            // Whichever way ends first ends both.
            connection.cut();
            locked(&shared.open).remove(&connection.number);
        });
    }
    Ok(())
}
