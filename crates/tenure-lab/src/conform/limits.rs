//! S8: bad input is refused with a reason, and good input is taken as it is: names never alias.

use std::time::Duration;

use tenure::{ErrorKind, LockOptions, Locks, Owner};

use super::promised::no_keep;
use super::{Ctx, Report, Trial, Verdict, ensure};
use crate::servers::IN_PROCESS;

pub(crate) const TRIALS: &[Trial] = &[
    Trial { name: "s8_names_round_trip_or_are_refused", rules: &["S8", "O1"], why_not: |_| None, run: names },
    Trial { name: "s8_limits_are_named", rules: &["S8"], why_not: |_| None, run: limits },
];

/// Names that must be refused.
fn bad() -> Vec<String> {
    let mut bad: Vec<String> = [
        "",
        "a\0b",
        "a\r\nFLUSHALL\r\n",
        "\n",
        "a\tb",
        "\x1b[2J",
        ".",
        "..",
        "/",
        "//",
        "a//b",
        "a/../b",
        "a/",
        "/a",
        "/zookeeper/quota",
        " a",
        "a ",
        "a\u{202E}b",
        "a\u{200B}b",
        "\u{FEFF}a",
        "e\u{301}",
        "a\u{2028}b",
    ]
    .map(str::to_owned)
    .into();
    bad.extend([201, 255, 256, 1024, 1 << 20].map(|n| "x".repeat(n)));
    bad
}

/// Names that are odd, and must be taken as they are.
fn odd() -> Vec<String> {
    let mut odd: Vec<String> = [
        "x",
        "{}",
        "{a}{b}",
        "}{",
        "tenure:{x",
        "tenure:{x}:t",
        "*",
        ">",
        "a.b",
        "a..b",
        "%00",
        "%2e%2e%2f",
        "%25",
        "%2F",
        "--help",
        "-rf",
        "$(id)",
        "`id`",
        ";id",
        "'; DROP TABLE tenure_fence;--",
        "\\'",
        "\\",
        "$1",
        "?x=1#y",
        "\"..redis.call('FLUSHALL')..\"",
        "A",
        "a",
        "\u{e9}",
        "\u{df}",
        "SS",
        "ss",
        "CON",
        "a b",
        "a/b",
        "a%2Fb",
        "a:b",
        "\u{65e5}\u{672c}",
        "\u{1F512}",
        "floor",
        "live",
        "store",
    ]
    .map(str::to_owned)
    .into();
    odd.extend([200, 64, 65].map(|n| "x".repeat(n)));
    odd.push("\u{e9}".repeat(100));
    odd.push("\u{1F512}".repeat(50));
    odd
}

fn names(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let (locks, plain) = (ctx.locks().await?, ctx.locks().await?);
        let bad = bad();
        for name in &bad {
            let shown: String = name.chars().take(30).collect();
            refused(&format!("the name {shown:?}"), ctx.face.lock(&locks, name))?;
            refused(&format!("to look at the name {shown:?}"), locks.inspect(name).await)?;
        }
        let odd = odd();
        let mut guards = Vec::new();
        for name in &odd {
            let guard = ctx.lock(&locks, name)?.try_lock().await?;
            guards.push(guard.ok_or_else(|| format!("{name:?} is taken, and nobody took it: an alias"))?);
            let seen = plain.inspect(name).await?.map(|line| line.key.name().to_owned());
            ensure!(seen.as_deref() == Some(name), "{name:?} is listed as {seen:?}");
        }
        let mut listed: Vec<String> = plain.list("").await?.iter().map(|l| l.key.name().to_owned()).collect();
        let mut expected = odd.clone();
        listed.sort();
        expected.sort();
        ensure!(listed == expected, "the names are listed as {listed:?}");
        for guard in guards {
            guard.release().await?;
        }
        ensure!(plain.list("").await?.is_empty(), "something is left");
        Ok(Report::new().count("names", odd.len()).count("refused", bad.len()))
    })
}

fn refused<T: std::fmt::Debug>(what: &str, result: tenure::Result<T>) -> Verdict<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::Config && !error.what().is_empty() => Ok(()),
        other => Err(format!("{what} must be refused, and it says {other:?}").into()),
    }
}

fn limits(ctx: &Ctx) -> Verdict {
    ctx.block_on(async {
        let locks = ctx.locks().await?;
        let name = ctx.name("limits");
        let with = |options| ctx.face.lock(&locks, &name).and_then(|lock| lock.with(options));
        let ttl = |ttl| LockOptions::new().ttl(ttl);
        let day = Duration::from_secs(24 * 3600);
        let mut tried = 0u64;
        for bad in [Duration::ZERO, Duration::from_millis(99), day + Duration::from_nanos(1), Duration::MAX] {
            refused(&format!("a ttl of {bad:?}"), with(ttl(bad)))?;
            let client = Locks::builder(IN_PROCESS).ttl(bad).connect().await;
            refused(&format!("a client with a ttl of {bad:?}"), client)?;
            tried += 2;
        }
        for good in [Duration::from_millis(100), day] {
            with(ttl(good))?.lock().await?.release().await?;
        }
        refused("a reason that is too long", with(LockOptions::new().reason(&"r".repeat(257))))?;
        with(LockOptions::new().reason(&"r".repeat(256)))?.lock().await?.release().await?;
        let owner =
            |user: &str| Owner { user: user.into(), host: String::new(), pid: 0, program: String::new() };
        refused("an owner that is too long", with(LockOptions::new().owner(owner(&"u".repeat(129)))))?;
        with(LockOptions::new().owner(owner(&"u".repeat(128))))?.lock().await?.release().await?;
        for bad in ["", "a/b", "..", " n", "n\n"] {
            let client = Locks::builder(IN_PROCESS).namespace(bad).connect().await;
            refused(&format!("the namespace {bad:?}"), client)?;
            tried += 1;
        }
        let guard = ctx.lock(&locks, &name)?.lock().await?;
        let zero = ctx.lock(&locks, &name)?.try_lock_for(Duration::ZERO).await?;
        ensure!(zero.is_none(), "a wait of nothing has a guard while another holds");
        if no_keep(ctx).is_none() {
            refused("a pause of more than 400 days", guard.release_after(day * 401).await)?;
        } else {
            drop(guard);
        }
        // Waits that no clock can hold are for ever.
        let wait = ctx.lock(&locks, &name)?.try_lock_for(Duration::MAX).await?;
        ensure!(wait.is_some(), "a wait without an end gave up");
        drop(wait);
        ctx.nothing_left(&locks, &name).await?;
        Ok(Report::new().count("refused", tried + 3))
    })
}
