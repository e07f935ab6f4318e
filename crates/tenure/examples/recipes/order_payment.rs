//! Order payment: an order is paid once, however often and from wherever it is asked for.
//!
//! `recipes order_payment URL DIR ORDER...` pays these orders. `DIR/ledger` has a line for each paid order, `DIR/charges` a
//! file for each charge that the provider has made.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tenure::Locks;
use tenure::fence::{Domain, FenceFile, Stamp};

use super::shop::{Result, append, lines, reach, tell};

pub(crate) async fn run(locks: &Locks, dir: &Path, orders: &[String]) -> Result<()> {
    let domain = locks.domain().await?;
    for order in orders {
        tell(format_args!("{order} {}", pay(locks, &domain, dir, order).await?));
    }
    Ok(())
}

async fn pay(locks: &Locks, domain: &Domain, dir: &Path, order: &str) -> Result<&'static str> {
    let guard = locks.mutex(format!("orders/{order}"))?.lock().await?;
    let stamp = Stamp::new(domain.clone(), guard.token());
    let fence = FenceFile::new(dir.join(format!("{order}.fence")));
    fence.check(&stamp)?; // before the first look: from here on, earlier holders are refused
    if is_paid(dir, order)? {
        return Ok("was paid before");
    }
    // The order's number is the idempotency key: the provider charges it once, whoever asks again.
    let receipt = guard.while_held(charge(dir, order)).await??;
    reach("charged")?;
    let inside = fence.enter(&stamp)?; // refused if somebody else was granted the lock since
    append(&dir.join("ledger"), format_args!("{order} {receipt}"))?;
    drop(inside);
    guard.release().await?;
    Ok("is paid")
}

fn is_paid(dir: &Path, order: &str) -> Result<bool> {
    Ok(lines(&dir.join("ledger"))?.iter().any(|line| line.split(' ').next() == Some(order)))
}

/// The payment provider. It knows the idempotency key: for one that it has seen, it gives the same receipt again.
async fn charge(dir: &Path, key: &str) -> Result<String> {
    tokio::time::sleep(Duration::from_millis(3)).await; // it is far away
    let charges = dir.join("charges");
    fs::create_dir_all(&charges)?;
    let charge = charges.join(key);
    if let Ok(mut first) = fs::File::create_new(&charge) {
        first.write_all(format!("receipt-{key}").as_bytes())?;
    }
    Ok(format!("receipt-{key}"))
}
