//! Config reload: many programs read a configuration of several files, and never half of an old and half of a new one.
//!
//! `recipes config_reload URL DIR write FROM TO` writes the generations FROM to TO; `... read N` reads N times. The
//! configuration is `DIR/routes` and `DIR/limits`, each with the number of its generation.

use std::fs;
use std::path::Path;

use tenure::fence::{Domain, FenceFile, Stamp};
use tenure::{Guard, Locks};

use super::shop::{Result, lines, reach, replace, tell};

pub(crate) async fn run(locks: &Locks, dir: &Path, words: &[String]) -> Result<()> {
    let domain = locks.domain().await?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["write", from, to] => {
            for generation in from.parse::<u64>()?..=to.parse()? {
                write(locks, &domain, dir, generation).await?;
                tell(format_args!("wrote {generation}"));
            }
            Ok(())
        }
        ["read", times] => {
            let mut last = None;
            for _ in 0..times.parse::<u64>()? {
                let seen = read(locks, &domain, dir).await?;
                if last != seen {
                    tell(format_args!("read {}", seen.as_deref().unwrap_or("nothing")));
                }
                last = seen;
            }
            Ok(())
        }
        _ => Err("write FROM TO, or read N".into()),
    }
}

async fn write(locks: &Locks, domain: &Domain, dir: &Path, generation: u64) -> Result<()> {
    let writer = locks.rwlock("config")?.write().await?;
    finish(domain, dir, &writer)?; // what a writer began that died
    let stamp = Stamp::new(domain.clone(), writer.token());
    // First what is going to be, in one step; so whoever comes next can finish it.
    let inside = fence(dir).enter(&stamp)?;
    replace(&dir.join("intent"), &format!("{generation}\n"))?;
    drop(inside);
    finish(domain, dir, &writer)?;
    // We read it as everybody does, and nobody writes in between.
    let reader = writer.downgrade().await?;
    if generation_of(&dir.join("routes"))? != Some(generation.to_string()) {
        return Err("somebody wrote in between".into());
    }
    reader.release().await?;
    Ok(())
}

/// Carries out the intent, if there is one: every step can be done twice.
fn finish(domain: &Domain, dir: &Path, writer: &Guard) -> Result<()> {
    let (fence, stamp) = (fence(dir), Stamp::new(domain.clone(), writer.token()));
    fence.check(&stamp)?;
    let Some(generation) = generation_of(&dir.join("intent"))? else { return Ok(()) };
    for part in ["routes", "limits"] {
        let inside = fence.enter(&stamp)?;
        replace(&dir.join(part), &format!("{generation}\n"))?;
        drop(inside);
        reach(part)?;
    }
    let inside = fence.enter(&stamp)?;
    fs::remove_file(dir.join("intent"))?;
    drop(inside);
    Ok(())
}

/// The generation that is in force; `None` before the first one.
async fn read(locks: &Locks, domain: &Domain, dir: &Path) -> Result<Option<String>> {
    let config = locks.rwlock("config")?;
    loop {
        let reader = config.read().await?;
        let token = reader.token().ok_or("this store gives readers no token")?;
        fence(dir).check(&Stamp::new(domain.clone(), token))?; // a writer that slept until now is refused
        if generation_of(&dir.join("intent"))?.is_some() {
            // The writer died in the middle: the lock is free, and the work is half done.
            reader.release().await?;
            let writer = config.write().await?;
            finish(domain, dir, &writer)?;
            writer.release().await?;
            continue;
        }
        let (routes, limits) = (generation_of(&dir.join("routes"))?, generation_of(&dir.join("limits"))?);
        if routes != limits {
            return Err(format!("a mixture: {routes:?} and {limits:?}").into());
        }
        reader.release().await?;
        return Ok(routes);
    }
}

fn fence(dir: &Path) -> FenceFile {
    FenceFile::new(dir.join("config.fence"))
}

fn generation_of(path: &Path) -> Result<Option<String>> {
    Ok(lines(path)?.into_iter().next())
}
