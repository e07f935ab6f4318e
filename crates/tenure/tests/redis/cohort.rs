//! A mutex claim that serves several tasks of its client: their tokens, and how many of them are seen to wait.
//!
//! Locks begin with a last token far ahead of the clock here, so that only the counting decides the next one.

use std::sync::LazyLock;
use std::time::Duration;

use libtest_mimic::Trial;
use tenure::backend::{Call, Claim, Cohort, Kind, Leave, Released, Standing};
use tenure::{ErrorKind, Token};

use crate::contract::{NAME, Store, gone, held};
use crate::people::now_us;
use crate::raw::{Raw, Said};
use crate::scripts::{Scripts, fields};
use crate::server::Server;
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("cohort::s2_unused_tokens_of_a_free_lock_go_back", unused_tokens_of_a_free_lock_go_back),
        trial(
            "cohort::s2_unused_tokens_go_back_to_the_next_in_line",
            unused_tokens_go_back_to_the_next_in_line,
        ),
        trial("cohort::s2_one_call_for_many_counts_alike", one_call_for_many_counts_alike),
        trial("cohort::s2_a_lease_that_ends_gives_nothing_back", a_lease_that_ends_gives_nothing_back),
        trial(
            "cohort::s2_unused_tokens_go_back_the_longer_way_too",
            unused_tokens_go_back_the_longer_way_too,
        ),
        trial(
            "cohort::s2_tokens_that_are_not_the_last_stay",
            tokens_that_are_not_the_last_stay_where_they_are,
        ),
        trial("cohort::s2_nothing_else_gives_tokens_back", nothing_else_gives_tokens_back),
        trial("cohort::s2_what_cannot_have_been_used_is_ignored", what_cannot_have_been_used_is_ignored),
        trial("cohort::s4_any_of_its_tokens_evicts", any_of_its_tokens_evicts),
        trial("cohort::s4_a_hold_goes_on_with_the_last_token_used", a_hold_goes_on_with_the_last_token_used),
        trial("cohort::o1_those_behind_are_seen_and_counted", those_behind_are_seen_and_counted),
        trial("cohort::one_token_is_stored_as_ever", one_token_is_stored_as_ever),
        trial("cohort::more_tokens_than_there_are_is_refused", more_tokens_than_there_are_is_refused),
    ]
}

/// An hour ahead of the clock: so far ahead, tokens are counted and not taken from it.
static FAR: LazyLock<i64> = LazyLock::new(|| now_us() + 3_600_000_000);
const HEAD: &str = "tenure:{default/moved}:l";

/// A store whose lock has given the token `FAR` already.
fn far() -> (Server, Store) {
    let server = Server::start();
    server.cli(&["SET", HEAD, &format!("10{:016}{:016}", *FAR, 0)]);
    let store = Store::open(&server.url());
    (server, store)
}

/// The last token that the lock has given, counted from `FAR`.
fn last(server: &Server) -> i64 {
    server.cli(&["GET", HEAD])[2..18].parse::<i64>().expect("digits") - *FAR
}

fn asks(store: &Store, tokens: u32, used: u32) -> Claim {
    Claim { cohort: Cohort { tokens, used, behind: 0 }, stand: true, ..store.claim("") }
}

/// The token of a grant, counted from `FAR`.
fn token(standing: Standing) -> i64 {
    held(standing).and_then(|grant| grant.token).expect("a token").get() - *FAR
}

fn waits(standing: &Standing) -> bool {
    matches!(standing, Standing::Waiting { .. })
}

fn unused_tokens_of_a_free_lock_go_back() {
    let (server, store) = far();
    let [many, one, most] = [(60_000, 5), (1, 1), (65_536, 65_536)].map(|(k, used)| asks(&store, k, used));
    assert_eq!(token(store.attempt(&many)), 1);
    assert_eq!(last(&server), 60_000);
    assert_eq!(token(store.attempt(&many)), 1, "asked again");
    assert_eq!(token(store.renew(&many)), 1);
    assert_eq!(last(&server), 60_000);
    assert_eq!(store.release(&many, Leave::Nothing), Released::WasHeld);
    assert_eq!(last(&server), 5);
    assert_eq!(store.release(&many, Leave::Nothing), Released::Gone);
    assert_eq!(last(&server), 5, "once only");
    assert_eq!(token(store.attempt(&one)), 6);
    assert_eq!(store.release(&many, Leave::Nothing), Released::Gone);
    assert_eq!(last(&server), 6, "nothing of another claim's");
    assert_eq!(store.release(&one, Leave::Nothing), Released::WasHeld);
    assert_eq!(token(store.attempt(&most)), 7);
    assert_eq!(store.release(&most, Leave::Nothing), Released::WasHeld);
    assert_eq!(last(&server), 6 + 65_536, "all were used");
    assert_eq!(token(store.attempt(&one)), 7 + 65_536);
}

fn unused_tokens_go_back_to_the_next_in_line() {
    let (server, store) = far();
    let claims = [(1, 1), (7, 3), (1, 1), (9, 9), (4, 1)].map(|(k, used)| asks(&store, k, used));
    let mut expected = 1;
    assert_eq!(token(store.attempt(&claims[0])), expected);
    for claim in &claims[1..] {
        assert!(waits(&store.attempt(claim)));
    }
    for pair in claims.windows(2) {
        let (own, next) = (pair[0].cohort, &pair[1]);
        assert_eq!(store.release(&pair[0], Leave::Nothing), Released::WasHeld);
        expected += i64::from(own.used);
        assert_eq!(store.told(next).token.map(|t| t.get() - *FAR), Some(expected));
        assert_eq!(last(&server), expected + i64::from(next.cohort.tokens) - 1);
        assert_eq!(store.release(&pair[0], Leave::Nothing), Released::Gone);
        assert_eq!(token(store.renew(next)), expected);
        assert_eq!(last(&server), expected + i64::from(next.cohort.tokens) - 1);
    }
    // One that only waited has nothing to give back.
    let late = asks(&store, 8, 1);
    assert!(waits(&store.attempt(&late)));
    assert_eq!(store.release(&late, Leave::Nothing), Released::WasWaiting);
    assert_eq!(last(&server), expected + 3);
}

/// The scripts with a clock that stands, the lock as in `far`.
struct Told {
    /// The claims' client.
    _ear: Raw,
    server: Server,
    scripts: Scripts,
    now: u64,
}

impl Told {
    fn new() -> Told {
        let (server, _) = far();
        let mut scripts = Scripts::new(server.port);
        let now = server.cli(&["TIME"]).lines().next().and_then(|s| s.parse::<u64>().ok()).expect("a time");
        let now = now * 1_000_000;
        scripts.set_clock(now);
        let mut ear = Raw::new(server.port);
        ear.ask(&["SUBSCRIBE", &format!("tenure:client:{:016}", 0)]);
        Told { _ear: ear, server, scripts, now }
    }

    fn attempt(&self, id: u32, tokens: u32) -> Vec<String> {
        let terms = format!("{:010}{tokens:010}{:011}{:011}", 1, 1_000_000, 5_000_000);
        let who = format!("{:016}u\th\t1\tp\t", 0);
        vec![format!("{id:032x}"), terms + &who, format!("11{:016}", self.now)]
    }

    fn release(&self, id: u32, trace: &str) -> Vec<String> {
        vec![format!("{id:032x}"), trace.to_owned()]
    }

    fn run(&mut self, verb: &str, count: usize, words: &[String]) -> redis::Value {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.scripts.run(verb, &vec![HEAD; count], &words)
    }
}

fn one_call_for_many_counts_alike() {
    let mut told = Told::new();
    let t3 = format!("t{:010}", 3);
    let verbs = [
        ("a", told.attempt(1, 10), "H", Some(1)),
        ("a", told.attempt(2, 20), "W", None),
        ("a", told.attempt(3, 1), "W", None),
        ("r", told.release(1, &t3), "h", None),
        ("r", told.release(1, &t3), "g", None),
        ("a", told.attempt(2, 20), "H", Some(4)),
        ("r", told.release(2, &t3), "h", None),
        ("a", told.attempt(3, 1), "H", Some(7)),
        ("r", told.release(3, ""), "h", None),
        ("a", told.attempt(4, 5), "H", Some(8)),
        ("r", told.release(4, &format!("t{:010}", 1)), "h", None),
        ("a", told.attempt(5, 2), "H", Some(9)),
    ];
    let words: Vec<String> =
        verbs.iter().flat_map(|v| [vec![v.0.to_owned()], v.1.clone()].concat()).collect();
    let said = told.run("together", verbs.len(), &words);
    for (n, (said, verb)) in said.list().iter().zip(&verbs).enumerate() {
        let got = fields(said);
        assert_eq!(got[1], verb.2, "{n}: {got:?}");
        if let Some(token) = verb.3 {
            assert_eq!(got[3], format!("{:016}", *FAR + token), "{n}");
        }
    }
    assert_eq!(last(&told.server), 10);
}

fn a_lease_that_ends_gives_nothing_back() {
    let mut told = Told::new();
    for (id, tokens) in [(1, 10), (2, 20), (3, 1)] {
        let words = told.attempt(id, tokens);
        told.run("attempt", 1, &words);
    }
    assert_eq!(last(&told.server), 10);
    // The next in line finds by its renewal that the lease has ended.
    told.now += 1_000_000;
    told.scripts.set_clock(told.now);
    let renewal = |id: u32| [format!("{id:032x}"), "u\th\t1\tp\t".to_owned()];
    let granted = told.run("renew", 1, &renewal(2));
    assert_eq!(fields(&granted.list()[0])[3], format!("{:016}", *FAR + 11));
    assert_eq!(last(&told.server), 30);
    let late = told.release(1, &format!("t{:010}", 3));
    assert_eq!(fields(&told.run("release", 1, &late))[1], "g");
    assert_eq!(last(&told.server), 30);
    let gives = told.release(2, &format!("t{:010}", 4));
    assert_eq!(fields(&told.run("release", 1, &gives))[1], "h");
    assert_eq!(last(&told.server), 15);
    assert_eq!(fields(&told.run("renew", 1, &renewal(3)).list()[0])[3], format!("{:016}", *FAR + 15));
    // Nobody is in line when this lease ends.
    told.now += 1_000_000;
    told.scripts.set_clock(told.now);
    let fresh = told.attempt(4, 6);
    assert_eq!(fields(&told.run("attempt", 1, &fresh))[3], format!("{:016}", *FAR + 16));
    assert_eq!(last(&told.server), 21);
    told.now += 1_000_000;
    told.scripts.set_clock(told.now);
    let fresh = told.attempt(5, 1);
    assert_eq!(fields(&told.run("attempt", 1, &fresh))[3], format!("{:016}", *FAR + 22));
}

/// While an eviction is remembered, a release goes the longer way.
fn unused_tokens_go_back_the_longer_way_too() {
    let (server, store) = far();
    let [evicted, next] = [(1, 1), (10, 4)].map(|(k, used)| asks(&store, k, used));
    assert_eq!(token(store.attempt(&evicted)), 1);
    assert!(waits(&store.attempt(&next)));
    pollster::block_on(store.backend.evict(&next.key, None, "enough", Call::PATIENT)).expect("answers");
    assert_eq!(token(store.renew(&next)), 2);
    assert_eq!(last(&server), 11);
    assert_eq!(store.release(&next, Leave::Nothing), Released::WasHeld);
    assert_eq!(last(&server), 5);
    assert_eq!(store.release(&next, Leave::Nothing), Released::Gone);
    assert_eq!(last(&server), 5, "once only");
}

/// The tokens of a claim are not the last ones any more that the lock gave.
fn tokens_that_are_not_the_last_stay_where_they_are() {
    for remembered in [false, true] {
        let (server, store) = far();
        let from = asks(&store, 20, 2);
        if remembered {
            store.take(&store.claim(""));
            assert!(waits(&store.attempt(&from)));
            pollster::block_on(store.backend.evict(&from.key, None, "enough", Call::PATIENT))
                .expect("answers");
        }
        let first = token(store.attempt(&from));
        let to = asks(&store, 3, 1);
        assert_eq!(token(store.transfer(&from, &to)), first + 1);
        assert_eq!(store.release(&to, Leave::Nothing), Released::WasHeld);
        assert_eq!(last(&server), first + 19, "{remembered}");
    }
}

fn nothing_else_gives_tokens_back() {
    let (server, store) = far();
    let mut newest = 0;
    for leave in [Leave::Final, Leave::For(Duration::from_secs(9))] {
        let claim = asks(&store, 10, 2);
        assert_eq!(token(store.attempt(&claim)), newest + 1);
        newest += 10;
        assert_eq!(store.release(&claim, leave), Released::WasHeld);
        assert_eq!(store.release(&claim, Leave::Nothing), Released::Gone);
        assert_eq!(last(&server), newest, "{leave:?}");
    }
    // The last one kept it.
    pollster::block_on(store.backend.evict(&store.claim("").key, None, "enough", Call::PATIENT))
        .expect("answers");
    let evicted = asks(&store, 10, 2);
    assert_eq!(token(store.attempt(&evicted)), newest + 1);
    let next = asks(&store, 3, 1);
    assert!(waits(&store.attempt(&next)));
    pollster::block_on(store.backend.evict(&evicted.key, None, "enough", Call::PATIENT)).expect("answers");
    assert_eq!(token(store.attempt(&next)), newest + 11);
    assert_eq!(store.release(&evicted, Leave::Nothing), Released::Gone);
    assert_eq!(last(&server), newest + 13);
}

fn what_cannot_have_been_used_is_ignored() {
    let (server, store) = far();
    let mut newest = 0;
    for used in [0, 11, u32::MAX] {
        // Once the lock is free afterwards, and once it is handed on.
        for line in [false, true] {
            let claim = asks(&store, 10, used);
            let next = asks(&store, 2, 2);
            assert_eq!(token(store.attempt(&claim)), newest + 1);
            if line {
                assert!(waits(&store.attempt(&next)));
            }
            store.release(&claim, Leave::Nothing);
            newest += 10;
            assert_eq!(token(store.attempt(&next)), newest + 1, "{used} used, {line}");
            store.release(&next, Leave::Nothing);
            newest += 2;
            assert_eq!(last(&server), newest);
        }
    }
    for trace in ["t", "tx", "t-000000005", "t00000000.5"] {
        let claim = asks(&store, 10, 1);
        assert_eq!(token(store.attempt(&claim)), newest + 1);
        newest += 10;
        let mut scripts = Scripts::new(server.port);
        let now = server.cli(&["TIME"]).lines().next().map(|s| format!("{s}000000")).expect("a time");
        scripts.set_clock(now.parse().expect("digits"));
        let said = scripts.run("release", &[HEAD], &[&format!("{:032x}", claim.id.0), trace]);
        assert_eq!(fields(&said)[1], "h");
        assert_eq!(last(&server), newest, "{trace}");
    }
}

fn any_of_its_tokens_evicts() {
    let (server, store) = far();
    let evict = |token: i64| {
        let token = Token::new(*FAR + token);
        pollster::block_on(store.backend.evict(&store.claim("").key, token, "enough", Call::PATIENT))
            .expect("answers")
    };
    let mut newest = 0;
    for which in [1, 4, 10] {
        let [claim, next] = [10, 1].map(|k| asks(&store, k, 1));
        assert_eq!(token(store.attempt(&claim)), newest + 1);
        assert!(waits(&store.attempt(&next)));
        for beside in [0, 11] {
            assert_eq!(evict(newest + beside), Released::Gone);
        }
        assert_eq!(token(store.renew(&claim)), newest + 1);
        assert_eq!(evict(newest + which), Released::WasHeld);
        assert_eq!(store.renew(&claim), gone(Some("enough")));
        assert_eq!(token(store.renew(&next)), newest + 11);
        let broken = store.line().and_then(|line| line.broken).expect("remembered");
        assert_eq!(broken.token.map(|t| t.get() - *FAR), Some(newest + which));
        assert_eq!(store.release(&claim, Leave::Nothing), Released::Gone);
        // One token only: that one and no other.
        for beside in [10, 12] {
            assert_eq!(evict(newest + beside), Released::Gone);
        }
        assert_eq!(evict(newest + 11), Released::WasHeld);
        newest += 11;
        assert_eq!(last(&server), newest);
    }
}

fn a_hold_goes_on_with_the_last_token_used() {
    let (server, store) = far();
    for (used, expected) in [(7, 7), (1, 1), (20, 20), (21, 20), (0, 1)] {
        let newest = last(&server);
        let [from, to, next] = [(20, used), (1, 1), (1, 1)].map(|(k, used)| asks(&store, k, used));
        assert_eq!(token(store.attempt(&from)), newest + 1);
        assert_eq!(token(store.transfer(&from, &to)), newest + expected);
        assert_eq!(token(store.transfer(&from, &to)), newest + expected, "asked again");
        assert_eq!(token(store.renew(&to)), newest + expected);
        assert_eq!(store.line().expect("held").token.map(|t| t.get() - *FAR), Some(newest + expected));
        assert_eq!(last(&server), newest + 20, "it does not go down");
        assert_eq!(store.release(&from, Leave::Nothing), Released::Gone);
        assert!(waits(&store.attempt(&next)));
        assert_eq!(store.release(&to, Leave::Nothing), Released::WasHeld);
        assert_eq!(token(store.renew(&next)), newest + 21);
        assert_eq!(store.release(&next, Leave::Nothing), Released::WasHeld);
    }
    // The claim that goes on asks for several itself.
    let newest = last(&server);
    let [from, to] = [(3, 3), (5, 2)].map(|(k, used)| asks(&store, k, used));
    assert_eq!(token(store.attempt(&from)), newest + 1);
    assert_eq!(token(store.transfer(&from, &to)), newest + 3);
    assert_eq!(last(&server), newest + 7);
    assert_eq!(store.release(&to, Leave::Nothing), Released::WasHeld);
    assert_eq!(last(&server), newest + 4);
}

fn those_behind_are_seen_and_counted() {
    let (_server, store) = far();
    let behind = |claim: &Claim, behind| Claim { cohort: Cohort { behind, ..claim.cohort }, ..claim.clone() };
    let seen = |waiters| {
        let line = store.line().expect("held");
        assert_eq!((line.waiters, line.capacity), (waiters, 1));
        let all = line.holders.iter().chain(&line.waiting);
        all.map(|s| (s.reason.clone(), s.behind)).collect::<Vec<_>>()
    };
    let with = |reason: &str, tokens| Claim { reason: reason.into(), ..asks(&store, tokens, 1) };
    let [a, b] = [with("a\tb", 5), with("", 9)];
    store.attempt(&behind(&a, 3));
    assert_eq!(seen(3), [("a\tb".to_owned(), 3)]);
    assert!(waits(&store.attempt(&b)));
    assert_eq!(seen(4), [("a\tb".to_owned(), 3), (String::new(), 0)]);
    store.renew(&behind(&a, 1));
    store.renew(&behind(&b, 40_000));
    assert_eq!(seen(40_002), [("a\tb".to_owned(), 1), (String::new(), 40_000)]);
    store.renew(&a);
    assert_eq!(seen(40_001), [("a\tb".to_owned(), 0), (String::new(), 40_000)]);
    store.release(&a, Leave::Nothing);
    assert_eq!(seen(40_000), [(String::new(), 40_000)]);
    let c = behind(&with("goes on", 1), 2);
    store.transfer(&b, &c);
    assert_eq!(seen(2), [("goes on".to_owned(), 2)]);
}

fn one_token_is_stored_as_ever() {
    let (server, store) = far();
    let claim = Claim { reason: "why".into(), ..store.claim("") };
    store.attempt(&claim);
    let head = server.cli(&["GET", HEAD]);
    let record = &head[172..];
    let (since, client, leases) = (&record[45..61], &record[77..93], "0003000000000010000000");
    assert_eq!(
        record,
        format!("1hr00000000010000000001{leases}{since}{:016}{client}u\th\t1\tp\twhy", *FAR + 1)
    );
    let end = since.parse::<u64>().expect("digits") + 30_000_000;
    let empty = format!("{:016}9{:015}{:016}", 0, 0, 0);
    let counts = format!("{empty}{:07}{:07}{:016}{:010}0r", 0, 1, 0, 0);
    assert_eq!(&head[..172], format!("11{:016}{:016}{counts}{:032x}{end:016}", *FAR + 1, 0, claim.id.0));
    store.release(&claim, Leave::Nothing);
    assert_eq!(server.cli(&["GET", HEAD]), format!("10{:016}{:016}", *FAR + 1, 0));
}

fn more_tokens_than_there_are_is_refused() {
    let server = Server::start();
    let refused = |store: &Store, claim: &Claim| {
        let error = pollster::block_on(store.backend.attempt_one(claim, Call::PATIENT)).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let holds = store.claim("");
        store.take(&holds);
        let error =
            pollster::block_on(store.backend.transfer(&holds, claim, Call::PATIENT)).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert_eq!(store.release(&holds, Leave::Nothing), Released::WasHeld);
    };
    let store = Store::open(&server.url());
    for tokens in [0, 65_537, u32::MAX] {
        refused(&store, &asks(&store, tokens, 1));
    }
    for tokens in [0, 2] {
        refused(&store, &Claim { kind: Kind::Semaphore, capacity: 3, ..asks(&store, tokens, 1) });
    }
    let plain = Store::open(&server.url().replace("redis:", "redis+setnx:"));
    for tokens in [0, 2] {
        refused(&plain, &asks(&plain, tokens, 1));
    }
    // What the dialect keeps says nothing of those behind.
    plain.take(&Claim { cohort: Cohort { behind: 3, ..Cohort::ALONE }, ..plain.claim("why") });
    assert!(server.cli(&["GET", &format!("tenure:{{{NAME}}}:t")]).ends_with("u\th\t1\tp\twhy"));
    let line = plain.line().expect("held");
    assert_eq!((line.holders[0].behind, line.waiters), (0, 0));
}
