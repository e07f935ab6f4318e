//! The server's clock is set back: by an operator, or by a failover to a machine whose clock is behind.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tenure::backend::{Claim, Kind, Lease, Leave, RW_CAPACITY, Standing};

use crate::contract::{Store, held};
use crate::people::{hex, now_us};
use crate::raw::{Raw, Said};
use crate::scripts::{Scripts, fields};
use crate::server::{self, Server};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let no_cc = server::program("cc").is_none();
    let real = [
        trial("clock::s5_no_answer_tells_of_more_than_the_lease", no_answer_tells_of_more_than_the_lease),
        trial("clock::l1_a_dead_holder_blocks_for_one_lease", a_dead_holder_blocks_for_one_lease),
        trial("clock::l1_a_renewal_counts_from_the_clock_as_it_is", a_renewal_counts_from_the_clock_as_it_is),
        trial("clock::l1_what_is_kept_is_kept_no_longer", what_is_kept_is_kept_no_longer),
        trial("clock::l4_keys_go_in_time", keys_go_in_time),
    ];
    let real = real.into_iter().map(|trial| trial.with_ignored_flag(no_cc));
    let scripts = [
        trial("clock::every_verb_of_a_mutex", || every_verb(Kind::Mutex)),
        trial("clock::every_verb_of_a_read_write_lock", || every_verb(Kind::ReadWrite)),
        trial("clock::every_verb_of_a_semaphore", || every_verb(Kind::Semaphore)),
        trial("clock::l1_a_dead_line_goes_after_one_lease", a_dead_line_goes_after_one_lease),
    ];
    real.chain(scripts).collect()
}

const TTL: Duration = Duration::from_secs(2);
const BACK: i64 = -600;
/// Clearly less than the step, on a busy machine too.
const SOON: Duration = Duration::from_secs(40);

/// On each form of the store, with a server whose clock can be set.
fn on_both(test: fn(&Server, &Store)) {
    for scheme in ["redis:", "redis+setnx:"] {
        let server = Server::with_clock();
        test(&server, &Store::open(&server.url().replace("redis:", scheme)));
    }
}

fn claim(store: &Store) -> Claim {
    Claim { ttl: TTL, ..store.claim("") }
}

fn at_most(standing: Standing, most: Duration) {
    let grant = held(standing.clone()).unwrap_or_else(|| panic!("{standing:?}"));
    match grant.lease {
        Lease::For(lease) => assert!(lease <= most, "{lease:?} of {most:?}"),
        Lease::Unbounded => panic!("unbounded"),
    }
}

/// A holder that renews after the step, and dies. Nobody has asked for its lock meanwhile.
fn a_renewal_counts_from_the_clock_as_it_is() {
    on_both(|server, store| {
        let first = claim(store);
        store.take(&first);
        server.set_clock(BACK);
        at_most(store.renew(&first), TTL);
        server.set_clock(BACK + 60);
        assert_eq!(store.line(), None, "its lease has ended");
    });
}

fn no_answer_tells_of_more_than_the_lease() {
    on_both(|server, store| {
        let (first, second) = (claim(store), claim(store));
        store.take(&first);
        server.set_clock(BACK);
        let shown = || store.line().expect("held").holders[0].expires_in.expect("a lease");
        assert!(shown() <= TTL, "{:?}", shown());
        at_most(store.attempt(&first), TTL);
        server.set_clock(2 * BACK);
        at_most(store.renew(&first), TTL);
        server.set_clock(3 * BACK);
        at_most(store.transfer(&first, &second), TTL);
        server.set_clock(4 * BACK);
        at_most(store.transfer(&first, &second), TTL);
        assert!(shown() <= TTL, "{:?}", shown());
        let since = store.line().expect("held").holders[0].since_us;
        let now = now_us() / 1_000_000 + 4 * BACK;
        assert!(
            since / 1_000_000 <= now.cast_unsigned() + 1,
            "it holds since {since}, and the server's clock shows {now} s"
        );
    });
}

/// Asks until the lock is granted.
fn granted_soon(store: &Store, claim: &Claim) {
    let end = Instant::now() + SOON;
    loop {
        let standing = store.attempt(claim);
        if held(standing.clone()).is_some() {
            return;
        }
        assert!(Instant::now() < end, "still taken: {standing:?}, {:?}", store.line());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn a_dead_holder_blocks_for_one_lease() {
    on_both(|server, store| {
        store.take(&claim(store));
        server.set_clock(BACK);
        granted_soon(store, &claim(store));
        // And one that was renewed since.
        let next = store.claim("");
        server.set_clock(2 * BACK);
        let stands = Claim { stand: true, ..claim(store) };
        assert!(held(store.attempt(&next)).is_none());
        granted_soon(store, &stands);
    });
}

fn what_is_kept_is_kept_no_longer() {
    on_both(|server, store| {
        let first = Claim { ttl: Duration::from_secs(30), ..store.claim("") };
        store.take(&first);
        store.release(&first, Leave::For(TTL));
        server.set_clock(BACK);
        granted_soon(store, &claim(store));
        // One that is kept for longer than its lease is kept for as long as it was asked for.
        let second = Claim { ttl: TTL, ..store.claim("") };
        let mut other = claim(store);
        granted_soon(store, &second);
        store.release(&second, Leave::For(Duration::from_secs(3600)));
        for _ in 0..3 {
            std::thread::sleep(TTL);
            other = Claim { birth: store.claim("").birth, ..other };
            assert!(held(store.attempt(&other)).is_none(), "it is kept");
        }
    });
}

fn keys_go_in_time() {
    on_both(|server, store| {
        let (first, waiter) = (claim(store), Claim { stand: true, ..claim(store) });
        store.take(&first);
        assert!(held(store.attempt(&waiter)).is_none());
        server.set_clock(BACK);
        store.renew(&first);
        assert!(held(store.attempt(&waiter)).is_none());
        for key in server.keys() {
            let left: i64 = server.cli(&["PTTL", &key]).parse().expect("digits");
            // The head of a line lives ten minutes longer than its leases and marks, and its parts a minute.
            let most = if key.ends_with("}:l") || key.ends_with("}:t") { 675_000 } else { 75_000 };
            assert!((1..=most).contains(&left), "{key} lives for {left} ms yet");
        }
    });
}

const KEY: &str = "tenure:{shop/a}:l";

/// A line of which the clock is a key, in the future of the server's own: nothing of it expires meanwhile.
struct Line {
    scripts: Scripts,
    now: u64,
    kind: Kind,
    _server: Server,
}

const LEASE: u64 = 5_000_000;
const PATIENCE: u64 = 3_000_000;

impl Line {
    fn new(kind: Kind) -> Line {
        let server = Server::start();
        let scripts = Scripts::new(server.port);
        let now = Raw::new(server.port).ask(&["TIME"]).list()[0].number().cast_unsigned() * 1_000_000;
        let mut line = Line { scripts, now, kind, _server: server };
        line.step(4_000_000_000);
        line
    }

    fn step(&mut self, by: i64) {
        self.now = self.now.saturating_add_signed(by);
        self.scripts.set_clock(self.now);
    }

    fn terms(&self, weight: u32) -> String {
        let capacity = match self.kind {
            Kind::Mutex => 1,
            Kind::ReadWrite => RW_CAPACITY,
            _ => 2,
        };
        format!("{weight:010}{capacity:010}{LEASE:011}{PATIENCE:011}")
    }

    fn attempt(&mut self, id: u128) -> Vec<String> {
        let asked = format!("{}00000000000000c1note", self.terms(1));
        let how = format!("{}1{:016}", self.kind as u8, self.now);
        fields(&self.scripts.run("attempt", &[KEY], &[&hex(id), &asked, &how]))
    }

    fn renew(&mut self, id: u128) -> Vec<String> {
        fields(&self.scripts.run("renew", &[KEY], &[&hex(id), "note"]).list()[0])
    }

    /// The end of a lease that an answer tells, counted from now.
    fn left(&self, answer: &[String]) -> u64 {
        let at = if answer[1] == "H" { 4 } else { 3 };
        answer[at].parse::<u64>().expect("digits").saturating_sub(self.now)
    }
}

/// Whatever asks after the step, no end is farther away than a lease, and each of them is stored like that.
fn every_verb(kind: Kind) {
    let mut line = Line::new(kind);
    for id in 1..=4 {
        line.attempt(id);
        line.step(1_000);
    }
    for round in 1..=3 {
        line.step(-100_000_000);
        match round {
            1 => drop(line.renew(1)),
            2 => drop(line.attempt(4)),
            _ => drop(line.scripts.run("release", &[KEY], &[&hex(9), ""])),
        }
        for id in 1..=4 {
            let answer = if round == 2 { line.attempt(id) } else { line.renew(id) };
            let most = if answer[1] == "H" { LEASE } else { PATIENCE };
            assert!(["H", "W"].contains(&answer[1].as_str()), "{round} {id}: {answer:?}");
            assert!(line.left(&answer) <= most, "{round} {id}: {answer:?} at {}", line.now);
        }
        for set in ["tenure:{shop/a}:d", "tenure:{shop/a}:e"] {
            let ends = line.scripts.raw.ask(&["ZRANGE", set, "0", "-1", "WITHSCORES"]);
            for end in ends.list().iter().skip(1).step_by(2) {
                assert!(end.number().cast_unsigned() <= line.now + LEASE, "{set}: {end:?} at {}", line.now);
            }
        }
    }
}

/// A holder and a hundred waiters, all dead when the clock goes back, and one that comes after.
fn a_dead_line_goes_after_one_lease() {
    let mut line = Line::new(Kind::Mutex);
    for id in 1..=101 {
        line.attempt(id);
    }
    line.step(-600_000_000);
    let new = 1000;
    line.attempt(new);
    let began = line.now;
    loop {
        line.step(500_000);
        let answer = line.renew(new);
        if answer[1] == "H" {
            break;
        }
        assert!(line.now <= began + LEASE + 1_000_000, "not granted: {answer:?}");
    }
}
