//! A worker's own side: its orders, its events, its end.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{PARENT, ROLE};
use crate::failure::{Doing, Failure, Outcome};

/// One thing that a worker process can be: its name, and what it does.
pub(crate) type Role = (&'static str, fn(&Link) -> Outcome<()>);

/// Plays the role that the environment names, if it names one.
pub(crate) fn host(roles: &[Role]) -> Option<ExitCode> {
    let name = std::env::var(ROLE).ok()?;
    die_with_parent();
    let outcome = match roles.iter().find(|(n, _)| *n == name) {
        Some((_, play)) => play(&Link),
        None => Err(Failure::usage(format!("{ROLE} names no role: {name:?}"), "unset it")),
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "worker {name}: {failure}");
            failure.exit()
        }
    })
}

/// Has the kernel kill this process when its runner dies, also if that has happened already.
fn die_with_parent() {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let expected = std::env::var(PARENT).ok().and_then(|p| p.parse::<i32>().ok());
    let actual = getppid().map_or(0, |p| p.as_raw_nonzero().get());
    if expected.is_some_and(|e| e != actual) {
        std::process::exit(1);
    }
}

static OUT: Mutex<()> = Mutex::new(());

/// The line to the runner.
#[derive(Debug)]
pub(crate) struct Link;

impl Link {
    /// The next line from the runner; `None`: there are no more.
    pub(crate) fn next<T: DeserializeOwned>(&self) -> Outcome<Option<T>> {
        let mut line = String::new();
        let n = std::io::stdin().lock().read_line(&mut line).doing(|| "read an order".into())?;
        if n == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).doing(|| format!("understand the order {}", line.trim_end()))
    }

    /// The task: the first line.
    pub(crate) fn task<T: DeserializeOwned>(&self) -> Outcome<T> {
        self.next()?.ok_or_else(|| Failure::run("a worker process got no task", "start it from the lab"))
    }

    /// Tells the runner something.
    pub(crate) fn tell(&self, event: &impl Serialize) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let _turn = OUT.lock();
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }

    /// Hands each further order to `take`, on a thread of its own, until `take` says stop or there are no more.
    pub(crate) fn on_orders<T: DeserializeOwned>(&self, mut take: impl FnMut(T) -> bool + Send + 'static) {
        thread::spawn(move || {
            while let Ok(Some(order)) = Link.next() {
                if !take(order) {
                    return;
                }
            }
        });
    }
}
