//! The wrong protocols, each a few lines away from what is shipped, and the accident in the field that each stands for.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::Key;
use tenure::backend::{
    Answer, BoxFuture, Claim, ClaimId, Grant, Kind, Lease, Leave, News, Previous, Released, Sink, Standing,
};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;

use super::{How, Mutant};
use crate::broken::intercept::{
    AllAnswered, Answered, Interceptor, Near, Overridden, RuntimeOverride, locked, outer, runs,
};
use crate::broken::primitives::{Joins, Overtakes};
use crate::broken::stores::{Endless, Fast, MadeUp, Seconds};
use crate::conform::Hooks;
use crate::num::boot_ns;

/// A table of wrong protocols: for each its name, where it is wrong, the rules of which it must break one, the faults under
/// which it shows, and the accident that it stands for.
macro_rules! mutants {
    ($($name:ident: $how:expr, $($rule:literal)+ $(; $($fault:literal)+)?, $stands_for:literal;)*) => {
        &[$(
            $crate::mutants::Mutant { name: stringify!($name), stands_for: $stands_for, breaks: &[$($rule),+], how: $how, under: &[$($($fault),+)?] },
        )*]
    };
}
pub(crate) use mutants;

/// Those that are wrong on any server.
pub(super) const MUTANTS: &[Mutant] = mutants! {
    a_deadline_from_the_answer: How::Client(outer::<FromAnswer>), "S1" "S5"; "latency" "pause",
        "async-redis-lock 0.4: the lease counts from the reply, not from the request";
    a_renewal_that_is_always_granted: How::Client(outer::<AlwaysYes>), "S1" "S2" "S5",
        "ash-lock 0.1: in a partition the guard stays valid for ever";
    a_lease_cut_on_its_way: How::Client(outer::<Cut>), "S1" "S5"; "pause" "latency",
        "EX takes whole seconds: the store's lease is shorter than the believed one";
    a_clock_that_stands_still_with_the_process: How::Client(stands_still), "S1" "S5"; "pause",
        "Instant instead of BOOTTIME: time in which nothing of us ran does not count";
    a_push_that_counts_from_its_arrival: How::Client(|| Arc::new(FromArrival)), "S1" "S5"; "pause",
        "etcd #11456: a waiter was granted the lock although its own lease was over";
    a_grant_that_nobody_gave: How::Client(outer::<MadeUp>), "S1" "S2" "S5",
        "SETNX whose reply is not looked at";
    the_answer_to_the_request_before: How::Client(outer::<Shifted>), "S1" "S2" "S4",
        "redis-rs #698: after an error in a pipeline, replies belong to the request before";
    one_id_for_all_claims_of_an_object: How::Client(outer::<OneId>), "S1" "S2" "S4" "S5",
        "distributed-lock 0.2, distkit 0.7: the owner's id is made with the object, not with the attempt";
    a_lease_without_an_end: How::Client(outer::<Endless>), "L2" "L4"; "kill",
        "redis-py #962: a lock without a timeout, and its holder is killed";
    a_token_of_whole_seconds: How::Client(outer::<Seconds>), "S2",
        "timestamps as tokens: several holders a second";
    a_token_by_another_clock: How::Client(outer::<Fast>), "S2" "S3",
        "ShedLock: the clients' clocks are trusted";
    a_reader_beside_a_writer: How::Client(outer::<Joins>), "S1" "S2",
        "a read lock and a write lock that count in different keys";
    a_reader_that_is_let_in_and_not_counted: How::Client(outer::<Overtakes>), "S1" "S2" "S5",
        "Redisson #4217 and its kin: readers that overtake, and writers that do not see them";
    several_permits_counted_as_one: How::Client(outer::<AsOne>), "S1"; "pause",
        "Redisson #4462: permits that are counted wrong";
    a_fence_at_writes_only: How::Fence, "S3"; "pause",
        "a resource that checks tokens when it is written, and not when it is first read";
};

/// After a cut, answers belong to the requests before them: each is told what another one was.
#[derive(Default)]
pub(crate) struct Shifted(Mutex<HashMap<Key, Answer>>);

impl Interceptor for Shifted {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move {
            let answer = store.attempt(claim).await?;
            Ok(locked(&self.0).insert(claim.key.clone(), answer.clone()).unwrap_or(answer))
        })
    }
}

/// The lease counts from the answer: it is believed for longer by as long as the answer took. The store is asked for a
/// quarter of the lease, since the engine never believes in more than it asked for: only an answer that takes less than the
/// rest of the lease can be believed for too long.
#[derive(Default)]
struct FromAnswer;

fn longer(answer: tenure::Result<Answer>, sent: u64) -> tenure::Result<Answer> {
    let mut answer = answer?;
    if let Standing::Held(Grant { lease: Lease::For(lease), .. }) = &mut answer.standing {
        *lease += Duration::from_nanos(boot_ns().saturating_sub(sent));
    }
    Ok(answer)
}

impl Interceptor for FromAnswer {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let sent = boot_ns();
        Box::pin(async move { longer(store.attempt(&part(claim, 4)).await, sent) })
    }
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        let sent = boot_ns();
        Box::pin(async move {
            let quarters: Vec<Claim> = claims.iter().map(|claim| part(claim, 4)).collect();
            store.renew(&quarters).await.into_iter().map(|a| longer(a, sent)).collect()
        })
    }
}

/// A grant that was told is believed as if it had been given when it was read.
struct FromArrival;

impl Hooks for FromArrival {
    fn sink(&self, sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
        Arc::new(Arrival(sink))
    }
}

struct Arrival(Arc<dyn Sink>);

impl Sink for Arrival {
    fn news(&self, news: News) {
        self.0.news(match news {
            News::Granted(id, grant, _) => News::Granted(id, grant, u64::MAX),
            other => other,
        });
    }
}

/// Whoever renews hears yes.
#[derive(Default)]
struct AlwaysYes;

impl Interceptor for AlwaysYes {
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        Box::pin(async move {
            let answers = store.renew(claims).await.into_iter().zip(claims);
            answers.map(|(answer, claim)| Ok(yes(answer, claim))).collect()
        })
    }
}

fn yes(answer: tenure::Result<Answer>, claim: &Claim) -> Answer {
    let (token, lease) = (tenure::Token::new(1), Lease::For(claim.ttl));
    let grant = Grant { token, lease, previous: Previous::Unknown };
    match answer {
        Ok(answer) if matches!(answer.standing, Standing::Held(_) | Standing::Waiting { .. }) => answer,
        _ => Answer { standing: Standing::Held(grant), at: None },
    }
}

/// The store is asked for half the lease, and the whole of it is believed.
#[derive(Default)]
struct Cut;

fn whole(answer: tenure::Result<Answer>) -> tenure::Result<Answer> {
    let mut answer = answer?;
    if let Standing::Held(Grant { lease: Lease::For(lease), .. }) = &mut answer.standing {
        *lease *= 2;
    }
    Ok(answer)
}

/// Asks for the lease divided by so much.
fn part(claim: &Claim, by: u32) -> Claim {
    Claim { ttl: claim.ttl / by, ..claim.clone() }
}

impl Interceptor for Cut {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move { whole(store.attempt(&part(claim, 2)).await) })
    }
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        Box::pin(async move {
            let halves: Vec<Claim> = claims.iter().map(|claim| part(claim, 2)).collect();
            store.renew(&halves).await.into_iter().map(whole).collect()
        })
    }
}

/// All tasks of a process that use a lock are one owner.
#[derive(Default)]
struct OneId;

fn shared(claim: &Claim) -> Claim {
    let mut hash = DefaultHasher::new();
    (claim.key.full(), std::process::id()).hash(&mut hash);
    Claim { id: ClaimId(u128::from(hash.finish())), ..claim.clone() }
}

impl Interceptor for OneId {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        Box::pin(async move { store.attempt(&shared(claim)).await })
    }
    fn renew<'a>(&'a self, store: Near<'a>, claims: &'a [Claim]) -> AllAnswered<'a> {
        Box::pin(async move {
            let same: Vec<Claim> = claims.iter().map(shared).collect();
            store.renew(&same).await
        })
    }
    fn release<'a>(&'a self, store: Near<'a>, claim: &'a Claim, leave: Leave) -> Answered<'a, Released> {
        Box::pin(async move { store.release(&shared(claim), leave).await })
    }
}

/// However many permits are asked for, one is taken.
#[derive(Default)]
struct AsOne;

impl Interceptor for AsOne {
    fn attempt<'a>(&'a self, store: Near<'a>, claim: &'a Claim) -> Answered<'a> {
        let weight = if claim.kind == Kind::Semaphore { 1 } else { claim.weight };
        let light = Claim { weight, ..claim.clone() };
        Box::pin(async move { store.attempt(&light).await })
    }
}

/// How often the standing clock is looked at, and what is too long between two looks for a process that runs.
const TICK: Duration = Duration::from_millis(5);
const STOPPED: Duration = Duration::from_millis(100);

/// A clock that does not count the time in which the process was stopped.
#[derive(Debug)]
struct Still {
    inner: Arc<dyn Runtime>,
    missed: Arc<AtomicU64>,
    seen: Arc<AtomicU64>,
}

fn stands_still() -> Arc<dyn Hooks> {
    runs(|inner| {
        let (missed, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(boot_ns())));
        let clock = Still { inner, missed, seen };
        let (missed, seen) = (clock.missed.clone(), clock.seen.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(TICK);
                look(&missed, &seen);
            }
        });
        Overridden(clock)
    })
}

fn look(missed: &AtomicU64, seen: &AtomicU64) {
    let now = boot_ns();
    let gap = Duration::from_nanos(now.saturating_sub(seen.swap(now, Ordering::SeqCst)));
    if gap > STOPPED {
        missed.fetch_add(u64::try_from(gap.as_nanos()).unwrap_or(0), Ordering::SeqCst);
    }
}

impl Still {
    fn lag(&self) -> Duration {
        Duration::from_nanos(self.missed.load(Ordering::SeqCst))
    }
}

impl RuntimeOverride for Still {
    fn inner(&self) -> &dyn Runtime {
        &*self.inner
    }
    fn now(&self) -> Moment {
        look(&self.missed, &self.seen);
        self.inner.now() - self.lag()
    }
    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        self.inner.sleep_until(at + self.lag())
    }
}

#[cfg(test)]
mod tests {
    use crate::broken::{On, variants};
    use crate::mutants::all;
    use crate::servers::StoreKind;
    use crate::servers::patched::Patch;

    /// All patches: whose they are, and of which kind of server.
    fn patches() -> impl Iterator<Item = (&'static str, &'static dyn StoreKind, &'static [Patch])> {
        let of_mutants = all().filter_map(|m| Some((m.name, m.server()?, m.patches())));
        let of_variants = variants().filter_map(|v| match v.on {
            On::Server(kind, patches) => Some((v.name, kind, patches)),
            On::Process => None,
        });
        of_mutants.chain(of_variants)
    }

    /// A patch that has lost its place would leave a mutant that is right.
    #[test]
    fn every_patch_has_a_place_in_a_script() {
        for (name, kind, patches) in patches() {
            for (old, _) in patches {
                let old = kind.as_loaded(old);
                assert!(
                    kind.scripts().iter().any(|text| text.contains(&old)),
                    "{name}: nothing says {old:?}"
                );
            }
        }
    }

    /// One that counts bytes would lose its place whenever a record changes.
    #[test]
    fn no_patch_counts_bytes() {
        for (name, _, patches) in patches() {
            for text in patches.iter().flat_map(|(old, new)| [old, new]) {
                let cuts = ["sub(", "byte("].into_iter().flat_map(|cut| text.split(cut).skip(1));
                for inside in cuts.filter_map(|cut| cut.split(')').next()) {
                    let from = inside.split_once(", ").map_or("", |(_, from)| from);
                    assert!(!from.starts_with(|c: char| c.is_ascii_digit()), "{name}: {text}");
                }
            }
        }
    }
}
