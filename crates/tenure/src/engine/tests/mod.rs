//! The engine in virtual time, against a store whose every answer the test gives by hand.

mod acquiring;
#[cfg(feature = "memory")]
mod chaos;
mod keeping;
mod leaving;
mod polling;
mod pushes;
mod schedules;
mod script;
mod transferring;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use self::script::Script;
use super::{Engine, Hub, Patience, Request, Turn, acquire};
use crate::backend::{Answer, Grant, Kind, Lease, Owner, Previous, Standing};
use crate::core::lease;
use crate::error::Result;
use crate::key::Key;
use crate::runtime::virtual_time::{Handle, Virtual};
use crate::token::Token;

const TTL: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// An engine, its clock and its store.
struct World {
    rt: Arc<Virtual>,
    store: Arc<Script>,
    hub: Arc<Hub>,
    engine: Arc<Engine>,
}

fn owner(pid: u32) -> Arc<Owner> {
    Arc::new(Owner { user: "ann".into(), host: "box".into(), pid, program: "job".into() })
}

impl World {
    fn new() -> World {
        let (rt, store, hub) = (Virtual::new(), Arc::new(Script::default()), Hub::new());
        let engine = Engine::new(store.clone(), rt.clone(), hub.clone(), owner(1));
        World { rt, store, hub, engine }
    }

    /// Begins to acquire; the first attempt is on its way.
    fn lock(&self, request: Request, patience: Patience) -> Handle<Result<Option<Turn>>> {
        let engine = self.engine.clone();
        self.rt.go(async move { acquire(&engine, &request, patience).await })
    }

    /// A held lock.
    fn held(&self) -> Turn {
        let mut asked = self.lock(request(TTL), Patience::Forever);
        self.store.attempt().answer(held(1, None));
        self.rt.run();
        granted(&mut asked)
    }
}

fn granted(asked: &mut Handle<Result<Option<Turn>>>) -> Turn {
    asked.done().expect("finished").expect("no error").expect("granted")
}

fn request(ttl: Duration) -> Request {
    let key = Key::new("default", "a").expect("a good name");
    Request {
        key,
        kind: Kind::Mutex,
        weight: 1,
        capacity: 1,
        ttl,
        owner: owner(1),
        reason: "".into(),
        fair: true,
    }
}

fn grant(token: i64) -> Grant {
    Grant { token: Token::new(token), lease: Lease::For(TTL), previous: Previous::Unknown }
}

fn held(token: i64, at: Option<u64>) -> Answer {
    Answer { standing: Standing::Held(grant(token)), at }
}

fn waiting(ahead: u32, at: Option<u64>) -> Answer {
    let standing = Standing::Waiting {
        place: Some(Lease::For(lease::TTL_WAITING)),
        ahead: Some(ahead),
        look_again: lease::LOOK_AGAIN_MAX,
    };
    Answer { standing, at }
}

fn gone() -> Answer {
    Answer { standing: Standing::Gone { why: None }, at: None }
}
