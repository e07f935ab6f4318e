//! What child processes do. A child is this binary again, running the one test below.

use std::path::{Path, PathBuf};

use tenure::backend::host::faults;

use crate::kit::{Role, open, token};

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
        "script" => script(&dir, args[0].parse().expect("a number")),
        "make" => make(&dir, args[0].parse().expect("a number")),
        "many" => many(&dir),
        "reap" => reap(&dir, args[0].parse().expect("a number")),
        "hammer" => hammer(&dir, args[0], args[1].parse().expect("a number")),
        "hold" => hold(&dir, args[0]),
        other => panic!("no role {other}"),
    }
}

fn say(word: &str) {
    use std::io::Write;
    let mut out = std::io::stdout();
    writeln!(out, "{word}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Takes a lock, says so, and keeps it until it is killed or its input ends.
fn hold(dir: &Path, name: &str) {
    let client = open(dir).expect("opens");
    let claim = client.claim(name);
    if token(client.attempt(&claim).expect("attempt").standing).is_none() {
        say("waiting");
        client.wait(&claim, None);
    }
    say("held");
    let mut rest = String::new();
    let _ = std::io::Read::read_to_string(&mut std::io::stdin(), &mut rest);
}

/// Holds the lock "shared"; told to go, runs the script and dies at its store number `n`.
fn script(dir: &Path, n: u64) {
    let client = open(dir).expect("opens");
    let shared = client.claim("shared");
    // The parent's last claim may still be on its way out.
    if token(client.attempt(&shared).expect("attempt").standing).is_none() {
        client.wait(&shared, None);
    }
    say("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).expect("the parent speaks");
    faults::kill_after(n);
    let tokens = crate::kills::script(&client, &shared);
    faults::kill_after(u64::MAX);
    for (name, token) in tokens {
        say(&format!("token {token} {name}"));
    }
    // As a process ends that never drops its locks.
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
    say("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).expect("the parent speaks");
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
