//! What a program hears of its locks: one event for a store that is down and one for a store that is back, and nothing alarming
//! when a client is closed on purpose. One test, since events are those of the whole process.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tenure::backend::{Answer, Backend, BoxFuture, Call, Claim, Leave};
use tenure::{Error, Locks, Released, Result};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// How long something may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// All events so far.
type Heard = Arc<Mutex<Vec<(Level, String)>>>;

struct Ear(Heard);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tenure")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().expect("no panic").push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A store that does not answer while it is away.
#[derive(Debug)]
struct Away {
    inner: Arc<dyn Backend>,
    away: Arc<AtomicBool>,
}

impl Away {
    fn reached(&self) -> Result<()> {
        let away = self.away.load(Ordering::SeqCst);
        if away { Err(Error::unavailable("the store is away", "wait")) } else { Ok(()) }
    }

    fn silence(&self, claims: &[Claim]) -> Vec<Result<Answer>> {
        claims.iter().map(|_| Err(Error::unavailable("the store is away", "wait"))).collect()
    }
}

impl Backend for Away {
    tenure::pass_on!(inner: capabilities, part, domain, evict, inspect, watch, close);

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move {
            if self.reached().is_ok() { self.inner.attempt(claims, call).await } else { self.silence(claims) }
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(async move {
            if self.reached().is_ok() { self.inner.renew(claims, call).await } else { self.silence(claims) }
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move {
            self.reached()?;
            self.inner.release(claim, leave, call).await
        })
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move {
            self.reached()?;
            self.inner.transfer(from, to, call).await
        })
    }
}

#[test]
fn an_outage_is_told_once_and_a_shutdown_is_quiet() {
    let heard: Heard = Heard::default();
    tracing::subscriber::set_global_default(Ear(heard.clone())).expect("the only one");
    let count = |text: &str| heard.lock().expect("no panic").iter().filter(|(_, said)| said == text).count();
    let until = |text: &str, n: usize| {
        let end = Instant::now() + LONG;
        while count(text) < n {
            assert!(Instant::now() < end, "{text:?} is not told: {:?}", heard.lock().expect("no panic"));
            std::thread::sleep(Duration::from_millis(20));
        }
    };

    let away = Arc::new(AtomicBool::new(false));
    let flag = away.clone();
    let wrap = move |inner| -> Arc<dyn Backend> { Arc::new(Away { inner, away: flag }) };
    let builder = Locks::builder("memory:").ttl(Duration::from_secs(60)).wrap(wrap);
    let locks = builder.blocking_connect().expect("opens");
    let guard = locks.mutex("a").expect("a name").blocking_lock().expect("free");

    // Several holders and requests notice the outage; it is told once.
    away.store(true, Ordering::SeqCst);
    assert!(locks.mutex("b").expect("a name").blocking_try_lock().is_err());
    until("store down", 1);
    assert!(locks.mutex("c").expect("a name").blocking_try_lock().is_err());
    assert_eq!((count("store down"), count("store back")), (1, 0));
    away.store(false, Ordering::SeqCst);
    locks.mutex("d").expect("a name").blocking_lock().expect("free").blocking_release().expect("ours");
    until("store back", 1);
    assert_eq!((count("store down"), count("store back")), (1, 1));
    guard.check().expect("still ours");

    // A normal end: a holder and a waiter, and nobody is alarmed.
    let before = heard.lock().expect("no panic").len();
    let waiter = {
        let mutex = locks.mutex("a").expect("a name");
        std::thread::spawn(move || mutex.blocking_lock())
    };
    let end = Instant::now() + LONG;
    while locks.blocking_inspect("a").expect("looks").is_none_or(|line| line.waiters == 0) {
        assert!(Instant::now() < end, "the waiter is not in line");
        std::thread::sleep(Duration::from_millis(10));
    }
    locks.blocking_close().expect("closes");
    // It gets nothing, or what it got in that very moment is lost.
    let got = waiter.join().expect("no panic");
    assert!(got.is_err() || got.is_ok_and(|guard| guard.check().is_err()), "the client was closed");
    guard.check().expect_err("closed");
    let alarms: Vec<_> = heard.lock().expect("no panic")[before..].to_vec();
    let alarms: Vec<_> = alarms.into_iter().filter(|(level, _)| *level <= Level::WARN).collect();
    assert!(alarms.is_empty(), "a shutdown on purpose: {alarms:?}");
}
