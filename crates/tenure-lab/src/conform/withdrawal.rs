//! S9: what is withdrawn stays withdrawn, whatever arrives late.

use std::time::Duration;

use tenure::Released;
use tenure::backend::{Call, Claim, Leave, Standing};
use tenure::core::lease::MARK_LIFE;

use super::raw::Store;
use super::{Ctx, Report, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "s9_late_requests_are_refused", rules: &["S9"], why_not: |_| None, run: late },
    Trial { name: "s9_withdrawals_race_requests", rules: &["S9", "L4"], why_not: |_| None, run: race },
    Trial { name: "s9_an_old_request_is_refused", rules: &["S9"], why_not: |_| None, run: old },
];

/// A request of a withdrawn id arrives, and is granted nothing: now, and once more.
async fn refused(store: &Store, claim: &Claim, when: &str) -> Verdict<()> {
    for _ in 0..2 {
        let said = store.attempt(claim).await?;
        ensure!(matches!(said, Standing::Gone { .. }), "a request that comes {when} is told {said:?}");
    }
    let line = store.look(claim.key.name()).await?;
    let listed =
        line.iter().flat_map(|l| l.holders.iter().chain(&l.waiting)).any(|c| c.claim == claim.id.short());
    ensure!(!listed, "a request that comes {when} stands in line");
    Ok(())
}

fn late(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("late");
        let held = store.claim(&name)?;
        store.take(&held).await?;
        let waiting = store.claim(&name)?;
        store.wait(&waiting).await?;
        // A store that keeps no place for it cannot know that it waited.
        let waited = if ctx.sees_waiters() { Released::WasWaiting } else { Released::Gone };
        ensure!(store.release(&waiting, Leave::Final).await? == waited, "it waited");
        refused(&store, &waiting, "after its wait was withdrawn").await?;
        ensure!(store.release(&held, Leave::Final).await? == Released::WasHeld, "it held");
        refused(&store, &held, "after its hold was released").await?;
        let early = store.claim(&name)?;
        ensure!(store.release(&early, Leave::Final).await? == Released::Gone, "it never came");
        refused(&store, &early, "after a withdrawal that overtook it").await?;
        let other = store.claim(&name)?;
        store.take(&other).await?;
        refused(&store, &held, "while another one holds").await?;
        // A withdrawal that is repeated, with or without a mark, does not take the mark away.
        store.release(&early, Leave::Nothing).await?;
        refused(&store, &early, "after a second withdrawal").await?;
        store.release(&other, Leave::Nothing).await?;
        refused(&store, &waiting, "when all is over").await?;
        ensure!(store.look(&name).await?.is_none(), "somebody is left");
        Ok(Report::new().count("late requests", 14u64))
    })
}

/// Request and withdrawal of one id at the same time, in either order: nothing is left of it.
fn race(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(300);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let (mut met, mut missed) = (0, 0);
        for round in 0..rounds {
            let name = ctx.name("race");
            let other = store.claim(&name)?;
            if round % 2 == 0 {
                store.take(&other).await?;
            }
            let claim = store.claim(&name)?;
            let (one, two) = (store.backend.clone(), store.backend.clone());
            let (asks, withdraws) = (claim.clone(), claim.clone());
            let ask = tokio::spawn(async move { one.attempt_one(&asks, Call::PATIENT).await });
            let withdraw =
                tokio::spawn(async move { two.release(&withdraws, Leave::Final, Call::PATIENT).await });
            let (asked, withdrawn) = (ask.await??, withdraw.await??);
            match withdrawn {
                Released::Gone => {
                    // Where nobody sees that it waits, the withdrawal may have come second and not know of it.
                    let unseen = !ctx.sees_waiters() && matches!(asked.standing, Standing::Waiting { .. });
                    let gone = unseen || matches!(asked.standing, Standing::Gone { .. });
                    ensure!(gone, "the withdrawal came first, and the request is told {:?}", asked.standing);
                    missed += 1;
                }
                Released::WasHeld | Released::WasWaiting => met += 1,
            }
            refused(&store, &claim, "after both").await?;
            store.release(&other, Leave::Nothing).await?;
            ensure!(store.look(&name).await?.is_none(), "somebody is left");
        }
        Ok(Report::new().count("request first", met as u64).count("withdrawal first", missed as u64))
    })
}

/// Older than a mark lives: there may have been one.
fn old(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("old");
        let claim = store.claim(&name)?;
        let young = Claim { birth: claim.birth - MARK_LIFE / 2, ..claim.clone() };
        store.take(&young).await?;
        store.release(&young, Leave::Nothing).await?;
        if claim.birth.nanos() < 2 * u64::try_from(MARK_LIFE.as_nanos()).unwrap_or(u64::MAX) {
            return Err(super::Failed::Floor("this machine has been up for less than two minutes".into()));
        }
        for late in [Duration::from_millis(1), Duration::from_secs(1), MARK_LIFE] {
            let old = Claim { birth: claim.birth - MARK_LIFE - late, ..store.claim(&name)? };
            refused(&store, &old, "later than a mark lives").await?;
        }
        // One that stands in line already may be old.
        let held = Claim { birth: claim.birth, ..store.claim(&name)? };
        store.take(&held).await?;
        let again = Claim { birth: claim.birth - MARK_LIFE * 2, ..held.clone() };
        let said = store.attempt(&again).await?;
        ensure!(matches!(said, Standing::Held(_)), "an old claim that holds is told {said:?}");
        store.release(&held, Leave::Nothing).await?;
        Ok(Report::new().count("old requests", 6u64))
    })
}
