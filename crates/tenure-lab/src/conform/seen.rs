//! O1: holders and waiters can be seen, and looking changes nothing. What an operator takes away is told to all.

use std::time::Duration;

use tenure::backend::{Call, Leave, Query};
use tenure::{ErrorKind, Line, LockOptions, Locks, LostReason, Owner, Released, Seen, Visibility};

use super::faces::{Face, evicts_all};
use super::wire::Wire;
use super::{Ctx, Failed, Report, Trial, Verdict, ensure};

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "o1_holders_and_waiters_are_seen", rules: &["O1"], why_not: hidden, run: everybody },
    Trial { name: "o1_looking_changes_nothing", rules: &["O1"], why_not: hidden, run: nothing_changes },
    Trial { name: "o1_lists_are_complete", rules: &["O1"], why_not: hidden, run: lists },
    Trial { name: "o1_a_watcher_sees_changes", rules: &["O1"], why_not: hidden, run: watches },
    Trial { name: "o1_an_eviction_is_told", rules: &["O1", "S2", "S4"], why_not: evicts_all, run: evicts },
];

fn hidden(ctx: &Ctx) -> Option<&'static str> {
    match ctx.caps.visibility {
        Visibility::Full => None,
        Visibility::Holders => Some("visibility is holders"),
        Visibility::Counts => Some("visibility is counts"),
        _ => Some("visibility is none"),
    }
}

fn owner(user: &str) -> Owner {
    Owner { user: user.into(), host: "a host".into(), pid: 4242, program: "prog \u{e9}".into() }
}

async fn line(locks: &Locks, name: &str) -> Verdict<Line> {
    locks.inspect(name).await?.ok_or_else(|| Failed::Broken(format!("{name} is not listed")))
}

fn shows(face: Face, seen: &Seen, user: &str, reason: &str, lease: Duration) -> Verdict<()> {
    ensure!(seen.owner == owner(user), "the owner is {:?}, and it must be {user}", seen.owner);
    ensure!(seen.reason == reason, "the reason is {:?}, and it must be {reason:?}", seen.reason);
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let since = Duration::from_micros(seen.since_us);
    let off = wall.abs_diff(since);
    ensure!(off < Duration::from_secs(120), "it is said to be there since {since:?}, and now is {wall:?}");
    let left = seen.expires_in.unwrap_or(Duration::MAX);
    ensure!(
        left <= lease && !left.is_zero(),
        "its lease is said to last {left:?}, and it must be {lease:?} at most"
    );
    ensure!(
        seen.weight == face.weight() && seen.claim.len() == 6,
        "its weight is {}, its claim {:?}",
        seen.weight,
        seen.claim
    );
    Ok(())
}

fn everybody(ctx: &Ctx) -> Verdict {
    const WAITERS: u64 = 5;
    ctx.block_on(async {
        let name = ctx.name("seen");
        let locks = ctx.client().ttl_ms(20_000).owner(owner("ada")).connect().await?;
        let plain = ctx.locks().await?;
        let options = LockOptions::new().reason("invoice 7 \u{e9}");
        let guard = ctx.lock(&locks, &name)?.with(options)?.lock().await?;
        let mut waiting = Vec::new();
        for n in 0..WAITERS {
            let options = LockOptions::new().owner(owner(&format!("w{n}"))).reason(&format!("turn {n}"));
            let lock = ctx.lock(&locks, &name)?.with(options)?;
            waiting.push(tokio::spawn(async move { lock.lock().await }));
            ctx.until("the next one waits", async || Ok(line(&plain, &name).await?.waiters == n + 1)).await?;
        }
        let seen = line(&plain, &name).await?;
        ensure!(seen.holders.len() == 1 && seen.waiting.len() as u64 == WAITERS, "the line is {seen:?}");
        shows(ctx.face, &seen.holders[0], "ada", "invoice 7 \u{e9}", Duration::from_secs(20))?;
        let token = guard.token();
        let same = seen.holders[0].token == token && (token.is_none() || seen.token == token);
        ensure!(same, "the token is {:?}", seen.token);
        for (n, waiter) in seen.waiting.iter().enumerate() {
            shows(ctx.face, waiter, &format!("w{n}"), &format!("turn {n}"), Duration::from_secs(10))?;
            ensure!(waiter.token.is_none(), "a waiter has a token");
        }
        // Another process does the work now: the listing says so.
        guard.describe(owner("bob"))?;
        ctx.until("the new owner is shown", async || {
            Ok(line(&plain, &name).await?.holders.first().is_some_and(|h| h.owner == owner("bob")))
        })
        .await?;
        waiting.drain(..).for_each(|task| task.abort());
        ctx.until("the waiters are gone", async || Ok(line(&plain, &name).await?.waiters == 0)).await?;
        guard.release().await?;
        ctx.nothing_left(&locks, &name).await?;
        Ok(Report::new().count("claims seen", WAITERS + 1))
    })
}

/// What a line shows, but for the time that passes.
fn timeless(mut line: Line) -> Line {
    for seen in line.holders.iter_mut().chain(&mut line.waiting) {
        seen.expires_in = None;
    }
    line
}

/// Nobody's lease grows by being looked at, nobody is granted, nobody changes places.
fn nothing_changes(ctx: &Ctx) -> Verdict {
    let looks = ctx.rounds(40);
    ctx.block_on(async {
        let store = ctx.store().await?;
        let name = ctx.name("looked");
        let holder = tenure::backend::Claim { ttl: Duration::from_millis(700), ..store.claim(&name)? };
        let waiter = store.claim(&name)?;
        store.take(&holder).await?;
        store.wait(&waiter).await?;
        let before = store.look(&name).await?.ok_or("nothing is listed")?;
        let mut last = before.holders[0].expires_in.ok_or("a lease without an end")?;
        for _ in 0..looks {
            store
                .backend
                .inspect(&Query { namespace: ctx.namespace.clone(), ..Query::default() }, Call::PATIENT)
                .await?;
            let Some(line) = store.look(&name).await? else { return Err("the line is gone".into()) };
            let Some(held) = line.holders.first() else { break };
            if held.claim != holder.id.short() {
                break; // its lease has ended on the way: what is after that is another trial's matter
            }
            let left = held.expires_in.unwrap_or_default();
            ensure!(left <= last, "looking renewed a lease: {last:?}, then {left:?}");
            last = left;
            ensure!(
                timeless(line.clone()) == timeless(before.clone()),
                "looking changed {before:?} to {line:?}"
            );
        }
        let look_until_free = async || {
            Ok(store
                .look(&name)
                .await?
                .is_none_or(|l| l.holders.iter().all(|h| h.claim != holder.id.short())))
        };
        ctx.until("the lease ends although it is looked at", look_until_free).await?;
        store.take(&waiter).await?;
        store.release(&waiter, Leave::Nothing).await?;
        Ok(Report::new().count("looks", looks * 2))
    })
}

fn lists(ctx: &Ctx) -> Verdict {
    let many = ctx.rounds(700);
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let mut guards = Vec::new();
        for n in 0..many {
            let name = match n % 3 {
                0 => format!("shop/eu/{n}"),
                1 => format!("shop/us/{n}"),
                _ => format!("shoplifter/{n}"),
            };
            guards.push(ctx.lock(&locks, &name)?.lock().await?);
        }
        let plain = ctx.locks().await?;
        let thirds = [many.div_ceil(3), (many + 1) / 3, many / 3];
        let wanted = [
            ("", many),
            ("shop", thirds[0] + thirds[1]),
            ("shop/eu", thirds[0]),
            ("shop/eu/", thirds[0]),
            ("shoplifter", thirds[2]),
            ("sho", 0),
            ("shop/eu/0", 1),
            ("nobody", 0),
        ];
        for (prefix, n) in wanted {
            let lines = plain.list(prefix).await?;
            ensure!(lines.len() as u64 == n, "{prefix:?} lists {}, and it must be {n}", lines.len());
            let sorted = lines.windows(2).all(|l| l[0].key < l[1].key);
            ensure!(sorted, "{prefix:?} is not listed by name, or lists a lock twice");
        }
        for prefix in ["/", "a//b", "..", "\u{202E}"] {
            let kind = plain.list(prefix).await.err().map(|e| e.kind());
            ensure!(kind == Some(ErrorKind::Config), "the prefix {prefix:?} says {kind:?}");
        }
        drop(guards);
        ctx.until("nothing is listed", async || Ok(plain.list("").await?.is_empty())).await?;
        Ok(Report::new().count("locks", many))
    })
}

fn watches(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(10);
    ctx.block_on(async {
        let (locks, plain) = (ctx.locks().await?, ctx.locks().await?);
        let name = ctx.name("watched");
        let mut watch = plain.watch("")?;
        let first = ctx.within("the first look", watch.next()).await??;
        ensure!(first.is_empty(), "something is there already: {first:?}");
        for _ in 0..rounds {
            let guard = ctx.lock(&locks, &name)?.lock().await?;
            // Many changes may be one piece of news, so: until it shows what is.
            while ctx.within("news of a grant", watch.next()).await??.is_empty() {}
            guard.release().await?;
            while !ctx.within("news of a release", watch.next()).await??.is_empty() {}
        }
        Ok(Report::new().count("changes", rounds * 2))
    })
}

fn evicts(ctx: &Ctx) -> Verdict {
    let rounds = ctx.rounds(10);
    ctx.block_on(async {
        // Where nothing is pushed, the evicted one learns it when it renews.
        let ttl = if ctx.pushes() { 30_000 } else { 1500 };
        let wire = Wire::counting();
        let locks = ctx.client().ttl_ms(ttl).connect().await?;
        let plain = ctx.client().wire(&wire).connect().await?;
        for round in 0..rounds {
            let name = ctx.name("evicted");
            ensure!(plain.evict(&name, None, "nobody").await? == Released::Gone, "nobody holds it");
            let guard = ctx.lock(&locks, &name)?.lock().await?;
            let lock = ctx.lock(&plain, &name)?;
            let waiting = tokio::spawn(async move { lock.lock().await });
            ctx.in_line(&plain, &name, &wire, round + 1).await?;
            // A token of before spares the holder of now.
            let before = guard.token().and_then(|token| tenure::Token::new(token.get() - 1));
            ensure!(
                plain.evict(&name, before, "too late").await? == Released::Gone,
                "S4: another token evicts"
            );
            guard.check()?;
            ensure!(plain.evict(&name, guard.token(), "it hangs").await? == Released::WasHeld, "it is held");
            let next = ctx.within("the next in line", waiting).await???;
            ensure!(next.token() > guard.token(), "S2: {:?} follows {:?}", next.token(), guard.token());
            let lost = ctx.within("the evicted is told", guard.lost()).await?;
            match lost.why() {
                LostReason::Evicted(why) => ensure!(why.contains("it hangs"), "it is told {why:?}"),
                other => return Err(format!("it is told {other:?}").into()),
            }
            let kind = guard.release().await.err().map(|e| e.kind());
            ensure!(kind == Some(ErrorKind::Lost), "S8: the release of the evicted says {kind:?}");
            let broken = line(&plain, &name).await?.broken;
            let listed = broken.as_ref().is_some_and(|broken| broken.why.contains("it hangs"));
            ensure!(listed || hidden(ctx).is_some(), "the eviction is listed as {broken:?}");
            next.release().await?;
            ctx.nothing_left(&plain, &name).await?;
        }
        Ok(Report::new().count("evictions", rounds))
    })
}
