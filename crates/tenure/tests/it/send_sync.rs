//! The table of auto traits. Losing one of them is a breaking change that nothing else would notice.

use std::fmt::Debug;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use tenure::{
    Broken, Builder, Capabilities, Election, Error, ErrorKind, Guard, Handle, Key, Kind, Leader, LeaderInfo,
    Line, LockOptions, Locks, Lost, LostReason, MultiGuard, MultiMutex, Mutex, Needs, Observer, Once, Owner,
    Permit, ReadGuard, Reentrant, ReentrantGuard, Released, Run, RwLock, Seen, Semaphore, Slot, Striped,
    Token, Watch,
};

fn shared<T: Send + Sync + Debug + 'static>() {}
fn movable<T: Send + Debug + 'static>() {}
fn cloned<T: Clone>() {}
fn plain<T: Copy + Eq + UnwindSafe + RefUnwindSafe>() {}
fn thrown<T: std::error::Error + Send + Sync + 'static>() {}

#[test]
fn types() {
    shared::<Locks>();
    shared::<Mutex>();
    shared::<Guard>();
    shared::<RwLock>();
    shared::<ReadGuard>();
    shared::<Semaphore>();
    shared::<Permit>();
    shared::<Watch>();
    shared::<MultiMutex>();
    shared::<MultiGuard>();
    shared::<Striped>();
    shared::<Handle>();
    shared::<Once>();
    shared::<Slot>();
    shared::<Run>();
    shared::<Election>();
    shared::<Leader>();
    shared::<LeaderInfo>();
    shared::<Observer>();
    shared::<Reentrant>();
    shared::<ReentrantGuard>();
    shared::<Key>();
    shared::<Token>();
    shared::<Error>();
    shared::<Lost>();
    shared::<Line>();
    shared::<Seen>();
    shared::<Owner>();
    shared::<Broken>();
    shared::<LockOptions>();
    shared::<Capabilities>();
    shared::<Needs>();
    movable::<Builder>();
    cloned::<Locks>();
    cloned::<Mutex>();
    cloned::<RwLock>();
    cloned::<Semaphore>();
    cloned::<Key>();
    cloned::<Line>();
    cloned::<LockOptions>();
    cloned::<LostReason>();
    plain::<Token>();
    plain::<Kind>();
    plain::<Released>();
    plain::<ErrorKind>();
    thrown::<Error>();
    thrown::<Lost>();
}

/// As [`futures`].
#[allow(dead_code)]
fn futures_of_many(multi: &'static MultiMutex, guard: &'static MultiGuard) {
    fn sent<F: Future + Send + 'static>(_: F) {}
    sent(multi.lock());
    sent(multi.try_lock());
    sent(multi.try_lock_for(Duration::ZERO));
    sent(guard.lost());
    sent(guard.while_held(async {}));
    let _ = |guard: MultiGuard| sent(guard.release());
    let _ = |guard: MultiGuard| sent(guard.release_after(Duration::ZERO));
}

/// As [`futures`].
#[allow(dead_code)]
fn futures_of_owners(mutex: &'static Mutex, me: &'static Reentrant, guard: &'static ReentrantGuard) {
    fn sent<F: Future + Send + 'static>(_: F) {}
    sent(mutex.lock_as(me));
    sent(mutex.try_lock_as(me));
    sent(mutex.try_lock_for_as(me, Duration::ZERO));
    sent(guard.lost());
    sent(guard.while_held(async {}));
    sent(tenure::scope(mutex.lock()));
    let _ = |guard: ReentrantGuard| sent(guard.release());
}

/// As [`futures`].
#[allow(dead_code)]
fn futures_of_candidates(e: &'static Election, leader: &'static Leader, observer: &'static mut Observer) {
    fn sent<F: Future + Send + 'static>(_: F) {}
    sent(e.campaign("v"));
    sent(e.try_campaign("v"));
    sent(e.try_campaign_for("v", Duration::ZERO));
    sent(e.leader());
    sent(leader.lost());
    sent(leader.while_held(async {}));
    sent(leader.proclaim("v"));
    sent(observer.next());
    let _ = |leader: Leader| sent(leader.resign());
}

/// As [`futures`].
#[allow(dead_code)]
fn futures_of_jobs(locks: &'static Locks, once: &'static Once) {
    fn sent<F: Future + Send + 'static>(_: F) {}
    sent(locks.runs("job"));
    sent(once.run(|_| async { Ok::<_, std::convert::Infallible>(()) }));
}

/// As [`futures`].
#[allow(dead_code)]
fn futures_of_handles(locks: &'static Locks, handle: &'static Handle) {
    fn sent<F: Future + Send + 'static>(_: F) {}
    sent(locks.adopt(handle.clone()));
    sent(locks.renew(handle));
    sent(locks.release(handle.clone()));
    let _ = |guard: Guard| sent(guard.detach());
    let _ = |guard: Guard| sent(guard.detach_for(Duration::ZERO));
}

/// Every future of the public API can be sent to another thread, so `tokio::spawn` takes it. Never called: compiling it
/// is the test.
#[allow(dead_code)]
fn futures(locks: Locks, mutex: &'static Mutex, guard: &'static Guard, watch: &'static mut Watch) {
    fn sent<F: Future + Send + 'static>(_: F) {}
    fn sent_while_borrowed<F: Future + Send>(_: F) {}
    sent(Locks::connect("memory:"));
    sent(Locks::builder("memory:").connect());
    sent_while_borrowed(locks.inspect("a"));
    sent_while_borrowed(locks.list(""));
    sent_while_borrowed(locks.evict("a", None, "why"));
    sent(locks.close());
    sent(mutex.lock());
    sent(mutex.try_lock());
    sent(mutex.try_lock_for(Duration::ZERO));
    sent(guard.lost());
    sent(guard.while_held(async {}));
    sent(watch.next());
    let owned = |guard: Guard| {
        sent(guard.release());
    };
    let pausing = |guard: Guard| {
        sent(guard.release_after(Duration::ZERO));
    };
    let _ = (owned, pausing);
}

/// The same for read-write locks and semaphores.
#[allow(dead_code)]
fn futures_of_other_faces(lock: &'static RwLock, semaphore: &'static Semaphore) {
    fn sent<F: Future + Send + 'static>(_: F) {}
    sent(lock.read());
    sent(lock.write());
    sent(lock.try_read());
    sent(lock.try_write());
    sent(lock.try_read_for(Duration::ZERO));
    sent(lock.try_write_for(Duration::ZERO));
    sent(semaphore.acquire());
    sent(semaphore.acquire_many(2));
    sent(semaphore.try_acquire());
    sent(semaphore.try_acquire_many(2));
    sent(semaphore.try_acquire_for(Duration::ZERO));
    sent(semaphore.try_acquire_many_for(2, Duration::ZERO));
    let writing = |guard: Guard| sent(guard.downgrade());
    let reading = |guard: ReadGuard| sent(guard.release());
    let some = |permit: Permit| sent(permit.release_some(1));
    let _ = (writing, reading, some);
}
