//! `tenure acquire`, `renew` and `release`: a lock across the commands of a shell.

use std::io::{IsTerminal, Read, stderr, stdin};
use std::sync::mpsc::{RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tenure::{Guard, Handle, LockOptions, Locks, Owner};

use crate::args::{AcquireArgs, Globals, HandleArg, ReleaseArgs, RenewArgs};
use crate::exit::{CONFIG, Failure, UNAVAILABLE, USAGE};
use crate::store::{self, Store, variable};
use crate::text::{escape, json_line};
use crate::{out, run, view, who};

/// How long a waiter whose stderr is no terminal says nothing.
const NOTE: Duration = Duration::from_secs(1);
/// More than the longest handle.
const LONGEST: u64 = 64 * 1024;

/// What `--json` prints. The fields are a public interface.
#[derive(Serialize)]
struct Shown<'a> {
    lock: &'a str,
    namespace: &'a str,
    token: Option<i64>,
    /// What a fence compares beside the token.
    domain: String,
    /// The secret; only of `acquire`.
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    /// How the hold before it ended; only of `acquire`.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<u64>,
}

impl<'a> Shown<'a> {
    fn of(handle: &'a Handle) -> Shown<'a> {
        let (lock, namespace) = (handle.key().name(), handle.key().namespace());
        let token = handle.token().map(tenure::Token::get);
        let domain = handle.domain().to_string();
        Shown { lock, namespace, token, domain, handle: None, previous: None, expires_in_ms: None }
    }
}

/// Takes the lock and prints its handle.
///
/// # Errors
/// Wrong usage, not acquired in time, or what the store answers.
pub(crate) fn acquire(args: &AcquireArgs, globals: &Globals) -> Result<(), Failure> {
    let store = Store::new(globals)?;
    let key = store.key(&args.name)?;
    if out::is_closed() {
        let what = "the handle could not be written: stdout is closed";
        return Err(Failure::new(1, what, "the lock was not taken; send stdout to a file or a variable"));
    }
    let scene = Scene::new()?;
    let locks = store.open()?;
    scene.seen().locks = Some(locks.clone());
    if !globals.quiet {
        out::note(&store::warnings(&locks));
    }
    if run::is_held_by_a_parent(&locks, &key).map_err(|e| Failure::from_library(&e, CONFIG))? {
        let what = format!("lock {key}: this command already runs under it, so it would wait for itself");
        return Err(Failure::usage(what, "take another lock here"));
    }
    let guard = wait(args, globals, &locks);
    // A signal finds it waiting or done, not in between: a lock whose handle nobody has would last for its lease.
    let mut seen = scene.seen();
    seen.locks = None;
    // Until here it was ours as any lock is; from here on only its lease ends it.
    let guard = guard?;
    let previous = Some(guard.previous().as_str());
    let handle = guard.blocking_detach().map_err(|e| Failure::from_library(&e, CONFIG))?;
    let printed = if globals.json {
        let expires_in_ms = Some(millis(handle.ttl()));
        out::print(&json_line(&Shown {
            handle: Some(handle.to_string()),
            previous,
            expires_in_ms,
            ..Shown::of(&handle)
        }))
    } else {
        out::print(&format!("{handle}\n"))
    };
    seen.done = printed.is_ok();
    printed.map_err(|failure| {
        // Nobody has the handle, so nobody could release. Also if the reader went away: there is no lock for it.
        let _ = locks.blocking_release(handle);
        if failure.code != 0 {
            return failure;
        }
        Failure::new(1, "the handle could not be written: its reader is gone", "the lock was released")
    })
}

/// How far it is, for a signal that ends the command: on a store elsewhere, what it leaves would stay in line, be granted
/// and last for its lease.
struct Scene(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    locks: Option<Locks>,
    done: bool,
}

impl Scene {
    /// Before any other thread is started: they are not to get the signals.
    fn new() -> Result<Scene, Failure> {
        let endings = run::Endings::block();
        let scene = Scene(Arc::default());
        let theirs = Scene(scene.0.clone());
        let waits = move || {
            let signal = endings.wait();
            let mut seen = theirs.seen();
            if seen.done {
                return; // the handle is out, and the process about to end
            }
            let _ = seen.locks.take().map(Locks::blocking_close);
            endings.end_by(signal)
        };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(waits);
        thread.map_err(|e| Failure::new(UNAVAILABLE, "no thread can be started", "try again").because(&e))?;
        Ok(scene)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait(args: &AcquireArgs, globals: &Globals, locks: &Locks) -> Result<Guard, Failure> {
    let usage = |e: tenure::Error| Failure::from_library(&e, USAGE);
    let options = LockOptions::new().ttl(args.ttl).reason(&args.reason).owner(caller());
    let mutex = locks.mutex(&args.name).and_then(|m| m.with(options)).map_err(usage)?;
    if let Some(guard) = mutex.blocking_try_lock().map_err(usage)? {
        return Ok(guard);
    }
    let most = args.patience.most();
    let note = Note::new(args, globals, locks);
    let guard = match most {
        Some(Duration::ZERO) => None,
        Some(wait) => mutex.blocking_try_lock_for(wait).map_err(usage)?,
        None => Some(mutex.blocking_lock().map_err(usage)?),
    };
    drop(note);
    guard.ok_or_else(|| {
        let code = args.patience.conflict();
        if globals.quiet {
            return Failure::silent(code);
        }
        let name = escape(&args.name);
        let more = if most == Some(Duration::ZERO) { "wait for it with --wait" } else { "wait longer" };
        let advice = format!("{more}, or see who is in line with: tenure show {name}");
        Failure::new(code, format!("not acquired: {}", holder(locks, &args.name, true)), advice)
    })
}

/// Says on stderr what is being waited for: at once on a terminal, after a second elsewhere, and never once this is
/// dropped.
struct Note {
    _done: Option<Sender<()>>,
}

impl Note {
    fn new(args: &AcquireArgs, globals: &Globals, locks: &Locks) -> Note {
        if args.patience.most() == Some(Duration::ZERO) || globals.quiet {
            return Note { _done: None };
        }
        if stderr().is_terminal() {
            out::note(&format!("tenure: waiting for {}.\n", holder(locks, &args.name, false)));
            return Note { _done: None };
        }
        let (done, over) = channel();
        let (locks, name) = (locks.clone(), args.name.clone());
        let say = move || {
            if over.recv_timeout(NOTE) == Err(RecvTimeoutError::Timeout) {
                let text = format!("tenure: waiting for {}.\n", holder(&locks, &name, false));
                if over.try_recv() == Err(TryRecvError::Empty) {
                    out::note(&text);
                }
            }
        };
        // Without another thread the lock is waited for in silence.
        let started = std::thread::Builder::new().name("note".into()).spawn(say);
        Note { _done: started.is_ok().then_some(done) }
    }
}

/// The lock and, where the store tells it, who holds it.
fn holder(locks: &Locks, name: &str, elapsed: bool) -> String {
    let line = locks.blocking_inspect(name).ok().flatten();
    line.map_or_else(|| escape(name), |line| view::held_by(&line, elapsed))
}

/// The shell that called us, since we are gone when people look.
fn caller() -> Owner {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm"));
    who::owner(parent, name.as_deref().map_or("tenure acquire", str::trim_end))
}

/// Renews it.
///
/// # Errors
/// A bad handle, a hold that is over, or what the store answers.
pub(crate) fn renew(args: &RenewArgs, globals: &Globals) -> Result<(), Failure> {
    let (locks, handle) = open(&args.handle, globals)?;
    let left = locks.blocking_renew(&handle).map_err(|e| Failure::from_library(&e, CONFIG))?;
    if globals.json {
        return out::print(&json_line(&Shown { expires_in_ms: Some(millis(left)), ..Shown::of(&handle) }));
    }
    Ok(())
}

/// Gives it back.
///
/// # Errors
/// A bad handle, a hold that is over, or what the store answers.
pub(crate) fn release(args: &ReleaseArgs, globals: &Globals) -> Result<(), Failure> {
    let (locks, handle) = open(&args.handle, globals)?;
    locks.blocking_release(handle.clone()).map_err(|e| Failure::from_library(&e, CONFIG))?;
    if globals.json {
        return out::print(&json_line(&Shown::of(&handle)));
    }
    Ok(())
}

/// The handle, and the store in its namespace.
fn open(arg: &HandleArg, globals: &Globals) -> Result<(Locks, Handle), Failure> {
    let text = text(arg)?;
    let handle: Handle = text.parse().map_err(|e| Failure::from_library(&e, USAGE))?;
    let mut store = Store::new(globals)?;
    if globals.namespace.is_none() && variable("TENURE_NAMESPACE")?.is_none() {
        handle.key().namespace().clone_into(&mut store.namespace);
    }
    Ok((store.open()?, handle))
}

/// The text of the handle, from wherever it is given.
fn text(arg: &HandleArg) -> Result<String, Failure> {
    match arg.text.as_deref() {
        Some("-") => {}
        Some(text) => return Ok(text.to_owned()),
        None => {
            if let Some(text) = variable("TENURE_HANDLE")? {
                return Ok(text);
            }
            if stdin().is_terminal() {
                return Err(Failure::usage(
                    "no handle is given",
                    "pass what tenure acquire printed by stdin, in TENURE_HANDLE, or as an argument",
                ));
            }
        }
    }
    let mut text = String::new();
    stdin().take(LONGEST).read_to_string(&mut text).map_err(|error| {
        Failure::usage("the handle cannot be read from stdin", "pass what tenure acquire printed")
            .because(&error)
    })?;
    Ok(text)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
