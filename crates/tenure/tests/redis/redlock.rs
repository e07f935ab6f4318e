//! Several independent servers, of which a majority decides: `redlock://`.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tenure::{ErrorKind, LockOptions, Locks};
use tenure_servers::limit;
use tenure_servers::proxy::Proxy;
use tenure_servers::redis::{Aof, Settings};

use crate::raw::{Raw, Said};
use crate::server::Server;
use crate::{multi, soon, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("redlock::golden_votes", golden_votes),
        trial("redlock::another_version_is_refused", another_version_is_refused),
        trial("redlock::urls_and_servers_that_will_not_do", that_will_not_do),
        trial("redlock::one_of_five_is_dead", one_of_five_is_dead),
        trial("redlock::l6_a_silent_server_delays_no_renewals", a_silent_server_delays_no_renewals),
        trial("redlock::s1_a_server_without_its_memory_does_not_vote", without_memory),
        trial("redlock::s1_one_server_under_two_names_has_one_vote", under_two_names),
        trial("redlock::s1_two_majorities_share_a_server", two_majorities),
    ]
}

const DOCUMENT: &str = include_str!("../../../../docs/wire/redlock.md");
const VOTES: &str = "tenure:{shop/orders/42}:q";
const NOW: u64 = 4_000_000_000_000_001;

/// Servers that forget nothing, so that they vote at once.
fn servers(count: usize) -> Vec<Server> {
    let start = |_| Server::new(Settings { aof: Aof::Always, ..Settings::default() }).expect("a server");
    (0..count).map(start).collect()
}

fn url<'a>(ports: impl IntoIterator<Item = &'a u16>) -> String {
    let hosts: Vec<String> = ports.into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("redlock://{}", hosts.join(","))
}

fn all(servers: &[Server]) -> String {
    url(servers.iter().map(|server| &server.port))
}

/// The scripts of a server that votes, with a clock that can be set.
struct Voter(Raw);

impl Voter {
    fn run(&mut self, script: &str, words: &[&str]) -> Vec<String> {
        let source = crate::scripts::source(script);
        let set = source.replace("call('TIME')", "call('MGET', 'clock:s', 'clock:us')");
        assert_ne!(set, source, "it reads a clock");
        let mark = format!("tenure:{{shop/orders/42}}:m{}", words[0]);
        let said = self.0.ask(&[&["EVAL", &set, "2", VOTES, &mark], words].concat());
        said.list().iter().map(|word| word.text().to_owned()).collect()
    }

    fn dump(&mut self) -> String {
        let mut keys: Vec<String> =
            self.0.ask(&["KEYS", "tenure:*"]).list().iter().map(|key| key.text().to_owned()).collect();
        keys.sort();
        let mut line = |key: &String| {
            let value = self.0.ask(&["GET", key]).text().replace('\t', "→");
            assert!(self.0.ask(&["PTTL", key]).number() > 0, "{key} stays for ever");
            format!("{key}  string\n  {value}\n")
        };
        keys.iter().map(&mut line).collect()
    }
}

/// The examples of the document, byte for byte, and the bytes of its table.
fn golden_votes() {
    let server = Server::start();
    let mut voter = Voter(Raw::new(server.port));
    let (s, us) = ((NOW / 1_000_000).to_string(), (NOW % 1_000_000).to_string());
    voter.0.ask(&["MSET", "clock:s", &s, "clock:us", &us]);
    let blocks = DOCUMENT.split("```text\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let examples: Vec<&str> = blocks.map(|(block, _)| block).filter(|b| b.starts_with("tenure:{")).collect();
    assert_eq!(examples.len(), 4, "examples of the document");
    let (ann, bob) = (format!("{:032x}", 10), format!("{:032x}", 11));
    let (now, late) = (format!("{NOW:016}"), format!("{:016}", NOW + 1));
    let (round, lease) = (format!("{:016}", 7), format!("{:016}", 30_000_000));
    let note = "ann\tweb-1\t4711\tcharge\torder 42";
    let asks = [&ann, &round, &lease, &now, note, &now];
    assert_eq!(voter.run("vote_acquire", &asks), [&ann, "A", &now]);
    assert_eq!(voter.dump(), examples[0]);
    let other = voter.run("vote_acquire", &[&bob, &round, &lease, &late, "bob", &now]);
    assert_eq!(other[..5], [&bob, "D", &now, &now, &lease].map(ToString::to_string));
    assert_eq!(
        voter.run("vote_extend", &[&ann, &now, &lease, note])[..2],
        [&ann, "Y"].map(ToString::to_string)
    );
    assert_eq!(voter.dump(), examples[0], "the clock stands still");
    let zeros = format!("{:016}", 0);
    let all = "9999999999999999";
    assert_eq!(voter.run("vote_release", &[&ann, all, &lease, "0", &now]), [&ann, "h", &now]);
    assert_eq!(voter.dump(), examples[1]);
    assert_eq!(voter.run("vote_extend", &[&ann, &now, &lease, note])[1], "N", "what stays is not renewed");
    assert_eq!(voter.run("vote_release", &[&ann, all, &zeros, "0", &now])[1], "g", "and not released again");
    assert_eq!(voter.run("vote_evict", &[&bob, &zeros, "eve: it hangs"])[1], "Y");
    assert_eq!(voter.dump(), examples[2]);
    assert_eq!(
        voter.run("vote_extend", &[&ann, &now, &lease, note])[..],
        [&ann, "E", &now, "eve: it hangs"].map(ToString::to_string)
    );
    // The token that Bob proposes is not above the floor, so he gets the vote without it; promoted, he gets a greater one.
    assert_eq!(
        voter.run("vote_acquire", &[&bob, &round, &lease, &now, "bob", &now]),
        [&bob, "L", &now, &now]
    );
    assert_eq!(voter.run("vote_promote", &[&bob, &round, &now])[1], "N");
    assert_eq!(voter.run("vote_promote", &[&bob, &round, &late])[1], "Y");
    assert_eq!(voter.dump(), examples[3]);
    let carol = format!("{:032x}", 12);
    let moved = voter.run("vote_transfer", &[&carol, &bob, &round, &lease, "carol", &now]);
    assert_eq!(moved, [&carol, "Y", &now, &late]);
    assert_eq!(voter.run("vote_transfer", &[&ann, &bob, &round, &lease, "ann", &now])[1], "E");
    let table = |from: usize, to: usize| {
        examples[0].lines().nth(1).expect("votes").trim_start()[from - 1..to].to_owned()
    };
    for (row, is) in [
        ("| 2-17 | the floor", now.clone()),
        ("| 18-33 | when the vote expires", format!("{:016}", NOW + 30_000_000)),
        ("| 34-49 | its lease", lease.clone()),
        ("| 50-81 | the claim", ann.clone()),
        ("| 82-97 | the claim's round", round.clone()),
        ("| 114-129 | the token", now.clone()),
    ] {
        assert!(DOCUMENT.contains(row), "the document has no row {row:?}");
        let (from, to) = row[2..].split_once(' ').expect("bytes").0.split_once('-').expect("bytes");
        assert_eq!(table(from.parse().expect("a number"), to.parse().expect("a number")), is, "{row}");
    }
}

fn another_version_is_refused() {
    let servers = servers(3);
    multi().block_on(async {
        let locks = Locks::connect(&all(&servers)).await.expect("connects");
        for server in &servers[..2] {
            server.cli(&["SET", "tenure:{default/x}:q", "2something else"]);
        }
        let error = locks.mutex("x").expect("a name").try_lock().await.expect_err("another version");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("format \"2\""), "{error}");
        assert!(locks.inspect("x").await.is_err_and(|e| e.kind() == ErrorKind::Protocol));
        let listed = locks.list("").await.expect("listed");
        assert!(listed[0].error.as_ref().is_some_and(|why| why.contains("format \"2\"")), "{listed:?}");
    });
}

fn that_will_not_do() {
    let mut good = servers(2);
    let replica = Server::with(&["--replicaof", "127.0.0.1", &good[0].port.to_string()]);
    let cluster = Server::with(&["--cluster-enabled", "yes"]);
    let secret = Server::with(&["--requirepass", "secret"]);
    let (one, two) = (good[0].port, good[1].port);
    multi().block_on(async {
        let refused = async |url: String| Locks::connect(&url).await.expect_err(&url);
        for (third, kind, says) in [
            (replica.port, ErrorKind::Config, "replica"),
            (cluster.port, ErrorKind::Unsupported, "Cluster"),
            (secret.port, ErrorKind::Denied, "password"),
        ] {
            let error = refused(url([&one, &two, &third])).await;
            assert_eq!(error.kind(), kind, "{error}");
            assert!(
                error.to_string().contains(says) && error.to_string().contains(&third.to_string()),
                "{error}"
            );
        }
        for (url, says) in [
            (url([&one, &two]), "odd number"),
            (url([&one, &two, &one]), "twice"),
            (format!("redlock://127.0.0.1:{one},127.0.0.1:{two},localhost:{one}"), "same server"),
            (format!("redlock://127.0.0.1:{one},127.0.0.1:{two},127.0.0.1:1/?longest-ttl=x"), "longest-ttl"),
        ] {
            let error = refused(url).await;
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        // One that is away is no reason to refuse; two are.
        let locks = Locks::connect(&url([&one, &two, &1])).await.expect("a majority");
        let kind = locks.rwlock("x").err().map(|e| e.kind());
        assert_eq!(kind, Some(ErrorKind::Unsupported), "readers cannot share votes");
        let options = LockOptions::new().ttl(Duration::from_secs(61));
        let long = locks.mutex("x").expect("a name").with(options).expect("a ttl");
        let error = long.lock().await.expect_err("longer than a minute");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let error = refused(url([&one, &1, &2])).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("1 of 3 servers vote, and 2 are needed"), "{error}");
    });
    good.clear();
}

/// How long so many locks take, one after the other: the middle, and the slowest of a hundred.
async fn acquires(locks: &Locks, count: usize) -> [Duration; 2] {
    let mut took = Vec::new();
    for n in 0..count {
        let mutex = locks.mutex(format!("five/{n}")).expect("a name");
        let began = Instant::now();
        let guard = mutex.lock().await.expect("a majority votes");
        took.push(began.elapsed());
        guard.release().await.expect("ours");
    }
    took.sort();
    [took[count / 2], took[count * 99 / 100]]
}

/// With one of five servers stopped everything works, and what it costs is told.
fn one_of_five_is_dead() {
    let servers = servers(5);
    multi().block_on(async {
        let locks = Locks::connect(&all(&servers)).await.expect("connects");
        acquires(&locks, 20).await;
        let five = acquires(&locks, 200).await;
        servers[2].freeze();
        acquires(&locks, 20).await;
        let four = acquires(&locks, 200).await;
        limit::say(&format!("p50 and p99 of acquire: five servers {five:?}, one of five silent {four:?}\n"));
        servers[2].thaw();
        servers[4].kill();
        acquires(&locks, 20).await;
        let other = Locks::connect(&all(&servers)).await.expect("four are enough");
        let guard = other.mutex("five/x").expect("a name").lock().await.expect("free");
        assert!(locks.mutex("five/x").expect("a name").try_lock().await.expect("answers").is_none());
        assert_eq!(locks.list("five").await.expect("listed")[0].token, Some(guard.token()));
        guard.release().await.expect("ours");
    });
}

fn a_silent_server_delays_no_renewals() {
    let servers = servers(3);
    multi().block_on(async {
        let locks = Locks::connect(&all(&servers)).await.expect("connects");
        let options = LockOptions::new().ttl(Duration::from_secs(3));
        let mutex = locks.mutex("kept").expect("a name").with(options).expect("a ttl");
        let guard = mutex.lock().await.expect("free");
        servers[0].freeze();
        let until = Instant::now() + Duration::from_secs(7);
        while Instant::now() < until {
            guard.check().expect("two of three renew it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        servers[0].thaw();
        guard.release().await.expect("ours");
    });
}

/// A server that restarts without its memory has no vote until the longest lease is over: otherwise it would vote for a
/// second holder.
fn without_memory() {
    let servers: Vec<Server> = (0..3).map(|_| Server::start()).collect();
    multi().block_on(async {
        let locks = Locks::connect(&(all(&servers) + "?longest-ttl=4s")).await.expect("connects");
        let options = LockOptions::new().ttl(Duration::from_secs(4));
        let mutex = locks.mutex("x").expect("a name").with(options.clone()).expect("a ttl");
        let error = mutex.try_lock().await.expect_err("they have just started");
        assert!(error.to_string().contains("may have lost its memory"), "{error}");
        soon("votes", async || mutex.try_lock().await.is_ok_and(|guard| guard.is_some())).await;
        let held = mutex.lock().await.expect("a majority votes");
        // Two servers forget: without a quarantine they would be a majority for somebody else.
        servers[0].restart().expect("restarts");
        servers[1].restart().expect("restarts");
        let other = Locks::connect(&(all(&servers) + "?longest-ttl=4s")).await.expect("connects");
        let second = other.mutex("x").expect("a name").with(options).expect("a ttl");
        let error = second.try_lock().await.expect_err("two of three may have forgotten the holder");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        held.check().expect("its lease is not over");
        held.lost().await;
        soon("votes again", async || second.try_lock().await.is_ok_and(|guard| guard.is_some())).await;
    });
}

/// A server that is reached only later, and turns out to be one that votes already.
fn under_two_names() {
    let servers = servers(2);
    let proxy = Proxy::to(servers[0].port).expect("a proxy");
    proxy.refuse();
    multi().block_on(async {
        let url = url([&servers[0].port, &servers[1].port, &proxy.port()]);
        let locks = Locks::connect(&url).await.expect("a majority");
        let mutex = locks.mutex("x").expect("a name");
        mutex.lock().await.expect("two of three").release().await.expect("ours");
        proxy.accept();
        servers[1].kill();
        // Both names of the one server that is left answer, and they are one vote.
        soon("noticed", async || match mutex.try_lock().await {
            Err(error) => error.to_string().contains("under another name"),
            Ok(guard) => panic!("one server gave a majority: {guard:?}"),
        })
        .await;
    });
}

/// Clients that see different halves of five servers.
fn two_majorities() {
    let servers = servers(5);
    let blind = |cut: [usize; 2]| -> (Vec<Proxy>, String) {
        let proxies: Vec<Proxy> = servers.iter().map(|s| Proxy::to(s.port).expect("a proxy")).collect();
        cut.iter().for_each(|server| proxies[*server].refuse());
        let ports: Vec<u16> = proxies.iter().map(Proxy::port).collect();
        (proxies, url(&ports))
    };
    let (left, right) = (blind([3, 4]), blind([0, 1]));
    multi().block_on(async {
        let one = Locks::connect(&left.1).await.expect("three of five");
        let two = Locks::connect(&right.1).await.expect("three of five");
        let mut last = 0;
        for round in 0..20 {
            let (first, second) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
            let guard = first.mutex("x").expect("a name").lock().await.expect("free");
            let other = second.mutex("x").expect("a name").try_lock().await.expect("answers");
            assert!(other.is_none(), "both hold: they share one server only, and that voted twice");
            assert!(guard.token().get() > last, "S2: {} follows {last}", guard.token());
            last = guard.token().get();
            guard.release().await.expect("ours");
        }
    });
}
