//! A TCP proxy between the clients and their server that does what networks do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    ToClient,
}

/// What the path does to the connections it hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weather {
    /// Connections are hit whose number has this remainder by 2; `None`: all.
    pub(super) half: Option<usize>,
    /// What is sent this way vanishes; nobody is told until the weather clears, and then the connection is reset.
    pub(super) lose_requests: bool,
    /// The same for answers.
    pub(super) lose_answers: bool,
    /// Everything comes this much later.
    pub(super) latency: Duration,
    /// One byte at a time.
    pub(super) bytewise: bool,
    /// Raised: connections are reset.
    pub(super) resets: u64,
}

impl Weather {
    fn hits(&self, connection: usize) -> bool {
        self.half.is_none_or(|half| connection % 2 == half)
    }

    fn loses(&self, way: Way) -> bool {
        match way {
            Way::ToServer => self.lose_requests,
            Way::ToClient => self.lose_answers,
        }
    }
}

struct Shared {
    server: u16,
    weather: watch::Sender<Weather>,
    made: AtomicUsize,
    open: AtomicU64,
}

/// A path to a server on this machine.
#[derive(Clone)]
pub(super) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// On the runtime that this is called on.
    pub(super) async fn to(server: u16) -> io::Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            server,
            weather: watch::Sender::new(Weather::default()),
            made: AtomicUsize::new(0),
            open: AtomicU64::new(0),
        });
        let all = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(join(all.clone(), client));
            }
        });
        Ok(Proxy { port, shared })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> u64 {
        self.shared.open.load(SeqCst)
    }

    /// Changes the weather.
    pub(super) fn set(&self, change: impl FnOnce(&mut Weather)) {
        self.shared.weather.send_modify(change);
    }
}

async fn join(shared: Arc<Shared>, client: TcpStream) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.server)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let number = shared.made.fetch_add(1, Relaxed);
    shared.open.fetch_add(1, SeqCst);
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = pump(shared.weather.subscribe(), number, Way::ToServer, from_client, to_server);
    let back = pump(shared.weather.subscribe(), number, Way::ToClient, from_server, to_client);
    // Whichever ends first ends both: dropping the halves closes the sockets.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
    shared.open.fetch_sub(1, SeqCst);
}

async fn pump(
    mut weather: watch::Receiver<Weather>,
    number: usize,
    way: Way,
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
) {
    let mut buffer = vec![0u8; 16 << 10];
    let born = weather.borrow().resets;
    let mut lost = false;
    loop {
        let now = *weather.borrow_and_update();
        let hit = now.hits(number);
        // A reset of one's half, and the end of a loss: what is missing can never be made up for.
        if (hit && now.resets != born) || (lost && !(hit && now.loses(way))) {
            return;
        }
        let n = tokio::select! {
            changed = weather.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut buffer) => match read {
                Ok(n @ 1..) => n,
                _ => return,
            },
        };
        let now = *weather.borrow();
        let hit = now.hits(number);
        if hit && now.loses(way) {
            lost = true;
            continue;
        }
        if lost {
            return;
        }
        if hit && !now.latency.is_zero() {
            sleep(now.latency).await;
        }
        let piece = if hit && now.bytewise { 1 } else { n };
        for chunk in buffer[..n].chunks(piece) {
            if to.write_all(chunk).await.is_err() {
                return;
            }
            if piece == 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}
