//! The subcommands `tenure lab` and `tenure bench`.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tenure::StoreUrl;

pub use crate::bench::BenchArgs;
pub use crate::chaos::ChaosArgs;
pub use crate::failure::sentence;
pub use crate::judge::CheckArgs;
#[cfg(feature = "proofs")]
pub use crate::mutants::MutantsArgs;
pub use crate::sale::SaleArgs;
#[cfg(feature = "proofs")]
pub use crate::sim::SimArgs;

use crate::failure::{Doing, Failure, Outcome};
pub use crate::globals::Globals;
use crate::servers::{self, Wish};
use crate::{bench, chaos, guest, judge, sale};
#[cfg(feature = "proofs")]
use crate::{mutants, sim};

/// A store's URL with a password that was given elsewhere.
///
/// # Errors
/// A URL that cannot be read, or that has a password already.
pub fn with_password(url: &str, password: &str) -> tenure::Result<String> {
    let mut parsed = StoreUrl::parse(url)?;
    if parsed.password.is_some() {
        return Err(tenure::Error::config(
            "two passwords are given",
            "leave it out of the URL or give no other",
        ));
    }
    let user = parsed.user.take();
    let plain = parsed.redacted();
    let Some((scheme, rest)) = plain.split_once("://") else { return Ok(url.to_owned()) };
    let user = user.map(|user| encode(&user)).unwrap_or_default();
    Ok(format!("{scheme}://{user}:{}@{rest}", encode(password)))
}

/// Every byte that could mean something in a URL as `%` and two digits.
fn encode(text: &str) -> String {
    let byte = |b: u8| {
        if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }
    };
    text.bytes().map(byte).collect()
}

/// `tenure lab`: scenarios and faults.
#[derive(Args, Clone, Debug)]
#[cfg_attr(
    not(feature = "proofs"),
    command(
        after_help = "The simulation and the wrong protocols (sim, mutants) are in builds with the cargo feature proofs, for example \
                          `cargo run --profile sim --features proofs -- lab sim` in the repository of Tenure."
    )
)]
pub struct LabArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// What there is in the lab, and the stores that it can break
    #[command(before_help = "Examples:\n  tenure lab list\n  tenure lab list --json")]
    List,
    /// Starts a server of the lab's own, prints its URL, and stops it when standard input ends
    ///
    /// It listens on a free port of this machine, and its data goes with it.
    #[command(
        before_help = "Examples:\n  tenure lab start redis\n  tenure lab start redis --durability none"
    )]
    Start(StartArgs),
    /// A hundred clients fight for stock: no lock, homemade locks, Tenure; what each costs and what each loses
    ///
    /// Exit 0: every strategy did what is expected of it; 1: one did not.
    #[command(
        before_help = "Examples:\n  tenure lab flash-sale\n  tenure lab flash-sale --faults --report sale.html"
    )]
    FlashSale(SaleArgs),
    /// The trials that every backend must pass: one line per promise, held, broken or not promised
    ///
    /// They work in namespaces of their own and leave nothing behind. On a server they want a database without
    /// other keys than Tenure's, or --yes. Trials that kill a server or wipe its data are made only on servers that the
    /// tests start themselves. Exit 0: every promise holds; 1: one is broken; 2: too little happened to judge one.
    #[command(before_help = "Examples:\n  tenure lab conform --url host:\n  \
                             tenure lab conform --url redis://127.0.0.1/15 tokens")]
    Conform(ConformArgs),
    /// Clients under faults: processes stopped and killed, servers restarted, connections cut, clocks stepped
    ///
    /// Exit 0: every rule held; 1: one was broken; 2: too little happened to judge one.
    #[command(before_help = "Examples:\n  tenure lab chaos --url host:\n  \
                             tenure lab chaos --server redis --secs 20 --out run")]
    Chaos(ChaosArgs),
    /// Judges the history of a run again: rule by rule, and the events that break it
    ///
    /// Exit codes as those of chaos.
    #[command(before_help = "Examples:\n  tenure lab check run\n  tenure lab check run --report run.html")]
    Check(CheckArgs),
    /// The engine in virtual time: hundreds of thousands of runs with faults of every kind
    ///
    /// The real engine, several clients at a time, against the real line of claims, in one thread: messages are lost, late,
    /// doubled and out of order, both ends crash and stand still, clocks drift and step, calls are dropped. No store and
    /// no network is touched, and a run is a function of its seed. A broken rule prints the command that repeats its
    /// run, the smallest run that still breaks it, and everything that happens in that one. Exit 0: every rule held; 1: one
    /// was broken; 2: in a full number of runs some fault struck too rarely.
    #[command(before_help = "Examples:\n  tenure lab sim --runs 20000\n  tenure lab sim --seed 5 --trace")]
    #[cfg(feature = "proofs")]
    Sim(SimArgs),
    /// Wrong protocols, each a few lines away from the right one: the lab must notice every one
    ///
    /// Each runs on a server of the lab's own, under faults, until the judge finds a promise broken; below it
    /// stands the accident in the field that it stands for. First the protocol as it is shipped, in which nothing may
    /// be found. Then those of the simulation. Exit 0: all were caught; 1: one survived.
    #[command(before_help = "Examples:\n  tenure lab mutants\n  tenure lab mutants deadline --secs 10")]
    #[cfg(feature = "proofs")]
    Mutants(MutantsArgs),
}

/// `tenure lab start`.
#[derive(Args, Clone, Debug)]
pub struct StartArgs {
    /// The kind of server; `tenure lab list` names them.
    #[arg(value_name = "KIND")]
    kind: String,
    /// How it keeps its data; the strongest way if it is not given.
    #[arg(long, value_name = "HOW")]
    durability: Option<String>,
}

/// `tenure lab conform`.
#[derive(Args, Clone, Debug)]
pub struct ConformArgs {
    /// Only trials whose names contain this.
    #[arg(value_name = "TRIAL")]
    filter: Option<String>,
    /// Also on a database that holds other keys than Tenure's.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

impl ConformArgs {
    /// What the names of trials must contain.
    pub(crate) fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }
}

/// Runs `tenure lab`.
#[must_use]
pub fn run_lab(args: LabArgs, globals: &Globals) -> ExitCode {
    finish(globals, || match args.command {
        Command::List => list(globals),
        Command::Start(args) => start(&args, globals),
        Command::FlashSale(args) => sale::run(args, globals),
        Command::Chaos(args) => chaos::run(&args, globals),
        Command::Check(args) => judge::check::run(&args, globals),
        #[cfg(feature = "proofs")]
        Command::Mutants(args) => mutants::run(&args, globals),
        Command::Conform(args) => guest::conform(&args, globals),
        #[cfg(feature = "proofs")]
        Command::Sim(args) => sim::main(&args, globals),
    })
}

/// Runs `tenure bench`.
#[must_use]
pub fn run_bench(args: BenchArgs, globals: &Globals) -> ExitCode {
    finish(globals, || bench::run(&args, globals))
}

fn finish(globals: &Globals, run: impl FnOnce() -> Outcome<ExitCode>) -> ExitCode {
    run().unwrap_or_else(|failure| {
        let _ = writeln!(std::io::stderr(), "{}", failure.text(globals.verbose));
        failure.exit()
    })
}

/// What there is: one line each.
const THERE_IS: &[(&str, &str)] = &[
    ("start", "a server of the lab's own, until standard input ends"),
    ("flash-sale", "a hundred clients in several processes fight for stock: no lock, a naive lock, Tenure"),
    ("conform", "the trials that every backend must pass, promise by promise"),
    ("chaos", "clients under faults, and what became of each promise"),
    ("check", "judges the history of a run again, rule by rule"),
    #[cfg(feature = "proofs")]
    ("sim", "the engine in virtual time, with faults of every kind, from seeds"),
    #[cfg(feature = "proofs")]
    ("mutants", "wrong protocols that the lab must notice, and how long it takes"),
];

fn list(globals: &Globals) -> Outcome<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut tell = |line: String| writeln!(out, "{line}").doing(|| "write the list".into());
    for (name, what) in THERE_IS {
        tell(if globals.json {
            serde_json::json!({ "name": name, "what": what }).to_string()
        } else {
            format!("{name:<12} {what}")
        })?;
    }
    for target in servers::targets() {
        let servers::Target { name, url, durabilities, missing } = target;
        let what = match &url {
            Some(url) => format!("a store for chaos: --url {url}"),
            None => format!("a server for start and chaos; durability: {}", durabilities.join(", ")),
        };
        let lacks = missing.as_ref().map(|why| format!(" (not here: {why})")).unwrap_or_default();
        tell(if globals.json {
            let line = serde_json::json!({
                "name": name, "what": what, "url": url, "durabilities": durabilities, "missing": missing,
            });
            line.to_string()
        } else {
            format!("{name:<12} {what}{lacks}")
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a server until standard input ends.
fn start(args: &StartArgs, globals: &Globals) -> Outcome<ExitCode> {
    let kind = servers::server(&args.kind)?;
    if let Some(why) = kind.missing() {
        return Err(Failure::run(why, "then try again"));
    }
    let server = kind.make(&Wish { durability: args.durability.as_deref(), ..Wish::default() })?;
    let url = server.as_ref().map(|server| server.url()).unwrap_or_default();
    let line = if globals.json { serde_json::json!({ "url": url }).to_string() } else { url };
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).doing(|| "print the URL".into())?;
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).doing(|| "wait for the end".into())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_finds_its_place() {
        for (url, user) in [("redis://h:1/2?x=y", None), ("redis://a%40b@h:1/2?x=y", Some("a@b"))] {
            let whole = with_password(url, "p:@/ é%").expect("a URL");
            let parsed = StoreUrl::parse(&whole).expect("a URL");
            assert_eq!(parsed.password.as_ref().map(tenure::Secret::expose), Some("p:@/ é%"), "{whole}");
            assert_eq!((parsed.user.as_deref(), parsed.redacted()), (user, url.to_owned()));
        }
        assert!(with_password("redis://:x@h", "y").is_err());
    }
}
