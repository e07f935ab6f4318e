//! Many clients: of one process, of many, of forks; and what outlives them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use tenure::backend::host::faults;
use tenure::backend::{Call, Claim, Cohort, Kind, News, RW_CAPACITY, Standing};
use tenure::{ErrorKind, Released};
use tenure_servers::skip::ignored;

use crate::kit::{Client, Dir, PATIENCE, Role, open, refused, token};

fn waits(client: &Client, claim: &Claim) {
    let answer = client.attempt(claim).expect("attempt");
    assert!(matches!(answer.standing, Standing::Waiting { .. }), "{answer:?}");
}

#[test]
fn twenty_processes_open_a_directory_at_once() {
    for _ in 0..5 {
        let dir = Dir::new();
        let inner = dir.file("new");
        let mut children: Vec<Role> =
            (0..20).map(|_| Role::start("hammer-late", &inner, &["x", "10"])).collect();
        for child in &mut children {
            child.hears("ready");
        }
        for child in &mut children {
            child.tell("go");
        }
        children.into_iter().for_each(Role::ends);
        let (_, grants) =
            crate::roles::witnessed(&std::fs::read(inner.join("witness")).expect("the witness"));
        assert_eq!(grants, 200);
        faults::check(&inner).expect("whole");
    }
}

#[test]
fn two_clients_of_one_process_share_a_slot_and_outlive_each_other() {
    let dir = Dir::new();
    let (a, b) = (open(&dir.0).expect("opens"), open(&dir.0.join(".")).expect("opens by another path"));
    let (x, y) = (a.claim("x"), b.claim("x"));
    a.take(&x);
    waits(&b, &y);
    drop(a);
    // The process lives on, so its slot does, and with it the hold that nobody released.
    assert_eq!(b.lines()[0].waiters, 1);
    let mut other = Role::start("refused-lock", &dir.0, &["x"]);
    assert!(other.child.wait().expect("the child ends").success());
    b.release(&x).expect("release");
    b.wait(&y, None);
    b.release(&y).expect("release");
}

#[test]
fn the_last_client_that_goes_takes_its_holds_along() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    client.take(&client.claim("x"));
    let waiting = client.claim("y");
    client.take(&client.claim("y"));
    waits(&client, &waiting);
    drop(client);
    let client = open(&dir.0).expect("opens again");
    client.take(&client.claim("x"));
    client.take(&client.claim("y"));
}

#[test]
fn closing_and_opening_race_without_losing_the_slot() {
    let dir = Dir::new();
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let (path, barrier) = (dir.0.clone(), barrier.clone());
            std::thread::spawn(move || {
                for round in 0..60 {
                    if round % 8 == 0 {
                        barrier.wait();
                    }
                    let client = open(&path).expect("opens");
                    let claim = client.claim(&format!("own/{n}"));
                    client.take(&claim);
                    let second = client.claim(&format!("own/{n}"));
                    if round % 5 == 0 {
                        waits(&client, &second); // starts the threads
                        client.release(&second).expect("withdrawn");
                    }
                    // A process that had lost its slot's lock would look dead to others, and its hold would be theirs.
                    if round % 20 == n {
                        Role::start("refused-lock", &path, &[&format!("own/{n}")]).ends();
                    }
                    client.release(&claim).expect("release");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread panics");
    }
}

#[test]
fn threads_of_one_process_exclude_each_other() {
    let dir = Dir::new();
    let inside = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (client, inside) = (open(&dir.0).expect("opens"), inside.clone());
            std::thread::spawn(move || {
                let mut last = 0;
                for _ in 0..400 {
                    let claim = client.claim("x");
                    let token = match token(client.attempt(&claim).expect("attempt").standing) {
                        Some(token) => token,
                        None => client.wait(&claim, None),
                    };
                    assert_eq!(inside.fetch_add(1, Relaxed), 0, "not alone inside");
                    assert!(token > last);
                    last = token;
                    inside.fetch_sub(1, Relaxed);
                    client.release(&claim).expect("release");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread panics");
    }
}

#[test]
fn processes_hammer_one_lock_in_order_and_alone() {
    let dir = Dir::new();
    let children: Vec<Role> = (0..4).map(|_| Role::start("hammer", &dir.0, &["x", "1000"])).collect();
    children.into_iter().for_each(Role::ends);
    let (_, grants) = crate::roles::witnessed(&std::fs::read(dir.file("witness")).expect("the witness"));
    assert_eq!(grants, 4000);
}

#[test]
fn a_slot_is_used_again_and_its_dead_owner_stays_dead() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    for _ in 0..30 {
        // The first child's slot is the second one's: its locks must not become the second one's.
        let mut first = Role::start("hold", &dir.0, &["x"]);
        first.hears("held");
        first.kill();
        let mut second = Role::start("hold", &dir.0, &["y"]);
        second.hears("held");
        client
            .release(&{
                let claim = client.claim("x");
                client.take(&claim);
                claim
            })
            .expect("release");
        let line = client.lines().into_iter().find(|l| l.key.name() == "y").expect("held");
        assert_eq!(line.holders.len(), 1);
        second.kill();
    }
}

#[test]
fn a_forked_child_is_refused_and_may_connect_again() {
    let dir = Dir::new();
    Role::start("fork", &dir.0, &[]).ends();
}

#[test]
fn a_death_in_another_pid_namespace_is_noticed() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let user: &[&str] =
        if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let flags: Vec<&str> = user.iter().copied().chain(["--pid", "--fork", "--kill-child"]).collect();
    let works = std::process::Command::new("unshare").args(&flags).arg("true").output();
    if !works.is_ok_and(|out| out.status.success()) {
        return ignored("no pid namespace can be had here");
    }
    let mut other = Role::start_by("unshare", &flags, "hold", &dir.0, &["x"]);
    other.hears("held");
    let claim = client.claim("x");
    waits(&client, &claim);
    other.kill();
    client.wait(&claim, None);
}

#[test]
fn ten_thousand_waiters_of_one_lock_are_granted_in_turn_by_push() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let first = client.claim("x");
    let mut before = client.take(&first);
    // Nobody renews them, and a loaded machine takes its time.
    let claim = || Claim { waiting: PATIENCE * 30, ..client.claim("x") };
    let waiting: Vec<Claim> = (0..10_000).map(|_| claim()).collect();
    for claim in &waiting {
        waits(&client, claim);
    }
    let answers = client.renew(&waiting);
    for (n, answer) in answers.into_iter().enumerate() {
        let standing = answer.expect("renewed").standing;
        assert!(
            matches!(standing, Standing::Waiting { ahead: Some(a), .. } if a as usize == n),
            "{n}: {standing:?}"
        );
    }
    client.release(&first).expect("release");
    for claim in &waiting[..500] {
        let token = client.wait(claim, None);
        assert!(token > before);
        before = token;
        client.release(claim).expect("release");
    }
    for claim in waiting[501..].iter().rev() {
        assert_eq!(client.release(claim).expect("withdrawn"), Released::WasWaiting);
    }
    assert_eq!(client.release(&waiting[500]).expect("release"), Released::WasHeld);
    assert!(client.lines().is_empty());
    faults::check(&dir.0).expect("whole");
}

#[test]
fn readers_and_permits_pass_between_processes() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let mut reader = client.claim("rw");
    (reader.kind, reader.capacity) = (Kind::ReadWrite, RW_CAPACITY);
    let mut child = Role::start("write", &dir.0, &["rw"]);
    child.hears("held");
    waits(&client, &reader);
    let mut second = Role::start("read", &dir.0, &["rw"]);
    second.hears("waiting");
    child.kill();
    client.wait(&reader, None);
    second.hears("held");
    let line = client.lines().remove(0);
    assert_eq!((line.holders.len(), line.waiters), (2, 0), "{line:?}");
    second.kill();
    client.release(&reader).expect("release");
}

#[test]
fn an_eviction_reaches_a_holder_in_another_process_with_its_reason() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let mut child = Role::start("evicted", &dir.0, &["x"]);
    child.hears("held");
    assert_eq!(client.evict("x", "power cut at noon"), Released::WasHeld);
    child.hears("gone: power cut at noon");
    child.ends();
}

#[test]
fn watchers_hear_of_changes_by_other_processes() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    client.backend.watch(&tenure::backend::Watched::Everything);
    let changed = |what: &str| {
        let news = client.news.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nobody told of {what}"));
        assert!(matches!(news, News::Changed), "{news:?}");
    };
    changed("the beginning");
    let mut child = Role::start("hold", &dir.0, &["x"]);
    child.hears("held");
    changed("a hold");
    std::thread::sleep(Duration::from_millis(50));
    while client.news.try_recv().is_ok() {}
    child.ends();
    // A process that ends leaves a change when somebody notices: here, whoever wants the lock.
    client.take(&client.claim("x"));
    changed("another hold");
    client.backend.watch(&tenure::backend::Watched::Nothing);
    while client.news.try_recv().is_ok() {}
    // One may have been on its way, for however long; a watch that goes on tells of each.
    let told = ["y", "z", "a", "b"].map(|name| {
        client.take(&client.claim(name));
        client.news.recv_timeout(Duration::from_millis(100)).is_ok()
    });
    assert!(told.iter().filter(|told| **told).count() <= 1, "news after the watch ended: {told:?}");
}

#[test]
fn a_claim_of_several_tokens_is_refused() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let holds = client.claim("x");
    let more = Claim { cohort: Cohort { tokens: 2, ..Cohort::ALONE }, ..client.claim("x") };
    refused(client.attempt(&more), ErrorKind::Config, "2 tokens");
    client.take(&holds);
    refused(
        pollster::block_on(client.backend.transfer(&holds, &more, Call::PATIENT)),
        ErrorKind::Config,
        "2 tokens",
    );
    assert_eq!(client.release(&holds).expect("answers"), Released::WasHeld);
}

#[test]
fn a_closed_client_is_refused_and_others_go_on() {
    let dir = Dir::new();
    let (a, b) = (open(&dir.0).expect("opens"), open(&dir.0).expect("opens"));
    pollster::block_on(a.backend.close());
    refused(a.attempt(&a.claim("x")), ErrorKind::Config, "was closed");
    b.take(&b.claim("x"));
}

#[test]
fn a_second_process_that_is_stopped_inside_is_named_and_blocks_its_shard_alone() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    // The first one's lines are rescued to the shard's other area; then there is none left.
    let shard = |name: &str| faults::shard(&dir.0, name).expect("a shard");
    let beside =
        (0..).map(|n| format!("beside/{n}")).find(|n| shard(&format!("test/{n}")) == shard("test/x"));
    let beside = beside.expect("a name in the same shard");
    let mut first = Role::start("stop", &dir.0, &[&beside]);
    first.hears("held");
    first.is_stopped();
    let claim = client.claim("x");
    client.take(&claim);
    client.release(&claim).expect("release");
    let mut child = Role::start("stop", &dir.0, &["x"]);
    child.hears("held");
    let pid = rustix::process::Pid::from_child(&child.child);
    child.is_stopped();
    // Its own shard: an error that names it. All the other shards: as ever.
    refused(
        client.attempt(&client.claim("x")),
        ErrorKind::Unavailable,
        &format!("process {}", child.child.id()),
    );
    let mut others = 0;
    for n in 0..20 {
        let claim = client.claim(&format!("other/{n}"));
        if shard(claim.key.full()) != shard("test/x") {
            client.take(&claim);
            others += 1;
        }
    }
    assert!(others > 10);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("goes on");
    child.hears("released");
    client.take(&client.claim("x"));
    child.ends();
    // The first one never went on: it ends, and what it held with it.
    first.kill();
    client.take(&client.claim(&beside));
}
