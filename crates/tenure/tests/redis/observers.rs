//! Those who look: what they are told, and what those who lock pay for it.

use std::time::Duration;

use libtest_mimic::Trial;
use tenure::{LockOptions, Locks, Observer};

use crate::server::Server;
use crate::{multi, trial};
use tenure_servers::proxy::{Proxy, Way};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("observers::are_told_of_what_they_watch", are_told_of_what_they_watch),
        trial("observers::are_told_of_nothing_else", are_told_of_nothing_else),
        trial("observers::read_what_changed_and_nothing_else", read_what_changed_and_nothing_else),
        trial("observers::are_told_after_a_restart", are_told_after_a_restart),
        trial("observers::are_told_where_the_server_tells_nothing", are_told_where_the_server_tells_nothing),
    ]
}

/// A candidate leads and resigns, a few times, and the observer sees each.
async fn see(observer: &mut Observer, candidate: &Locks) {
    let candidate = candidate.election("leader").expect("a name");
    for round in 0..3 {
        let value = round.to_string();
        let leads = candidate.campaign(&value).await.expect("leads");
        let seen = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                if let Some(info) = observer.next().await.expect("answers") {
                    break info;
                }
            }
        });
        assert_eq!(seen.await.expect("told").value(), value);
        leads.resign().await.expect("ours");
        let gone = async { while observer.next().await.expect("answers").is_some() {} };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("told");
    }
}

fn are_told_of_what_they_watch() {
    for scheme in ["redis:", "redis+setnx:"] {
        let server = Server::start();
        let url = server.url().replace("redis:", scheme);
        multi().block_on(async {
            let (busy, eye) =
                (Locks::connect(&url).await.expect("up"), Locks::connect(&url).await.expect("up"));
            let mut observer = eye.election("leader").expect("a name").observe().expect("watches");
            assert!(observer.next().await.expect("answers").is_none());
            see(&mut observer, &busy).await;
            // And beside it all that there is.
            let mut watch = eye.watch("").expect("a prefix");
            watch.next().await.expect("answers");
            see(&mut observer, &busy).await;
            drop(watch);
            see(&mut observer, &busy).await;
        });
    }
}

/// How many bytes a client behind a proxy has been told.
fn heard(proxy: &Proxy) -> u64 {
    (0..2).map(|connection| proxy.passed(connection, Way::ToClient)).sum()
}

/// As many as a PING or two, and not one for each change.
const LITTLE: u64 = 500;

fn are_told_of_nothing_else() {
    let server = Server::start();
    multi().block_on(async {
        let busy = Locks::connect(&server.url()).await.expect("up");
        for namespace in ["default", "other"] {
            let proxy = Proxy::to(server.port).expect("a free port");
            let eye = Locks::builder(&proxy.url("redis")).namespace(namespace).connect().await.expect("up");
            let mut one = eye.election("leader").expect("a name").observe().expect("watches");
            one.next().await.expect("answers");
            let mut all = (namespace == "other").then(|| eye.watch("").expect("a prefix"));
            if let Some(all) = &mut all {
                all.next().await.expect("answers");
            }
            let mut told = Vec::new();
            while told.last().is_none_or(|told| *told >= LITTLE) {
                assert!(told.len() < ROUNDS as usize, "{namespace}: {told:?} bytes");
                let before = heard(&proxy);
                for n in 0..200 {
                    let mutex = busy.mutex(format!("busy/{}", n % 7)).expect("a name");
                    mutex.lock().await.expect("free").release().await.expect("ours");
                }
                // The server sends what it tells of that before it answers this.
                eye.inspect("leader").await.expect("answers");
                told.push(heard(&proxy) - before);
            }
        }
    });
}

/// How often the server ran each of these commands since the last reset.
fn calls<const N: usize>(server: &Server, commands: [&str; N]) -> [u64; N] {
    let stats = server.cli(&["INFO", "commandstats"]);
    commands.map(|command| {
        let begin = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&begin));
        line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
    })
}

/// How often a measurement is repeated that news of before may disturb: what is always so, is so each time.
const ROUNDS: u32 = 20;

fn read_what_changed_and_nothing_else() {
    for scheme in ["redis:", "redis+setnx:"] {
        let server = Server::start();
        multi().block_on(read_what_changed(&server, &server.url().replace("redis:", scheme)));
    }
}

async fn read_what_changed(server: &Server, url: &str) {
    let busy = Locks::connect(url).await.expect("up");
    let eye = Locks::connect(url).await.expect("up");
    // Nobody renews while this is measured.
    let long = LockOptions::new().ttl(Duration::from_secs(3600));
    let mutex = |n: u32| busy.mutex(format!("many/{n}")).expect("a name").with(long.clone()).expect("fits");
    let mut held = Vec::new();
    for n in 0..1000 {
        held.push(mutex(n).lock().await.expect("free"));
    }
    let mut watch = eye.watch("many").expect("a prefix");
    assert_eq!(watch.next().await.expect("answers").len(), 1000);
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        server.cli(&["CONFIG", "RESETSTAT"]);
        held.pop().expect("held").release().await.expect("ours");
        while watch.next().await.expect("answers").len() != 999 {}
        let other = busy.mutex("other").expect("a name").lock().await.expect("free");
        held.push(mutex(999).lock().await.expect("free"));
        let mut lines = watch.next().await.expect("answers");
        while lines.len() != 1000 {
            lines = watch.next().await.expect("answers");
        }
        assert!(lines.iter().any(|line| line.key.name() == "many/999"));
        other.release().await.expect("ours");
        // Four verbs, and a look or two at each of two locks: a listing of all is a dozen scripts and three SCANs.
        let [scripts, scans] = calls(server, ["evalsha", "scan"]);
        if scripts <= 4 + 4 && scans == 0 {
            return;
        }
        seen.push((scripts, scans));
    }
    panic!("{url}: scripts and SCANs: {seen:?}");
}

fn are_told_after_a_restart() {
    let server = Server::start();
    multi().block_on(async {
        let (busy, eye) = (
            Locks::connect(&server.url()).await.expect("up"),
            Locks::connect(&server.url()).await.expect("up"),
        );
        let mut observer = eye.election("leader").expect("a name").observe().expect("watches");
        assert!(observer.next().await.expect("answers").is_none());
        see(&mut observer, &busy).await;
        server.kill();
        server.launch().expect("it starts again");
        crate::soon("up", async || busy.list("").await.is_ok() && eye.list("").await.is_ok()).await;
        see(&mut observer, &busy).await;
    });
}

fn are_told_where_the_server_tells_nothing() {
    let server = Server::start();
    server.cli(&["ACL", "SETUSER", "eye", "on", ">pw", "~*", "&*", "+@all", "-client|tracking"]);
    multi().block_on(async {
        let busy = Locks::connect(&server.url()).await.expect("up");
        let eye = Locks::connect(&server.url().replace("//", "//eye:pw@")).await.expect("up");
        let mut observer = eye.election("leader").expect("a name").observe().expect("watches");
        assert!(observer.next().await.expect("answers").is_none());
        see(&mut observer, &busy).await;
    });
}
