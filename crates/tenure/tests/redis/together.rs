//! Attempts and releases of one instant leave as one call: counted, and with one among them that fails.

use libtest_mimic::Trial;
use tenure::{ErrorKind, Locks};

use crate::server::Server;
use crate::{single, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("together::a_crowd_shares_calls", a_crowd_shares_calls),
        trial("together::one_that_fails_hurts_nobody_else", one_that_fails_hurts_nobody_else),
        trial("together::one_that_is_denied_hurts_nobody_else", one_that_is_denied_hurts_nobody_else),
        trial("together::scripts_forgotten_in_a_crowd", scripts_forgotten_in_a_crowd),
    ]
}

const CROWD: u32 = 60;
const CYCLES: u32 = 5;

/// How many scripts the server was asked to run.
fn calls(server: &Server) -> u32 {
    let told = server.cli(&["INFO", "commandstats"]);
    let line = told.lines().find_map(|l| l.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|l| l.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Everybody takes and gives back a lock of their own, all in one thread: who asks, asks at the same instant. `extra`
/// gets the last name; says how that one fared.
async fn crowd(locks: &Locks, extra: &str) -> tenure::Result<()> {
    let names = (0..CROWD).map(|n| format!("crowd/{n}")).chain([extra.to_owned()]);
    let mut tasks: Vec<_> = names
        .map(|name| {
            let mutex = locks.mutex(&name).expect("a name");
            tokio::spawn(async move {
                let mut last = None;
                for _ in 0..CYCLES {
                    let guard = mutex.lock().await?;
                    let token = guard.token();
                    assert!(Some(token) > last, "{name}: {token:?} after {last:?}");
                    last = Some(token);
                    guard.release().await?;
                }
                Ok(())
            })
        })
        .collect();
    let odd = tasks.pop().expect("the last one");
    for task in tasks {
        task.await.expect("no panic").expect("a cycle");
    }
    odd.await.expect("no panic")
}

fn a_crowd_shares_calls() {
    let server = Server::start();
    single().block_on(async {
        let locks = Locks::connect(&server.url()).await.expect("up");
        crowd(&locks, "one/more").await.expect("as all others");
        // Two verbs a cycle; the first of a crowd leaves alone.
        let verbs = 2 * (CROWD + 1) * CYCLES;
        let calls = calls(&server);
        assert!(calls < verbs / 4, "{calls} calls for {verbs} verbs");
        locks.close().await.expect("closed");
    });
}

fn one_that_fails_hurts_nobody_else() {
    let server = Server::start();
    server.cli(&["RPUSH", "tenure:{default/not/ours}:l", "x"]);
    single().block_on(async {
        let locks = Locks::connect(&server.url()).await.expect("up");
        let error = crowd(&locks, "not/ours").await.expect_err("a list is no head");
        assert!(
            error.to_string().contains("WRONGTYPE") || format!("{error:?}").contains("WRONGTYPE"),
            "{error:?}"
        );
        locks.close().await.expect("closed");
    });
}

fn one_that_is_denied_hurts_nobody_else() {
    let server = Server::start();
    let rule = ["on", ">pw", "&*", "+@all", "~tenure:{default/crowd/*"];
    assert_eq!(server.cli(&[&["ACL", "SETUSER", "narrow"], &rule[..]].concat()), "OK");
    let url = server.url().replace("//", "//narrow:pw@");
    single().block_on(async {
        let locks = Locks::connect(&url).await.expect("up");
        let error = crowd(&locks, "elsewhere").await.expect_err("not permitted");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        locks.close().await.expect("closed");
    });
}

fn scripts_forgotten_in_a_crowd() {
    let server = Server::start();
    single().block_on(async {
        let locks = Locks::connect(&server.url()).await.expect("up");
        crowd(&locks, "one/more").await.expect("as all others");
        server.cli(&["SCRIPT", "FLUSH"]);
        crowd(&locks, "one/more").await.expect("as all others");
        let before = calls(&server);
        crowd(&locks, "one/more").await.expect("as all others");
        // The server has got them again, the one for a crowd too.
        let (calls, verbs) = (calls(&server) - before, 2 * (CROWD + 1) * CYCLES);
        assert!(calls < verbs / 4, "{calls} calls for {verbs} verbs");
        locks.close().await.expect("closed");
    });
}
