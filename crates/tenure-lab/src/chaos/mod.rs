//! `tenure lab chaos`: many clients in several processes, real servers, and faults from a seed; then the judge.
//!
//! - `client`: a client process. - `holding`: the locks. - `resource`: what they protect.
//! - `crew`: the processes. - `weather`: the faults. - `proxy`: the path to the server. - `server`: a server to break.

mod client;
mod crew;
mod holding;
mod proxy;
mod resource;
mod server;
mod weather;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;
use tenure::{Locks, StoreUrl};
use tokio::runtime::Runtime;

pub(crate) use client::CLIENT;

use self::client::Task;
use self::crew::Crew;
use self::proxy::Proxy;
use self::resource::Resources;
use self::server::Server;
use self::weather::{Targets, Weather};
use crate::cli::Globals;
use crate::failure::{Doing, Failure, Outcome};
use crate::history::{Event, Floors, Header, Merge, Op, Phase, VERSION, Writer};
use crate::judge::check::{conclude, exit_status};
use crate::num::{boot_ns, us};

/// How a Redis server of the lab keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Aof {
    /// Synced before each answer.
    Always,
    /// Synced once a second.
    Everysec,
    /// Not at all: a restart is a loss of data.
    None,
}

/// `tenure lab chaos`.
#[derive(Args, Clone, Debug)]
pub struct ChaosArgs {
    /// Starts a real server of this kind and breaks it too: redis. Without it, the store at --url is used, and only
    /// clients and the path to it are broken.
    #[arg(long, value_name = "KIND")]
    server: Option<String>,
    /// How long the faults last at least, in seconds; up to four times as long until enough has happened.
    #[arg(long, default_value_t = 45, value_name = "N")]
    secs: u64,
    /// Repeats the faults of a run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keeps history.jsonl, the server's log and report.html in this directory, which must be new or empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How the lab's redis-server keeps its data; from the seed if it is not said.
    #[arg(long, value_name = "WHEN")]
    aof: Option<Aof>,
}

/// Client processes, and tasks of each.
const PROCESSES: u32 = 8;
const TASKS: u32 = 4;
/// How long a run goes on without faults at the end, beyond one ttl: a lock that nobody is granted for that long is stuck.
const HEALING: Duration = Duration::from_secs(11);
/// How long what is left behind may take to end by itself: the waiting lease of those who were killed, and one ttl.
const ENDING: Duration = Duration::from_secs(15);

/// What a run is of.
struct Plan {
    seed: u64,
    secs: u64,
    ttl: Duration,
    processes: u32,
    tasks: u32,
    /// The mean pause between two faults.
    gap: Duration,
    floors: Floors,
    aof: Aof,
    server: bool,
    replay: String,
}

impl Plan {
    fn new(args: &ChaosArgs, globals: &Globals) -> Outcome<Plan> {
        let server = match args.server.as_deref() {
            None => false,
            Some("redis") => true,
            Some(other) => {
                let what = format!("the lab cannot start a server {other:?}");
                return Err(Failure::usage(what, "use --server redis, or --url with a store that runs"));
            }
        };
        let seed = args.seed.unwrap_or_else(|| boot_ns() % 1_000_000);
        let secs = args.secs.clamp(1, 24 * 3600);
        let scheme = globals.url.split(':').next().unwrap_or_default();
        let (local, private) = (!server && scheme == "host", !server && scheme == "memory");
        let ttl = Duration::from_millis(300 + seed * 7919 % 500);
        let per = |n: u64| n * secs / 45;
        let (acquisitions, windows, gap) = match (local, private) {
            (true, _) => (per(300_000), per(200), 120),
            (_, true) => (per(100_000), per(40), 500),
            _ => (per(40_000), per(60), 380),
        };
        let aofs = [Aof::Always, Aof::Everysec, Aof::None];
        let aof = args.aof.unwrap_or(aofs[usize::try_from(seed % 3).unwrap_or(0)]);
        let store = if server { " --server redis".to_owned() } else { String::new() };
        let url = if server { String::new() } else { format!(" --url {}", shown(&globals.url)) };
        let replay = format!("tenure{url} lab chaos{store} --secs {secs} --seed {seed}");
        let (processes, tasks) = if private { (1, PROCESSES * TASKS) } else { (PROCESSES, TASKS) };
        let (gap, floors) = (Duration::from_millis(gap), Floors { acquisitions, windows });
        Ok(Plan { seed, secs, ttl, processes, tasks, gap, floors, aof, server, replay })
    }
}

/// A URL without its password.
fn shown(url: &str) -> String {
    StoreUrl::parse(url).map_or_else(|_| url.to_owned(), |url| url.redacted())
}

/// Runs it.
pub(crate) fn run(args: &ChaosArgs, globals: &Globals) -> Outcome<ExitCode> {
    let plan = Plan::new(args, globals)?;
    let home =
        tempfile::Builder::new().prefix("tenure-chaos-").tempdir().doing(|| "make a directory".into())?;
    let out = match &args.out {
        Some(dir) => {
            fs::create_dir_all(dir).doing(|| format!("make {}", dir.display()))?;
            if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
                let what = format!("{} is not empty", dir.display());
                return Err(Failure::usage(what, "give a new directory"));
            }
            dir.clone()
        }
        None => home.path().to_owned(),
    };
    let runtime = Runtime::new().doing(|| "start a runtime".into())?;
    let merge_to = out.join("history.jsonl");
    let mut stage = Stage::set(&plan, globals, home.path(), &runtime)?;
    let note = |text: &str| {
        if !globals.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    };
    note(&format!("seed {}, ttl {} ms; repeat with: {}", plan.seed, plan.ttl.as_millis(), plan.replay));
    for text in &stage.notes {
        note(text);
    }
    stage.storm(&plan)?;
    let (merge, header) = stage.finish(&plan, &runtime)?;
    merge.write(&header, &merge_to).doing(|| "write the history".into())?;
    if args.out.is_some() {
        let _ = fs::copy(home.path().join("server.log"), out.join("server.log"));
    }
    let page = args.out.as_ref().map(|dir| dir.join("report.html"));
    Ok(exit_status(&conclude(&merge_to, page.as_deref(), globals)?))
}

/// Everything that takes part.
struct Stage {
    targets: Targets,
    resources: Resources,
    notes: Vec<String>,
    own: PathBuf,
    url: String,
    straight: String,
    namespace: String,
    versions: serde_json::Map<String, serde_json::Value>,
    capabilities: serde_json::Value,
    backend: String,
}

impl Stage {
    fn set(plan: &Plan, globals: &Globals, home: &Path, runtime: &Runtime) -> Outcome<Stage> {
        let _on = runtime.enter();
        let (server, notes) = match plan.server {
            true => Server::start(home, plan.aof).map(|(server, notes)| (Some(server), notes))?,
            false => (None, Vec::new()),
        };
        let straight = match &server {
            Some(server) => format!("redis://127.0.0.1:{}", server.port()),
            None => globals.url.clone(),
        };
        let proxy = match local_port(&straight) {
            Some(port) => Some(runtime.block_on(Proxy::to(port)).doing(|| "start a proxy".into())?),
            None => None,
        };
        let url = proxy.as_ref().map_or_else(|| straight.clone(), |proxy| through(&straight, proxy.port()));
        let resources = Resources::default();
        let socket = home.join("resources");
        resources.serve(&socket)?;
        let own = home.join("part-0.jsonl");
        let writer = Writer::create(&own).doing(|| "make the history".into())?;
        let namespace = format!("chaos-{}-{}", std::process::id(), us(boot_ns()) % 1_000_000_000);
        let mut crew = Crew::new(home.to_owned());
        let (local, private) = (straight.starts_with("host"), straight.starts_with("memory"));
        let task = Task {
            p: 0,
            url: url.clone(),
            namespace: namespace.clone(),
            ttl_ms: u64::try_from(plan.ttl.as_millis()).unwrap_or(u64::MAX),
            tasks: plan.tasks,
            seed: plan.seed,
            part: PathBuf::new(),
            socket,
            inside: local,
        };
        // Before the clients: what cannot be reached or used is said at once.
        let locks = runtime.block_on(Locks::builder(&straight).namespace(&namespace).connect())?;
        let capabilities = locks.capabilities();
        for _ in 0..plan.processes {
            crew.add(&task)?;
        }
        let mut versions = serde_json::Map::new();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        versions.insert("kernel".into(), json!(kernel.trim()));
        if plan.server {
            versions.insert("redis-server".into(), json!(server::version()));
            versions.insert("aof".into(), json!(format!("{:?}", plan.aof).to_lowercase()));
        }
        Ok(Stage {
            targets: Targets { crew, proxy, server, mortal: !private, notes: writer },
            resources,
            notes,
            own,
            url: shown(&straight),
            straight,
            namespace,
            versions,
            capabilities: json!(format!("{capabilities:?}")),
            backend: capabilities.backend.to_owned(),
        })
    }

    /// The faults, until there were enough and enough was done under them; at most four times as long.
    fn storm(&mut self, plan: &Plan) -> Outcome<()> {
        let mut weather = Weather::new(plan.seed, plan.ttl, plan.gap);
        let began = Instant::now();
        let (span, most) = (Duration::from_secs(plan.secs), Duration::from_secs(4 * plan.secs));
        loop {
            let passed = began.elapsed();
            let enough = || {
                weather.begun >= plan.floors.windows
                    && self.targets.crew.acquired() >= plan.floors.acquisitions
            };
            if passed >= most || (passed >= span && enough()) {
                break;
            }
            weather.step(&mut self.targets, passed >= span / 2)?;
            thread::sleep(Duration::from_millis(5));
        }
        weather.clear(&mut self.targets)?;
        thread::sleep(HEALING + plan.ttl);
        Ok(())
    }

    /// Ends the clients, looks for what is left, and gives what is to be merged.
    fn finish(mut self, plan: &Plan, runtime: &Runtime) -> Outcome<(Merge, Header)> {
        let stuck = self.targets.crew.end()?;
        let put = |event: &Event| self.targets.notes.put(event).doing(|| "write the history".into());
        for (name, value) in self.resources.values() {
            let fenced = name.ends_with("-fenced");
            put(&Event::new(boot_ns(), 0, Op::Final, Phase::Ok)
                .resource(name.as_str(), fenced)
                .value(value))?;
        }
        let mut residue = if self.backend == "memory" {
            json!({})
        } else {
            runtime.block_on(residue(&self.straight, &self.namespace))?
        };
        residue["processes"] = json!(stuck);
        if let Some(proxy) = &self.targets.proxy {
            residue["connections"] = json!(proxy.open());
        }
        put(&Event::new(boot_ns(), 0, Op::Residue, Phase::Ok).detail(residue))?;
        let header = Header {
            history: VERSION,
            backend: self.backend,
            url: self.url,
            seed: plan.seed,
            ttl_ms: u64::try_from(plan.ttl.as_millis()).unwrap_or(u64::MAX),
            locks: u32::try_from(holding::NAMES.len()).unwrap_or(0),
            processes: plan.processes,
            tasks: plan.tasks,
            capabilities: self.capabilities,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fair: false,
            floors: Some(plan.floors),
            replay: Some(plan.replay.clone()),
            versions: Some(self.versions),
        };
        Ok((self.targets.crew.parts().part(self.own), header))
    }
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

/// The port of a server of this machine that the lab can put itself in front of.
fn local_port(url: &str) -> Option<u16> {
    let parsed = StoreUrl::parse(url).ok()?;
    let rest = parsed.redacted();
    let (scheme, rest) = rest.split_once("://")?;
    if !scheme.starts_with("redis") {
        return None;
    }
    let host = rest.rsplit('@').next()?.split(['/', '?']).next()?;
    match host.split_once(':') {
        Some(("127.0.0.1" | "localhost", port)) => port.parse().ok(),
        None if matches!(host, "127.0.0.1" | "localhost") => Some(6379),
        _ => None,
    }
}

/// The same URL by another port.
fn through(url: &str, port: u16) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    format!("{scheme}://{user}127.0.0.1:{port}{}", &rest[at..])
}
