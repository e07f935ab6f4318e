//! Spelling, by `typos`, which comes as a Python wheel with nothing but its binary in it.

use std::path::PathBuf;

use crate::Stop;
use crate::lint::Outcome;
use crate::process::{command, find, root, succeeds};

/// Pinned: a newer word list must not turn an old commit red.
const VERSION: &str = "1.52.0";

/// Checks the whole repository, installing `typos` below `target` where it is missing.
pub(crate) fn check() -> Result<Outcome, Stop> {
    let typos = match installed() {
        Some(path) => path,
        None => match install()? {
            Ok(path) => path,
            Err(why) => return Ok(Outcome::Skipped(why)),
        },
    };
    Ok(succeeds(&mut command(&typos.to_string_lossy(), &["--config", "typos.toml", "."]))?.into())
}

fn place() -> PathBuf {
    root().join("target/tools").join(format!("typos-{VERSION}"))
}

fn installed() -> Option<PathBuf> {
    let ours = place().join("bin/typos");
    ours.is_file().then_some(ours).or_else(|| find("typos"))
}

/// A Python environment of its own, so that nothing of the machine is touched; or why there is none.
fn install() -> Result<Result<PathBuf, String>, Stop> {
    if find("python3").is_none() {
        return Ok(Err("typos is not installed, and there is no python3 to install it with".into()));
    }
    println!("installing typos {VERSION} below target/tools");
    let place = place();
    let shown = place.to_string_lossy();
    let wanted = format!("typos=={VERSION}");
    let made = succeeds(&mut command("python3", &["-m", "venv", &shown]))?
        && succeeds(&mut command(
            &place.join("bin/python").to_string_lossy(),
            &[
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--only-binary",
                ":all:",
                &wanted,
            ],
        ))?;
    let typos = place.join("bin/typos");
    Ok(if made && typos.is_file() {
        Ok(typos)
    } else {
        Err(format!("typos {VERSION} could not be installed"))
    })
}
