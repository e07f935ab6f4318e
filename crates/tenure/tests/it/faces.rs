//! Read-write locks and semaphores, on the stores of this process and of this machine.

#[path = "../shared/faces.rs"]
mod scenarios;

use std::time::Duration;

use tenure::Locks;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_do_what_they_promise_in_memory() {
    scenarios::all("memory:").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_do_what_they_promise_on_a_host() {
    let dir = std::path::PathBuf::from(format!("/dev/shm/tenure-faces-{}", std::process::id()));
    scenarios::all(&format!("host://{}", dir.display())).await;
    std::fs::remove_dir_all(&dir).expect("its own directory");
}

#[test]
fn blocking_calls_of_all_faces_need_no_runtime() {
    let locks = Locks::memory();
    let lock = locks.rwlock("rw").expect("a name");
    let wait = Duration::from_millis(5);
    let writer = lock.blocking_write().expect("free");
    assert!(lock.blocking_try_read().expect("asks").is_none());
    assert!(lock.blocking_try_read_for(wait).expect("asks").is_none());
    let reader = writer.blocking_downgrade().expect("goes on");
    let other = lock.blocking_read().expect("joins");
    assert!(lock.blocking_try_write().expect("asks").is_none());
    assert!(lock.blocking_try_write_for(wait).expect("asks").is_none());
    reader.blocking_release().expect("ours");
    other.blocking_release_after(wait).expect("ours");
    let semaphore = locks.semaphore("s", 3).expect("a name");
    let (one, two) = (semaphore.blocking_acquire(), semaphore.blocking_acquire_many(2));
    assert!(semaphore.blocking_try_acquire().expect("asks").is_none());
    assert!(semaphore.blocking_try_acquire_for(wait).expect("asks").is_none());
    assert!(semaphore.blocking_try_acquire_many(2).expect("asks").is_none());
    assert!(semaphore.blocking_try_acquire_many_for(2, wait).expect("asks").is_none());
    let rest = two.expect("free").blocking_release_some(1).expect("keeps one");
    assert!(rest.blocking_lost_for(wait).is_none());
    let third = semaphore.blocking_try_acquire().expect("asks").expect("free");
    for permit in [one.expect("free"), rest, third] {
        permit.blocking_release().expect("ours");
    }
}
