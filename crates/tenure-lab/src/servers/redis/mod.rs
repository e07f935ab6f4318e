//! Redis: servers, their faults, and programs that use them without Tenure.
//!
//! - here: the kind, and a server of the lab's own.
//! - `setnx`: the dialect, on the same servers.
//! - `bare`: a client by another author, and trials as guests.
//! - `request`: what clients send, so that a proxy can change it.
//! - `wrong`: wrong scripts, as variants and as mutants.

mod bare;
mod request;
pub(super) mod setnx;
#[cfg(feature = "proofs")]
mod wrong;

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tenure::backend::BoxFuture;
use tenure_servers::redis::{self, Aof, Server, Settings};

use super::{Bare, Fault, Guest, Half, Lasts, Own, StoreKind, Wish};
#[cfg(feature = "proofs")]
use crate::broken::Variant;
use crate::failure::{Doing, Failure, Outcome};
#[cfg(feature = "proofs")]
use crate::mutants::Mutant;
use crate::num::Dice;

/// The port of a URL that names none.
const PORT: u16 = 6379;

/// How a server keeps its data, the strongest first.
const DURABILITIES: [(&str, Aof); 3] =
    [("always", Aof::Always), ("everysec", Aof::Everysec), ("none", Aof::None)];
const NAMES: [&str; 3] = [DURABILITIES[0].0, DURABILITIES[1].0, DURABILITIES[2].0];

/// The kind.
pub(crate) struct Redis;

impl StoreKind for Redis {
    fn scheme(&self) -> &'static str {
        "redis"
    }

    fn sites(&self) -> &'static [&'static str] {
        &["redis"]
    }

    fn make(&self, wish: &Wish<'_>) -> Outcome<Option<Arc<dyn Own>>> {
        Ok(Some(Arc::new(Served::start("redis", wish)?)))
    }

    fn missing(&self) -> Option<String> {
        redis::missing()
    }

    fn durabilities(&self) -> &'static [&'static str] {
        &NAMES
    }

    fn version(&self) -> Option<(&'static str, String)> {
        Some(("redis-server", redis::version()))
    }

    fn port(&self) -> Option<u16> {
        Some(PORT)
    }

    fn request(
        &self,
        from: &mut dyn BufRead,
        change: &mut dyn FnMut(&str) -> String,
    ) -> io::Result<Option<Vec<u8>>> {
        request::next(from, change)
    }

    fn as_loaded(&self, piece: &str) -> String {
        tenure::backend::redis::with_offsets(piece)
    }

    #[cfg(test)]
    fn scripts(&self) -> Vec<&'static str> {
        tenure::backend::redis::scripts().map(|(_, text)| text).collect()
    }

    #[cfg(feature = "proofs")]
    fn variants(&self) -> &'static [Variant] {
        wrong::VARIANTS
    }

    #[cfg(feature = "proofs")]
    fn mutants(&self) -> &'static [Mutant] {
        wrong::MUTANTS
    }

    fn reaches(&self, url: &str) -> bool {
        super::path::scheme(url).eq_ignore_ascii_case(self.scheme())
    }

    fn bare<'a>(&self, url: &'a str) -> BoxFuture<'a, Outcome<Box<dyn Bare>>> {
        Box::pin(bare::connect(url))
    }

    fn guest(&self) -> Option<&'static dyn Guest> {
        Some(&bare::Visitor)
    }
}

/// How a server of this kind is to keep its data: as it is wished, or as strongly as it can.
pub(super) fn aof(kind: &str, known: &[(&str, Aof)], wish: &Wish<'_>) -> Outcome<Aof> {
    let wanted = wish.durability.unwrap_or(known[0].0);
    known.iter().find(|(name, _)| *name == wanted).map(|(_, aof)| *aof).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let advice = format!("give one of {}", names.join(", "));
        Failure::usage(format!("{kind} keeps its data {wanted:?}: there is no such way"), advice)
    })
}

/// A server of the lab's own, as clients of one scheme see it.
#[derive(Debug)]
struct Served {
    scheme: &'static str,
    server: Server,
}

impl Served {
    fn start(scheme: &'static str, wish: &Wish<'_>) -> Outcome<Served> {
        let aof = aof("redis", &DURABILITIES, wish)?;
        let home = wish.home.map(PathBuf::from);
        let settings = Settings { aof, home, breakable: wish.breakable, ..Settings::default() };
        let server = Server::new(settings).doing(|| "start redis-server".into())?;
        Ok(Served { scheme, server })
    }
}

/// The rules that rest on a server's data, kept for as long as a lease.
pub(super) const DATA: &[&str] = &["S1", "S5", "L3"];

/// A waiter whose client cannot be told is overtaken.
const CUT_OFF: &[&str] = &["L3"];

pub(super) const fn fault(name: &'static str, weight: u64, half: Half, lasts: Lasts) -> Fault {
    Fault { name, weight, half, lasts, breaks: &[], forgets: false, turns_back: false }
}

pub(super) const fn breaking(fault: Fault, breaks: &'static [&'static str]) -> Fault {
    Fault { breaks, ..fault }
}

pub(super) const fn forgetting(fault: Fault) -> Fault {
    Fault { forgets: true, ..fault }
}

const fn turning_back(fault: Fault) -> Fault {
    Fault { turns_back: true, ..fault }
}

/// Tokens grow with the server's clock, so a loss of data while that clock is ahead would break S2, which no single fault
/// may: data is lost in the first half of a run, and the clock goes ahead in the second.
const STOP: Fault = breaking(fault("stop_server", 2, Half::Either, Lasts::AWhile), CUT_OFF);
const RESTART: Fault = breaking(fault("restart", 2, Half::Either, Lasts::NoTime), CUT_OFF);
const EMPTY: Fault = forgetting(breaking(fault("restart_empty", 2, Half::First, Lasts::NoTime), DATA));
const OLDER: Fault = forgetting(breaking(
    fault("restart_older_copy", 2, Half::First, Lasts::NoTime),
    &["S1", "S5", "S10", "L3"],
));
const FORWARD: Fault = breaking(fault("clock_forward", 2, Half::Second, Lasts::AWhile), DATA);
/// Its end is a step forward.
const BACK: Fault = turning_back(breaking(fault("clock_back", 2, Half::Second, Lasts::AWhile), DATA));
/// Its end is a server without data whose clock is right: a failover to another machine, in one.
const BACK_THEN_EMPTY: Fault =
    forgetting(turning_back(breaking(fault("clock_back_then_empty", 2, Half::First, Lasts::AWhile), DATA)));
const FULL: Fault = fault("full_disk", 1, Half::Either, Lasts::AWhile);

impl Own for Served {
    fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.server.port)
    }

    fn wipe(&self) -> Outcome<()> {
        self.server.restart_empty().doing(|| "restart the server without its data".into())
    }

    fn reboot(&self) -> Outcome<()> {
        self.server.restart().doing(|| "restart the server".into())
    }

    fn closed(&self) -> Outcome<bool> {
        Ok(true)
    }

    fn beside(&self, _: &str) -> Option<Arc<dyn Own>> {
        None
    }

    fn faults(&self) -> Vec<Fault> {
        let mut all = vec![STOP, EMPTY, OLDER];
        if self.server.forgets() {
            // A restart of a server that keeps nothing is a loss of data.
            all.push(forgetting(breaking(Fault { half: Half::First, ..RESTART }, DATA)));
        } else {
            all.push(RESTART);
        }
        if self.server.clock().is_some() {
            all.extend([FORWARD, BACK, BACK_THEN_EMPTY]);
        }
        if self.server.disk().is_some() {
            all.push(if self.server.forgets() { forgetting(breaking(FULL, DATA)) } else { FULL });
        }
        all
    }

    fn strike(&self, fault: &Fault, ttl: Duration, dice: &mut Dice) -> Outcome<()> {
        let mut step = |shortest: f64, longest: f64, sign: i64| {
            let span = ttl.mul_f64(shortest + (longest - shortest) * dice.unit());
            if let Some(clock) = self.server.clock() {
                clock.step(sign * i64::try_from(span.as_nanos()).unwrap_or(0));
            }
        };
        let done = match fault.name {
            "stop_server" => {
                self.server.freeze();
                Ok(())
            }
            "restart" => self.server.restart(),
            "restart_empty" => self.server.restart_empty(),
            "restart_older_copy" => self.server.restart_older(),
            "clock_forward" => {
                step(0.5, 3.5, 1);
                Ok(())
            }
            "clock_back" => {
                step(0.5, 3.5, -1);
                Ok(())
            }
            // Far back: a lease that was told by this clock would outlive every other rule's patience.
            "clock_back_then_empty" => {
                step(5.0, 50.0, -1);
                Ok(())
            }
            _ => {
                if let Some(disk) = self.server.disk() {
                    disk.fill();
                }
                Ok(())
            }
        };
        done.doing(|| format!("cause the fault {}", fault.name))
    }

    fn undo(&self, fault: &Fault) -> Outcome<()> {
        let reset = || {
            if let Some(clock) = self.server.clock() {
                clock.step(0);
            }
        };
        let done = match fault.name {
            "stop_server" => {
                self.server.thaw();
                Ok(())
            }
            "clock_forward" | "clock_back" => {
                reset();
                Ok(())
            }
            "clock_back_then_empty" => {
                self.server.kill();
                reset();
                self.server.restart_empty()
            }
            "full_disk" => self.server.free_disk(),
            _ => Ok(()),
        };
        done.doing(|| format!("end the fault {}", fault.name))
    }

    fn copy(&self) -> Outcome<()> {
        self.server.copy().doing(|| "copy the server's data".into())
    }

    fn cut_off(&self) -> &'static [&'static str] {
        CUT_OFF
    }

    fn lacks(&self) -> Vec<String> {
        self.server.lacks().to_vec()
    }

    fn log(&self) -> Option<PathBuf> {
        Some(self.server.log())
    }
}
