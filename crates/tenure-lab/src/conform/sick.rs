//! L6: one sick lock, or one sick store, costs no other a renewal.

use std::time::Duration;
use tokio::time::sleep;

use super::wire::{Fault, Verb, Wire};
use super::{Ctx, Report, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "l6_one_stuck_lock", rules: &["L6"], why_not: |_| None, run: stuck_lock },
    Trial { name: "l6_one_stuck_store", rules: &["L6"], why_not: |_| None, run: stuck_store },
];

/// A request about one lock is never answered, and neither is any that carries others along.
fn stuck_lock(ctx: &Ctx) -> Verdict {
    const LOCKS: usize = 24;
    ctx.block_on(async {
        let sick = ctx.name("sick");
        let name = sick.clone();
        let wire = Wire::new(move |call| {
            if call.is(Verb::Renew) && call.about(&name) { Fault::LoseRequest } else { Fault::Pass }
        });
        let locks = ctx.client().ttl_ms(2000).wire(&wire).connect().await?;
        let stuck = ctx.lock(&locks, &sick)?.lock().await?;
        let mut guards = Vec::new();
        for n in 0..LOCKS {
            guards.push(ctx.lock(&locks, &format!("well/{n}"))?.lock().await?);
        }
        let lost = ctx.within("the sick lock is lost", stuck.lost()).await?;
        for _ in 0..2 {
            for guard in &guards {
                ensure!(guard.check().is_ok(), "{} was lost along with {}", guard.key(), lost.key());
            }
            sleep(Duration::from_secs(2)).await;
        }
        for guard in guards {
            guard.release().await?;
        }
        Ok(Report::new().count("locks that went on", LOCKS))
    })
}

/// One store of a process answers nothing any more; the locks of another go on.
fn stuck_store(ctx: &Ctx) -> Verdict {
    const LOCKS: usize = 16;
    ctx.block_on(async {
        let wire = Wire::new(|call| if call.is(Verb::Attempt) { Fault::Pass } else { Fault::LoseRequest });
        let sick = ctx.client().ttl_ms(1500).wire(&wire).connect().await?;
        let well = ctx.client().ttl_ms(1500).connect().await?;
        let mut lost = Vec::new();
        let mut kept = Vec::new();
        for n in 0..LOCKS {
            lost.push(ctx.lock(&sick, &format!("sick/{n}"))?.lock().await?);
            kept.push(ctx.lock(&well, &format!("well/{n}"))?.lock().await?);
        }
        for guard in &lost {
            ctx.within("a lock of the sick store is lost", guard.lost()).await?;
        }
        for guard in &kept {
            ensure!(guard.check().is_ok(), "{} was lost along with another store's", guard.key());
        }
        // New ones are granted as well, while the withdrawals of the sick store are under way.
        drop(lost);
        let again = ctx.lock(&well, &ctx.name("again"))?;
        ctx.within("a grant beside a sick store", again.lock()).await??.release().await?;
        for guard in kept {
            guard.release().await?;
        }
        Ok(Report::new().count("locks that went on", LOCKS))
    })
}
