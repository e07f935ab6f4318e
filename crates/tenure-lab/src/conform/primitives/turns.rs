//! Tasks of one client that share a claim and pass its hold on among themselves: what is promised to each of them, and to
//! everybody else.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tenure::backend::{Call, Claim, Cohort, Leave};
use tenure::{ErrorKind, Guard, Line, Locks, LostReason, Released, Seen, Turns};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};

use super::super::ctx::mutex;
use super::super::wire::Wire;
use super::super::{Ctx, Failed, Report, Trial, Verdict, ensure};
use super::super::{exclusion, healing};
use super::all;

pub(super) const TRIALS: &[Trial] = &[
    Trial { name: "s1_tasks_that_share_claims", rules: &["S1", "S2", "L4"], why_not: each, run: crowds },
    Trial {
        name: "s1_exclusion_of_tasks_that_share",
        rules: &["S1", "S2"],
        why_not: each,
        run: |ctx| exclusion::tasks(ctx, true),
    },
    Trial { name: "s2_the_tokens_of_a_cohort", rules: &["S2"], why_not: each, run: tokens },
    Trial { name: "s5_an_evicted_cohort", rules: &["S5", "S2", "O1"], why_not: each, run: evicted },
    Trial {
        name: "l2_after_the_faults_of_those_who_share",
        rules: &["L2", "S1", "S2", "L4"],
        why_not: each,
        run: |ctx| healing::heals(ctx, true),
    },
    Trial {
        name: "l4_no_residue_of_those_who_share",
        rules: &["L4"],
        why_not: each,
        run: |ctx| healing::residue(ctx, true),
    },
    Trial { name: "l3_a_cohort_lets_others_pass", rules: &["L3"], why_not: each, run: lets_pass },
    Trial { name: "o1_those_behind_a_claim_are_counted", rules: &["O1"], why_not: each, run: counted },
];

pub(super) fn each(ctx: &Ctx) -> Option<&'static str> {
    (ctx.caps.turns != Turns::Shared).then_some("turns is each")
}

pub(super) async fn line(locks: &Locks, name: &str) -> Verdict<Line> {
    locks.inspect(name).await?.ok_or_else(|| Failed::Broken(format!("{name} is not listed")))
}

/// Polls a life once, so that it has asked when this returns, and lets it go on by itself.
pub(super) fn begun<T: Send + 'static>(life: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let mut life: Pin<Box<_>> = Box::pin(life);
    match life.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(out) => tokio::spawn(std::future::ready(out)),
        Poll::Pending => tokio::spawn(life),
    }
}

/// Those who wait for one lock, each by a label, and who has got it.
pub(super) struct Queue<'a> {
    ctx: &'a Ctx,
    pub(super) name: String,
    tell: UnboundedSender<(&'static str, tenure::Result<Guard>)>,
    pub(super) told: UnboundedReceiver<(&'static str, tenure::Result<Guard>)>,
}

impl<'a> Queue<'a> {
    pub(super) fn new(ctx: &'a Ctx, what: &str) -> Queue<'a> {
        let (tell, told) = unbounded_channel();
        Queue { ctx, name: ctx.name(what), tell, told }
    }

    /// A task that waits: it stands behind all that asked before when this returns, unless those are of other clients.
    pub(super) fn joins(&self, locks: &Locks, label: &'static str) -> Verdict<()> {
        let (lock, tell) = (mutex(locks, &self.name)?, self.tell.clone());
        drop(begun(async move { tell.send((label, lock.lock().await)) }));
        Ok(())
    }

    /// Waits until the store has so many claims in line, those who hold not among them.
    async fn stand(&self, locks: &Locks, claims: usize) -> Verdict<()> {
        let so = async || Ok(line(locks, &self.name).await?.waiting.len() == claims);
        self.ctx.until("the claims are in line", so).await
    }

    /// Who has the lock next must be this one.
    pub(super) async fn turn_of(&mut self, label: &str) -> Verdict<Guard> {
        let (who, guard) =
            self.ctx.within("the next one's turn", self.told.recv()).await?.ok_or("nobody waits any more")?;
        ensure!(who == label, "it is the turn of {label}, and {who} has the lock");
        let guard = guard?;
        guard.check()?;
        Ok(guard)
    }

    /// The next ones are these; each gives the lock back. Their tokens grow from `last` on.
    pub(super) async fn turns_of(&mut self, labels: &[&str], last: &mut i64) -> Verdict<()> {
        for (n, label) in labels.iter().enumerate() {
            let guard = self.turn_of(label).await?;
            grew(last, guard.token().get())?;
            if n % 2 == 0 { drop(guard) } else { guard.release().await? }
        }
        Ok(())
    }

    /// A foreign client holds, one task of `locks` waits with a claim of its own, and behind it a cohort of these.
    pub(super) async fn crowd(
        &self,
        plain: &Locks,
        locks: &Locks,
        labels: &[&'static str],
    ) -> Verdict<Guard> {
        let before = mutex(plain, &self.name)?.lock().await?;
        self.joins(locks, "single")?;
        self.stand(plain, 1).await?;
        for label in labels {
            self.joins(locks, label)?;
        }
        self.stand(plain, 2).await?;
        Ok(before)
    }
}

fn grew(last: &mut i64, token: i64) -> Verdict<()> {
    ensure!(token > *last, "S2: token {token} after {last}");
    *last = token;
    Ok(())
}

/// A counter that only the lock guards, and the tokens in the order of the holds.
#[derive(Default)]
struct Guarded {
    counter: AtomicU64,
    tokens: Mutex<Vec<i64>>,
}

/// Two clients whose tasks share claims, and one whose tasks do not, on one lock: every task gets its rounds.
fn crowds(ctx: &Ctx) -> Verdict {
    const TASKS: u64 = 20;
    let rounds = ctx.rounds(40);
    ctx.block_on(async {
        let name = ctx.name("crowds");
        let (wire, guarded) = (Wire::counting(), Arc::new(Guarded::default()));
        let mut tasks = JoinSet::new();
        let fair = ctx.locks().await?;
        let one = ctx.client().sharing(true).wire(&wire).connect().await?;
        let two = ctx.client().sharing(true).wire(&wire).connect().await?;
        for (locks, many) in [(&one, TASKS), (&fair, 1), (&two, TASKS)] {
            for _ in 0..many {
                tasks.spawn(counts(mutex(locks, &name)?, guarded.clone(), rounds));
            }
        }
        all(ctx, tasks).await?;
        for locks in [&one, &two, &fair] {
            ctx.nothing_left(locks, &name).await?;
        }
        let grants = (2 * TASKS + 1) * rounds;
        let counter = guarded.counter.load(Ordering::SeqCst);
        ensure!(counter == grants, "S1: {grants} counted under the lock, and it says {counter}");
        let tokens = guarded.tokens.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut last = 0;
        tokens.iter().try_for_each(|token| grew(&mut last, *token))?;
        let (claims, shared) = (wire.attempts(), 2 * TASKS * rounds);
        if claims >= shared / 2 {
            return Err(Failed::Floor(format!("{claims} claims for {shared} grants: nearly nobody shares")));
        }
        Ok(Report::new().count("grants", grants).count("of them by sharing", shared).count("claims", claims))
    })
}

async fn counts(lock: tenure::Mutex, guarded: Arc<Guarded>, rounds: u64) -> Verdict<()> {
    for round in 0..rounds {
        let guard = lock.lock().await?;
        let before = guarded.counter.load(Ordering::Relaxed);
        tokio::task::yield_now().await;
        guard.check()?;
        guarded.tokens.lock().unwrap_or_else(PoisonError::into_inner).push(guard.token().get());
        guarded.counter.store(before + 1, Ordering::Relaxed);
        if round % 2 == 0 { drop(guard) } else { guard.release().await? }
    }
    Ok(())
}

/// Tokens that are a claim's own are nobody else's; those that were not used go back. So many are asked for that a token
/// made of the store's clock is not greater anyway; where it is, once in a while, nothing is found.
fn tokens(ctx: &Ctx) -> Verdict {
    const OWN: u32 = 60_000;
    const USED: u32 = 30_000;
    let rounds = ctx.rounds(40);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let mut back = 0u64;
        for round in 0..rounds {
            let name = ctx.name("own");
            let many = |used| -> Verdict<Claim> {
                Ok(Claim { cohort: Cohort { tokens: OWN, used, behind: 0 }, ..store.claim(&name)? })
            };
            let first = |grant: tenure::backend::Grant| grant.token.map(|t| t.get()).ok_or("no token");
            let (claim, next, last) = (many(USED)?, many(1)?, store.claim(&name)?);
            let token = first(store.take(&claim).await?)?;
            let again = first(store.take(&claim).await?)?;
            ensure!(again == token, "S7: {again} for a claim that has {token}");
            // Every other time somebody waits.
            let waits = round % 2 == 0;
            if waits {
                store.wait(&next).await?;
            }
            store.release(&claim, Leave::Nothing).await?;
            let then = first(store.take(&next).await?)?;
            let newest = token + i64::from(USED) - 1;
            ensure!(then > newest, "S2: token {then}, and {newest} was used before");
            back += u64::from(then < token + i64::from(OWN));
            // Taken away: nobody says how many were used, so none goes back, whichever of them is named.
            let whom = tenure::Token::new(then + i64::from(USED));
            let key = ctx.key(&name)?;
            let told = store.backend.evict(&key, whom, "a trial", Call::PATIENT).await?;
            ensure!(told == Released::WasHeld, "one of its tokens is named, and it is {told:?}");
            let end = first(store.take(&last).await?)?;
            let newest = then + i64::from(OWN) - 1;
            ensure!(end > newest, "S2: token {end}, and up to {newest} may have been used before");
            store.release(&last, Leave::Nothing).await?;
        }
        ensure!(back > 0, "tokens that were not used never go back");
        Ok(Report::new().count("ends of cohorts", rounds * 2).count("with tokens that went back", back))
    })
}

/// An operator takes the lock away from the task of a cohort that has it now: that one learns it, and those behind it
/// get the lock with another claim, behind whoever waits.
fn evicted(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(12);
    ctx.block_on(async {
        let (plain, foreign) = (ctx.locks().await?, ctx.locks().await?);
        let locks = ctx.client().sharing(true).connect().await?;
        for round in 0..rounds {
            let mut queue = Queue::new(ctx, "evicted");
            let before = queue.crowd(&plain, &locks, &["a", "b", "c", "d", "e"]).await?;
            let mut last = before.token().get();
            before.release().await?;
            // The first of the grant is evicted, or one that it was passed on to.
            let passed = (round % 3) as usize;
            queue.turns_of(&["single", "a", "b"][..=passed], &mut last).await?;
            let guard = queue.turn_of(["a", "b", "c"][passed]).await?;
            grew(&mut last, guard.token().get())?;
            queue.joins(&foreign, "foreign")?;
            queue.stand(&plain, 1).await?;
            let said = plain.evict(&queue.name, Some(guard.token()), "it hangs").await?;
            ensure!(said == Released::WasHeld, "the token of its holder evicts nobody: {said:?}");
            match ctx.within("the evicted is told", guard.lost()).await?.why() {
                LostReason::Evicted(why) if why.contains("it hangs") => {}
                other => return Err(format!("it is told {other:?}").into()),
            }
            ensure!(guard.check().is_err(), "S5: it is lost, and then it is not");
            let kind = guard.release().await.err().map(|e| e.kind());
            ensure!(kind == Some(ErrorKind::Lost), "S8: the release of the evicted says {kind:?}");
            queue.turns_of(&["foreign"], &mut last).await?;
            queue.turns_of(&["b", "c", "d", "e"][passed..], &mut last).await?;
            ctx.nothing_left(&locks, &queue.name).await?;
        }
        Ok(Report::new().count("evictions", rounds))
    })
}

/// Whoever comes once a cohort is granted stands behind those who waited in the store by then.
fn lets_pass(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(20);
    ctx.block_on(async {
        let (plain, foreign) = (ctx.locks().await?, ctx.locks().await?);
        let locks = ctx.client().sharing(true).connect().await?;
        for _ in 0..rounds {
            let mut queue = Queue::new(ctx, "passes");
            let before = queue.crowd(&plain, &locks, &["a", "b", "c"]).await?;
            let mut last = before.token().get();
            before.release().await?;
            queue.turns_of(&["single"], &mut last).await?;
            let first = queue.turn_of("a").await?;
            grew(&mut last, first.token().get())?;
            queue.joins(&foreign, "foreign")?;
            queue.stand(&plain, 1).await?;
            for late in ["late", "later"] {
                queue.joins(&locks, late)?;
            }
            queue.stand(&plain, 2).await?;
            first.release().await?;
            queue.turns_of(&["b", "c", "foreign", "late", "later"], &mut last).await?;
            ctx.nothing_left(&locks, &queue.name).await?;
        }
        Ok(Report::new().count("cohorts", rounds).count("grants", rounds * 8))
    })
}

/// A cohort is listed as one claim, with the number of those behind it; they count as waiters.
fn counted(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        // It holds for long enough, and renews soon.
        let locks = ctx.client().sharing(true).ttl_ms(3000).connect().await?;
        let mut queue = Queue::new(ctx, "counted");
        let before = queue.crowd(&plain, &locks, &["a", "b", "c", "d"]).await?;
        let mut last = before.token().get();
        let watched = queue.name.clone();
        let shown = async |held: u32, waiting: &[u32]| {
            let behind: u32 = held + waiting.iter().sum::<u32>();
            let people = waiting.len() as u64 + u64::from(behind);
            let of = |seen: &[Seen]| seen.iter().map(|seen| seen.behind).collect::<Vec<_>>();
            let so = async || {
                let line = line(&plain, &watched).await?;
                Ok(line.waiters == people && of(&line.holders) == [held] && of(&line.waiting) == waiting)
            };
            ctx.until(&format!("{held} behind the holder, {waiting:?} behind those in line"), so).await
        };
        shown(0, &[0, 3]).await?;
        before.release().await?;
        queue.turns_of(&["single"], &mut last).await?;
        let first = queue.turn_of("a").await?;
        shown(3, &[]).await?;
        first.release().await?;
        let second = queue.turn_of("b").await?;
        shown(2, &[]).await?;
        second.release().await?;
        queue.turns_of(&["c", "d"], &mut last).await?;
        ctx.nothing_left(&locks, &queue.name).await?;
        Ok(Report::new().count("claims seen", 3u64))
    })
}
