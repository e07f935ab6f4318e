//! Keys that hold what they should not.

use libtest_mimic::Trial;
use tenure::backend::{Call, Claim, Leave, Released, Standing};
use tenure::{ErrorKind, Locks};

use crate::contract::{Store, held};
use crate::server::Server;
use crate::{multi, soon, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "damaged::s2_no_token_follows_one_from_the_far_future",
            no_token_follows_one_from_the_far_future,
        ),
        trial("damaged::s9_a_refused_head_stays_as_it_is", a_refused_head_stays_as_it_is),
        trial("damaged::a_hold_ends_whatever_its_last_token_is", a_hold_ends_whatever_its_last_token_is),
        trial("damaged::o1_what_cannot_be_read_hides_nothing_else", what_cannot_be_read_hides_nothing_else),
        trial("damaged::a_record_of_another_version_stays_in_its_line", a_record_of_another_version),
        trial("damaged::a_waiter_is_told_what_a_newcomer_is_told", a_waiter_is_told_what_a_newcomer_is_told),
        trial("damaged::many_free_locks_cost_a_listing_little", many_free_locks_cost_a_listing_little),
    ]
}

const HEAD: &str = "tenure:{default/moved}:l";
/// Beyond what doubles count, the last with sixteen digits, and merely two days ahead.
fn absurd() -> [String; 4] {
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_micros();
    let two_days = now + 2 * 86_400_000_000;
    [1 << 53, 9_007_199_254_740_993, 9_999_999_999_999_999, two_days].map(|n| format!("{n:016}"))
}

fn refused(store: &Store, claim: &Claim, token: &str) {
    let attempt = store.backend.attempt(std::slice::from_ref(claim), Call::PATIENT);
    let error = pollster::block_on(attempt).remove(0).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    let text = error.to_string();
    assert!(text.contains(token) && text.contains("clock") && text.contains("delete the key"), "{error}");
}

fn no_token_follows_one_from_the_far_future() {
    for token in absurd() {
        for (scheme, key, value) in [
            ("redis:", HEAD, format!("10{token}")),
            ("redis:", HEAD, format!("10{token}{:016}", 0)),
            ("redis+setnx:", "tenure:{moved}:t", format!("1{token}{:032}{token}{:011}", 7, 1000)),
        ] {
            let server = Server::start();
            server.cli(&["SET", key, &value]);
            let store = Store::open(&server.url().replace("redis:", scheme));
            refused(&store, &store.claim(""), &token);
            let claim = Claim { cohort: tenure::backend::Cohort::ALONE, stand: true, ..store.claim("") };
            refused(&store, &claim, &token);
            assert_eq!(server.cli(&["GET", key]), value, "it was left alone");
            // As the error says.
            server.cli(&["DEL", key]);
            store.take(&claim);
        }
    }
}

/// Whatever is done to it: its bytes and its expiry. A withdrawal is final all the same.
fn a_refused_head_stays_as_it_is() {
    let server = Server::start();
    for token in absurd() {
        for (scheme, key, value) in [
            ("redis:", HEAD, format!("10{token}")),
            ("redis:", HEAD, format!("17{token}{:016}", 0)),
            ("redis+setnx:", "tenure:{moved}:t", format!("1{token}{:032}{token}{:011}", 7, 1000)),
        ] {
            server.cli(&["FLUSHALL"]);
            server.cli(&["SET", key, &value, "PX", "3600000"]);
            let store = Store::open(&server.url().replace("redis:", scheme));
            let claims = [true, false].map(|stand| Claim { stand, ..store.claim("") });
            for (claim, leave) in claims.iter().zip([Leave::Final, Leave::Nothing]) {
                refused(&store, claim, &token);
                assert_eq!(store.release(claim, leave), Released::Gone);
                assert!(held(store.renew(claim)).is_none());
                assert_eq!(store.release(claim, Leave::Final), Released::Gone);
            }
            let key_of = &claims[0].key;
            let evicted = pollster::block_on(store.backend.evict(key_of, None, "by hand", Call::PATIENT));
            assert_eq!(evicted.expect("answers"), Released::Gone);
            assert_eq!(server.cli(&["GET", key]), value);
            let left: u64 = server.cli(&["PTTL", key]).parse().expect("a number");
            assert!((1_800_000..=3_600_000).contains(&left), "{left}");
            server.cli(&["DEL", key]);
            store.take(&Claim { stand: true, ..store.claim("") });
        }
        // A semaphore needs no token, so its head is not refused; and what was withdrawn before is never granted.
        server.cli(&["FLUSHALL"]);
        server.cli(&["SET", HEAD, &format!("10{token}")]);
        let store = Store::open(&server.url());
        let shared = || Claim { kind: tenure::backend::Kind::Semaphore, capacity: 2, ..store.claim("") };
        let late = shared();
        assert_eq!(store.release(&late, Leave::Final), Released::Gone);
        assert!(matches!(store.attempt(&late), Standing::Gone { .. }));
        let claim = shared();
        assert!(held(store.attempt(&claim)).is_some());
        assert!(matches!(store.attempt(&late), Standing::Gone { .. }));
        assert_eq!(store.release(&claim, Leave::Nothing), Released::WasHeld);
        refused(&store, &store.claim(""), &token);
    }
}

fn a_hold_ends_whatever_its_last_token_is() {
    for token in absurd() {
        let server = Server::start();
        let store = Store::open(&server.url());
        let [first, second] = [(); 2].map(|()| Claim { stand: true, ..store.claim("") });
        store.take(&first);
        assert!(held(store.attempt(&second)).is_none());
        server.cli(&["SETRANGE", HEAD, "2", &token]);
        assert!(held(store.renew(&first)).is_some());
        assert_eq!(store.release(&first, Leave::Nothing), Released::WasHeld);
        // Nobody is granted, and who waits is told why, with the token as it is stored.
        refused(&store, &second, &token);
        assert!(server.cli(&["GET", HEAD]).is_ascii());
        assert_eq!(store.release(&second, Leave::Nothing), Released::WasWaiting);
        refused(&store, &store.claim(""), &token);
        server.cli(&["DEL", HEAD]);
        store.take(&store.claim(""));
    }
}

fn what_cannot_be_read_hides_nothing_else() {
    let server = Server::start();
    multi().block_on(async {
        let locks = Locks::connect(&server.url()).await.expect("up");
        let _guards = [
            locks.mutex("a").expect("a name").lock().await.expect("free"),
            locks.mutex("z").expect("a name").lock().await.expect("free"),
        ];
        for (name, words) in [
            ("later", ["SET", "2something else"]),
            ("nonsense", ["SET", "11"]),
            ("empty", ["SET", ""]),
            ("text", ["SET", "hello"]),
            ("list", ["RPUSH", "x"]),
        ] {
            server.cli(&[words[0], &format!("tenure:{{default/{name}}}:l"), words[1]]);
        }
        server.cli(&["SADD", "tenure:{default/z}:b", "x"]);
        let lines = locks.list("").await.expect("listed");
        let names: Vec<&str> = lines.iter().map(|line| line.key.name()).collect();
        assert_eq!(names, ["a", "empty", "later", "list", "nonsense", "text", "z"]);
        for line in &lines {
            let held = ["a", "z"].contains(&line.key.name());
            assert_eq!((line.error.is_none(), line.holders.len()), (held, usize::from(held)), "{line:?}");
        }
        let says = |name: &str| lines.iter().find(|l| l.key.name() == name).and_then(|l| l.error.clone());
        assert!(says("later").is_some_and(|error| error.contains("format \"2\"")), "{:?}", says("later"));
        assert!(says("list").is_some_and(|error| error.contains("WRONGTYPE")), "{:?}", says("list"));
        for name in ["later", "list", "nonsense"] {
            let error = locks.inspect(name).await.expect_err("asked for alone");
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        }
        // The connection is the same, and the others go on.
        let watch = locks.watch("").expect("a prefix").next().await.expect("answers");
        assert_eq!(watch.len(), lines.len());
    });
}

/// It is neither dropped nor granted twice, and the lock can be taken away from it.
fn a_record_of_another_version() {
    let server = Server::start();
    let store = Store::open(&server.url());
    let shared = |store: &Store| Claim {
        kind: tenure::backend::Kind::Semaphore,
        capacity: 2,
        stand: true,
        ..store.claim("")
    };
    let claims = [(); 3].map(|()| shared(&store));
    for claim in &claims[..2] {
        store.take(claim);
    }
    let id = format!("{:032x}", claims[0].id.0);
    assert_eq!(server.cli(&["HSET", "tenure:{default/moved}:c", &id, "2 something else"]), "0");
    assert!(held(store.renew(&claims[1])).is_some());
    assert!(held(store.attempt(&claims[2])).is_none());
    let key = &claims[0].key;
    let evicted =
        pollster::block_on(store.backend.evict(key, None, "by hand", Call::PATIENT)).expect("answers");
    assert_eq!(evicted, Released::WasHeld);
    assert_eq!(store.told(&claims[2]).token, None);
}

fn a_waiter_is_told_what_a_newcomer_is_told() {
    let server = Server::start();
    multi().block_on(async {
        let locks = Locks::builder(&server.url()).fair().connect().await.expect("up");
        let mutex = locks.mutex("moved").expect("a name");
        let _held = mutex.lock().await.expect("free");
        let waits = mutex.clone();
        let waiting =
            tokio::spawn(async move { waits.try_lock_for(std::time::Duration::from_secs(300)).await });
        soon("in line", async || {
            locks.inspect("moved").await.is_ok_and(|l| l.is_some_and(|l| l.waiters == 1))
        })
        .await;
        server.cli(&["SET", HEAD, "2whatever"]);
        let told = waiting.await.expect("no panic").expect_err("the line cannot be read");
        let newcomer = mutex.lock().await.expect_err("the line cannot be read");
        assert_eq!((told.kind(), told.to_string()), (ErrorKind::Protocol, newcomer.to_string()));
    });
}

fn many_free_locks_cost_a_listing_little() {
    let server = Server::start();
    let free = "for i = 1, 100000 do redis.call('SET', 'tenure:{default/free/' .. i .. '}:l', '101796000000000000', \
                'PX', 600000) end";
    server.cli(&["EVAL", free, "0"]);
    multi().block_on(async {
        let locks = Locks::connect(&server.url()).await.expect("up");
        let mut guards = Vec::new();
        for n in 0..100 {
            guards.push(locks.mutex(format!("held/{n}")).expect("a name").lock().await.expect("free"));
        }
        server.cli(&["CONFIG", "RESETSTAT"]);
        assert_eq!(locks.list("").await.expect("listed").len(), 100);
        let stats = server.cli(&["INFO", "commandstats"]);
        let calls = |command: &str| -> u64 {
            let begin = format!("cmdstat_{command}:calls=");
            let line = stats.lines().find_map(|line| line.strip_prefix(&begin));
            line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
        };
        assert!(calls("evalsha") < 300, "{stats}");
    });
}
