//! Stock: a flash sale of one article that everybody wants, split into stripes so that buyers seldom wait for each other.
//! Without async.
//!
//! `recipes stock URL DIR CUSTOMER...` buys one lamp for each customer. `DIR/lamps-0`, `DIR/lamps-1` ... have a line for each
//! lamp that was sold of that part of the stock.

use std::path::Path;
use std::thread;
use std::time::Duration;

use tenure::Locks;
use tenure::fence::{Domain, FenceFile, Stamp};

use super::shop::{Result, append, lines, reach, tell};

/// Into how many parts the stock is split. The same in every program.
pub(crate) const STRIPES: u32 = 4;
/// How many lamps there are in each part.
pub(crate) const SHARE: usize = 10;

pub(crate) fn run(locks: &Locks, dir: &Path, customers: &[String]) -> Result<()> {
    let domain = locks.blocking_domain()?;
    for customer in customers {
        match buy(locks, &domain, dir, customer)? {
            Some(stripe) => tell(format_args!("{customer} has a lamp of part {stripe}")),
            None => tell(format_args!("{customer} is too late: sold out")),
        }
    }
    Ok(())
}

fn buy(locks: &Locks, domain: &Domain, dir: &Path, customer: &str) -> Result<Option<u32>> {
    let lamps = locks.striped("lamps", STRIPES)?;
    let parts: Vec<_> = (0..).zip(lamps.all()).collect();
    // Everybody begins at a part of his own, and goes on to the next one where that is sold out.
    let home = lamps.stripe(customer) as usize;
    for (part, lock) in parts[home..].iter().chain(&parts[..home]) {
        let guard = lock.blocking_lock()?;
        let stamp = Stamp::new(domain.clone(), guard.token());
        let fence = FenceFile::new(dir.join(format!("lamps-{part}.fence")));
        fence.check(&stamp)?;
        let sold = dir.join(format!("lamps-{part}"));
        if lines(&sold)?.len() < SHARE {
            thread::sleep(Duration::from_millis(1)); // the till takes a moment
            reach("looked")?;
            let inside = fence.enter(&stamp)?;
            append(&sold, customer)?;
            drop(inside);
            guard.blocking_release()?;
            return Ok(Some(*part));
        }
    }
    Ok(None)
}
