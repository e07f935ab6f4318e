//! S4: whoever does not present a claim's id cannot end or renew it.

use std::time::Duration;

use tenure::backend::{Claim, ClaimId, Leave, Standing};
use tenure::{ErrorKind, Released};

use super::raw::Store;
use super::wire::{Fault, Verb, Wire};
use super::{Ctx, Report, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "s4_strangers_cannot_release", rules: &["S4"], why_not: |_| None, run: strangers },
    Trial {
        name: "s4_a_second_release_spares_the_next",
        rules: &["S4", "S7"],
        why_not: |_| None,
        run: twice,
    },
    Trial { name: "s4_a_stale_guard_spares_the_next", rules: &["S4", "S8"], why_not: |_| None, run: stale },
];

/// The hold of `claim` is as it was.
async fn untouched(store: &Store, claim: &Claim, name: &str, by: &str) -> Verdict<()> {
    let line = store.look(name).await?;
    let holders: Vec<_> = line.iter().flat_map(|l| &l.holders).map(|h| h.claim.clone()).collect();
    ensure!(holders == [claim.id.short()], "{by}: {holders:?} hold, and it must be {}", claim.id.short());
    Ok(())
}

fn strangers(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("mine");
        let other = ctx.name("other");
        let mine = store.claim(&name)?;
        store.take(&mine).await?;
        let mut strangers = vec![store.claim(&name)?];
        // Ids that are almost ours.
        for bit in [0, 1, 31, 63, 64, 127] {
            strangers.push(Claim { id: ClaimId(mine.id.0 ^ 1 << bit), ..mine.clone() });
        }
        strangers.push(Claim { id: ClaimId(0), ..mine.clone() });
        // Our own id, at another lock's door.
        strangers.push(Claim { key: ctx.key(&other)?, ..mine.clone() });
        let mut tries = 0;
        for stranger in &strangers {
            for leave in [Leave::Nothing, Leave::Final, Leave::For(Duration::from_millis(1))] {
                let released = store.release(stranger, leave).await?;
                ensure!(released == Released::Gone, "a stranger's release says {released:?}");
                let renewed = store.renew(stranger).await?;
                let gone = matches!(renewed, Standing::Gone { .. });
                ensure!(gone, "a stranger's renewal says {renewed:?}");
                untouched(&store, &mine, &name, "after a stranger").await?;
                tries += 2;
            }
        }
        ensure!(store.look(&other).await?.is_none(), "a stranger's request left something at another lock");
        let released = store.release(&mine, Leave::Nothing).await?;
        ensure!(released == Released::WasHeld, "its owner's release says {released:?}");
        Ok(Report::new().count("tries", tries as u64))
    })
}

fn twice(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("twice");
        let (first, next) = (store.claim(&name)?, store.claim(&name)?);
        store.take(&first).await?;
        store.wait(&next).await?;
        ensure!(
            store.release(&first, Leave::Nothing).await? == Released::WasHeld,
            "the first release must find it"
        );
        // Where the store has no line, whoever waits must ask.
        store.take(&next).await?;
        for leave in [Leave::Nothing, Leave::Final, Leave::For(Duration::from_secs(9)), Leave::Nothing] {
            let again = store.release(&first, leave).await?;
            ensure!(again == Released::Gone, "the second release says {again:?}");
            untouched(&store, &next, &name, "after a second release").await?;
        }
        ensure!(store.release(&next, Leave::Nothing).await? == Released::WasHeld, "the next one's release");
        ensure!(store.look(&name).await?.is_none(), "somebody is left");
        Ok(Report::new().count("releases", 6u64))
    })
}

/// A guard whose lease ended long ago comes back: it is told so, and harms nobody.
fn stale(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(4);
    ctx.block_on(async {
        let plain = ctx.locks().await?;
        let store = ctx.store().await?;
        for round in 0..rounds {
            let name = ctx.name("stale");
            let wire = Wire::new(|call| if call.is(Verb::Renew) { Fault::LoseRequest } else { Fault::Pass });
            let slow = ctx.client().ttl_ms(200).wire(&wire).connect().await?;
            let old = ctx.lock(&slow, &name)?.lock().await?;
            let new = ctx.within("the next grant", ctx.lock(&plain, &name)?.lock()).await??;
            if round % 2 == 0 {
                let kind = old.release().await.err().map(|e| e.kind());
                ensure!(kind == Some(ErrorKind::Lost), "the stale release says {kind:?}");
            } else {
                drop(old);
                ctx.until("its withdrawal has arrived", async || Ok(wire.releases() > 0)).await?;
            }
            ctx.until("the old client is idle", async || Ok(slow.live() == 0)).await?;
            new.check()?;
            let line = store.look(&name).await?.ok_or("the new hold is gone")?;
            ensure!(
                line.holders.first().map(|h| h.token) == Some(new.token()),
                "another one holds: {line:?}"
            );
            new.release().await?;
        }
        Ok(Report::new().count("stale guards", rounds))
    })
}
