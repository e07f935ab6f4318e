//! Elections: one leads, in terms whose tokens grow, and anybody sees who.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tenure::{Election, LeaderInfo, Observer};
use tokio::task::JoinSet;

use super::super::{Ctx, Report, Trial, Verdict, ensure};
use super::{all, unseen};

pub(super) const TRIALS: &[Trial] = &[
    Trial { name: "s1_one_leader", rules: &["S1", "S2", "O1"], why_not: unseen, run: one_leader },
    Trial { name: "o1_observers_see_the_leader", rules: &["O1", "S2"], why_not: unseen, run: observed },
];

/// How many lead, and the token of the term before.
#[derive(Default)]
struct Office {
    leading: AtomicU64,
    token: AtomicI64,
}

fn one_leader(ctx: &Ctx) -> Verdict {
    const CANDIDATES: u64 = 3;
    let terms = ctx.rounds(16);
    ctx.block_on(async {
        let name = ctx.name("office");
        let office = Arc::new(Office::default());
        let (mut tasks, mut clients) = (JoinSet::new(), Vec::new());
        for number in 0..CANDIDATES {
            let locks = ctx.locks().await?;
            tasks.spawn(candidate(locks.election(&name)?, number, terms, office.clone()));
            clients.push(locks);
        }
        all(ctx, tasks).await?;
        for locks in &clients {
            ctx.nothing_left(locks, &name).await?;
        }
        Ok(Report::new().count("terms", CANDIDATES * terms))
    })
}

async fn candidate(election: Election, number: u64, terms: u64, office: Arc<Office>) -> Verdict<()> {
    for term in 0..terms {
        let value = format!("candidate {number}, term {term}");
        let leader = election.campaign(&value).await?;
        ensure!(office.leading.fetch_add(1, Ordering::SeqCst) == 0, "S1: somebody else leads");
        let token = leader.token();
        let before = office.token.swap(token.get(), Ordering::SeqCst);
        ensure!(token.get() > before, "S2: the term of {token} follows that of {before}");
        let seen = election.leader().await?.ok_or("somebody leads, and nobody is seen")?;
        ensure!(
            seen.value() == value && seen.token() == Some(token),
            "{value} with {token} is seen as {seen:?}"
        );
        leader.check()?;
        office.leading.fetch_sub(1, Ordering::SeqCst);
        if term % 2 == 0 {
            leader.resign().await?;
        }
    }
    Ok(())
}

/// What an observer is told until it is told this. Changes that come fast may be told as one.
async fn until(
    ctx: &Ctx,
    observer: &mut Observer,
    is: impl Fn(Option<&LeaderInfo>) -> bool,
) -> Verdict<Option<LeaderInfo>> {
    let told = async {
        loop {
            let told = observer.next().await?;
            if is(told.as_ref()) {
                return Verdict::Ok(told);
            }
        }
    };
    ctx.within("an observer is told", told).await?
}

fn observed(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(8);
    ctx.block_on(async {
        let (one, two, three) = (ctx.locks().await?, ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("observed");
        let mut observer = three.election(&name)?.observe()?;
        let first = ctx.within("an observer is told at once", observer.next()).await??;
        ensure!(first.is_none(), "nobody leads, and {first:?} is seen");
        for round in 0..rounds {
            let leader = one.election(&name)?.campaign("a").await?;
            let seen = until(ctx, &mut observer, |l| l.is_some_and(|l| l.value() == "a")).await?;
            ensure!(seen.and_then(|l| l.token()) == Some(leader.token()), "another token is seen");
            let election = two.election(&name)?;
            let next = tokio::spawn(async move { election.campaign("b").await });
            let value = format!("a, round {round}");
            leader.proclaim(&value).await?;
            let seen = until(ctx, &mut observer, |l| l.is_some_and(|l| l.value() == value)).await?;
            ensure!(seen.and_then(|l| l.token()) == Some(leader.token()), "a new value, and a new token");
            let token = leader.token();
            leader.resign().await?;
            let next = ctx.within("the next leader", next).await???;
            let seen = until(ctx, &mut observer, |l| l.is_some_and(|l| l.value() == "b")).await?;
            ensure!(seen.and_then(|l| l.token()) == Some(next.token()), "another token is seen");
            ensure!(next.token() > token, "S2: the term of {} follows that of {token}", next.token());
            next.resign().await?;
            until(ctx, &mut observer, |l| l.is_none()).await?;
        }
        drop(observer);
        ctx.nothing_left(&one, &name).await?;
        Ok(Report::new().count("changes", rounds * 4))
    })
}
