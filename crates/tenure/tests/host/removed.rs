//! Files that are removed or moved away while they are used: who is told, who is kept out, and what tokens are worth
//! where nobody can be.

use std::fs;
use std::time::{Duration, Instant};

use tenure::ErrorKind;
use tenure::backend::host::faults;
use tenure::backend::{Claim, ClaimId, News, Standing};

use crate::kit::{Client, Dir, PATIENCE, Role, open, refused, token};

/// A process looks once a second whether its files are still there.
const NOTICED: Duration = Duration::from_millis(1100);

/// Takes a lock that should be free, says its token, and gives it back. `None`: the store is given up.
fn cycle(client: &Client, name: &str) -> Option<i64> {
    let claim = client.claim(name);
    match client.attempt(&claim) {
        Ok(answer) => {
            let token = token(answer.standing).expect("granted at once");
            client.release(&claim).expect("release");
            Some(token)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            None
        }
    }
}

#[test]
fn a_live_file_that_is_removed_makes_nobody_dead() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let claim = client.claim("x");
    client.take(&claim);
    fs::remove_file(dir.file("live")).expect("removed");
    // They find the same store, and whoever holds in it lives, whatever the new `live` says.
    Role::start("refused-lock", &dir.0, &["x"]).ends();
    let mut other = Role::start("hold", &dir.0, &["y"]);
    other.hears("held");
    std::thread::sleep(NOTICED);
    let answer = client.renew(std::slice::from_ref(&claim)).remove(0).expect("answered");
    assert_eq!(answer.standing, Standing::Removed);
    drop(client);
    let client = open(&dir.0).expect("the same store by the new file");
    client.take(&client.claim("x"));
    assert!(matches!(client.attempt(&client.claim("y")).expect("asked").standing, Standing::Waiting { .. }));
    faults::check(&dir.0).expect("whole");
}

#[test]
fn tokens_of_a_removed_directory_stay_below_those_of_the_next() {
    for durable in [false, true] {
        let dir = if durable { Dir::new() } else { Dir::in_memory() };
        let mut groups: Vec<(Client, i64)> = Vec::new();
        for round in 0..30 {
            let _ = fs::remove_dir_all(&dir.0);
            let client = open(&dir.0).expect("a new store");
            // Busy enough to be ahead of the others if anything but the time of its making told them apart.
            let begun = cycle(&client, "x").expect("granted");
            for _ in 0..round % 7 * 100 {
                cycle(&client, "x").expect("granted");
            }
            groups.push((client, begun));
            // The old ones go on until they notice, and never reach what the next one began with.
            for pair in groups.windows(2) {
                let ((old, _), (_, next)) = (&pair[0], &pair[1]);
                if let Some(token) = cycle(old, "x") {
                    assert!(token < *next, "round {round}: {token} beside {next}");
                }
            }
        }
        std::thread::sleep(NOTICED);
        let (last, old) = groups.split_last().expect("groups");
        assert!(old.iter().all(|(old, _)| cycle(old, "x").is_none()), "somebody goes on");
        assert!(cycle(&last.0, "x").is_some());
    }
}

#[test]
fn a_grant_in_a_removed_directory_is_not_pushed() {
    let dir = Dir::new();
    let mut holder = Role::start("hold", &dir.0, &["x"]);
    holder.hears("held");
    let client = open(&dir.0).expect("opens");
    let claim = client.claim("x");
    assert!(matches!(client.attempt(&claim).expect("asked").standing, Standing::Waiting { .. }));
    fs::remove_dir_all(&dir.0).expect("removed");
    std::thread::sleep(NOTICED);
    holder.ends(); // and its lock goes to us, in a store that nobody else can find
    let until = Instant::now() + PATIENCE;
    loop {
        match client.news.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(News::Removed(id)) if id == claim.id => break,
            Ok(News::Granted(id, ..)) => assert_ne!(id, claim.id, "granted in a store that was removed"),
            Ok(News::Look(id)) if id == claim.id => {
                refused(client.attempt(&claim), ErrorKind::Unavailable, "was removed");
                break;
            }
            Ok(_) => {}
            Err(_) => panic!("never told"),
        }
    }
}

#[test]
fn a_directory_that_is_moved_away_is_noticed() {
    let (dir, elsewhere) = (Dir::new(), Dir::new());
    let client = open(&dir.0).expect("opens");
    let claim = client.claim("x");
    let before = client.take(&claim);
    fs::remove_dir(&elsewhere.0).expect("free");
    fs::rename(&dir.0, &elsewhere.0).expect("moved");
    let next = open(&dir.0).expect("a new store");
    assert!(cycle(&next, "x").is_some_and(|token| token > before));
    std::thread::sleep(NOTICED);
    let answer = client.renew(std::slice::from_ref(&claim)).remove(0).expect("answered");
    assert_eq!(answer.standing, Standing::Removed);
    refused(client.attempt(&client.claim("y")), ErrorKind::Unavailable, "was removed");
}

/// How long an idle claim may have to wait until it is told. Its next renewal would come after ten seconds.
const TOLD: Duration = Duration::from_secs(6);

/// Waits for the news that claims are gone; panics if they take so long that a renewal would have brought them.
fn told(client: &Client, claims: &[&Claim]) {
    let until = Instant::now() + TOLD;
    let mut open: Vec<ClaimId> = claims.iter().map(|claim| claim.id).collect();
    while !open.is_empty() {
        match client.news.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(News::Removed(gone)) => open.retain(|id| *id != gone),
            Ok(_) => {}
            Err(_) => panic!("never told"),
        }
    }
}

#[test]
fn an_idle_holder_and_an_idle_waiter_are_told_that_the_directory_went() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    // Nothing was held for a while: the thread sleeps without a timeout by now.
    let early = client.claim("early");
    client.take(&early);
    client.release(&early).expect("release");
    let (held, waiting) = (client.claim("x"), client.claim("x"));
    client.take(&held);
    assert!(matches!(client.attempt(&waiting).expect("asked").standing, Standing::Waiting { .. }));
    fs::remove_dir_all(&dir.0).expect("removed");
    told(&client, &[&held, &waiting]);
    let next = open(&dir.0).expect("a new store");
    let claim = next.claim("x");
    next.take(&claim);
    fs::remove_file(dir.file("live")).expect("removed");
    told(&next, &[&claim]);
}

#[test]
fn a_short_hold_in_a_removed_directory_is_not_released_as_held() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let claim = client.claim("x");
    client.take(&claim);
    std::thread::sleep(Duration::from_millis(5));
    fs::remove_dir_all(&dir.0).expect("removed");
    assert_eq!(client.release(&claim).expect("answered"), tenure::Released::Gone);
}

#[test]
fn a_cleaner_of_temporary_files_is_asked_to_leave_a_store_alone() {
    use rustix::fs::FlockOperation;
    use std::os::unix::fs::PermissionsExt;

    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    client.take(&client.claim("x"));
    client.domain().expect("a domain");
    for file in ["store", "live", "floor", "domain"] {
        let mode = fs::metadata(dir.file(file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o1600, "{file}");
    }
    let locked = || {
        let handle = fs::File::open(&dir.0).expect("the directory");
        rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive).is_err()
    };
    assert!(locked(), "nothing tells a cleaner that the directory is in use");
    drop(client);
    let until = Instant::now() + PATIENCE;
    while locked() {
        assert!(Instant::now() < until, "still locked");
        std::thread::yield_now();
    }
}
