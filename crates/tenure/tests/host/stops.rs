//! SIGSTOP: at every store of every verb, in the middle of a rescue, and at random. Nobody waits for the stopped.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tenure::backend::Standing;
use tenure::backend::host::faults;

use crate::kit::{Client, Dir, Role, open, token};

fn signal(child: &Role, signal: Signal) {
    kill_process(Pid::from_child(&child.child), signal).expect("it lives");
}

/// Whether a lock is free; it stays as it was. Fails if nobody answers.
fn probe(client: &Client, name: &str) -> bool {
    let mut claim = client.claim(name);
    claim.stand = false;
    match client.attempt(&claim).expect("nobody waits for a stopped process").standing {
        Standing::Busy => false,
        standing => {
            assert!(token(standing).is_some());
            client.release(&claim).expect("release");
            true
        }
    }
}

/// Stops children at store `first`, `first + step` ... of the script, uses what they use meanwhile, lets them go on, and
/// sees that their verbs came out right. Until one gets through. The last store and the number of rescues.
fn at_every_store(dir: &Path, first: u64, step: u64) -> (u64, u64) {
    let client = open(dir).expect("opens");
    let long = "long/".repeat(30);
    let mut n = first;
    loop {
        let mut child = Role::start("sleepy-script", dir, &[&n.to_string()]);
        child.hears("ready");
        let shared = client.claim("shared");
        assert!(matches!(client.attempt(&shared).expect("attempt").standing, Standing::Waiting { .. }));
        child.tell("go");
        let stopped = child.is_stopped_or_gone();
        if stopped {
            for name in ["line", long.trim_end_matches('/'), "kept", "other"] {
                probe(&client, name);
            }
            let asked = client.attempt(&shared).expect("nobody waits for a stopped process").standing;
            assert!(token(asked.clone()).is_some() || matches!(asked, Standing::Waiting { .. }), "{asked:?}");
            faults::check(dir).expect("whole while it sleeps");
            signal(&child, Signal::CONT);
        }
        let done = child.child.wait().expect("the child ends");
        assert!(done.success(), "stopped at store {n}, it came out wrong");
        if token(client.attempt(&shared).expect("attempt").standing).is_none() {
            client.wait(&shared, Some(Duration::from_millis(100)));
        }
        client.release(&shared).expect("release");
        faults::check(dir).expect("whole");
        let left: Vec<_> = client.lines().into_iter().filter(|l| l.key.name() != "kept").collect();
        let alive = left.iter().any(|l| !["line", long.trim_end_matches('/')].contains(&l.key.name()));
        assert!(!alive, "left behind after a stop at store {n}: {left:?}");
        for line in &left {
            client.take(&client.claim(line.key.name())); // its process is gone
            client.evict(line.key.name(), "for the next round");
        }
        if !stopped {
            return (n, faults::rescues(dir).expect("rescues"));
        }
        n += step;
    }
}

#[test]
fn at_every_store_of_every_verb_even() {
    let dir = Dir::new();
    let (last, rescues) = at_every_store(&dir.0, 0, 2);
    assert!(last > 400, "the script has {last} stores only");
    assert!(rescues > 150, "only {rescues} rescues");
}

#[test]
fn at_every_store_of_every_verb_odd() {
    let dir = Dir::new();
    let (last, rescues) = at_every_store(&dir.0, 1, 2);
    assert!(last > 400 && rescues > 150, "{last} stores, {rescues} rescues");
}

#[test]
fn a_rescuer_dies_at_every_store() {
    let mut n = 0;
    loop {
        let dir = Dir::in_memory();
        let mut sleeper = Role::start("stop", &dir.0, &["x"]);
        sleeper.hears("held");
        sleeper.is_stopped();
        let mut rescuer = Role::start("rescue", &dir.0, &["x", &n.to_string()]);
        let done = rescuer.child.wait().expect("the child ends").success();
        let client = open(&dir.0).expect("opens");
        probe(&client, "x");
        faults::check(&dir.0).expect("whole");
        assert_eq!(faults::rescues(&dir.0).expect("rescues"), 1);
        signal(&sleeper, Signal::CONT);
        sleeper.hears("released");
        sleeper.ends();
        assert!(probe(&client, "x"), "it was released");
        assert!(client.lines().is_empty(), "{:?}", client.lines());
        faults::check(&dir.0).expect("whole");
        if done {
            assert!(n > 5, "a rescue has {n} stores only");
            return;
        }
        n += 1;
    }
}

/// Others go on, and let the shard grow further, wherever a process stops that makes it grow.
#[test]
fn at_every_store_of_growing_a_shard() {
    let mut n = 0;
    loop {
        let dir = Dir::in_memory();
        let client = open(&dir.0).expect("opens");
        let mut child = Role::start("sleepy-grow", &dir.0, &[&n.to_string()]);
        let stopped = child.is_stopped_or_gone();
        let ours: Vec<_> = (0..100).map(|_| client.claim("line")).collect();
        if stopped {
            for claim in &ours {
                client.attempt(claim).expect("nobody waits for a stopped process");
            }
            faults::check(&dir.0).expect("whole while it sleeps");
            signal(&child, Signal::CONT);
        }
        assert!(
            child.child.wait().expect("the child ends").success(),
            "stopped at store {n}, it came out wrong"
        );
        for claim in ours.iter().filter(|_| stopped) {
            client.release(claim).expect("release");
        }
        client.take(&client.claim("line"));
        faults::check(&dir.0).expect("whole");
        if !stopped {
            assert!(n > 80, "growing a shard has {n} stores only");
            return;
        }
        n += 3;
    }
}

/// Wherever a process stops that raises the ceiling of tokens for all, others raise it themselves; and no token is given
/// above what is on disk, also when it goes on.
#[test]
fn a_stopped_raise_of_the_ceiling_delays_nobody() {
    for there in [false, true] {
        let mut n = 0;
        loop {
            let dir = Dir::new();
            if there {
                faults::raise_floor(&dir.0, 1).expect("raised");
            }
            faults::check(&dir.0).expect("made");
            let client = open(&dir.0).expect("opens");
            let mut child = Role::start("raise", &dir.0, &[&n.to_string()]);
            child.hears("ready");
            child.tell("go");
            let stopped = child.is_stopped_or_gone();
            let ours = client.take(&client.claim("ours"));
            assert!(dir.floor() > ours, "stopped at store {n}: a token above the floor");
            if stopped {
                signal(&child, Signal::CONT);
            }
            let told = child.says();
            assert!(child.child.wait().expect("the child ends").success(), "stopped at store {n}");
            let [(_, theirs)] = told[..] else { panic!("stopped at store {n}: {told:?}") };
            assert!(dir.floor() > theirs, "stopped at store {n}: {theirs} above the floor");
            faults::check(&dir.0).expect("whole");
            if !stopped {
                assert!(n > 20, "the first grant of a store has {n} stores only");
                break;
            }
            n += 1;
        }
    }
}

/// Processes that hammer one lock, stopped at random; each checks by a witness that it is alone inside.
#[test]
fn at_random_while_many_hammer_one_lock() {
    const STOPS: u32 = 300;
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}"); // shown if it fails
    let mut dice = seed;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let mut children: Vec<Role> = (0..3).map(|_| Role::start("hammer", &dir.0, &["hot", "0"])).collect();
    // And until the children, which take a while to begin, have done enough under stops.
    let grants = || {
        std::fs::read(dir.file("witness")).map_or(0, |bytes| match bytes.len() {
            16 => crate::roles::witnessed(&bytes).1,
            _ => 0,
        })
    };
    let until = Instant::now() + Duration::from_secs(30);
    let mut stops = 0;
    while stops < STOPS || (grants() <= u64::from(STOPS) && Instant::now() < until) {
        stops += 1;
        std::thread::sleep(Duration::from_micros(200 + roll(3_000)));
        let victim = usize::try_from(roll(3)).expect("below three");
        signal(&children[victim], Signal::STOP);
        probe(&client, "hot");
        std::thread::sleep(Duration::from_micros(roll(4_000)));
        probe(&client, "hot");
        signal(&children[victim], Signal::CONT);
        if let Some(status) = children[victim].child.try_wait().expect("a child") {
            panic!("a child ended by itself: {status}");
        }
    }
    for child in &mut children {
        child.kill();
    }
    let witness = std::fs::read(dir.file("witness")).expect("the witness");
    let (seen, grants) = crate::roles::witnessed(&witness);
    assert!(client.take(&client.claim("hot")) > seen);
    assert!(grants > u64::from(STOPS), "only {grants} grants");
    faults::check(&dir.0).expect("whole");
}
