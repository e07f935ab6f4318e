//! The recipes of the manual, as one program: a small shop in a directory, and the locks that keep it right, however many of
//! these programs run at a time.
//!
//! ```console
//! $ mkdir shop
//! $ cargo run --example recipes -- order_payment host: shop 1001 1002 1003
//! $ cargo run --example recipes -- order_creation redis://127.0.0.1 shop click-1:lamp=2,chair=4
//! ```
//!
//! The manual (`src/manual/recipes`) explains each of them; the tests (`tests/recipes`) run them against each other, and stop
//! and kill them where it hurts.

mod config_reload;
mod leader;
mod nightly_job;
mod order_creation;
mod order_payment;
pub(crate) mod quota;
mod region_sync;
mod shop;
pub(crate) mod stock;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use shop::{Result, reach, tell};
use tenure::Locks;

/// How it is called.
pub(crate) const USAGE: &str = "recipes [--ttl MS] [--namespace NS] RECIPE URL DIR [WORD...]";

pub(crate) fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match start(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn start(mut words: &[String]) -> Result<()> {
    let (mut ttl, mut namespace) = (Duration::from_secs(30), "default");
    while let [option, value, rest @ ..] = words {
        match option.as_str() {
            "--ttl" => ttl = Duration::from_millis(value.parse()?),
            "--namespace" => namespace = value,
            _ => break,
        }
        words = rest;
    }
    let [recipe, url, dir, words @ ..] = words else { return Err(USAGE.into()) };
    let locks = Locks::builder(url).ttl(ttl).namespace(namespace).connect().await?;
    reach("begin")?;
    let dir = Path::new(dir);
    match recipe.as_str() {
        "order_payment" => order_payment::run(&locks, dir, words).await?,
        "order_creation" => order_creation::run(&locks, dir, words).await?,
        "stock" => stock::run(&locks, dir, words)?,
        "nightly_job" => nightly_job::run(&locks, dir, words).await?,
        "config_reload" => config_reload::run(&locks, dir, words).await?,
        "region_sync" => region_sync::run(&locks, dir, words).await?,
        "leader" => leader::run(&locks, dir, words).await?,
        "quota" => quota::run(&locks, dir, words).await?,
        other => return Err(format!("there is no recipe {other:?}; {USAGE}").into()),
    }
    locks.close().await?;
    Ok(())
}
