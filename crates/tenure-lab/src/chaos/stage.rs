//! One run: the server, the path to it, the clients and what the locks protect, from the first fault to the history.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tenure::{Capabilities, Locks, Order, Scope};
use tenure_servers::proxy::Proxy;
use tokio::runtime::Runtime;

use super::client::Task;
use super::clients::Clients;
use super::faults::{Faults, Targets};
use super::resource::Resources;
use super::{Plan, holding, scope};
use crate::failure::{Doing, Failure, Outcome};
use crate::globals::Globals;
use crate::history::{Event, Header, Merge, Op, Phase, VERSION, Writer};
use crate::mutants::{How, Mutant};
use crate::num::{boot_ns, us};
use crate::process::apart;
use crate::servers::patched::Patched;
use crate::servers::path::{local_ports, shown, through};
use crate::servers::{self, Own, Wish};

/// How long a run goes on without faults at the end, beyond one ttl: a lock that nobody is granted for that long is stuck.
const HEALING: Duration = Duration::from_secs(11);
/// How long what is left behind may take to end by itself: the waiting lease of those who were killed, and one ttl.
const ENDING: Duration = Duration::from_secs(15);

/// Everything that takes part.
pub(super) struct Stage {
    targets: Targets,
    faults: Faults,
    resources: Resources,
    /// What could not be had.
    pub(super) notes: Vec<String>,
    own: PathBuf,
    url: String,
    straight: String,
    namespace: String,
    versions: serde_json::Map<String, serde_json::Value>,
    capabilities: serde_json::Value,
    backend: String,
    /// The store goes with its process, and leaves nothing.
    private: bool,
}

impl Stage {
    pub(super) fn set(plan: &Plan, globals: &Globals, home: &Path, runtime: &Runtime) -> Outcome<Stage> {
        let _on = runtime.enter();
        let mut notes = Vec::new();
        let store = own_store(plan, globals, home, &mut notes)?;
        let straight = store.as_ref().map_or_else(|| globals.url.clone(), |own| own.url());
        let scope = scope(&straight)?;
        let local = scope == Scope::Host;
        let apart = local && pid_namespaces(&mut notes);
        let paths = paths_to(&straight, plan)?;
        let url = if paths.is_empty() {
            straight.clone()
        } else {
            through(&straight, paths.iter().map(Proxy::port))
        };
        let writes_only = plan.mutant.is_some_and(|mutant| matches!(mutant.how, How::Fence));
        let resources = Resources::new(writes_only);
        let socket = home.join("resources");
        resources.serve(&socket)?;
        let own = home.join("part-0.jsonl");
        let writer = Writer::create(&own).doing(|| "make the history".into())?;
        let namespace = format!("chaos-{}-{}", std::process::id(), us(boot_ns()) % 1_000_000_000);
        let mut clients = Clients::new(home.to_owned(), apart);
        let private = scope == Scope::Process;
        let task = Task {
            p: 0,
            url: url.clone(),
            namespace: namespace.clone(),
            ttl_ms: u64::try_from(plan.ttl.as_millis()).unwrap_or(u64::MAX),
            tasks: plan.tasks,
            processes: plan.processes,
            seed: plan.seed,
            part: PathBuf::new(),
            socket,
            rarer: if local { 5 } else { 1 },
            apart: false,
            naps: plan.naps,
            mutant: plan.mutant.map(|mutant| mutant.name.to_owned()),
        };
        // Before the clients: what cannot be reached or used is said at once.
        let locks = runtime.block_on(Locks::builder(&straight).namespace(&namespace).connect())?;
        let capabilities = locks.capabilities();
        for _ in 0..plan.processes {
            clients.add(&task)?;
        }
        Ok(Stage {
            faults: Faults::new(
                plan.seed,
                plan.ttl,
                plan.gap,
                plan.mutant.map_or(&[], |mutant| mutant.under),
            ),
            targets: Targets { clients, paths, own: store, mortal: !private, notes: writer },
            resources,
            notes,
            own,
            url: shown(&straight),
            straight,
            namespace,
            versions: versions(plan),
            capabilities: promised(&capabilities),
            backend: capabilities.backend.to_owned(),
            private,
        })
    }

    /// The faults, until there were enough and enough was done under them; at most four times as long.
    pub(super) fn storm(&mut self, plan: &Plan) -> Outcome<()> {
        let began = Instant::now();
        let (span, most) = (Duration::from_secs(plan.secs), Duration::from_secs(4 * plan.secs));
        loop {
            let passed = began.elapsed();
            let enough =
                self.faults.begun >= plan.floors.windows && self.acquired() >= plan.floors.acquisitions;
            if passed >= most || (passed >= span && enough) {
                return Ok(());
            }
            self.blow(passed >= span / 2)?;
        }
    }

    /// A moment of the faults.
    pub(super) fn blow(&mut self, second_half: bool) -> Outcome<()> {
        self.faults.step(&mut self.targets, second_half)?;
        thread::sleep(Duration::from_millis(5));
        Ok(())
    }

    /// No more faults, for as long as a lock that nobody is granted takes to show.
    pub(super) fn heal(&mut self, plan: &Plan) -> Outcome<()> {
        self.faults.clear(&mut self.targets)?;
        let until = Instant::now() + HEALING + plan.ttl;
        while Instant::now() < until {
            // One may have been about to stop itself when it was told to cause no more trouble.
            self.targets.clients.wake();
            self.faults.look_after(&mut self.targets)?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// How often something was acquired, as far as the clients told.
    pub(super) fn acquired(&self) -> u64 {
        self.targets.clients.acquired()
    }

    /// What has been written by now.
    #[cfg_attr(not(feature = "proofs"), allow(dead_code))] // a hunt looks in between
    pub(super) fn so_far(&self) -> Merge {
        self.targets.clients.so_far().part(&self.own)
    }

    /// Ends the clients, looks for what is left, and gives what is to be merged.
    pub(super) fn finish(mut self, plan: &Plan, runtime: &Runtime) -> Outcome<(Merge, Header)> {
        let stuck = self.targets.clients.end()?;
        let put = |event: &Event| self.targets.notes.put(event).doing(|| "write the history".into());
        for (name, value) in self.resources.values() {
            let fenced = name.ends_with("-fenced");
            put(&Event::new(boot_ns(), 0, Op::Final, Phase::Ok)
                .resource(name.as_str(), fenced)
                .value(value))?;
        }
        let mut residue = if self.private {
            json!({})
        } else {
            runtime.block_on(residue(&self.straight, &self.namespace))?
        };
        residue["processes"] = json!(stuck);
        if !self.targets.paths.is_empty() {
            residue["connections"] = json!(self.targets.paths.iter().map(Proxy::open).sum::<usize>());
        }
        put(&Event::new(boot_ns(), 0, Op::Residue, Phase::Ok).detail(residue))?;
        let header = self.header(plan);
        Ok((self.targets.clients.parts().part(self.own), header))
    }

    /// What run it was.
    pub(super) fn header(&self, plan: &Plan) -> Header {
        Header {
            history: VERSION,
            backend: self.backend.clone(),
            url: self.url.clone(),
            seed: plan.seed,
            ttl_ms: u64::try_from(plan.ttl.as_millis()).unwrap_or(u64::MAX),
            locks: u32::try_from(holding::NAMES.len()).unwrap_or(0),
            processes: plan.processes,
            tasks: plan.tasks,
            capabilities: self.capabilities.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            // Where there is no order, none is asked for.
            fair: self.capabilities["order"] != Order::None.to_string(),
            floors: Some(plan.floors),
            events: None,
            replay: Some(plan.replay.clone()),
            versions: Some(self.versions.clone()),
        }
    }
}

/// The store that the run has for itself, if it has: a server that it starts, or files that nobody else uses.
fn own_store(
    plan: &Plan,
    globals: &Globals,
    home: &Path,
    notes: &mut Vec<String>,
) -> Outcome<Option<Arc<dyn Own>>> {
    let Some((kind, durability)) = plan.server else {
        let claimed = servers::of(&globals.url)?.claim(&globals.url);
        return Ok(claimed.map_err(|why| notes.extend(why)).ok());
    };
    if let Some(why) = kind.missing() {
        return Err(Failure::run(why, "or use --url with a store that runs"));
    }
    let wish = Wish { durability: Some(durability), home: Some(home), breakable: true, ..Wish::default() };
    let own = kind.make(&wish)?;
    notes.extend(own.iter().flat_map(|own| own.lacks()));
    Ok(own)
}

/// Whether clients can have pid namespaces of their own.
fn pid_namespaces(notes: &mut Vec<String>) -> bool {
    let missing = apart::missing();
    if let Some(why) = &missing {
        notes.push(format!("no pid namespaces: {why}"));
    }
    missing.is_none()
}

/// The paths to the servers of a store, if all are on this machine: the lab can put itself in front of them.
fn paths_to(url: &str, plan: &Plan) -> Outcome<Vec<Proxy>> {
    let Some(ports) = local_ports(url) else { return Ok(Vec::new()) };
    let patches = plan.mutant.map_or(&[][..], Mutant::patches);
    if patches.is_empty() {
        return ports.into_iter().map(|port| Proxy::to(port).doing(|| "start a proxy".into())).collect();
    }
    Ok(Patched::before(servers::of(url)?, &ports, patches)?.into_proxies())
}

/// The versions of what takes part.
fn versions(plan: &Plan) -> serde_json::Map<String, serde_json::Value> {
    let mut versions = serde_json::Map::new();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    versions.insert("kernel".into(), json!(kernel.trim()));
    if let Some((kind, durability)) = plan.server {
        if let Some((program, version)) = kind.version() {
            versions.insert(program.into(), json!(version));
        }
        versions.insert("durability".into(), json!(durability));
    }
    versions
}

/// What a store promises, as the history's header says it.
fn promised(caps: &Capabilities) -> serde_json::Value {
    let modes = caps.modes;
    json!({
        "scope": caps.scope.to_string(),
        "hold_end": caps.hold_end.to_string(),
        "token": caps.token.to_string(),
        "order": caps.order.to_string(),
        "modes": { "mutex": modes.mutex, "rw": modes.rw, "semaphore": modes.semaphore },
        "wakeup": caps.wakeup.to_string(),
        "visibility": caps.visibility.to_string(),
        "turns": caps.turns.to_string(),
        "survives": caps.survives.to_string(),
    })
}

/// What the clients left in the store, once leases had their time to end.
async fn residue(url: &str, namespace: &str) -> Outcome<serde_json::Value> {
    let locks = Locks::builder(url).namespace(namespace).connect().await?;
    let until = Instant::now() + ENDING;
    loop {
        let lines = locks.list("").await?;
        let holders: usize = lines.iter().map(|line| line.holders.len()).sum();
        let waiters: u64 = lines.iter().map(|line| line.waiters).sum();
        if (holders == 0 && waiters == 0) || Instant::now() >= until {
            let _ = locks.close().await;
            return Ok(json!({ "holders": holders, "waiters": waiters }));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
