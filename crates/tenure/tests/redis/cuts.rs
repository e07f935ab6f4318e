//! The connection cut at every byte of every message, in both directions: requests lost, and answers lost after they
//! were applied. Half-open connections, garbage, bytes one at a time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use tenure::{ErrorKind, Locks, Owner, Visibility};

use crate::server::Server;
use crate::{multi, single, soon, trial};
use tenure_servers::proxy::{Fault, Plan, Proxy, Way};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("cuts::at_every_byte_of_every_request", || at_every_byte(Way::ToServer)),
        trial("cuts::at_every_byte_of_every_answer", || at_every_byte(Way::ToClient)),
        trial("cuts::the_dialect", the_dialect),
        trial("cuts::while_connecting", while_connecting),
        trial("cuts::half_open", half_open),
        trial("cuts::one_byte_at_a_time", one_byte_at_a_time),
        trial("cuts::garbage", garbage),
        trial("cuts::all_connections_again_and_again", all_connections_again_and_again),
    ]
}

const TTL: Duration = Duration::from_secs(10);

/// Clearly before a lease is over, on a busy machine too.
const SOON: Duration = Duration::from_secs(9);

/// What one client does over the wire that is cut: it waits in line, is granted by push, shows another owner (a renewal),
/// and releases; then it takes a free lock and drops it. Meanwhile another one, over a whole wire, watches.
async fn scene(through: &Locks, whole: &Locks, name: &str) -> Result<(), String> {
    let (mine, theirs) = (through.mutex(name).expect("a name"), whole.mutex(name).expect("a name"));
    let first = theirs.lock().await.map_err(|e| format!("whole: {e}"))?;
    let waiting = tokio::spawn(async move { mine.lock().await });
    let waits = async || {
        let gone = waiting.is_finished();
        gone || whole.inspect(name).await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1))
    };
    match whole.capabilities().visibility {
        Visibility::Full => soon(&format!("in line {name}"), waits).await,
        // Nobody can tell that it waits; most times it does by then.
        _ => tokio::time::sleep(Duration::from_millis(40)).await,
    }
    let before = first.token();
    first.release().await.map_err(|e| format!("whole: release: {e}"))?;
    let guard = waiting.await.map_err(|e| e.to_string())?.map_err(|e| format!("lock: {e}"))?;
    if guard.token() <= before {
        return Err(format!("token {} after {before}", guard.token()));
    }
    guard.describe(owner("somebody")).map_err(|e| e.to_string())?;
    soon(&format!("described {name}"), async || {
        let line = whole.inspect(name).await.ok().flatten();
        line.is_some_and(|l| l.holders.first().is_some_and(|h| h.owner.user == "somebody"))
    })
    .await;
    if theirs.try_lock().await.map_err(|e| format!("whole: try: {e}"))?.is_some() && guard.check().is_ok() {
        return Err("two hold it".to_owned());
    }
    guard.release().await.map_err(|e| format!("release: {e}"))?;
    let dropped =
        through.mutex(name).expect("a name").lock().await.map_err(|e| format!("lock again: {e}"))?;
    drop(dropped);
    // Whatever was cut: it is free before a lease is over.
    let next = tokio::time::timeout(SOON, theirs.lock()).await.map_err(|_| "still taken".to_owned())?;
    next.map_err(|e| format!("whole: {e}"))?.release().await.map_err(|e| format!("whole: {e}"))?;
    soon("free", async || whole.inspect(name).await.is_ok_and(|l| l.is_none())).await;
    Ok(())
}

/// The connection that carries commands: it was asked what the server can promise.
fn command_of(proxy: &Proxy) -> usize {
    usize::from(proxy.passed(1, Way::ToClient) > proxy.passed(0, Way::ToClient))
}

/// Which of the two connections is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Command,
    Keeper,
}

impl Part {
    const BOTH: [Part; 2] = [Part::Command, Part::Keeper];

    fn of(self, proxy: &Proxy) -> usize {
        if self == Part::Command { command_of(proxy) } else { 1 - command_of(proxy) }
    }
}

fn owner(user: &str) -> Owner {
    Owner { user: user.to_owned(), host: "h".to_owned(), pid: 1, program: "p".to_owned() }
}

async fn connect(url: &str) -> Locks {
    Locks::builder(url).ttl(TTL).owner(owner("u")).connect().await.expect("connects")
}

fn at_every_byte(way: Way) {
    cuts(way, "redis:", 1, 95);
}

/// Its looks come when they come, so a cut may find no place.
fn the_dialect() {
    cuts(Way::ToServer, "redis+setnx:", 7, 50);
    cuts(Way::ToClient, "redis+setnx:", 7, 50);
}

/// A cut after each `stride` bytes; so many in a hundred must take place.
fn cuts(way: Way, scheme: &str, stride: usize, floor: usize) {
    let server = Server::start();
    let url = |url: String| url.replace("redis:", scheme);
    let work: Vec<(Part, u64)> = single().block_on(async {
        let whole = connect(&url(server.url())).await;
        // How many bytes the scene takes on each connection, beyond connecting.
        let proxy = Proxy::to(server.port).expect("a free port");
        let through = connect(&url(proxy.url("redis"))).await;
        let parts = Part::BOTH.map(|part| part.of(&proxy));
        let began = parts.map(|n| proxy.passed(n, way));
        scene(&through, &whole, "measure").await.expect("a whole wire");
        let lengths = [0, 1].map(|n| proxy.passed(parts[n], way) - began[n]);
        assert!(lengths.iter().all(|l| *l > 100), "{lengths:?}");
        let points = Part::BOTH.iter().zip(lengths);
        points.flat_map(|(part, length)| (0..length).step_by(stride).map(|at| (*part, at))).collect()
    });
    let (next, struck) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((part, at)) = work.get(next.fetch_add(1, Ordering::SeqCst) as usize).copied() {
                    struck.fetch_add(u32::from(cut(&server, scheme, way, part, at)), Ordering::SeqCst);
                }
            });
        }
    });
    let (struck, total) = (struck.load(Ordering::SeqCst) as usize, work.len());
    assert!(struck * 100 >= total * floor, "only {struck} of {total} cuts took place");
    // Nothing is left but what keeps tokens, and marks.
    let rest: Vec<String> = server
        .keys()
        .into_iter()
        .filter(|k| !k.ends_with("}:l") && !k.ends_with("}:t") && !k.contains("}:m"))
        .collect();
    assert_eq!(rest, Vec::<String>::new());
}

/// One scene with one cut; whether the cut took place.
fn cut(server: &Server, scheme: &str, way: Way, part: Part, at: u64) -> bool {
    single().block_on(async {
        let whole = connect(&server.url().replace("redis:", scheme)).await;
        let proxy = Proxy::to(server.port).expect("a free port");
        let through = connect(&proxy.url(scheme.trim_end_matches(':'))).await;
        let connection = part.of(&proxy);
        let after = proxy.passed(connection, way) + at;
        proxy.plan(Plan { connection, way, after, fault: Fault::Cut });
        if let Err(why) = scene(&through, &whole, &format!("{way:?}/{part:?}/{at}")).await {
            panic!("{part:?} connection cut {way:?} after {at} bytes: {why}");
        }
        proxy.struck()
    })
}

fn while_connecting() {
    let server = Server::start();
    multi().block_on(async {
        let proxy = Proxy::to(server.port).expect("a free port");
        drop(connect(&proxy.url("redis")).await);
        for way in [Way::ToServer, Way::ToClient] {
            for connection in 0..2 {
                let length = proxy.passed(connection, way);
                // Every byte of the short messages; the scripts are long.
                let points = (0..length).filter(|at| *at < 150 || *at + 400 > length || at % 1009 == 0);
                for after in points {
                    let proxy = Proxy::to(server.port).expect("a free port");
                    proxy.plan(Plan { connection, way, after, fault: Fault::Cut });
                    match Locks::connect(&proxy.url("redis")).await {
                        // The other one of the two came first here.
                        Ok(locks) => locks.close().await.expect("closes"),
                        Err(error) => assert!(error.kind().may_pass(), "{way:?} {after}: {error}"),
                    }
                }
            }
        }
    });
    let mut clients = 0;
    for _ in 0..200 {
        clients = server.cli(&["CLIENT", "LIST"]).lines().filter(|l| l.contains("name=tenure")).count();
        if clients == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{clients} connections are left open");
}

/// Nothing passes on one connection any more, and nobody is told.
fn half_open() {
    let server = Server::start();
    multi().block_on(async {
        let whole = connect(&server.url()).await;
        for way in [Way::ToServer, Way::ToClient] {
            for part in Part::BOTH {
                let proxy = Proxy::to(server.port).expect("a free port");
                let through = connect(&proxy.url("redis")).await;
                let connection = part.of(&proxy);
                let after = proxy.passed(connection, way);
                proxy.plan(Plan { connection, way, after, fault: Fault::Lose });
                let name = format!("half/{way:?}/{part:?}");
                scene(&through, &whole, &name).await.unwrap_or_else(|why| panic!("{name}: {why}"));
                assert!(proxy.struck(), "{name}");
            }
        }
    });
}

fn one_byte_at_a_time() {
    let server = Server::start();
    multi().block_on(async {
        let whole = connect(&server.url()).await;
        let proxy = Proxy::to(server.port).expect("a free port");
        let through = connect(&proxy.url("redis")).await;
        proxy.set(|now| now.bytewise = true);
        scene(&through, &whole, "slow").await.expect("only slow");
        assert_eq!(proxy.made(), 2, "no connection was given up");
    });
}

fn garbage() {
    let server = Server::start();
    multi().block_on(async {
        let whole = connect(&server.url()).await;
        let huge = [b"$99999999999\r\n".as_slice(), &[b'x'; 9000]].concat();
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            ("too long", huge),
            ("too many", b"*1000000000\r\n".to_vec()),
            ("too deep", b"*1\r\n".repeat(50)),
            ("of another kind", b"+OK\r\n".to_vec()),
            ("to another claim", b"*5\r\n$32\r\n00000000000000000000000000000001\r\n$1\r\nH\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n9\r\n".to_vec()),
            ("nobody asked for", b"*0\r\n*0\r\n*0\r\n".to_vec()),
            ("not text", b"*3\r\n$2\r\n\xff\xfe\r\n$1\r\nH\r\n$1\r\n1\r\n".to_vec()),
        ];
        for (what, bytes) in cases {
            let proxy = Proxy::to(server.port).expect("a free port");
            let through = connect(&proxy.url("redis")).await;
            let connection = command_of(&proxy);
            let after = proxy.passed(connection, Way::ToClient);
            proxy.plan(Plan { connection, way: Way::ToClient, after, fault: Fault::Instead(bytes) });
            let mutex = through.mutex(format!("garbage/{what}")).expect("a name");
            let error = mutex.lock().await.map(drop).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {error}");
            assert!(proxy.struck());
            // It may have been granted all the same: it is withdrawn, and the client goes on.
            let name = format!("garbage/{what}");
            let next = tokio::time::timeout(SOON, whole.mutex(&name).expect("a name").lock()).await;
            next.unwrap_or_else(|_| panic!("{what}: still taken")).expect("granted").release().await.expect("ours");
            let mut again = mutex.lock().await;
            while again.as_ref().is_err_and(|e| e.kind().may_pass()) {
                again = mutex.lock().await;
            }
            again.expect(what).release().await.expect("ours");
        }
    });
}

fn all_connections_again_and_again() {
    let server = Server::start();
    multi().block_on(async {
        let proxy = Proxy::to(server.port).expect("a free port");
        let through = connect(&proxy.url("redis")).await;
        let held = through.mutex("kept").expect("a name").lock().await.expect("free");
        let stop = tokio::time::Instant::now() + Duration::from_secs(4);
        let mut cycles = 0;
        while tokio::time::Instant::now() < stop {
            proxy.refuse();
            tokio::time::sleep(Duration::from_millis(20)).await;
            proxy.accept();
            if let Ok(guard) = through.mutex("x").expect("a name").lock().await {
                cycles += 1;
                drop(guard);
            }
        }
        assert!(cycles > 0, "{cycles} cycles");
        held.check().expect("still ours");
        held.release().await.expect("ours");
        soon("free", async || through.list("").await.is_ok_and(|l| l.is_empty())).await;
    });
}
