//! Several independent servers of Redis, of which a majority decides.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tenure_servers::redis::{self, Aof, Server, Settings};

use super::{Fault, Own, StoreKind, Wish};
use crate::failure::{Doing, Outcome};
use crate::num::Dice;

/// How many servers vote.
const VOTERS: usize = 3;
/// The kind.
pub(crate) struct Redlock;

impl StoreKind for Redlock {
    fn scheme(&self) -> &'static str {
        "redlock"
    }

    fn sites(&self) -> &'static [&'static str] {
        &["redlock"]
    }

    fn make(&self, _: &Wish<'_>) -> Outcome<Option<Arc<dyn Own>>> {
        let start = |_| {
            let settings = Settings { aof: Aof::Always, ..Settings::default() };
            Server::new(settings).doing(|| "start redis-server".into())
        };
        let servers = (0..VOTERS).map(start).collect::<Outcome<_>>()?;
        Ok(Some(Arc::new(Voters { servers })))
    }

    fn missing(&self) -> Option<String> {
        redis::missing()
    }

    fn durabilities(&self) -> &'static [&'static str] {
        // Chaos strikes one server, and here are several: it has no faults for them.
        &[]
    }

    fn version(&self) -> Option<(&'static str, String)> {
        Some(("redis-server", redis::version()))
    }

    fn port(&self) -> Option<u16> {
        Some(6379)
    }
}

/// Servers of the lab's own.
#[derive(Debug)]
struct Voters {
    servers: Vec<Server>,
}

impl Own for Voters {
    fn url(&self) -> String {
        let hosts: Vec<String> = self.servers.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("redlock://{}?longest-ttl=86400s", hosts.join(","))
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
        Vec::new()
    }

    fn strike(&self, _: &Fault, _: Duration, _: &mut Dice) -> Outcome<()> {
        Ok(())
    }

    fn undo(&self, _: &Fault) -> Outcome<()> {
        Ok(())
    }

    fn copy(&self) -> Outcome<()> {
        Ok(())
    }

    fn cut_off(&self) -> &'static [&'static str] {
        &[]
    }

    fn lacks(&self) -> Vec<String> {
        Vec::new()
    }

    fn log(&self) -> Option<PathBuf> {
        self.servers.first().map(Server::log)
    }
}
