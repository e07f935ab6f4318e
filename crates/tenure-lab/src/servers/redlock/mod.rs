//! Several independent servers of Redis, of which a majority decides.
//!
//! - here: the kind, and servers of the lab's own.
//! - `wrong`: wrong scripts, as variants and as mutants.

#[cfg(feature = "proofs")]
mod wrong;

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenure_servers::redis::{Aof, Server, Settings};

use super::redis::{DATA, Redis, aof, breaking, fault, forgetting};
use super::{Fault, Half, Lasts, Own, StoreKind, Wish};
#[cfg(feature = "proofs")]
use crate::broken::Variant;
use crate::failure::{Doing, Outcome};
#[cfg(feature = "proofs")]
use crate::mutants::Mutant;
use crate::num::Dice;

/// How many servers vote.
const VOTERS: usize = 3;

/// How they keep their votes. Those that keep nothing stay out of votes after each start.
const DURABILITIES: [(&str, Aof); 2] = [("always", Aof::Always), ("none", Aof::None)];
const NAMES: [&str; 2] = [DURABILITIES[0].0, DURABILITIES[1].0];

/// The longest lease: of any trial, and in a run with faults, where servers without their votes are to come back soon.
const LONGEST: (&str, &str) = ("86400s", "2s");

/// The kind.
pub(crate) struct Redlock;

impl StoreKind for Redlock {
    fn scheme(&self) -> &'static str {
        "redlock"
    }

    fn sites(&self) -> &'static [&'static str] {
        &["redlock"]
    }

    fn make(&self, wish: &Wish<'_>) -> Outcome<Option<Arc<dyn Own>>> {
        let aof = aof(self.scheme(), &DURABILITIES, wish)?;
        let start = |number| {
            let home = wish.home.map(|home| home.join(format!("voter-{number}")));
            let settings = Settings { aof, home, clock: wish.breakable, ..Settings::default() };
            Server::new(settings).doing(|| "start redis-server".into())
        };
        let servers = (0..VOTERS).map(start).collect::<Outcome<_>>()?;
        let longest = if wish.breakable { LONGEST.1 } else { LONGEST.0 };
        Ok(Some(Arc::new(Voters { servers, longest, struck: AtomicUsize::new(0) })))
    }

    fn missing(&self) -> Option<String> {
        Redis.missing()
    }

    fn durabilities(&self) -> &'static [&'static str] {
        &NAMES
    }

    fn version(&self) -> Option<(&'static str, String)> {
        Redis.version()
    }

    fn port(&self) -> Option<u16> {
        Redis.port()
    }

    fn request(
        &self,
        from: &mut dyn BufRead,
        change: &mut dyn FnMut(&str) -> String,
    ) -> io::Result<Option<Vec<u8>>> {
        Redis.request(from, change)
    }

    fn as_loaded(&self, piece: &str) -> String {
        Redis.as_loaded(piece)
    }

    #[cfg(test)]
    fn scripts(&self) -> Vec<&'static str> {
        Redis.scripts()
    }

    #[cfg(feature = "proofs")]
    fn variants(&self) -> &'static [Variant] {
        wrong::VARIANTS
    }

    #[cfg(feature = "proofs")]
    fn mutants(&self) -> &'static [Mutant] {
        wrong::MUTANTS
    }
}

/// Servers of the lab's own. One is struck at a time.
#[derive(Debug)]
struct Voters {
    servers: Vec<Server>,
    longest: &'static str,
    struck: AtomicUsize,
}

const STOP: Fault = fault("stop_server", 3, Half::Either, Lasts::AWhile);
const RESTART: Fault = fault("restart", 3, Half::Either, Lasts::NoTime);
/// Somebody deletes the votes of a server that promises to keep them. One that keeps nothing stays out of votes instead.
const EMPTY: Fault = forgetting(breaking(fault("restart_empty", 1, Half::First, Lasts::NoTime), DATA));
/// Leases end early on the server whose clock goes ahead, and again when a clock that was back is right.
const FORWARD: Fault = breaking(fault("clock_forward", 1, Half::Second, Lasts::AWhile), DATA);
const BACK: Fault = breaking(fault("clock_back", 1, Half::Second, Lasts::AWhile), DATA);

impl Voters {
    fn step(&self, server: usize, ns: i64) {
        if let Some(clock) = self.servers.get(server).and_then(Server::clock) {
            clock.step(ns);
        }
    }
}

impl Own for Voters {
    fn url(&self) -> String {
        let hosts: Vec<String> = self.servers.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("redlock://{}?longest-ttl={}", hosts.join(","), self.longest)
    }

    fn wipe(&self) -> Outcome<()> {
        let mut all = self.servers.iter();
        all.try_for_each(|s| s.restart_empty()).doing(|| "restart the servers without their data".into())
    }

    fn reboot(&self) -> Outcome<()> {
        self.servers.iter().try_for_each(Server::restart).doing(|| "restart the servers".into())
    }

    fn closed(&self) -> Outcome<bool> {
        Ok(true)
    }

    fn beside(&self, _: &str) -> Option<Arc<dyn Own>> {
        None
    }

    fn faults(&self) -> Vec<Fault> {
        let mut all = vec![STOP, RESTART];
        if !self.servers.iter().any(Server::forgets) {
            all.push(EMPTY);
        }
        if self.servers.iter().all(|server| server.clock().is_some()) {
            all.extend([FORWARD, BACK]);
        }
        all
    }

    fn strike(&self, fault: &Fault, ttl: Duration, dice: &mut Dice) -> Outcome<()> {
        let struck = usize::try_from(dice.below(self.servers.len() as u64)).unwrap_or(0);
        self.struck.store(struck, Ordering::SeqCst);
        let Some(server) = self.servers.get(struck) else { return Ok(()) };
        let span = i64::try_from(ttl.mul_f64(0.5 + 3.0 * dice.unit()).as_nanos()).unwrap_or(0);
        let done = match fault.name {
            "stop_server" => {
                server.freeze();
                Ok(())
            }
            "restart" => server.restart(),
            "restart_empty" => server.restart_empty(),
            "clock_forward" => {
                self.step(struck, span);
                Ok(())
            }
            _ => {
                self.step(struck, -span);
                Ok(())
            }
        };
        done.doing(|| format!("cause the fault {}", fault.name))
    }

    fn undo(&self, fault: &Fault) -> Outcome<()> {
        let struck = self.struck.load(Ordering::SeqCst);
        match fault.name {
            "stop_server" => self.servers.iter().for_each(Server::thaw),
            "clock_forward" | "clock_back" => self.step(struck, 0),
            _ => {}
        }
        Ok(())
    }

    fn copy(&self) -> Outcome<()> {
        Ok(())
    }

    fn cut_off(&self) -> &'static [&'static str] {
        &[]
    }

    fn lacks(&self) -> Vec<String> {
        self.servers.first().map(|server| server.lacks().to_vec()).unwrap_or_default()
    }

    fn log(&self) -> Option<PathBuf> {
        self.servers.first().map(Server::log)
    }
}
