//! Waiters whose clients are gone: killed, stopped, or served long ago by a server that has come back with an older copy.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tenure::Locks;
use tenure::backend::{Call, Claim, Kind, Leave, RW_CAPACITY, Released};

use crate::contract::{Store, held};
use crate::people::hex;
use crate::raw::{Raw, Said};
use crate::scripts::{Scripts, fields};
use crate::server::Server;
use crate::{multi, soon, trial};
use tenure_servers::proxy::Proxy;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("absent::l1_a_killed_waiter_is_not_granted", a_killed_waiter_is_not_granted),
        trial("absent::l1_a_grant_that_nobody_confirms_passes_on", a_grant_that_nobody_confirms_passes_on),
        trial("absent::l3_whoever_is_away_keeps_its_place", whoever_is_away_keeps_its_place),
        trial(
            "absent::readers_and_writers_pass_those_who_are_away",
            readers_and_writers_pass_those_who_are_away,
        ),
        trial("absent::a_crowd_of_killed_waiters_delays_nobody", a_crowd_of_killed_waiters_delays_nobody),
        trial("absent::l2_an_older_copy_delays_nobody", an_older_copy_delays_nobody),
        trial("absent::an_unconfirmed_grant_is_renewed", an_unconfirmed_grant_is_renewed),
        trial("absent::l3_the_other_connection_hears_meanwhile", the_other_connection_hears_meanwhile),
    ]
}

/// Much shorter than any lease here but those of waiters.
const SOON: Duration = Duration::from_secs(8);
const KEY: &str = "tenure:{default/moved}:l";

/// Waiters of a client that does not listen any more.
fn killed(scripts: &mut Scripts, ids: std::ops::Range<u128>, kind: Kind, weight: u32, capacity: u32) {
    for id in ids {
        let asked =
            format!("{weight:010}{capacity:010}{:011}{:011}00000000000000ddnobody", 60_000_000, 10_000_000);
        let now = scripts.raw.ask(&["TIME"]);
        let how = format!("{}1{:010}{:06}", kind as u8, now.list()[0].number(), now.list()[1].number());
        assert_eq!(fields(&scripts.run("attempt", &[KEY], &[&hex(id), &asked, &how]))[1], "W");
    }
}

fn stands(store: &Store) -> Claim {
    Claim { stand: true, ttl: Duration::from_secs(60), ..store.claim("") }
}

fn a_killed_waiter_is_not_granted() {
    let server = Server::start();
    let (store, mut scripts) = (Store::open(&server.url()), Scripts::real(server.port));
    let [first, last] = [(); 2].map(|()| stands(&store));
    store.take(&first);
    killed(&mut scripts, 1..4, Kind::Mutex, 1, 1);
    assert!(held(store.attempt(&last)).is_none());
    assert_eq!(store.release(&first, Leave::Nothing), Released::WasHeld);
    store.told(&last);
    // Nobody but killed ones: whoever comes is granted.
    let next = stands(&store);
    store.release(&last, Leave::Nothing);
    assert_eq!(store.line().expect("they wait").holders.len(), 0);
    assert!(held(store.attempt(&next)).is_some());
}

/// Its client listens, and does nothing: it is stopped.
fn a_grant_that_nobody_confirms_passes_on() {
    let server = Server::start();
    let (store, mut scripts) = (Store::open(&server.url()), Scripts::real(server.port));
    let mut stopped = Raw::new(server.port);
    stopped.ask(&["SUBSCRIBE", "tenure:client:00000000000000dd"]);
    let [first, last] = [(); 2].map(|()| stands(&store));
    store.take(&first);
    killed(&mut scripts, 1..2, Kind::Mutex, 1, 1);
    assert!(held(store.attempt(&last)).is_none());
    store.release(&first, Leave::Nothing);
    let told = stopped.hear();
    let text = told.list()[2].text().to_owned();
    assert_eq!(&text[66..77], "00010000000", "the lease that is told");
    assert!(text.ends_with(KEY), "{text}");
    assert!(store.line().expect("held").holders[0].expires_in.expect("a lease") <= Duration::from_secs(10));
    // Sixty seconds is what it asked for; ten is what it gets.
    let end = Instant::now() + Duration::from_secs(40);
    while held(store.renew(&last)).is_none() {
        assert!(Instant::now() < end, "not passed on");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn whoever_is_away_keeps_its_place() {
    let server = Server::start();
    let (store, mut scripts) = (Store::open(&server.url()), Scripts::real(server.port));
    let [first, second, third] = [(); 3].map(|()| stands(&store));
    store.take(&first);
    killed(&mut scripts, 1..2, Kind::Mutex, 1, 1);
    for claim in [&second, &third] {
        assert!(held(store.attempt(claim)).is_none());
    }
    store.release(&first, Leave::Nothing);
    store.told(&second);
    // It is back.
    let mut back = Raw::new(server.port);
    back.ask(&["SUBSCRIBE", "tenure:client:00000000000000dd"]);
    store.release(&second, Leave::Nothing);
    assert!(back.hear().list()[2].text().starts_with(&format!("1g{}", hex(1))));
    let renewed = scripts.run("renew", &[KEY], &[&hex(1), "nobody"]);
    assert_eq!(fields(&renewed.list()[0])[1], "H");
    scripts.run("release", &[KEY], &[&hex(1), ""]);
    store.told(&third);
}

fn readers_and_writers_pass_those_who_are_away() {
    let server = Server::start();
    let (store, mut scripts) = (Store::open(&server.url()), Scripts::real(server.port));
    let reader = |store: &Store| Claim { kind: Kind::ReadWrite, capacity: RW_CAPACITY, ..stands(store) };
    let writer = |store: &Store| Claim { weight: RW_CAPACITY, ..reader(store) };
    let first = writer(&store);
    store.take(&first);
    killed(&mut scripts, 1..3, Kind::ReadWrite, RW_CAPACITY, RW_CAPACITY);
    let readers = [reader(&store), reader(&store)];
    for claim in &readers {
        assert!(held(store.attempt(claim)).is_none());
    }
    store.release(&first, Leave::Nothing);
    let tokens = readers.each_ref().map(|claim| store.told(claim).token);
    assert_eq!(tokens[0], tokens[1], "readers share a token");
    let third = reader(&store);
    let grant = held(store.attempt(&third));
    assert!(grant.is_none_or(|grant| grant.token == tokens[0]), "{grant:?}");
    for claim in readers.iter().chain([&third]) {
        store.release(claim, Leave::Nothing);
    }
    let next = writer(&store);
    assert!(held(store.attempt(&next)).is_some_and(|grant| grant.token > tokens[0]));
}

fn a_crowd_of_killed_waiters_delays_nobody() {
    let server = Server::start();
    let (store, mut scripts) = (Store::open(&server.url()), Scripts::real(server.port));
    let [first, last] = [(); 2].map(|()| stands(&store));
    store.take(&first);
    killed(&mut scripts, 1..201, Kind::Mutex, 1, 1);
    assert!(held(store.attempt(&last)).is_none());
    let began = Instant::now();
    store.release(&first, Leave::Nothing);
    store.told(&last);
    assert!(began.elapsed() < SOON, "after {:?}", began.elapsed());
}

/// The copy is from when twenty tasks waited, who were all served since; their client goes on.
fn an_older_copy_delays_nobody() {
    let server = Server::start();
    let url = server.url();
    multi().block_on(async {
        let locks = Locks::builder(&url).ttl(Duration::from_secs(60)).fair().connect().await.expect("up");
        let other = Locks::connect(&url).await.expect("up");
        let first = locks.mutex("x").expect("a name").lock().await.expect("free");
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let mutex = locks.mutex("x").expect("a name");
                tokio::spawn(async move { mutex.lock().await?.release().await })
            })
            .collect();
        soon("in line", async || other.inspect("x").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 20)))
            .await;
        assert_eq!(server.cli(&["SAVE"]), "OK");
        let before = first.token();
        first.release().await.expect("ours");
        for one in waiting {
            one.await.expect("no panic").expect("served");
        }
        server.kill();
        server.launch().expect("it starts again");
        let began = Instant::now();
        // The holder of the copy holds for its lease, and is nobody's: an operator takes it away.
        soon("up", async || other.evict("x", Some(before), "it is of the copy").await.is_ok()).await;
        let guard = soon_locked(&other).await;
        assert!(guard.token() > before);
        assert!(began.elapsed() < SOON, "after {:?}", began.elapsed());
    });
}

async fn soon_locked(locks: &Locks) -> tenure::Guard {
    loop {
        if let Ok(guard) = locks.mutex("x").expect("a name").lock().await {
            return guard;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The deadline of a waiter that was told grows to that of its own lease, without anybody doing anything.
fn an_unconfirmed_grant_is_renewed() {
    let server = Server::start();
    let store = Store::open(&server.url());
    let blocker = Claim { key: tenure::Key::new("default", "x").expect("a name"), ..stands(&store) };
    store.take(&blocker);
    multi().block_on(async {
        let locks = Locks::builder(&server.url()).ttl(Duration::from_secs(60)).connect().await.expect("up");
        let mutex = locks.mutex("x").expect("a name");
        let waiting = tokio::spawn(async move { mutex.lock().await });
        soon("in line", async || locks.inspect("x").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1)))
            .await;
        store.backend.release(&blocker, Leave::Nothing, Call::PATIENT).await.expect("answers");
        let guard = waiting.await.expect("no panic").expect("granted");
        let left = async || locks.inspect("x").await.expect("answers").expect("held").holders[0].expires_in;
        soon("renewed", async || left().await.is_some_and(|left| left > Duration::from_secs(30))).await;
        guard.check().expect("held");
    });
}

/// A waiter keeps its turn although the connection that its grant would have come to cannot be made again.
fn the_other_connection_hears_meanwhile() {
    let server = Server::start();
    let store = Store::open(&server.url());
    let [blocker, behind] =
        [(); 2].map(|()| Claim { key: tenure::Key::new("default", "x").expect("a name"), ..stands(&store) });
    store.take(&blocker);
    let proxy = Proxy::to(server.port).expect("a free port");
    let hearing = |but: &[String]| -> Vec<String> {
        let list = server.cli(&["CLIENT", "LIST"]);
        let all = list.lines().filter(|line| line.contains(" sub=1 "));
        let ids = all.filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("id=")));
        ids.filter(|id| !but.iter().any(|other| other == id)).map(str::to_owned).collect()
    };
    let strangers = hearing(&[]);
    let hearing = || hearing(&strangers);
    multi().block_on(async {
        let locks = Locks::connect(&proxy.url("redis")).await.expect("up");
        let mutex = locks.mutex("x").expect("a name");
        let waiting = tokio::spawn(async move { mutex.lock().await });
        soon("in line", async || locks.inspect("x").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1)))
            .await;
        let answer = store.backend.attempt_one(&behind, Call::PATIENT).await.expect("answers");
        assert!(held(answer.standing).is_none());
        let before = hearing();
        proxy.refuse_more();
        assert_eq!(server.cli(&["CLIENT", "KILL", "ID", &before[0]]), "1");
        soon("the other one hears", async || hearing().first().is_some_and(|id| *id != before[0])).await;
        store.backend.release(&blocker, Leave::Nothing, Call::PATIENT).await.expect("answers");
        let guard = waiting.await.expect("no panic").expect("granted");
        let other = hearing();
        proxy.accept();
        soon("back", async || hearing().len() == 1 && hearing() != other).await;
        guard.release().await.expect("held");
        store.told(&behind);
    });
}
