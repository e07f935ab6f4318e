//! A run of a wrong protocol: it goes on until the judge notices, and while the clients go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::stage::Stage;
use super::{ChaosArgs, Plan};
use crate::failure::{Doing, Failure, Outcome};
use crate::globals::Globals;
use crate::history::{Floors, Header, Merge};
use crate::judge::check::judged;
use crate::judge::{Status, Verdict};
use crate::mutants::{How, Mutant};
use crate::num::boot_ns;
use crate::servers;

/// Faults come this much apart: a run is short.
const GAP: Duration = Duration::from_millis(250);
/// How often the judge looks.
const LOOK: Duration = Duration::from_millis(1_500);

/// How long the faults last in a run that can be judged only after them.
const BEFORE_THE_END: Duration = Duration::from_secs(10);

/// Whether a rule can be judged while clients go on.
fn judged_at_once(rule: &str) -> bool {
    rule.starts_with('S') || rule == "L3"
}

/// What is looked for.
pub(crate) struct Hunt<'a> {
    /// The wrong protocol; `None`: the one that is shipped, in which nothing may be found.
    pub(crate) mutant: Option<&'static Mutant>,
    pub(crate) seed: u64,
    /// How long there are faults.
    pub(crate) span: Duration,
    /// Where the history and the report are kept.
    pub(crate) out: Option<&'a Path>,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Caught {
    /// The rule that was broken.
    pub(crate) rule: &'static str,
    /// How long after the first client had begun.
    pub(crate) after: Duration,
    /// What was acquired until the judge looked.
    pub(crate) acquisitions: u64,
    /// How it was broken.
    pub(crate) what: String,
}

/// Runs a real server and clients with what is wrong, until the judge finds a rule broken or the time is up. Then it is
/// judged once more after the faults are over, as every run is.
pub(crate) fn hunt(hunt: &Hunt<'_>, globals: &Globals) -> Outcome<Option<Caught>> {
    let server = hunt.mutant.and_then(Mutant::server).or_else(|| servers::servers().next());
    let server =
        server.ok_or_else(|| Failure::run("the lab has no server to start", "see `tenure lab list`"))?;
    let args = ChaosArgs {
        server: Some(server.scheme().into()),
        secs: hunt.span.as_secs().max(1),
        seed: Some(hunt.seed),
        out: None,
        // The strongest, so that nothing but the mutant is wrong.
        durability: server.durabilities().first().map(|how| (*how).to_owned()),
    };
    // Where answers are late by a good part of a lease, only holds of that length can show it; and a stale reader writes
    // between another's two accesses only if those are far apart.
    let long = |mutant: &Mutant| mutant.under.contains(&"latency") || matches!(mutant.how, How::Fence);
    let naps = if hunt.mutant.is_some_and(long) { 0.4 } else { 0.15 };
    let plan =
        Plan { mutant: hunt.mutant, naps, gap: GAP, floors: Floors::default(), ..Plan::new(&args, globals)? };
    let home =
        tempfile::Builder::new().prefix("tenure-mutant-").tempdir().doing(|| "make a directory".into())?;
    let place = Place::at(hunt, home.path())?;
    let runtime = Runtime::new().doing(|| "start a runtime".into())?;
    let mut stage = Stage::set(&plan, globals, home.path(), &runtime)?;
    let (from, began, mut looked) = (boot_ns(), Instant::now(), Instant::now());
    let waits = hunt.mutant.is_some_and(|mutant| !mutant.breaks.iter().any(|rule| judged_at_once(rule)));
    let span = if waits { hunt.span.min(BEFORE_THE_END) } else { hunt.span };
    while began.elapsed() < span {
        stage.blow(began.elapsed() >= span / 2)?;
        if looked.elapsed() >= LOOK {
            let seen = place.judge(&stage.so_far(), &stage.header(&plan))?;
            if let Some(caught) = broken(&seen, from, stage.acquired(), true) {
                place.report()?;
                return Ok(Some(caught));
            }
            looked = Instant::now();
        }
    }
    stage.heal(&plan)?;
    let acquired = stage.acquired();
    let (merge, header) = stage.finish(&plan, &runtime)?;
    let seen = place.judge(&merge, &header)?;
    place.report()?;
    Ok(broken(&seen, from, acquired, false))
}

/// The first breach of a rule; of those that can be judged while clients go on, or of all.
fn broken(verdicts: &[Verdict], from: u64, acquisitions: u64, running: bool) -> Option<Caught> {
    let found = verdicts.iter().filter(|verdict| {
        verdict.status == Status::Broken
            && if running { judged_at_once(verdict.rule) } else { verdict.rule != "twin" }
    });
    let firsts = found.filter_map(|verdict| {
        let breach = verdict.breaches.iter().min_by_key(|breach| breach.t)?;
        let after = Duration::from_nanos(breach.t.saturating_sub(from));
        Some(Caught { rule: verdict.rule, after, acquisitions, what: breach.what.clone() })
    });
    firsts.min_by_key(|caught| caught.after)
}

/// Where the history is written and judged.
struct Place {
    history: PathBuf,
    page: Option<PathBuf>,
}

impl Place {
    fn at(hunt: &Hunt<'_>, home: &Path) -> Outcome<Place> {
        let Some(out) = hunt.out else {
            return Ok(Place { history: home.join("history.jsonl"), page: None });
        };
        let dir = out.join(hunt.mutant.map_or("as_shipped", |mutant| mutant.name));
        fs::create_dir_all(&dir).doing(|| format!("make {}", dir.display()))?;
        Ok(Place { history: dir.join("history.jsonl"), page: Some(dir.join("report.html")) })
    }

    fn judge(&self, merge: &Merge, header: &Header) -> Outcome<Vec<Verdict>> {
        merge.write(header, &self.history).doing(|| "write the history".into())?;
        judged(&self.history, None)
    }

    /// The report on what was judged last.
    fn report(&self) -> Outcome<()> {
        if self.page.is_some() {
            judged(&self.history, self.page.as_deref())?;
        }
        Ok(())
    }
}
