//! What is composed of locks, across processes.

use std::convert::Infallible;
use std::path::Path;

use tenure::{ErrorKind, Guard, Handle, Locks, LostReason, Outcome, RunState, Slot};

use crate::kit::{Dir, PATIENCE, Role, refused};
use crate::roles::say;

fn locks(dir: &Path) -> Locks {
    Locks::blocking_connect(&format!("host://{}", dir.display())).expect("opens")
}

#[test]
fn an_owner_is_refused_in_a_fork() {
    let dir = Dir::new();
    Role::start("fork-owner", &dir.0, &[]).ends();
}

/// Holds, hands over and ends.
pub(crate) fn detach(dir: &Path) {
    let guard = locks(dir).mutex("x").expect("name").blocking_lock().expect("free");
    say(&format!("token: {}", guard.token()));
    say(&format!("handle: {}", guard.blocking_detach().expect("ours")));
}

#[test]
fn a_hold_outlives_the_process_that_handed_it_over() {
    let dir = Dir::new();
    let locks = locks(&dir.0);
    let mut other = Role::start("detach", &dir.0, &[]);
    let token = other.tells("token: ");
    let handle: Handle = other.tells("handle: ").parse().expect("good");
    other.ends();
    let mutex = locks.mutex("x").expect("name");
    assert!(mutex.blocking_try_lock().expect("asks").is_none(), "anchored to time, not to the dead process");
    locks.blocking_renew(&handle).expect("held");
    let guard = locks.blocking_adopt(handle.clone()).expect("there");
    assert_eq!(guard.token().to_string(), token);
    refused(locks.blocking_adopt(handle), ErrorKind::Lost, "adopted or released before");
    let holder = locks.blocking_inspect("x").expect("looks").expect("held").holders.remove(0);
    assert_eq!(holder.owner.pid, std::process::id());
    guard.blocking_release().expect("ours");
    assert!(mutex.blocking_try_lock().expect("asks").is_some());
}

/// Runs a job that never ends.
pub(crate) fn run_for_ever(dir: &Path) {
    let once = locks(dir).once("job", Slot::named("a")).expect("a job");
    let never = locks(dir).once("job", Slot::named("b")).expect("a job").never_again();
    let job = once.blocking_run(|_| {
        never.blocking_run(|_| {
            say("running");
            std::thread::sleep(PATIENCE);
            Ok::<_, Infallible>(())
        })
    });
    job.expect("it is killed before");
}

#[test]
fn a_job_whose_process_is_killed_is_run_again_or_never() {
    let dir = Dir::new();
    let locks = locks(&dir.0);
    let once = locks.once("job", Slot::named("a")).expect("a job").wait(PATIENCE);
    let never = locks.once("job", Slot::named("b")).expect("a job").never_again().wait(PATIENCE);
    let mut other = Role::start("run-for-ever", &dir.0, &[]);
    other.hears("running");
    assert!(locks.blocking_runs("job").expect("looks").iter().all(|run| run.state == RunState::Running));
    other.kill();
    let job = |_: &Guard| Ok::<_, Infallible>(());
    assert!(matches!(once.blocking_run(job).expect("asks"), Outcome::Ran(ran) if ran.recorded.is_ok()));
    assert!(matches!(once.blocking_run(job).expect("asks"), Outcome::AlreadyDone(_)));
    let Outcome::AlreadyDone(run) = never.blocking_run(job).expect("asks") else { panic!("it was begun") };
    assert_eq!(run.state, RunState::Abandoned);
    assert_ne!(run.owner.pid, std::process::id());
}

/// Forks while an owner holds: the child's copies of the owner and of its level are worth nothing.
#[allow(unsafe_code)]
pub(crate) fn fork_owner(dir: &Path) {
    let parent = locks(dir);
    let (me, mutex) = (parent.owner(), parent.mutex("x").expect("name"));
    let level = mutex.blocking_lock_as(&me).expect("free");
    // SAFETY: the child calls nothing that needs the threads it lacks, and ends by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            refused(mutex.blocking_lock_as(&me), ErrorKind::Config, "is a fork");
            assert_eq!(level.check().expect_err("not ours").why(), &LostReason::Forked);
            drop(level);
            let own = locks(dir);
            let mutex = own.mutex("x").expect("name");
            refused(mutex.blocking_lock_as(&me), ErrorKind::Config, "another client");
            assert!(mutex.blocking_try_lock_as(&own.owner()).expect("asks").is_none(), "the parent holds");
        }));
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if good.is_ok() { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child, and writes to a variable of ours.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the child failed");
    level.check().expect("still held");
    assert!(mutex.blocking_try_lock().expect("asks").is_none(), "the child took nothing away");
    level.blocking_release().expect("ours");
}

#[test]
fn a_guard_says_that_its_store_was_removed() {
    let dir = Dir::new();
    let locks = locks(&dir.0);
    let (guard, permit) = (locks.mutex("x").expect("name"), locks.semaphore("y", 2).expect("name"));
    let (guard, permit) = (guard.blocking_lock().expect("free"), permit.blocking_acquire().expect("free"));
    std::fs::remove_dir_all(&dir.0).expect("removed");
    // Told by the patrol: the next renewal would come after ten seconds.
    assert_eq!(*pollster::block_on(guard.lost()).why(), LostReason::StoreRemoved);
    assert_eq!(*pollster::block_on(permit.lost()).why(), LostReason::StoreRemoved);
    let error = guard.check().expect_err("lost");
    assert!(error.to_string().contains("the store was removed"), "{error}");
}
