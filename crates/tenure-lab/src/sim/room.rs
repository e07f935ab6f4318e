//! The places where a client's connections run: the runtime that it connected in, and a thread of its own.

use std::fmt;
use std::sync::Arc;

use tenure::backend::BoxFuture;
use tenure::backend::net::Place;
use tenure::runtime::Runtime;

use super::home::Home;
use super::machine::Machine;

/// A place on a machine.
#[derive(Clone)]
pub(super) struct Room {
    machine: Arc<Machine>,
    home: Option<Arc<Home>>,
}

impl Room {
    /// The runtime that the machine's client connects in.
    pub(super) fn home(machine: &Arc<Machine>) -> Room {
        Room { machine: machine.clone(), home: Some(machine.home.clone()) }
    }

    /// The thread of its own.
    pub(super) fn own(machine: &Arc<Machine>) -> Room {
        Room { machine: machine.clone(), home: None }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:?}", if self.home.is_some() { "home" } else { "thread" }, self.machine)
    }
}

impl Place for Room {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task: BoxFuture<'static, ()> = Box::pin(task);
        let task = match &self.home {
            Some(home) => home.inside(task),
            None => task,
        };
        Runtime::spawn(&*self.machine, task);
    }

    /// Workers run in the runtime that they connected in. It has several threads: one that is blocked keeps the connection
    /// from running, and not the workers.
    fn is_here(&self) -> bool {
        self.home.as_ref().is_none_or(|home| !home.has_ended())
    }
}
