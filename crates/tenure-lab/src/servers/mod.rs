//! The registry of stores: the only part of the lab that knows any of them by name.
//!
//! - `memory`, `host`, `redis`, `redlock`: a file or a folder for each kind of store. Whoever adds a backend adds one here.
//! - `foreign`: a backend of another crate.
//! - `place`: the stores that the conformance suite makes for itself.
//! - `path`: the address of a store's server in a URL.
//! - `patched`: a proxy that changes what clients send to a server.
//!
//! A [`StoreKind] says how the lab makes and reaches stores; an [`Own`] store is one that the lab has for itself, so it may be
//! killed, wiped and put back.

mod foreign;
mod host;
mod memory;
pub(crate) mod patched;
pub(crate) mod path;
mod place;
pub(crate) mod redis;
mod redlock;

use std::fmt;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tenure::backend::BoxFuture;

pub(crate) use foreign::{builder, entry, give};
pub use place::{Place, places};

#[cfg(feature = "proofs")]
use self::patched::{Patch, Patched};
#[cfg(feature = "proofs")]
use crate::broken::Variant;
use crate::failure::{Failure, Outcome};
#[cfg(feature = "proofs")]
use crate::mutants::Mutant;
use crate::num::Dice;

/// Every kind of store, in the order of the table of backends.
const KINDS: &[&dyn StoreKind] =
    &[&memory::Memory, &host::Host, &redis::Redis, &redis::setnx::Setnx, &redlock::Redlock];

/// The URL of a store inside this process, which no other client sees.
pub(crate) const IN_PROCESS: &str = "memory:";
/// The store that is used when none is named.
pub const USUAL: &str = "host:";

/// All kinds of stores.
pub(crate) fn kinds() -> impl Iterator<Item = &'static dyn StoreKind> {
    KINDS.iter().copied()
}

/// The kind of the store at a URL.
///
/// # Errors
/// If the scheme is unknown: the library's own message. If the registry lacks a backend: its name.
pub(crate) fn of(url: &str) -> Outcome<&'static dyn StoreKind> {
    let scheme = url.split(':').next().unwrap_or_default();
    if let Some(kind) = foreign::kind(scheme) {
        return Ok(kind);
    }
    let entry = tenure::backend::find(scheme)?;
    let of_entry = |kind: &&dyn StoreKind| entry.schemes.contains(&kind.scheme());
    kinds().find(of_entry).ok_or_else(|| {
        Failure::run(
            format!("the lab's registry of stores lacks {scheme}:"),
            "add it to servers/ in tenure-lab",
        )
    })
}

/// The kinds that the lab can start a server of.
pub(crate) fn servers() -> impl Iterator<Item = &'static dyn StoreKind> {
    kinds().filter(|kind| !kind.durabilities().is_empty())
}

/// The server of this name.
///
/// # Errors
/// If the lab can start no such server; names those that it can start.
pub(crate) fn server(name: &str) -> Outcome<&'static dyn StoreKind> {
    servers().find(|kind| kind.scheme() == name).ok_or_else(|| {
        let names: Vec<&str> = servers().map(|kind| kind.scheme()).collect();
        let advice =
            format!("use --server with one of {}, or --url with a store that runs", names.join(", "));
        Failure::usage(format!("the lab cannot start a server {name:?}"), advice)
    })
}

/// The name of the first of them.
pub(crate) fn usual_server() -> &'static str {
    servers().next().map_or("no", |kind| kind.scheme())
}

/// A store that a chaos run can be made on without anybody's help.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name of its kind.
    pub name: &'static str,
    /// The URL that makes one, if no server has to be started.
    pub url: Option<String>,
    /// How its server can keep data, the strongest first: the values of `--durability`.
    pub durabilities: &'static [&'static str],
    /// Why it cannot be made on this machine, if so.
    pub missing: Option<String>,
}

/// All of them.
pub fn targets() -> impl Iterator<Item = Target> {
    // A kind whose server another kind starts has nothing of its own to break.
    kinds().filter(|kind| kind.port().is_none() || !kind.durabilities().is_empty()).map(|kind| Target {
        name: kind.scheme(),
        url: kind.port().is_none().then(|| format!("{}:", kind.scheme())),
        durabilities: kind.durabilities(),
        missing: kind.missing(),
    })
}

/// How a store of the lab's own is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish<'a> {
    /// One of [`StoreKind::sites`].
    pub(crate) site: &'static str,
    /// One of [`StoreKind::durabilities`]; the first one if none is named.
    pub(crate) durability: Option<&'a str>,
    /// Where its files are; a temporary directory if none is given.
    pub(crate) home: Option<&'a Path>,
    /// Its disk can be filled and its clock stepped, as far as this machine allows it.
    pub(crate) breakable: bool,
}

/// A kind of store. What it does not say it does not have.
pub(crate) trait StoreKind: Sync {
    /// Its first scheme in the table of backends, which is also its name.
    fn scheme(&self) -> &'static str;

    /// The places where the suite runs on stores of its own, by the names of the tests.
    fn sites(&self) -> &'static [&'static str];

    /// Makes a store; `None`: it is made when it is opened, and only its own process sees it.
    fn make(&self, wish: &Wish<'_>) -> Outcome<Option<Arc<dyn Own>>>;

    /// Why the lab cannot make a store of this kind here, if so.
    fn missing(&self) -> Option<String> {
        None
    }

    /// How its server can keep data, the strongest first; nothing if it has no server.
    fn durabilities(&self) -> &'static [&'static str] {
        &[]
    }

    /// The program of its server and the program's version, for the header of a history.
    fn version(&self) -> Option<(&'static str, String)> {
        None
    }

    /// Takes the store at this URL for the lab's own, if nobody else can be using it. `Err`: why it is left alone, if there
    /// was anything to take.
    fn claim(&self, _url: &str) -> Result<Arc<dyn Own>, Option<String>> {
        Err(None)
    }

    /// The usual port of its server.
    fn port(&self) -> Option<u16> {
        None
    }

    /// The URL to use, so that the names of a namespace stay apart from all others.
    fn apart(&self, url: &str, _namespace: &str) -> String {
        url.to_owned()
    }

    /// How a process can be stopped or killed inside a verb.
    fn inside(&self) -> Option<&'static Inside> {
        None
    }

    /// Reads the next request of a client to its server, and changes the scripts in it. `None`: the client has hung up.
    fn request(
        &self,
        _from: &mut dyn BufRead,
        _change: &mut dyn FnMut(&str) -> String,
    ) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// A piece of a script, as it is in the scripts that its server is given: with offsets in the place of names.
    fn as_loaded(&self, piece: &str) -> String {
        piece.to_owned()
    }

    /// The texts of its scripts.
    #[cfg(test)]
    fn scripts(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Wrong variants of what is particular to it, and the trials that must notice.
    #[cfg(feature = "proofs")]
    fn variants(&self) -> &'static [Variant] {
        &[]
    }

    /// Wrong protocols of it, which chaos must notice.
    #[cfg(feature = "proofs")]
    fn mutants(&self) -> &'static [Mutant] {
        &[]
    }

    /// Whether a client that does not use Tenure can reach the store at this URL.
    fn reaches(&self, _url: &str) -> bool {
        false
    }

    /// Such a client.
    ///
    /// # Errors
    /// If the server cannot be reached.
    fn bare<'a>(&self, url: &'a str) -> BoxFuture<'a, Outcome<Box<dyn Bare>>> {
        Box::pin(async move {
            let what = format!("{} cannot be reached without Tenure", path::shown(url));
            Err(Failure::config(what, "use the URL of a server, without TLS"))
        })
    }

    /// How trials behave as guests on somebody else's server; `None`: they disturb nobody.
    fn guest(&self) -> Option<&'static dyn Guest> {
        None
    }
}

/// Hooks of a store that runs inside its clients' processes.
pub(crate) struct Inside {
    /// Stops this process at the n-th step from now.
    pub(crate) stop_after: fn(u64),
    /// Kills it there; `u64::MAX`: neither.
    pub(crate) kill_after: fn(u64),
}

/// A store of the lab's own.
pub(crate) trait Own: fmt::Debug + Send + Sync {
    /// Its URL.
    fn url(&self) -> String;
    /// Removes all data. No client has it open, or clients are cut off.
    fn wipe(&self) -> Outcome<()>;
    /// Ends it as the reboot of its machine does, and starts it again.
    fn reboot(&self) -> Outcome<()>;
    /// Whether this process has let go of it, so that it can be rebooted.
    fn closed(&self) -> Outcome<bool>;
    /// A store beside this one, which no earlier client has open; `None`: this one serves as well.
    fn beside(&self, name: &str) -> Option<Arc<dyn Own>>;
    /// What can be done to it under clients.
    fn faults(&self) -> Vec<Fault>;
    /// Begins a fault; its strength is in the order of a lease of this length.
    fn strike(&self, fault: &Fault, ttl: Duration, dice: &mut Dice) -> Outcome<()>;
    /// Ends a fault.
    fn undo(&self, fault: &Fault) -> Outcome<()>;
    /// Keeps a copy of its data, which a fault may put back.
    fn copy(&self) -> Outcome<()>;
    /// The rules that rest on the connections of its clients: whoever cuts them breaks these.
    fn cut_off(&self) -> &'static [&'static str];
    /// What cannot be done to it on this machine, and why.
    fn lacks(&self) -> Vec<String>;
    /// The log of its server.
    fn log(&self) -> Option<PathBuf>;
}

/// The half of a run in which a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    First,
    Second,
    Either,
}

/// When a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// It is over as soon as it was.
    NoTime,
    /// For a random time, in the order of a lease; then it is undone.
    AWhile,
    /// Clients need so long to notice it. Such faults strike one after the other, with pauses in which clients return.
    UntilNoticed(Duration),
}

/// Something that can be done to a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// How often it is chosen, compared with others.
    pub(crate) weight: u64,
    pub(crate) half: Half,
    pub(crate) lasts: Lasts,
    /// The rules that rest on what it takes away.
    pub(crate) breaks: &'static [&'static str],
    /// After it the store may not know the last token of a lock.
    pub(crate) forgets: bool,
    /// The store's clock goes back with it: only where the store knows the last token is the next one greater.
    pub(crate) turns_back: bool,
}

/// A client of a server that does not use Tenure: what Tenure is compared with.
pub(crate) trait Bare: fmt::Debug + Send {
    /// The shortest round trip.
    fn ping(&mut self) -> BoxFuture<'_, Outcome<()>>;
    /// The naive lock: sets a key for a time if it is absent. Whether it was set.
    fn set_if_absent<'a>(
        &'a mut self,
        key: &'a str,
        value: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Outcome<bool>>;
    /// Deletes a key, whoever has set it.
    fn delete<'a>(&'a mut self, key: &'a str) -> BoxFuture<'a, Outcome<()>>;
    /// Deletes a key if it has this value. Whether it had.
    fn delete_own<'a>(&'a mut self, key: &'a str, value: &'a str) -> BoxFuture<'a, Outcome<bool>>;
    /// What the server has spent: CPU time in seconds, and the kB that it has allocated.
    fn spent(&mut self) -> BoxFuture<'_, Option<(f64, f64)>>;
}

/// Trials on somebody else's server: nothing of theirs is touched, and nothing of ours stays.
pub(crate) trait Guest: Sync {
    /// Says whether others use the database at this URL, and what it holds. `Err`: it cannot be used at all.
    fn visit<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Outcome<Visit>>;
    /// Removes what is left in namespaces that begin like this.
    fn leave<'a>(&'a self, url: &'a str, namespaces: &'a str) -> BoxFuture<'a, Outcome<()>>;
    /// How to name a database of one's own.
    fn advice(&self) -> &'static str;
}

/// What a guest finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Nothing but what Tenure keeps, among so many keys.
    Ours(u64),
    /// So many keys, of others too.
    Others(u64),
    /// It cannot be seen.
    Unseen,
}

/// Whether a client that does not use Tenure can reach the store at this URL.
pub(crate) fn reaches(url: &str) -> bool {
    of(url).is_ok_and(|kind| kind.reaches(url))
}

/// Such a client.
///
/// # Errors
/// If the server cannot be reached.
pub(crate) async fn bare(url: &str) -> Outcome<Box<dyn Bare>> {
    of(url)?.bare(url).await
}

/// Stops this process here and now, with SIGSTOP: the thread that calls this does nothing more until another process lets
/// it continue.
pub(crate) fn stop_this_process() {
    tenure::backend::host::faults::stop_now();
}

/// Puts a proxy before a server that changes what clients send to it.
#[cfg(feature = "proofs")]
pub(crate) fn patched(
    kind: &'static dyn StoreKind,
    url: &str,
    patches: &'static [Patch],
) -> Outcome<(String, Patched)> {
    let ports = path::local_ports(url)
        .ok_or_else(|| Failure::run(format!("{url} is no server of this machine"), "name one"))?;
    let proxy = Patched::before(kind, &ports, patches)?;
    Ok((path::through(url, proxy.ports()), proxy))
}
