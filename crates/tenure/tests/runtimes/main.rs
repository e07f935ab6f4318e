//! Runtimes of every kind under every store: of one thread and of several, with and without an I/O driver and timers. Each
//! trial is a process of its own, because it must say nothing on stderr: no panic of a task, no warning.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use tenure::{Locks, Result};
use tenure_servers::{limit, redis};
use tokio::runtime::{Builder, Runtime};

/// Says what a child process does: the store's URL, then words of [`KINDS`] and [`DRIVERS`].
const ROLE: &str = "TENURE_TEST_RUNTIME";
const KINDS: [&str; 2] = ["one", "several"];
const DRIVERS: [&str; 4] = ["none", "io", "time", "all"];
/// Another runtime of the process, which has everything.
const BESIDE: &str = "beside";
const TTL: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        child(&role);
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let missing = redis::missing().is_some();
    let mut all = Vec::new();
    for kind in KINDS {
        for drivers in DRIVERS {
            all.push(trial(&["memory", kind, drivers], false));
            all.push(trial(&["host", kind, drivers], false));
            all.push(trial(&["redis", kind, drivers], missing));
        }
        all.push(trial(&["redis", kind, "none", BESIDE], missing));
    }
    libtest_mimic::run(&arguments, all).exit_code()
}

fn trial(words: &[&str], ignored: bool) -> Trial {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let name = words.join("::");
    let called = name.clone();
    Trial::test(name, move || limit::within(&called, || run(&words))).with_ignored_flag(ignored)
}

fn run(words: &[String]) -> std::result::Result<(), Failed> {
    let server = (words[0] == "redis").then(redis::Server::start);
    let dir = tenure_servers::process::Dir::new("runtimes")?;
    let url = match (&server, words[0].as_str()) {
        (Some(server), _) => server.url(),
        (None, "host") => format!("host://{}", dir.0.display()),
        _ => "memory:".to_owned(),
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, format!("{url} {}", words[1..].join(" "))).stdin(Stdio::null());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {said}", output.status).into());
    }
    // With another runtime beside it, whether this one has an I/O driver is found out by trying. tokio tells of that.
    if !said.is_empty() && !words.iter().any(|word| word == BESIDE) {
        return Err(format!("it said: {said}").into());
    }
    Ok(())
}

fn child(role: &str) {
    let mut words = role.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (url, kind, drivers, beside) = (next(), next(), next(), next());
    let _beside = (beside == BESIDE).then(|| runtime("several", "all"));
    let runtime = runtime(kind, drivers);
    runtime.block_on(work(url)).expect("it works as in any runtime");
    // The same runtime again, and a client that is made where nothing can be awaited.
    runtime.block_on(async { blocking(url) }).expect("it works as in any runtime");
    drop(runtime);
}

fn runtime(kind: &str, drivers: &str) -> Runtime {
    let mut builder = if kind == "one" { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    match drivers {
        "io" => builder.worker_threads(2).enable_io(),
        "time" => builder.worker_threads(2).enable_time(),
        "all" => builder.worker_threads(2).enable_all(),
        _ => builder.worker_threads(2),
    };
    builder.build().expect("a runtime")
}

/// A wait in a runtime without timers.
async fn pause(time: Duration) {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(time);
        let _ = tell.send(());
    });
    told.await.expect("told");
}

/// Locks, renews, waits by push, drops, and cancels.
async fn work(url: &str) -> Result<()> {
    let locks = Locks::builder(url).ttl(TTL).connect().await?;
    let mutex = locks.mutex("x")?;
    let guard = mutex.lock().await?;
    let first = guard.token();
    let waiter = mutex.clone();
    let waiting = tokio::spawn(async move {
        let guard = waiter.lock().await?;
        let token = guard.token();
        drop(guard);
        Ok::<_, tenure::Error>(token)
    });
    assert!(mutex.try_lock().await?.is_none());
    assert!(mutex.try_lock_for(Duration::from_millis(10)).await?.is_none());
    // More than a lease.
    pause(TTL + TTL / 4).await;
    guard.check().expect("renewed");
    guard.release().await?;
    assert!(waiting.await.expect("no panic")? > first);
    mutex.lock().await?.release().await?;
    locks.close().await
}

fn blocking(url: &str) -> Result<()> {
    let locks = Locks::blocking_connect(url)?;
    let mutex = locks.mutex("y")?;
    let guard = mutex.blocking_lock()?;
    assert!(mutex.blocking_try_lock()?.is_none());
    guard.blocking_release()?;
    drop(mutex.blocking_lock()?);
    locks.blocking_close()
}
