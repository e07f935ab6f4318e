//! The same program on every store, with only the URL changed:
//!
//! ```console
//! $ cargo run --example contract -- memory:
//! $ cargo run --example contract -- host:
//! $ cargo run --example contract -- redis://127.0.0.1
//! ```
//!
//! It shows one lock from several sides and ends with 0 if the store did what the contract says; each step is checked,
//! not only told.
#![allow(clippy::print_stdout)] // an example shows what it does

use std::time::{Duration, Instant};

use tenure::{LockOptions, Locks, Needs, Released};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "memory:".into())).await
}

/// The whole program.
pub(crate) async fn run(url: &str) -> Result<()> {
    let locks = Locks::connect(url).await?;
    let can = locks.capabilities();
    println!(
        "the store is {} (a hold ends by {}; tokens are {}; order is {})",
        locks.url(),
        can.hold_end,
        can.token,
        can.order
    );
    // A program that needs more than its store can promise does not start.
    locks.require(Needs::new().fifo())?;

    // A name that no other run uses.
    let name = format!("contract/{}", std::process::id());
    one_holder_and_growing_tokens(&locks, &name).await?;
    first_come_first_served(&locks, &name).await?;
    a_lock_that_is_taken_away(&locks, &name).await?;
    a_lock_that_is_kept_for_a_while(&locks, &name).await?;
    a_dropped_wait_leaves_nothing(&locks, &name).await?;

    locks.close().await?;
    println!("the store did what the contract says");
    Ok(())
}

/// Says what was seen; an error if it is not so.
fn see(what: &str, so: bool) -> Result<()> {
    println!("  {what}: {}", if so { "yes" } else { "NO" });
    if so { Ok(()) } else { Err(format!("the contract is broken: not {what}").into()) }
}

async fn one_holder_and_growing_tokens(locks: &Locks, name: &str) -> Result<()> {
    println!("one holder, and tokens that grow");
    let options = LockOptions::new().reason("to show it");
    let lock = locks.mutex(name)?.with(options)?;
    let first = lock.lock().await?;
    see("nobody else gets it", lock.try_lock().await?.is_none())?;
    see("nor by waiting a little", lock.try_lock_for(Duration::from_millis(50)).await?.is_none())?;
    let line = locks.inspect(name).await?.ok_or("a held lock is listed")?;
    let holder = line.holders.first().ok_or("with its holder")?;
    println!(
        "  held by {}@{} (pid {}): {}",
        holder.owner.user, holder.owner.host, holder.owner.pid, holder.reason
    );
    see("the holder is this program", holder.owner.pid == std::process::id())?;
    let before = first.token();
    println!("  its token is {before}, and it believes that it holds for {:?} more", first.remaining());
    first.release().await?;
    let second = lock.lock().await?;
    see("the next token is greater", second.token() > before)?;
    second.release().await?;
    see("then the lock is free", locks.inspect(name).await?.is_none())
}

async fn first_come_first_served(locks: &Locks, name: &str) -> Result<()> {
    println!("waiters in line");
    let holder = locks.mutex(name)?.lock().await?;
    let mut waiting = Vec::new();
    for number in 1..=3usize {
        let options = LockOptions::new().reason(&format!("number {number}"));
        let lock = locks.mutex(name)?.with(options)?;
        waiting.push(tokio::spawn(async move {
            let guard = lock.lock().await?;
            let token = guard.token();
            guard.release().await?;
            Ok::<_, tenure::Error>(token)
        }));
        while locks.inspect(name).await?.is_none_or(|line| line.waiting.len() < number) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let line = locks.inspect(name).await?.ok_or("a held lock is listed")?;
    let reasons: Vec<&str> = line.waiting.iter().map(|seen| seen.reason.as_str()).collect();
    println!("  they wait: {}", reasons.join(", "));
    see("in the order in which they came", reasons == ["number 1", "number 2", "number 3"])?;
    holder.release().await?;
    let mut tokens = Vec::new();
    for one in waiting {
        tokens.push(one.await??);
    }
    see("and were granted in that order", tokens.is_sorted())
}

async fn a_lock_that_is_taken_away(locks: &Locks, name: &str) -> Result<()> {
    println!("a lock that is taken away");
    let guard = locks.mutex(name)?.lock().await?;
    let lost_token = guard.token();
    let work = guard.while_held(std::future::pending::<()>());
    let taken = locks.evict(name, Some(lost_token), "to show it");
    let (work, taken) = tokio::join!(work, taken);
    see("the holder had it", taken? == Released::WasHeld)?;
    match work {
        Err(lost) => println!("  its work was stopped: {lost}"),
        Ok(()) => see("its work was stopped", false)?,
    }
    see("it knows, without asking the store", guard.check().is_err())?;
    see("its release is refused", guard.release().await.is_err_and(|e| e.lost().is_some()))?;
    let next = locks.mutex(name)?.lock().await?;
    see("the next token is greater", next.token() > lost_token)?;
    Ok(next.release().await?)
}

async fn a_lock_that_is_kept_for_a_while(locks: &Locks, name: &str) -> Result<()> {
    println!("a lock that stays taken for 300 ms after its work: once per slot, debounce, rate limits");
    let lock = locks.mutex(name)?;
    let (guard, pause) = (lock.lock().await?, Duration::from_millis(300));
    let began = Instant::now();
    guard.release_after(pause).await?;
    let next = lock.lock().await?;
    let waited = began.elapsed();
    println!("  the next in line got it after {waited:?}");
    see("not before its time", waited >= pause)?;
    Ok(next.release().await?)
}

async fn a_dropped_wait_leaves_nothing(locks: &Locks, name: &str) -> Result<()> {
    println!("a wait that is dropped");
    let lock = locks.mutex(name)?;
    let holder = lock.lock().await?;
    let given_up = tokio::time::timeout(Duration::from_millis(50), lock.lock()).await;
    see("it was given up", given_up.is_err())?;
    while locks.inspect(name).await?.is_some_and(|line| line.waiters > 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    holder.release().await?;
    see("nobody holds and nobody waits", locks.inspect(name).await?.is_none())
}
