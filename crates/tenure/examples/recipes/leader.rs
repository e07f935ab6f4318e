//! Leader: one of several candidates does the work, and everybody knows which.
//!
//! `recipes leader URL DIR lead NAME TICKS` leads for so many ticks and resigns; `... follow` says who leads whenever that
//! changes. `DIR/ticks` has a line for each tick.

use std::path::Path;
use std::time::Duration;

use tenure::Locks;
use tenure::fence::{FenceFile, Stamp};

use super::shop::{Result, append, reach, tell};

pub(crate) async fn run(locks: &Locks, dir: &Path, words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["lead", name, ticks] => lead(locks, dir, name, ticks.parse()?).await,
        ["follow"] => follow(locks).await,
        _ => Err("lead NAME TICKS, or follow".into()),
    }
}

async fn lead(locks: &Locks, dir: &Path, name: &str, ticks: u32) -> Result<()> {
    let domain = locks.domain().await?;
    let leader = locks.election("scheduler")?.campaign(name).await?;
    tell(format_args!("{name} leads"));
    let stamp = Stamp::new(domain, leader.token());
    let fence = FenceFile::new(dir.join("ticks.fence"));
    let work = async {
        for tick in 0..ticks {
            reach("tick")?;
            let inside = fence.enter(&stamp)?; // a leader that slept and was followed is refused here
            append(&dir.join("ticks"), format_args!("{} {name} {tick}", leader.token()))?;
            drop(inside);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Result::Ok(())
    };
    leader.while_held(work).await??; // dropped at its next await when the leadership is lost
    leader.resign().await?; // the next candidate leads at once, and need not wait for the lease
    Ok(())
}

async fn follow(locks: &Locks) -> Result<()> {
    let mut changes = locks.election("scheduler")?.observe()?;
    loop {
        match changes.next().await? {
            Some(leader) => tell(format_args!("follows {}", leader.value())),
            None => tell("nobody leads"),
        }
    }
}
