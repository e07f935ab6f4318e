//! What child processes do. A child is this binary again, running the one test below.

use std::path::{Path, PathBuf};

use tenure::ErrorKind;
use tenure::backend::host::faults;
use tenure::backend::{Kind, News, RW_CAPACITY, Standing};

use crate::compose;
use crate::kit::{PATIENCE, Role, open, refused, token};

/// The entry of child processes. Run as a test, it checks that children play their roles.
#[test]
fn child() {
    let Ok(role) = std::env::var("TENURE_TEST_ROLE") else {
        let mut child = Role::start("greet", "/".as_ref(), &["hello"]);
        child.hears("hello");
        return child.ends();
    };
    let dir = PathBuf::from(std::env::var("TENURE_TEST_DIR").expect("a directory"));
    let args = std::env::var("TENURE_TEST_ARGS").expect("arguments");
    let args: Vec<&str> = args.split('\n').filter(|a| !a.is_empty()).collect();
    match role.as_str() {
        "greet" => say(args[0]),
        "script" => script(&dir, args[0].parse().expect("a number"), faults::kill_after),
        "sleepy-script" => script(&dir, args[0].parse().expect("a number"), faults::stop_after),
        "rescue" => rescue(&dir, args[0], args[1].parse().expect("a number")),
        "grow" => grow(&dir, args[0].parse().expect("a number"), faults::kill_after),
        "sleepy-grow" => grow(&dir, args[0].parse().expect("a number"), faults::stop_after),
        "stop" => stop(&dir, args[0]),
        "raise" => raise(&dir, args[0].parse().expect("a number")),
        "make" => make(&dir, args[0].parse().expect("a number")),
        "many" => many(&dir),
        "reap" => reap(&dir, args[0].parse().expect("a number")),
        "hammer" => hammer(&dir, args[0], args[1].parse().expect("a number")),
        "refused" => refused(used(&dir), kind(args[0]), args[1]),
        "denied" => crate::denied::denied(&dir, &args),
        "looks" => looks(&dir, &args),
        "narrow" => narrow(&dir),
        "squat" => squat(&dir),
        "limited" => limited(&dir, args[0].parse().expect("a number")),
        "starved" => starved(&dir),
        "limited-user" => limited_user(&dir, args[0].parse().expect("a number")),
        "fill" => fill(&dir),
        "hammer-late" => hammer_late(&dir, args[0], args[1].parse().expect("a number")),
        "refused-lock" => refused_lock(&dir, args[0]),
        "fork" => fork(&dir),
        "detach" => compose::detach(&dir),
        "run-for-ever" => compose::run_for_ever(&dir),
        "fork-owner" => compose::fork_owner(&dir),
        "evicted" => evicted(&dir, args[0]),
        "read" => hold(&dir, args[0], Some(1)),
        "write" => hold(&dir, args[0], Some(RW_CAPACITY)),
        "hold" => hold(&dir, args[0], None),
        other => panic!("no role {other}"),
    }
}

pub(crate) fn say(word: &str) {
    use std::io::Write;
    let mut out = std::io::stdout();
    writeln!(out, "{word}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Says that it is ready, and waits for the parent's word.
fn say_ready_and_wait() {
    say("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).expect("the parent speaks");
}

/// Takes a lock, says so, and keeps it until it is killed or its input ends.
fn hold(dir: &Path, name: &str, share: Option<u32>) {
    let client = open(dir).expect("opens");
    let mut claim = client.claim(name);
    if let Some(weight) = share {
        (claim.kind, claim.weight, claim.capacity) = (Kind::ReadWrite, weight, RW_CAPACITY);
    }
    if token(client.attempt(&claim).expect("attempt").standing).is_none() {
        say("waiting");
        client.wait(&claim, None);
    }
    say("held");
    let mut rest = String::new();
    let _ = std::io::Read::read_to_string(&mut std::io::stdin(), &mut rest);
}

/// Holds the lock "shared"; told to go, runs the script and dies or stops at its store number `n`.
fn script(dir: &Path, n: u64, fault: fn(u64)) {
    let client = open(dir).expect("opens");
    let shared = client.claim("shared");
    // The parent's last claim may still be on its way out.
    if token(client.attempt(&shared).expect("attempt").standing).is_none() {
        client.wait(&shared, None);
    }
    say_ready_and_wait();
    fault(n);
    let tokens = crate::kills::script(&client, &shared);
    faults::kill_after(u64::MAX);
    for (name, token) in tokens {
        say(&format!("token {token} {name}"));
    }
    // As a process ends that never drops its locks.
    std::process::exit(0);
}

/// Wants a lock of a shard in which somebody is stopped, and dies at store number `n` of getting it.
fn rescue(dir: &Path, name: &str, n: u64) {
    let client = open(dir).expect("opens");
    faults::kill_after(n);
    let mut claim = client.claim(name);
    claim.stand = false;
    client.attempt(&claim).expect("an answer");
    faults::kill_after(u64::MAX);
    std::process::exit(0);
}

/// Opens a store and dies at store number `n` on the way.
fn make(dir: &Path, n: u64) {
    faults::kill_after(n);
    let client = open(dir).expect("opens");
    client.take(&client.claim("x"));
    faults::kill_after(u64::MAX);
    std::process::exit(0);
}

/// Holds several locks and waits for more, until it is killed.
fn many(dir: &Path) {
    let client = open(dir).expect("opens");
    for name in crate::kills::MANY {
        client.take(&client.claim(name));
        client.attempt(&client.claim(name)).expect("stands in line");
    }
    say("ready");
    loop {
        std::thread::park();
    }
}

/// Wants a lock of a process that is dead by then, and dies at store number `n` of getting it.
fn reap(dir: &Path, n: u64) {
    let client = open(dir).expect("opens");
    say_ready_and_wait();
    faults::kill_after(n);
    client.take(&client.claim(crate::kills::MANY[0]));
    faults::kill_after(u64::MAX);
    std::process::exit(0);
}

/// What a witness file says: the last token, and how many grants there were.
pub(crate) fn witnessed(bytes: &[u8]) -> (i64, u64) {
    let (words, _) = bytes.as_chunks::<8>();
    (i64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]))
}

/// Takes and releases one lock without end (or `rounds` times). Inside, it takes a kernel lock on a file of its own,
/// which must be free, and notes its token there, which must be the highest.
fn hammer(dir: &Path, name: &str, rounds: u64) {
    use rustix::fs::FlockOperation;
    use std::os::unix::fs::FileExt;

    // Opened before the store: a killed process closes its files in this order, so that whoever finds the slot free
    // also finds the witness free.
    let mut options = std::fs::File::options();
    let witness = options.read(true).write(true).create(true).truncate(false).open(dir.join("witness"));
    let witness = witness.expect("the witness");
    let client = open(dir).expect("opens");
    let mut round = 0;
    while rounds == 0 || round < rounds {
        round += 1;
        let claim = client.claim(name);
        let token = match token(client.attempt(&claim).expect("attempt").standing) {
            Some(token) => token,
            None => client.wait(&claim, Some(std::time::Duration::from_secs(2))),
        };
        let inside = rustix::fs::fcntl_lock(&witness, FlockOperation::NonBlockingLockExclusive);
        assert!(inside.is_ok(), "token {token}: somebody else is inside: {inside:?}");
        let mut bytes = [0; 16];
        let _ = witness.read_at(&mut bytes, 0).expect("readable");
        let (before, count) = witnessed(&bytes);
        assert!(token > before, "token {token} after {before}");
        bytes[..8].copy_from_slice(&token.to_le_bytes());
        bytes[8..].copy_from_slice(&(count + 1).to_le_bytes());
        witness.write_all_at(&bytes, 0).expect("writable");
        rustix::fs::fcntl_lock(&witness, FlockOperation::Unlock).expect("unlocks");
        client.release(&claim).expect("release");
    }
}

fn kind(name: &str) -> ErrorKind {
    match name {
        "Denied" => ErrorKind::Denied,
        "Unavailable" => ErrorKind::Unavailable,
        other => panic!("no kind {other}"),
    }
}

/// Locks every slot, and whatever else there is to lock, until it is killed.
fn squat(dir: &Path) {
    let live = std::fs::File::options().write(true).open(dir.join("live")).expect("there");
    rustix::fs::fcntl_lock(&live, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("nobody else");
    say("ready");
    loop {
        std::thread::park();
    }
}

/// Opens a store and takes a lock in it.
pub(crate) fn used(dir: &Path) -> tenure::Result<()> {
    let client = open(dir)?;
    client.attempt(&client.claim("used")).map(drop)
}

/// Sees these locks, and nothing more; cannot take one.
fn looks(dir: &Path, names: &[&str]) {
    let client = open(dir).expect("opens");
    let mut seen: Vec<String> = client.lines().iter().map(|line| line.key.name().to_owned()).collect();
    seen.sort();
    assert_eq!(seen, names);
    let key = tenure::Key::new("test", names[0]).expect("a good name");
    let query = tenure::backend::Query {
        namespace: "test".into(),
        name: Some(names[0].into()),
        ..Default::default()
    };
    let page = pollster::block_on(client.backend.inspect(&query, tenure::backend::Call::PATIENT))
        .expect("looked at");
    assert_eq!(page.lines[0].key, key);
    assert_eq!(page.lines[0].holders.len(), 1);
    let claim = client.claim("more");
    assert_eq!(client.attempt(&claim).expect_err("cannot be used").kind(), ErrorKind::Denied);
    assert_eq!(client.release(&claim).expect_err("cannot be used").kind(), ErrorKind::Denied);
    let tells = |client: &crate::kit::Client| matches!(client.news.recv_timeout(PATIENCE), Ok(News::Changed));
    client.backend.watch(&tenure::backend::Watched::Everything);
    assert!(tells(&client) && tells(&client), "whoever watches is told to look now and then");
    client.backend.watch(&tenure::backend::Watched::Nothing);
}

/// Makes a store under a umask that takes away what its owner needs, and uses it again.
fn narrow(dir: &Path) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
    let inner = dir.join("inner");
    for _ in 0..2 {
        used(&inner).expect("used");
    }
}

fn limit_files(bytes: u64) {
    let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).expect("a limit");
}

/// May not make a file as long as a store.
fn limited(dir: &Path, bytes: u64) {
    limit_files(bytes);
    refused(used(dir), ErrorKind::Unavailable, "limit on file sizes");
}

/// Uses a store that is longer than its limit, until it would have to grow.
fn limited_user(dir: &Path, bytes: u64) {
    limit_files(bytes);
    until_it_is_full(&open(dir).expect("opens"), "no room for more claims");
}

/// Stands in one line until the store refuses, in these words; then gives everything back.
fn until_it_is_full(client: &crate::kit::Client, words: &str) {
    let mut claims = Vec::new();
    let error = loop {
        assert!(claims.len() < 100_000, "it is never full");
        // Nobody renews them meanwhile, and a loaded machine takes its time.
        let long = PATIENCE * 30;
        let claim = tenure::backend::Claim { ttl: long, waiting: long, ..client.claim("one line") };
        match client.attempt(&claim) {
            Ok(_) => claims.push(claim),
            Err(error) => break error,
        }
    };
    refused::<()>(Err(error), ErrorKind::Unavailable, words);
    for answer in client.renew(&claims[..1]) {
        assert!(token(answer.expect("renewed").standing).is_some());
    }
    for claim in &claims {
        client.release(claim).expect("release");
    }
}

/// May map hardly more than it has mapped already. A new process then cannot map what another one has added.
fn starved(dir: &Path) {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
    let size: u64 = size.trim().trim_end_matches(" kB").parse().expect("a number");
    let client = open(dir).expect("opens");
    // The front of a store takes 4 MiB, each thread's stack 2 MiB, and more for the allocator.
    let limit = (size << 10) + (12 << 20);
    let limit = rustix::process::Rlimit { current: Some(limit), maximum: Some(limit) };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).expect("a limit");
    until_it_is_full(&client, "no room for more claims");
}

/// Fills the file system with locks; sees that what it holds is kept and that room comes back.
fn fill(dir: &Path) {
    let client = open(dir).expect("opens");
    let mut held = Vec::new();
    let error = loop {
        let claim = client.claim(&format!("lock/{}", held.len()));
        match client.attempt(&claim) {
            Ok(answer) => {
                assert!(token(answer.standing).is_some());
                held.push(claim);
            }
            Err(error) => break error,
        }
        assert!(held.len() < 1_000_000, "it is never full");
    };
    refused::<()>(Err(error), ErrorKind::Unavailable, "no room");
    // Somebody else takes the last page: it stays full, shard by shard, and never becomes a SIGBUS.
    let filler = std::fs::File::create(dir.join("filler")).expect("a file");
    while std::io::Write::write(&mut &filler, &[1; 4096]).is_ok() {}
    for n in 0..500 {
        let claim = client.claim(&format!("more/{n}"));
        match client.attempt(&claim) {
            Ok(answer) => {
                assert!(token(answer.standing).is_some());
                held.push(claim);
            }
            Err(error) => refused::<()>(Err(error), ErrorKind::Unavailable, "no room"),
        }
    }
    assert!(held.len() > 1000, "full after {} locks", held.len());
    std::fs::remove_file(dir.join("filler")).expect("removed");
    // Something that is there already is not lost, and needs no room.
    let waiting = client.claim("lock/0");
    for answer in client.renew(&held) {
        assert!(token(answer.expect("renewed").standing).is_some());
    }
    assert!(client.attempt(&waiting).is_err() || client.release(&waiting).is_ok());
    for claim in &held {
        assert_eq!(client.release(claim).expect("release"), tenure::Released::WasHeld);
    }
    assert!(client.lines().is_empty());
    faults::check(dir).expect("whole");
    for claim in &held {
        client.take(&client.claim(claim.key.name()));
    }
}

/// Hammers when told to.
fn hammer_late(dir: &Path, name: &str, rounds: u64) {
    say_ready_and_wait();
    let _ = rustix::fs::mkdir(dir, rustix::fs::Mode::RWXU);
    hammer(dir, name, rounds);
}

/// Sees that a lock is not to be had.
fn refused_lock(dir: &Path, name: &str) {
    let client = open(dir).expect("opens");
    let mut claim = client.claim(name);
    claim.stand = false;
    assert_eq!(client.attempt(&claim).expect("attempt").standing, Standing::Busy);
}

/// Holds a lock, renews it once as the engine does, and says why it was taken away.
fn evicted(dir: &Path, name: &str) {
    let client = open(dir).expect("opens");
    let claim = client.claim(name);
    client.take(&claim);
    client.renew(std::slice::from_ref(&claim)).remove(0).expect("renewed");
    say("held");
    match client.news.recv_timeout(PATIENCE).expect("news") {
        News::Gone(id, Some(why)) if id == claim.id => say(&format!("gone: {why}")),
        other => panic!("unexpected: {other:?}"),
    }
}

/// Forks with a hold and with a waiting claim, so with threads that the child does not have.
#[allow(unsafe_code)]
fn fork(dir: &Path) {
    let client = open(dir).expect("opens");
    let (held, waiting) = (client.claim("x"), client.claim("x"));
    client.take(&held);
    assert!(token(client.attempt(&waiting).expect("attempt").standing).is_none());
    // SAFETY: the child calls nothing that needs the threads it lacks, and ends by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let fork = |result: tenure::Result<()>| refused(result, ErrorKind::Config, "is a fork");
            fork(client.attempt(&waiting).map(drop));
            fork(client.renew(std::slice::from_ref(&held)).remove(0).map(drop));
            fork(client.release(&held).map(drop));
            drop(client);
            let own = open(dir).expect("a child may connect");
            let claim = own.claim("y");
            own.take(&claim);
            let mut other = own.claim("x");
            other.stand = false;
            assert_eq!(own.attempt(&other).expect("attempt").standing, Standing::Busy);
            own.release(&claim).expect("release");
        }));
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if good.is_ok() { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child, and writes to a variable of ours.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the child failed");
    // What the child did, or its end, took nothing away.
    Role::start("refused-lock", dir, &["x"]).ends();
    client.release(&held).expect("release");
    client.wait(&waiting, None);
}

/// Fills a shard until little is left of its first allocation, then dies or stops at store number `n` of what makes it
/// grow.
fn grow(dir: &Path, n: u64, fault: fn(u64)) {
    let client = open(dir).expect("opens");
    let stands = |count: usize| {
        for _ in 0..count {
            let mut claim = client.claim("line");
            claim.reason = "why ".repeat(60).into();
            client.attempt(&claim).expect("attempt");
        }
    };
    let cells = || faults::cells(dir, "test/line").expect("a shard");
    let (before, _) = cells();
    while cells().1 + 6 < before {
        stands(1);
    }
    fault(n);
    stands(4);
    faults::kill_after(u64::MAX);
    assert!(cells().0 > before, "it did not grow");
    std::process::exit(0);
}

/// Takes the first lock of a store, for which the ceiling of tokens has to be raised, and stops at store number `n` of it.
fn raise(dir: &Path, n: u64) {
    let client = open(dir).expect("opens");
    say_ready_and_wait();
    faults::stop_after(n);
    let token = client.take(&client.claim("mine"));
    faults::kill_after(u64::MAX);
    say(&format!("token {token} mine"));
    std::process::exit(0);
}

/// Stops in the middle of releasing a lock that it holds; goes on when it is told so by a signal.
fn stop(dir: &Path, name: &str) {
    let client = open(dir).expect("opens");
    let claim = client.claim(name);
    client.take(&claim);
    say("held");
    faults::stop_after(8);
    client.release(&claim).expect("release");
    faults::kill_after(u64::MAX);
    say("released");
}
