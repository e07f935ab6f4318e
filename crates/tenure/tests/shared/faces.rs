//! What read-write locks and semaphores do, on whatever store: run on `memory:`, `host:` and real Redis servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenure::backend::{Answer, Backend, BoxFuture, Call, Claim, Leave, Line, Released};
use tenure::{ErrorKind, Guard, LockOptions, Locks, Permit, ReadGuard, Result, Token};
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(60);

/// Runs every scenario on the store at `url`, each under a name of its own.
pub(crate) async fn all(url: &str) {
    let stage = Stage::connect(url).await;
    readers_are_together_and_share_a_token(&stage).await;
    nobody_overtakes_a_waiting_writer(&stage).await;
    a_downgraded_writer_lets_readers_in_and_no_writer(&stage).await;
    a_cut_downgrade_leaves_nothing(&stage).await;
    a_writer_waits_for_a_thousand_readers_only(&stage).await;
    many_permits_are_not_overtaken_by_few(&stage).await;
    the_number_of_permits_can_change(&stage).await;
    permits_of_the_dead_come_back(&stage).await;
    bad_input_is_refused(&stage).await;
}

/// A store, and a client of it.
struct Stage {
    locks: Locks,
    /// Whether claims that "die" are dead.
    dead: Arc<AtomicBool>,
}

impl Stage {
    async fn connect(url: &str) -> Stage {
        let dead = Arc::new(AtomicBool::new(false));
        let flag = dead.clone();
        let builder = Locks::builder(url).wrap(move |inner| Arc::new(Mute { inner, dead: flag }));
        Stage { locks: builder.connect().await.expect("connects"), dead }
    }

    async fn line(&self, name: &str) -> Option<Line> {
        self.locks.inspect(name).await.expect("looks")
    }

    /// Waits until so many stand in line.
    async fn waiters(&self, name: &str, many: u64) {
        let until = Instant::now() + LONG;
        while self.line(name).await.map_or(0, |line| line.waiters) != many {
            assert!(Instant::now() < until, "never {many} waiters");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn reads(&self, name: &str) -> ReadGuard {
        self.locks.rwlock(name).expect("a name").read().await.expect("reads")
    }

    fn reader(&self, name: &str) -> JoinHandle<ReadGuard> {
        let lock = self.locks.rwlock(name).expect("a name");
        tokio::spawn(async move { lock.read().await.expect("reads") })
    }

    fn writer(&self, name: &str) -> JoinHandle<Guard> {
        let lock = self.locks.rwlock(name).expect("a name");
        tokio::spawn(async move { lock.write().await.expect("writes") })
    }

    fn acquirer(&self, name: &str, of: u32, permits: u32) -> JoinHandle<Permit> {
        let semaphore = self.locks.semaphore(name, of).expect("a name");
        tokio::spawn(async move { semaphore.acquire_many(permits).await.expect("acquires") })
    }
}

async fn got<T>(task: JoinHandle<T>) -> T {
    tokio::time::timeout(LONG, task).await.expect("granted").expect("no panic")
}

async fn readers_are_together_and_share_a_token(stage: &Stage) {
    let lock = stage.locks.rwlock("together").expect("a name");
    let readers = [stage.reads("together").await, stage.reads("together").await];
    assert!(readers[0].token().is_some());
    assert_eq!(readers[0].token(), readers[1].token());
    assert!(lock.try_write().await.expect("asks").is_none());
    let third = lock.try_read().await.expect("asks").expect("joins");
    assert_eq!(third.token(), readers[0].token());
    third.while_held(async {}).await.expect("held");
    for reader in readers.into_iter().chain([third]) {
        reader.release().await.expect("ours");
    }
    let reading = stage.reads("together").await;
    reading.release().await.expect("ours");
    let writer = lock.try_write().await.expect("asks").expect("free");
    assert!(lock.try_read().await.expect("asks").is_none());
    assert!(lock.try_read_for(Duration::from_millis(20)).await.expect("asks").is_none());
    writer.release().await.expect("ours");
}

async fn nobody_overtakes_a_waiting_writer(stage: &Stage) {
    let lock = stage.locks.rwlock("order").expect("a name");
    let first = stage.reads("order").await;
    let writer = stage.writer("order");
    stage.waiters("order", 1).await;
    assert!(lock.try_read().await.expect("asks").is_none(), "a writer waits");
    let later = stage.reader("order");
    stage.waiters("order", 2).await;
    let before = first.token();
    first.release().await.expect("ours");
    let writer = got(writer).await;
    assert!(Some(writer.token()) > before);
    assert_eq!(stage.line("order").await.expect("held").waiters, 1, "the reader waits behind it");
    let wrote = writer.token();
    writer.release().await.expect("ours");
    assert!(got(later).await.token() > Some(wrote));
}

async fn a_downgraded_writer_lets_readers_in_and_no_writer(stage: &Stage) {
    let name = "downgrade";
    let writer = stage.locks.rwlock(name).expect("a name").write().await.expect("writes");
    let wrote = writer.token();
    let ahead = stage.reader(name);
    stage.waiters(name, 1).await;
    let next = stage.writer(name);
    stage.waiters(name, 2).await;
    let behind = stage.reader(name);
    stage.waiters(name, 3).await;
    let reader = writer.downgrade().await.expect("goes on");
    reader.check().expect("held");
    assert!(reader.token() > Some(wrote), "its late writes can be told from what readers see");
    let ahead = got(ahead).await;
    assert_eq!(ahead.token(), reader.token());
    let line = stage.line(name).await.expect("held");
    assert_eq!((line.holders.len(), line.waiters), (2, 2), "the writer waits, and the reader behind it");
    let read = reader.token();
    reader.release().await.expect("ours");
    assert_eq!(stage.line(name).await.expect("held").waiters, 2);
    ahead.release().await.expect("ours");
    let next = got(next).await;
    assert!(Some(next.token()) > read);
    let wrote: Token = next.token();
    assert_eq!(stage.line(name).await.expect("held").waiters, 1);
    next.release().await.expect("ours");
    assert!(got(behind).await.token() > Some(wrote));
}

async fn a_cut_downgrade_leaves_nothing(stage: &Stage) {
    let lock = stage.locks.rwlock("cut").expect("a name");
    for _ in 0..20 {
        let writer = lock.try_write_for(LONG).await.expect("asks").expect("free again");
        let cut = tokio::time::timeout(Duration::ZERO, writer.downgrade()).await;
        drop(cut);
    }
    lock.try_write_for(LONG).await.expect("asks").expect("free").release().await.expect("ours");
}

async fn a_writer_waits_for_a_thousand_readers_only(stage: &Stage) {
    let name = "crowd";
    let mut readers = Vec::new();
    for _ in 0..1000 {
        readers.push(stage.reads(name).await);
    }
    let writer = stage.writer(name);
    stage.waiters(name, 1).await;
    let late = stage.reader(name);
    stage.waiters(name, 2).await;
    let last = readers.pop().expect("a thousand");
    for reader in readers {
        reader.release().await.expect("ours");
    }
    let line = stage.line(name).await.expect("held");
    assert_eq!((line.holders.len(), line.waiters), (1, 2));
    last.release().await.expect("ours");
    let writer = got(writer).await;
    assert_eq!(stage.line(name).await.expect("held").waiters, 1, "the late reader is not waited for");
    writer.release().await.expect("ours");
    got(late).await.release().await.expect("ours");
}

async fn many_permits_are_not_overtaken_by_few(stage: &Stage) {
    let name = "permits";
    let semaphore = stage.locks.semaphore(name, 3).expect("a name");
    let two = semaphore.acquire_many(2).await.expect("free");
    assert_eq!((two.permits(), semaphore.capacity()), (2, 3));
    assert!(semaphore.try_acquire_many(2).await.expect("asks").is_none());
    let all = stage.acquirer(name, 3, 3);
    stage.waiters(name, 1).await;
    assert!(semaphore.try_acquire().await.expect("asks").is_none(), "one is free, and somebody waits");
    assert!(semaphore.try_acquire_for(Duration::from_millis(20)).await.expect("asks").is_none());
    let one = stage.acquirer(name, 3, 1);
    stage.waiters(name, 2).await;
    let rest = two.release_some(1).await.expect("keeps one");
    assert_eq!(rest.permits(), 1);
    assert_eq!(stage.line(name).await.expect("held").waiters, 2, "two of three are not enough");
    rest.release().await.expect("ours");
    let all = got(all).await;
    assert_eq!((all.permits(), stage.line(name).await.expect("held").waiters), (3, 1));
    let rest = all.release_some(1).await.expect("keeps two");
    let one = got(one).await;
    assert_eq!(stage.line(name).await.expect("held").holders.len(), 2);
    rest.check().expect("held");
    one.release_after(LONG).await.expect("ours");
    assert!(semaphore.try_acquire().await.expect("asks").is_none(), "it comes back in a while");
    drop(rest);
}

async fn the_number_of_permits_can_change(stage: &Stage) {
    let name = "size";
    let three = stage.locks.semaphore(name, 3).expect("a name");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(three.acquire().await.expect("free"));
    }
    let fewer = stage.locks.semaphore(name, 2).expect("a name");
    assert!(fewer.try_acquire().await.expect("asks").is_none());
    for permit in &held {
        permit.check().expect("nothing is taken away");
    }
    let more = stage.locks.semaphore(name, 4).expect("a name");
    assert!(more.try_acquire().await.expect("asks").is_none(), "holders were promised at most 3");
    held.pop().expect("three").release().await.expect("ours");
    held.push(more.try_acquire().await.expect("asks").expect("2 of 3 are held"));
    while held.len() > 2 {
        held.pop().expect("more than two").release().await.expect("ours");
        assert!(fewer.try_acquire().await.expect("asks").is_none(), "still two or more");
    }
    held.pop().expect("two").release().await.expect("ours");
    fewer.try_acquire().await.expect("asks").expect("one is free").release().await.expect("ours");
}

async fn permits_of_the_dead_come_back(stage: &Stage) {
    let name = "dead";
    let options = LockOptions::new().ttl(Duration::from_secs(2)).reason(DIES);
    let dying = stage.locks.semaphore(name, 3).expect("a name").with(options).expect("options");
    let permits = dying.acquire_many(2).await.expect("free");
    let waits = stage.acquirer(name, 3, 3);
    stage.waiters(name, 1).await;
    stage.dead.store(true, Ordering::SeqCst);
    let all = got(waits).await;
    assert_eq!(all.permits(), 3);
    assert!(permits.check().is_err(), "it knows it before the next one has them");
    drop(permits);
    all.check().expect("held");
}

async fn bad_input_is_refused(stage: &Stage) {
    let locks = &stage.locks;
    let config = |error: tenure::Error, words: &[&str]| {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error} does not say {word:?}");
        }
    };
    config(locks.semaphore("bad", 0).expect_err("no permits"), &["at least 1"]);
    let three = locks.semaphore("bad", 3).expect("a name");
    config(three.acquire_many(0).await.expect_err("none"), &["1 to 3"]);
    config(
        three.try_acquire_many(4).await.expect_err("too many"),
        &["only 3 permits", "only 3 permits", "ask for 1 to 3"],
    );
    let wait = Duration::from_millis(1);
    config(
        three.try_acquire_many_for(4, wait).await.expect_err("too many"),
        &["only 3 permits", "only 3 permits", "ask for 1 to 3"],
    );
    let two = three.acquire_many(2).await.expect("free");
    config(two.release_some(2).await.expect_err("all"), &["keep at least 1"]);
    let one = three.try_acquire_many_for(3, LONG).await.expect("asks").expect("given back");
    // One name as two kinds: the error names both.
    let writer = locks.rwlock("bad").expect("a name");
    config(writer.write().await.expect_err("a semaphore"), &["a read-write lock", "a semaphore"]);
    config(locks.mutex("bad").expect("a name").lock().await.expect_err("too"), &["a mutex", "a semaphore"]);
    drop(one);
    let mutex = locks.mutex("bad/mutex").expect("a name").lock().await.expect("free");
    config(mutex.downgrade().await.expect_err("a mutex"), &["rwlock"]);
    let again = locks.mutex("bad/mutex").expect("a name").try_lock_for(LONG).await.expect("asks");
    again.expect("given back").release().await.expect("ours");
}

/// The reason of claims whose process is to die.
const DIES: &str = "dies";

/// A store that hears nothing any more of claims that are dead.
#[derive(Debug)]
struct Mute {
    inner: Arc<dyn Backend>,
    dead: Arc<AtomicBool>,
}

impl Mute {
    fn mute(&self, claims: &[Claim]) -> bool {
        self.dead.load(Ordering::SeqCst) && claims.iter().any(|c| &*c.reason == DIES)
    }
}

impl Backend for Mute {
    tenure::pass_on!(inner: capabilities, domain, part, attempt, transfer, evict, inspect, watch, close);

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        if self.mute(claims) { Box::pin(std::future::pending()) } else { self.inner.renew(claims, call) }
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>> {
        let mute = self.mute(std::slice::from_ref(claim));
        if mute { Box::pin(std::future::pending()) } else { self.inner.release(claim, leave, call) }
    }
}
