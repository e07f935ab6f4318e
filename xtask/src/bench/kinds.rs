//! What the other locks cost beside a mutex, measured in turns by one run of `tenure bench`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Floor, Programs, ROUNDS, median, parse, row, short};
use crate::Stop;
use crate::process::{command, stdout};

/// One lock beside the mutex, and what the issue of the third part asks of it.
struct Kind {
    lock: &'static str,
    work: &'static str,
    /// The ratio that counts, and its name.
    field: &'static str,
    what: &'static str,
}

const KINDS: &[Kind] = &[
    Kind { lock: "read", work: "spread", field: "cycle_ratio", what: "a cycle" },
    Kind { lock: "permit", work: "storm", field: "cycle_ratio", what: "a cycle" },
];
const MULTI: Kind = Kind { lock: "multi", work: "solo", field: "p50_ratio", what: "10 names, p50" };

/// How long the network of [`Far`] takes, each way.
const FAR: Duration = Duration::from_micros(500);

impl Programs {
    /// A read lock and a permit, on the store at `url`.
    pub(super) fn kinds(&self, url: &str) -> Result<(), Stop> {
        KINDS.iter().try_for_each(|kind| self.kind(kind, url, "", Floor::AtMost(1.2)))
    }

    /// Ten names at once, on a server that is near and on one that is farther away.
    pub(super) fn multi(&self, port: u16) -> Result<(), Stop> {
        self.kind(&MULTI, &format!("redis://127.0.0.1:{port}"), " here", Floor::None)?;
        let far = Far::before(port)?;
        self.kind(&MULTI, &format!("redis://127.0.0.1:{}", far.port), " 1 ms off", Floor::AtMost(1.5))
    }

    fn kind(&self, kind: &Kind, url: &str, place: &str, floor: Floor) -> Result<(), Stop> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let both = format!("mutex,{}", kind.lock);
            let what =
                ["--url", url, "bench", "--workload", kind.work, "--lock", &both, "--secs", &self.secs()];
            let program = self.tenure.to_string_lossy();
            // The others are claims of their own always, so the mutex is for this.
            let told = stdout(&mut command(&program, &[&what[..], &["--fair", "--json"]].concat()))?;
            let lines = told.lines().map(parse).collect::<Result<Vec<Value>, _>>()?;
            let [mutex, other] = <[Value; 2]>::try_from(lines)
                .map_err(|_| Stop::Broken("bench --lock: two lines expected".into()))?;
            rounds.push((other, mutex));
        }
        let field = |v: &Value, name: &str| v[name].as_f64().unwrap_or(f64::NAN);
        let name = if kind.field == "p50_ratio" { "p50_us" } else { "cycles_s" };
        let unit = if kind.field == "p50_ratio" { "µs p50" } else { "cycles/s" };
        let shown = |v: &mut dyn Iterator<Item = f64>| format!("{} {unit}", short(median(v)));
        let ours = shown(&mut rounds.iter().map(|(a, _)| field(a, name)));
        let mutex = shown(&mut rounds.iter().map(|(_, b)| field(b, name)));
        let ratio = median(rounds.iter().map(|(a, _)| field(a, kind.field)));
        let first = format!("{} {}{place}: {ours}", kind.work, kind.lock);
        row(kind.lock, &first, &format!("mutex {mutex}"), ratio, floor);
        println!("{:>9} of the mutex's time for {}", "", kind.what);
        Ok(())
    }
}

/// A way to a server that takes longer: what is read is written half a millisecond later.
struct Far {
    port: u16,
}

impl Far {
    /// Lives as long as this process.
    fn before(server: u16) -> Result<Far, Stop> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
                for (from, to) in [(&client, &upstream), (&upstream, &client)] {
                    if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                        carry(from, to);
                    }
                }
            }
        });
        Ok(Far { port })
    }
}

/// Carries what comes, in order, each piece for as long.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let (push, pieces): (_, Receiver<(Instant, Vec<u8>)>) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if push.send((Instant::now() + FAR, buffer[..n].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (at, piece) in pieces {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
