//! Who may use a server, which servers will do, and the dialect of everybody.

use std::time::Duration;

use libtest_mimic::Trial;
use tenure::{Error, ErrorKind, Locks};

use crate::server::Server;
use crate::{multi, soon, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("access::the_documented_permissions_suffice", the_documented_permissions_suffice),
        trial("access::s8_a_permission_that_lacks_is_found_before_anything_is_done", a_permission_that_lacks),
        trial("access::permissions_for_one_namespace", permissions_for_one_namespace),
        trial("access::s8_a_command_that_was_renamed", a_command_that_was_renamed),
        trial("access::whoever_only_looks_needs_less", whoever_only_looks_needs_less),
        trial("access::passwords_and_permissions_that_lack", passwords_and_permissions_that_lack),
        trial("access::servers_that_will_not_do", servers_that_will_not_do),
        trial(
            "dialect::excludes_and_is_excluded_by_plain_programs",
            excludes_and_is_excluded_by_plain_programs,
        ),
        trial("dialect::waiters_take_turns", waiters_take_turns),
    ]
}

/// The rule that the document gives.
fn documented() -> Vec<&'static str> {
    let document = include_str!("../../../../docs/wire/redis.md");
    let line = document.lines().find(|l| l.starts_with("ACL SETUSER tenure ")).expect("a rule");
    line.split_whitespace().collect()
}

async fn refused(url: &str) -> Error {
    Locks::connect(url).await.expect_err("refused")
}

fn the_documented_permissions_suffice() {
    let server = Server::start();
    assert_eq!(server.cli(&documented()), "OK");
    server.cli(&["CONFIG", "SET", "requirepass", "other"]);
    let url = server.url().replace("//", "//tenure:secret@");
    multi().block_on(async {
        let (a, b) =
            (Locks::connect(&url).await.expect("permitted"), Locks::connect(&url).await.expect("permitted"));
        let guard = a.mutex("x").expect("a name").lock().await.expect("granted");
        let waiter = b.mutex("x").expect("a name");
        let waiting = tokio::spawn(async move { waiter.lock().await });
        soon("in line", async || a.list("").await.is_ok_and(|l| l.iter().any(|l| l.waiters == 1))).await;
        let token = guard.token();
        a.evict("x", Some(token), "by hand").await.expect("permitted");
        let next = waiting.await.expect("no panic").expect("granted");
        assert!(next.token() > token);
        let mut watch = b.watch("").expect("a prefix");
        watch.next().await.expect("permitted");
        next.release().await.expect("ours");
        while !watch.next().await.expect("permitted").is_empty() {}
    });
}

/// As the document says; and without the key that names the order of tokens, the error says which key lacks.
fn permissions_for_one_namespace() {
    let server = Server::start();
    let mut words = documented();
    let all = words.iter().position(|word| *word == "~tenure:*").expect("all keys");
    words.splice(all..=all, ["~tenure:{shop/*", "~tenure:domain"]);
    assert_eq!(server.cli(&words), "OK");
    let url = server.url().replace("//", "//tenure:secret@");
    multi().block_on(async {
        let connect = async || Locks::builder(&url).namespace("shop").connect().await.expect("permitted");
        let locks = connect().await;
        locks.domain().await.expect("permitted");
        locks.mutex("a").expect("a name").lock().await.expect("permitted").release().await.expect("ours");
        server.cli(&["ACL", "SETUSER", "tenure", "resetkeys", "~tenure:{shop/*"]);
        let error = connect().await.domain().await.expect_err("not permitted");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("tenure:domain"), "{error}");
    });
}

/// Each of the documented permissions but one: nobody gets a lock that cannot be given back, and the error names what lacks.
fn a_permission_that_lacks() {
    let server = Server::start();
    server.cli(&documented());
    let connects = ["hello", "select", "ping", "scan", "script|load", "subscribe", "time"];
    let dialect = ["get", "set", "del", "pexpire", "pttl", "evalsha"];
    let all: Vec<&str> = documented().iter().filter_map(|word| word.strip_prefix('+')).collect();
    assert!(all.len() > 25, "{all:?}");
    multi().block_on(async {
        for command in all.iter().filter(|command| !connects.contains(*command)) {
            server.cli(&["ACL", "SETUSER", "tenure", &format!("-{command}"), "~*"]);
            for scheme in ["redis:", "redis+setnx:"] {
                let url = server.url().replace("//", "//tenure:secret@").replace("redis:", scheme);
                let locks = Locks::connect(&url).await.expect("whoever only looks may connect");
                let outcome = locks.mutex("x").expect("a name").lock().await;
                let needed = if scheme == "redis:" { *command != "pttl" } else { dialect.contains(command) };
                if !needed {
                    outcome.expect("permitted").release().await.expect("permitted");
                    server.cli(&["FLUSHALL"]);
                    continue;
                }
                let error = outcome.expect_err("not permitted");
                assert_eq!(error.kind(), ErrorKind::Denied, "{scheme} {command}: {error}");
                assert!(error.to_string().to_lowercase().contains(command), "{scheme} {command}: {error}");
                assert!(
                    !server.keys().iter().any(|key| key.ends_with("}:l")),
                    "{scheme} {command}: {:?}",
                    server.keys()
                );
                // Permitted meanwhile: the same client goes on.
                server.cli(&["ACL", "SETUSER", "tenure", &format!("+{command}")]);
                locks
                    .mutex("x")
                    .expect("a name")
                    .lock()
                    .await
                    .expect("permitted")
                    .release()
                    .await
                    .expect("ours");
                server.cli(&["FLUSHALL"]);
                server.cli(&["ACL", "SETUSER", "tenure", &format!("-{command}")]);
            }
            server.cli(&["ACL", "SETUSER", "tenure", &format!("+{command}")]);
            server.cli(&["FLUSHALL"]);
        }
        server.cli(&["ACL", "SETUSER", "tenure", "resetchannels"]);
        server.cli(&["ACL", "SETUSER", "tenure", "&other:*"]);
        let error = refused(&server.url().replace("//", "//tenure:secret@")).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    });
    assert_eq!(server.keys(), Vec::<String>::new());
}

/// Hosted servers rename commands. Some are useful only; without the others nobody gets a lock, and the error names them.
fn a_command_that_was_renamed() {
    for command in ["INFO", "CONFIG", "PUBLISH", "HDEL", "EVALSHA", "TIME"] {
        let server = Server::with(&["--rename-command", command, "renamed"]);
        multi().block_on(async {
            for scheme in ["redis:", "redis+setnx:"] {
                let outcome = match Locks::connect(&server.url().replace("redis:", scheme)).await {
                    Ok(locks) => locks.mutex("x").expect("a name").lock().await,
                    Err(error) => Err(error),
                };
                let needed = match command {
                    "INFO" | "CONFIG" => false,
                    "PUBLISH" | "HDEL" => scheme == "redis:",
                    _ => true,
                };
                if !needed {
                    outcome.expect("not needed").release().await.expect("not needed");
                    continue;
                }
                let error = outcome.expect_err("needed");
                assert!(
                    matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unsupported),
                    "{command}: {error}"
                );
                assert!(
                    error.to_string().to_uppercase().contains(command)
                        && error.to_string().contains("redis.md"),
                    "{command}: {error}"
                );
            }
        });
    }
}

fn whoever_only_looks_needs_less() {
    let server = Server::start();
    server.cli(&[
        "ACL",
        "SETUSER",
        "eye",
        "on",
        ">pw",
        "~tenure:*",
        "&*",
        "+@read",
        "+@connection",
        "+time",
        "+evalsha",
        "+script|load",
        "+subscribe",
        "+scan",
    ]);
    multi().block_on(async {
        let locks = Locks::connect(&server.url()).await.expect("up");
        let guard = locks.mutex("x").expect("a name").lock().await.expect("free");
        let eye = Locks::connect(&server.url().replace("//", "//eye:pw@")).await.expect("permitted");
        assert_eq!(eye.list("").await.expect("permitted").len(), 1);
        let error = eye.mutex("y").expect("a name").lock().await.expect_err("not permitted");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        guard.release().await.expect("ours");
    });
}

fn passwords_and_permissions_that_lack() {
    let server = Server::start();
    server.cli(&["ACL", "SETUSER", "weak", "on", ">pw", "~*", "&*", "+@all", "-evalsha"]);
    server.cli(&["ACL", "SETUSER", "narrow", "on", ">pw", "~other:*", "&*", "+@all"]);
    server.cli(&["CONFIG", "SET", "requirepass", "secret"]);
    multi().block_on(async {
        for user in ["", "default:wrong@", "nobody:pw@"] {
            let error = refused(&server.url().replace("//", &format!("//{user}"))).await;
            assert_eq!(error.kind(), ErrorKind::Denied, "{user}: {error}");
            assert!(!error.to_string().contains("wrong@"), "{error}");
        }
        for user in ["weak", "narrow"] {
            let locks =
                Locks::connect(&server.url().replace("//", &format!("//{user}:pw@"))).await.expect("known");
            let error = locks.mutex("x").expect("a name").lock().await.expect_err("not permitted");
            assert_eq!(error.kind(), ErrorKind::Denied, "{user}: {error}");
        }
        let good =
            Locks::connect(&server.url().replace("//", "//:secret@")).await.expect("the right password");
        assert!(!good.url().contains("secret"));
    });
}

fn servers_that_will_not_do() {
    let master = Server::start();
    let port = master.port.to_string();
    let replica = Server::with(&["--replicaof", "127.0.0.1", &port]);
    let sentinel = Server::sentinel();
    let cluster = Server::with(&["--cluster-enabled", "yes"]);
    multi().block_on(async {
        let error = refused(&replica.url()).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("read-only replica"), "{error}");
        let error = refused(&cluster.url()).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("Cluster"), "{error}");
        let error = refused(&sentinel.url()).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("Sentinel"), "{error}");
        let error = refused(&format!("{},127.0.0.1:1", master.url())).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        // Demoted while we use it: refused for now, and used again once it is a master.
        let locks = Locks::connect(&master.url()).await.expect("a master");
        let other = Server::start();
        master.cli(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
        let error = locks.mutex("x").expect("a name").try_lock_for(Duration::from_secs(3)).await;
        assert!(error.is_err_and(|e| e.kind().may_pass()));
        master.cli(&["REPLICAOF", "NO", "ONE"]);
        locks
            .mutex("x")
            .expect("a name")
            .lock()
            .await
            .expect("a master again")
            .release()
            .await
            .expect("ours");
    });
}

fn excludes_and_is_excluded_by_plain_programs() {
    let server = Server::start();
    let url = server.url().replace("redis:", "redis+setnx:") + "?prefix=job:";
    multi().block_on(async {
        let locks = Locks::connect(&url).await.expect("connects");
        let mutex = locks.mutex("nightly").expect("a name");
        let guard = mutex.lock().await.expect("free");
        assert_eq!(server.cli(&["SET", "job:nightly", "theirs", "NX", "PX", "5000"]), "");
        let first = guard.token();
        assert_eq!(locks.list("").await.expect("listed")[0].holders.len(), 1);
        guard.release().await.expect("ours");
        assert_eq!(server.cli(&["SET", "job:nightly", "theirs", "NX", "PX", "60000"]), "OK");
        assert!(mutex.try_lock().await.expect("answers").is_none());
        let seen = locks.inspect("nightly").await.expect("answers").expect("held");
        assert_eq!((seen.holders[0].owner.program.as_str(), seen.token), ("another program", None));
        let waiting = tokio::spawn(async move { mutex.lock().await });
        // What everybody's compare-and-delete does.
        let script =
            "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end return 0";
        assert_eq!(server.cli(&["EVAL", script, "1", "job:nightly", "ours"]), "0");
        assert_eq!(server.cli(&["EVAL", script, "1", "job:nightly", "theirs"]), "1");
        let guard = waiting.await.expect("no panic").expect("granted");
        assert!(guard.token() > first);
        // Taken away behind our back: the next renewal says so.
        assert_eq!(server.cli(&["SET", "job:nightly", "stolen"]), "OK");
        assert!(guard.release().await.is_err_and(|e| e.kind() == ErrorKind::Lost));
        assert_eq!(server.cli(&["GET", "job:nightly"]), "stolen");
    });
}

fn waiters_take_turns() {
    let server = Server::start();
    let url = server.url().replace("redis:", "redis+setnx:");
    multi().block_on(async {
        let locks = Locks::connect(&url).await.expect("connects");
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let mutex = locks.mutex("x").expect("a name");
                tokio::spawn(async move {
                    let mut tokens = Vec::new();
                    for _ in 0..3 {
                        let guard = mutex.lock().await.expect("granted");
                        tokens.push(guard.token());
                        guard.release().await.expect("ours");
                    }
                    tokens
                })
            })
            .collect();
        let mut tokens = Vec::new();
        for task in tasks {
            tokens.extend(task.await.expect("no panic"));
        }
        let count = tokens.len();
        tokens.sort();
        tokens.dedup();
        assert_eq!((count, tokens.len()), (24, 24), "each hold has a token of its own");
    });
    assert_eq!(server.keys(), ["tenure:{x}:t"]);
}
