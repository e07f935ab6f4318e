//! SIGKILL: at every store of every verb, and at random.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tenure::Released;
use tenure::backend::host::faults;
use tenure::backend::{Anchor, Call, Claim, Leave, Standing};

use crate::kit::{Client, Dir, Role, open, token};

/// The verbs that a child runs after it was told to die at a certain store. Each is there for a path of its own.
pub(crate) fn script(client: &Client, shared: &Claim) -> Vec<(String, i64)> {
    let mut tokens = Vec::new();
    let mut take = |client: &Client, claim: &Claim| {
        let token = client.take(claim);
        tokens.push((claim.key.name().to_owned(), token));
    };
    // A long name, note and reason: text in chained cells.
    let mut long = client.claim("long/".repeat(30).trim_end_matches('/'));
    long.reason = "why ".repeat(60).into();
    take(client, &long);
    long.reason = "another reason, which replaces the first".into();
    for answer in client.renew(std::slice::from_ref(&long)) {
        assert!(token(answer.expect("renewed").standing).is_some());
    }
    // A line of our own: the second waits, the third is withdrawn with a mark, the release grants.
    let line: Vec<Claim> = (0..3).map(|_| client.claim("line")).collect();
    take(client, &line[0]);
    for claim in &line[1..] {
        assert!(matches!(client.attempt(claim).expect("attempt").standing, Standing::Waiting { .. }));
    }
    let marked = pollster::block_on(client.backend.release(&line[2], Leave::Final, Call::PATIENT));
    assert_eq!(marked.expect("withdrawn"), Released::WasWaiting);
    client.release(&line[0]).expect("release");
    client.evict("line", "by hand");
    // A hold that outlives its process, for a moment.
    let mut kept = client.claim("kept");
    kept.anchor = Anchor::Time;
    kept.ttl = Duration::from_millis(100);
    client.attempt(&kept).expect("attempt");
    let leave = Leave::For(Duration::from_millis(1));
    pollster::block_on(client.backend.release(&kept, leave, Call::PATIENT)).expect("release");
    // A hold that goes on without its process, for a moment, and then with it again.
    let held = client.claim(&format!("moved/{}", std::process::id()));
    client.take(&held);
    let mut alone = Claim { anchor: Anchor::Time, ..client.claim(held.key.name()) };
    (alone.ttl, alone.reason) = (Duration::from_millis(100), "why ".repeat(60).into());
    let back = client.claim(held.key.name());
    for (from, to) in [(&held, &alone), (&alone, &back)] {
        let answer = pollster::block_on(client.backend.transfer(from, to, Call::PATIENT)).expect("transfer");
        // Stopped for longer than that moment, it has lost it.
        if matches!(answer.standing, Standing::Gone { .. }) {
            break;
        }
    }
    client.release(&back).expect("release");
    // What another process waits for: its hint and its bell.
    client.release(shared).expect("release");
    tokens
}

/// What survives of one lock's tokens from child to child.
#[derive(Default)]
struct Highest(HashMap<String, i64>);

impl Highest {
    fn sees(&mut self, name: &str, token: i64) {
        let before = self.0.insert(name.to_owned(), token).unwrap_or(0);
        assert!(token > before, "{name}: {token} after {before}");
    }
}

/// Locks that may outlive their process for a moment.
fn passing(name: &str) -> bool {
    name == "kept" || name.starts_with("moved/")
}

/// Kills children at store `first`, `first + step` ... of the script until one gets through.
fn at_every_store(dir: &Path, first: u64, step: u64) -> u64 {
    let client = open(dir).expect("opens");
    let mut highest = Highest::default();
    let mut n = first;
    loop {
        let mut child = Role::start("script", dir, &[&n.to_string()]);
        child.hears("ready");
        let shared = client.claim("shared");
        assert!(matches!(client.attempt(&shared).expect("attempt").standing, Standing::Waiting { .. }));
        child.tell("go");
        // Granted by a push, whether the child released it or died; and asked for only if its granter died on the way.
        highest.sees("shared", client.wait(&shared, None));
        let done = child.child.wait().expect("the child ends").success();
        client.release(&shared).expect("release");
        faults::check(dir).expect("whole");
        for (name, token) in child.says() {
            highest.sees(&name, token);
        }
        for name in ["line", "long/".repeat(30).trim_end_matches('/')] {
            let claim = client.claim(name);
            highest.sees(name, client.take(&claim));
            assert_eq!(client.release(&claim).expect("release"), Released::WasHeld);
        }
        let left: Vec<_> = client.lines().into_iter().filter(|l| !passing(l.key.name())).collect();
        assert!(left.is_empty(), "left behind after a death at store {n}: {left:?}");
        if done {
            return n;
        }
        n += step;
    }
}

#[test]
fn at_every_store_of_every_verb_even() {
    let dir = Dir::new();
    let last = at_every_store(&dir.0, 0, 2);
    assert!(last > 400, "the script has {last} stores only");
}

#[test]
fn at_every_store_of_every_verb_odd() {
    let dir = Dir::new();
    assert!(at_every_store(&dir.0, 1, 2) > 400);
}

#[test]
fn at_every_store_of_making_a_store() {
    let mut n = 0;
    loop {
        let dir = Dir::in_memory();
        let mut child = Role::start("make", &dir.0, &[&n.to_string()]);
        let done = child.child.wait().expect("the child ends").success();
        let client = open(&dir.0).expect("opens after a death");
        let claim = client.claim("x");
        client.take(&claim);
        client.release(&claim).expect("release");
        faults::check(&dir.0).expect("whole");
        assert!(!dir.file("store.new").exists(), "the remains of an unfinished store");
        if done {
            assert!(n > 60, "making a store has {n} stores only");
            return;
        }
        n += 1;
    }
}

#[test]
fn at_every_store_of_removing_a_dead_process() {
    let dir = Dir::new();
    let mut n = 0;
    loop {
        let mut dead = Role::start("many", &dir.0, &[]);
        dead.hears("ready");
        let mut reaper = Role::start("reap", &dir.0, &[&n.to_string()]);
        reaper.hears("ready");
        dead.kill();
        reaper.tell("go");
        let done = reaper.child.wait().expect("the child ends").success();
        let client = open(&dir.0).expect("opens");
        for name in MANY {
            let claim = client.claim(name);
            client.take(&claim);
            client.release(&claim).expect("release");
        }
        assert!(client.lines().is_empty(), "{:?}", client.lines());
        faults::check(&dir.0).expect("whole");
        if done {
            assert!(n > 40, "removing a dead process has {n} stores only");
            return;
        }
        n += 1;
    }
}

#[test]
fn at_every_store_of_growing_a_shard() {
    let mut n = 0;
    loop {
        let dir = Dir::in_memory();
        // Mapped the file before it grew.
        let client = open(&dir.0).expect("opens");
        let mut child = Role::start("grow", &dir.0, &[&n.to_string()]);
        let done = child.child.wait().expect("the child ends").success();
        let claim = client.claim("line");
        client.take(&claim);
        faults::check(&dir.0).expect("whole");
        // And grows further from wherever the dead process left it.
        let more: Vec<_> = (0..100).map(|_| client.claim("line")).collect();
        for waiting in &more {
            client.attempt(waiting).expect("room");
        }
        faults::check(&dir.0).expect("whole");
        for waiting in more.iter().chain([&claim]) {
            client.release(waiting).expect("release");
        }
        assert!(client.lines().is_empty(), "{:?}", client.lines());
        if done {
            assert!(n > 80, "growing a shard has {n} stores only");
            return;
        }
        n += 1;
    }
}

/// What a process holds that dies before others remove it.
pub(crate) const MANY: &[&str] = &["a", "b", "c"];

/// Processes that hammer one lock, killed at random; each checks by a witness of its own that it is alone inside and
/// that its token is the highest.
#[test]
fn at_random_while_many_hammer_one_lock() {
    const KILLS: u32 = 220;
    let dir = Dir::new();
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}"); // shown if it fails
    let mut dice = seed;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let start = || Role::start("hammer", &dir.0, &["hot", "0"]);
    let mut children: Vec<Role> = (0..4).map(|_| start()).collect();
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_micros(500 + roll(12_000)));
        let victim = usize::try_from(roll(4)).expect("below four");
        let child = &mut children[victim];
        if let Some(status) = child.child.try_wait().expect("a child") {
            panic!("a child ended by itself: {status}");
        }
        child.kill();
        children[victim] = start();
    }
    for mut child in children {
        child.kill();
    }
    let client = open(&dir.0).expect("opens");
    let claim = client.claim("hot");
    let last = client.take(&claim);
    let witness = std::fs::read(dir.file("witness")).expect("the witness");
    let (seen, grants) = crate::roles::witnessed(&witness);
    assert!(last > seen, "token {last} after {seen}");
    assert!(grants > u64::from(KILLS), "only {grants} grants");
    faults::check(&dir.0).expect("whole");
}
