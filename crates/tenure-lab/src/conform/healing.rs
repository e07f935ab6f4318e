//! L2 and L4: when the faults are over, all is as before; when all is over, nothing is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenure::{Locks, Token};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::check::{Held, judge};
use super::faces::Lock;
use super::promised::{no_evict, no_keep};
use super::wire::{Fault, Wire};
use super::{Ctx, Failed, Report, Trial, Verdict, ensure};
use crate::num::{Dice, boot_ns};

pub(crate) const TRIALS: &[Trial] = &[
    Trial {
        name: "l2_after_the_faults",
        rules: &["L2", "S1", "S2", "L4"],
        why_not: |_| None,
        run: |ctx| heals(ctx, false),
    },
    Trial { name: "l4_no_residue", rules: &["L4"], why_not: |_| None, run: |ctx| residue(ctx, false) },
];

/// A wire on which, while `faulty`, most things go wrong.
fn bad_wire(faulty: Arc<AtomicBool>, faults: Arc<AtomicU64>, seed: u64) -> Arc<Wire> {
    let dice = Mutex::new(Dice::new(seed, 3));
    Wire::new(move |_| {
        if !faulty.load(Ordering::SeqCst) {
            return Fault::Pass;
        }
        let mut dice = dice.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |dice: &mut Dice| Duration::from_millis(dice.below(40));
        let way = match dice.below(8) {
            0 => Fault::LoseRequest,
            1 => Fault::LoseAnswer,
            2 => Fault::Refuse,
            3 => Fault::Garble,
            4 | 5 => Fault::Delay(ms(&mut dice), ms(&mut dice)),
            _ => return Fault::Pass,
        };
        faults.fetch_add(1, Ordering::SeqCst);
        way
    })
}

/// Clients with bad wires fight for a lock; then the wires are good. Their tasks share claims, or do not.
pub(super) fn heals(ctx: &Ctx, shared: bool) -> Verdict {
    const CLIENTS: u64 = 3;
    ctx.block_on(async {
        let name = ctx.name("heals");
        let (faulty, over) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (faults, holds) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = JoinSet::new();
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let wire = bad_wire(faulty.clone(), faults.clone(), client);
            let locks = ctx.client().sharing(shared).ttl_ms(600).wire(&wire).connect().await?;
            for task in 0..3 {
                let (lock, over, holds) = (ctx.lock(&locks, &name)?, over.clone(), holds.clone());
                tasks.spawn(fights(lock, over, holds, Dice::new(client, task)));
            }
            clients.push(locks);
        }
        let (wanted, grants) =
            (ctx.rounds(150), || holds.lock().unwrap_or_else(PoisonError::into_inner).len());
        ctx.until("faults enough", async || Ok(faults.load(Ordering::SeqCst) >= wanted && grants() >= 10))
            .await?;
        faulty.store(false, Ordering::SeqCst);
        for locks in &clients {
            // Others still fight for it, so this is one wait among many.
            let guard = ctx.within("a grant after the faults", ctx.lock(locks, &name)?.lock()).await??;
            guard.release().await?;
        }
        over.store(true, Ordering::SeqCst);
        let all = async {
            while let Some(done) = tasks.join_next().await {
                done?;
            }
            Ok::<_, Failed>(())
        };
        ctx.within("the fighters go home", all).await??;
        for locks in &clients {
            ctx.until("a client has nothing in hand", async || Ok(locks.live() == 0)).await?;
        }
        let plain = ctx.locks().await?;
        ctx.nothing_left(&plain, &name).await?;
        let mut holds = holds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        judge(&mut holds, ctx.face)?;
        Ok(Report::new().count("faults", faults.load(Ordering::SeqCst)).count("grants", holds.len()))
    })
}

async fn fights(lock: Lock, over: Arc<AtomicBool>, holds: Arc<Mutex<Vec<Held>>>, mut dice: Dice) {
    while !over.load(Ordering::SeqCst) {
        let asked = boot_ns();
        let wait = Duration::from_millis(dice.below(700));
        let got = match dice.below(3) {
            0 => timeout(wait, lock.lock()).await.map_or(Ok(None), |got| got.map(Some)),
            _ => lock.try_lock_for(wait).await,
        };
        let Ok(Some(guard)) = got else { continue };
        let from = boot_ns();
        sleep(Duration::from_micros(dice.below(5000))).await;
        // While it is believed: the stamp is taken first, so the belief lasted at least until then.
        let to = boot_ns();
        let to = if guard.check().is_ok() { to } else { from };
        let held = Held { asked, from, to, token: guard.token().map_or(0, Token::get), process: 0 };
        holds.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        match dice.below(2) {
            0 => drop(guard),
            _ => drop(timeout(wait, guard.release()).await),
        }
    }
}

/// Lives of every kind, on a few locks at a time. Their tasks share claims, or do not.
pub(super) fn residue(ctx: &Ctx, shared: bool) -> Verdict {
    const LOCKS: u64 = 12;
    let rounds = ctx.rounds(400);
    ctx.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(ctx.client().sharing(shared).connect().await?);
        }
        let mut dice = Dice::new(9, 9);
        let mut tasks = JoinSet::new();
        for round in 0..rounds {
            let locks = clients[(round % 3) as usize].clone();
            let name = format!("residue/{}", dice.below(LOCKS));
            let lock = ctx.lock(&locks, &name)?;
            let (mut what, wait) = (dice.below(7), Duration::from_micros(dice.below(3000)));
            if (what == 4 && no_keep(ctx).is_some()) || (what == 5 && no_evict(ctx).is_some()) {
                what = 6;
            }
            tasks.spawn(async move {
                timeout(Duration::from_secs(20), lives(&locks, &lock, &name, what, wait)).await
            });
            if tasks.len() > 40 {
                tasks.join_next().await.transpose()?;
            }
        }
        let all = async {
            while let Some(done) = tasks.join_next().await {
                done?.map_err(|_| Failed::from("a life hangs"))??;
            }
            Ok::<_, Failed>(())
        };
        ctx.within("all lives end", all).await??;
        let plain = ctx.locks().await?;
        for locks in clients {
            ctx.until("a client has nothing in hand", async || Ok(locks.live() == 0)).await?;
            locks.close().await?;
        }
        ctx.until("nothing is listed", async || Ok(plain.list("").await?.is_empty())).await?;
        for n in 0..LOCKS {
            let guard = ctx.lock(&plain, &format!("residue/{n}"))?.try_lock().await?;
            ensure!(guard.is_some(), "nothing is listed, and residue/{n} is not free");
        }
        Ok(Report::new().count("lives", rounds))
    })
}

/// One short life of a claim, in one of the ways in which they live.
async fn lives(locks: &Locks, lock: &Lock, name: &str, what: u64, wait: Duration) -> Verdict<()> {
    match what {
        0 => drop(lock.lock().await?),
        1 => drop(lock.try_lock().await?),
        2 => drop(lock.try_lock_for(wait).await?),
        3 => drop(timeout(wait, lock.lock()).await),
        4 => lock.lock().await?.release_after(wait).await?,
        5 => {
            let guard = lock.lock().await?;
            // Not of permits: that would take the others away as well.
            if let token @ Some(_) = guard.token() {
                locks.evict(name, token, "a trial").await?;
            }
            // The eviction may have come between: then it is lost, and says so.
            drop(guard.release().await);
        }
        _ => lock.lock().await?.release().await?,
    }
    Ok(())
}
