//! What is said on a new connection, and what is learnt from the answers.

use std::sync::Arc;
use std::time::Duration;

use super::fault::{of_answer, of_fault};
use super::link::Link;
use super::resp::{Value, command};
use super::url::Target;
use crate::backend::net::Why;
use crate::capability::{Fact, Survives, TokenStrength, Warning};
use crate::core::moment::Moment;
use crate::core::quorum::quarantine;
use crate::error::ErrorKind;
use crate::runtime::Runtime;

/// The oldest server that has all that the scripts use.
const OLDEST: (u32, u32) = (6, 2);

/// What a server said about itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Hello {
    pub(super) version: String,
    mode: String,
    role: String,
}

/// Speaks to the server for the first time.
pub(super) async fn greet(link: &Link, target: &Target) -> Result<Hello, Why> {
    let mut words: Vec<&[u8]> = vec![b"HELLO", b"3"];
    if let Some(password) = &target.password {
        words.extend([b"AUTH".as_slice(), target.user.as_deref().unwrap_or("default").as_bytes()]);
        words.push(password.expose().as_bytes());
    }
    words.extend([b"SETNAME".as_slice(), b"tenure"]);
    let answer = match link.ask(&command(&words)).await.map_err(|f| of_fault(&f))? {
        Value::Error(text) if text.contains("unknown command") || text.starts_with("NOPROTO") => {
            return Err(too_old(&text));
        }
        Value::Error(text) if text.starts_with("NOAUTH") => {
            let what = "the server wants a password, and none was given";
            return Err(Why::new(ErrorKind::Denied, what, "put it into the URL or TENURE_PASSWORD"));
        }
        Value::Error(text) => return Err(of_answer(&text)),
        answer => answer,
    };
    let Some(pairs) = answer.list() else { return Err(unexpected("HELLO")) };
    let mut hello = Hello::default();
    for pair in pairs.chunks(2) {
        let [name, value] = pair else { continue };
        let value = value.text().unwrap_or_default().to_owned();
        match name.text() {
            Some("version") => hello.version = value,
            Some("mode") => hello.mode = value,
            Some("role") => hello.role = value,
            _ => {}
        }
    }
    hello.check()?;
    if target.database != 0 {
        ask(link, &[b"SELECT", target.database.to_string().as_bytes()]).await?;
    }
    Ok(hello)
}

impl Hello {
    fn check(&self) -> Result<(), Why> {
        let refuse = |what: &str, advice| Err(Why::new(ErrorKind::Unsupported, what, advice));
        let one = "name one plain server; Redis Sentinel and Redis Cluster are not built yet";
        match self.mode.as_str() {
            "cluster" => return refuse("the server is part of a Redis Cluster", one),
            "sentinel" => return refuse("this is a Redis Sentinel and keeps no locks", one),
            _ => {}
        }
        let mut numbers = self.version.split('.').map(|n| n.parse::<u32>());
        if let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next())
            && (major, minor) < OLDEST
        {
            return Err(too_old(&format!("it is version {}", self.version)));
        }
        if self.role == "replica" || self.role == "slave" {
            return Err(Why::new(
                ErrorKind::Config,
                "the server is a read-only replica",
                "connect to its master",
            ));
        }
        Ok(())
    }
}

fn too_old(detail: &str) -> Why {
    let what = format!("the server is older than Redis 6.2: {detail}");
    Why::new(ErrorKind::Unsupported, what, "use Redis 6.2 or newer")
}

fn unexpected(command: &str) -> Why {
    Why::new(
        ErrorKind::Protocol,
        format!("the server answered {command} with something else"),
        "check that it is Redis",
    )
}

/// Asks, and takes an error for one.
pub(super) async fn ask(link: &Link, words: &[&[u8]]) -> Result<Value, Why> {
    match link.ask(&command(words)).await.map_err(|f| of_fault(&f))? {
        Value::Error(text) => Err(of_answer(&text)),
        value => Ok(value),
    }
}

/// Gives the server a script; answers its name there.
pub(super) async fn load(link: &Link, source: &str) -> Result<String, Why> {
    let answer = ask(link, &[b"SCRIPT", b"LOAD", source.as_bytes()]).await?;
    answer.text().map(str::to_owned).ok_or_else(|| unexpected("SCRIPT LOAD"))
}

/// The server's clock, in µs since the epoch.
pub(super) async fn time(link: &Link) -> Result<u64, Why> {
    let answer = ask(link, &[b"TIME"]).await?;
    let parts: Vec<_> = answer.list().unwrap_or_default().iter().filter_map(Value::number).collect();
    match parts[..] {
        [s, us] => {
            let seconds = u64::try_from(s).unwrap_or(0).saturating_mul(1_000_000);
            Ok(seconds.saturating_add(u64::try_from(us).unwrap_or(0)))
        }
        _ => Err(unexpected("TIME")),
    }
}

/// The life of a server's process, as it tells of it.
#[derive(Clone, Debug)]
pub(in crate::backend) struct Born {
    /// Random, and new with each start.
    pub(in crate::backend) run: Arc<str>,
    /// It had run for at least this long at the moment beside it. The grain is a second.
    uptime: Duration,
    at: Moment,
    /// It forgets nothing that it has acknowledged, whatever happens to its machine.
    remembers: bool,
    /// It deletes keys when its memory is full, and so forgets votes at any time.
    pub(in crate::backend) evicts: bool,
}

impl Born {
    /// For how much longer it does not vote: it may have lost its memory when it started, and somebody may still believe
    /// in a vote of before, for at most `longest`. `None`: it votes.
    pub(in crate::backend) fn silent(&self, now: Moment, longest: Duration) -> Option<Duration> {
        let left = quarantine(longest).saturating_sub(self.uptime + now.since(self.at));
        (!self.remembers && !left.is_zero()).then_some(left)
    }
}

/// Asks which life of the server this is.
pub(super) async fn born(link: &Link, runtime: &dyn Runtime) -> Result<Born, Why> {
    let mut facts = Facts::default();
    let mut born =
        Born { run: "".into(), uptime: Duration::ZERO, at: Moment(0), remembers: false, evicts: false };
    for section in ["server", "persistence", "memory"] {
        let answer = ask(link, &[b"INFO", section.as_bytes()]).await?;
        let text = answer.text().unwrap_or_default();
        facts.read(text);
        if section == "server" {
            born.at = runtime.now();
        }
        for line in text.lines() {
            match line.trim_end().split_once(':') {
                Some(("run_id", run)) => born.run = run.into(),
                Some(("uptime_in_seconds", s)) => born.uptime = Duration::from_secs(s.parse().unwrap_or(0)),
                _ => {}
            }
        }
    }
    if born.run.is_empty() {
        return Err(unexpected("INFO"));
    }
    facts.fsync_always = syncs_always(link).await?;
    born.remembers = facts.judge().0.power_loss == Fact::Yes;
    born.evicts = facts.evicts();
    Ok(born)
}

/// Hosted servers permit no CONFIG: they do not say so.
async fn syncs_always(link: &Link) -> Result<bool, Why> {
    match ask(link, &[b"CONFIG", b"GET", b"appendfsync"]).await {
        Ok(pair) => Ok(pair.list().and_then(|l| l.get(1)).and_then(Value::text) == Some("always")),
        Err(why) if !answers(&why) => Err(why),
        Err(_) => Ok(false),
    }
}

/// What a server was found to be.
pub(super) type Probed = (Survives, TokenStrength, &'static [Warning]);

/// What the state of a lock survives on this server, how strong its tokens are, and what its users should know. What it
/// does not tell counts as the worst, but is not warned of.
pub(super) async fn probe(link: &Link) -> Result<Probed, Why> {
    let mut facts = Facts::default();
    for section in ["persistence", "memory"] {
        match ask(link, &[b"INFO", section.as_bytes()]).await {
            Ok(text) => facts.read(text.text().unwrap_or_default()),
            Err(why) if !answers(&why) => return Err(why),
            Err(why) => tracing::debug!(section, what = why.what, "the server does not tell"),
        }
    }
    facts.fsync_always = syncs_always(link).await?;
    for warning in facts.warnings() {
        tracing::warn!(policy = facts.policy, "{warning}; {}", warning.advice());
    }
    Ok(facts.judge())
}

/// Whether the server answered and only refuses to tell: not permitted, or renamed, as hosted servers do.
fn answers(why: &Why) -> bool {
    !matches!(why.kind, ErrorKind::Unavailable | ErrorKind::Uncertain)
}

#[derive(Debug, Default)]
struct Facts {
    appends: bool,
    /// It said that it keeps nothing.
    forgets: bool,
    fsync_always: bool,
    limited: bool,
    policy: String,
}

impl Facts {
    fn read(&mut self, info: &str) {
        for line in info.lines() {
            let Some((name, value)) = line.trim_end().split_once(':') else { continue };
            match name {
                "aof_enabled" => (self.appends, self.forgets) = (value == "1", value != "1"),
                "maxmemory" => self.limited = value != "0",
                "maxmemory_policy" => value.clone_into(&mut self.policy),
                _ => {}
            }
        }
    }

    fn evicts(&self) -> bool {
        self.limited && self.policy != "noeviction"
    }

    fn warnings(&self) -> &'static [Warning] {
        match (self.evicts(), self.forgets) {
            (false, false) => &[],
            (true, false) => &[Warning::Evicts],
            (false, true) => &[Warning::Forgets],
            (true, true) => &[Warning::Evicts, Warning::Forgets],
        }
    }

    fn judge(&self) -> Probed {
        let fact = |so: bool| if so { Fact::Yes } else { Fact::No };
        // Snapshots alone are minutes old after a crash.
        let kept = self.appends && !self.evicts();
        let survives = Survives {
            restart: fact(kept),
            power_loss: fact(kept && self.fsync_always),
            // A replica is always a little behind: it would not know of the last grants.
            failover: Fact::No,
            data_loss: Fact::No,
        };
        (survives, TokenStrength::Hybrid, self.warnings())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_judged_by_what_it_says() {
        let judge = |info: &str, fsync_always| {
            let mut facts = Facts { fsync_always, ..Facts::default() };
            facts.read(info);
            let survives = facts.judge().0;
            // Replication is asynchronous, however the server is set up.
            assert_eq!((survives.failover, survives.data_loss), (Fact::No, Fact::No), "{info}");
            (survives.restart == Fact::Yes, survives.power_loss == Fact::Yes)
        };
        assert_eq!(judge("", true), (false, false));
        assert_eq!(judge("# Persistence\r\naof_enabled:1\r\n", false), (true, false));
        assert_eq!(judge("aof_enabled:1\r\n", true), (true, true));
        let evicting = "aof_enabled:1\r\nmaxmemory:9\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(judge(evicting, true), (false, false));
        let unlimited = "aof_enabled:1\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(judge(unlimited, false), (true, false));
    }

    #[test]
    fn what_a_server_says_is_warned_of_and_what_it_does_not_say_is_not() {
        let warnings = |info: &str| {
            let mut facts = Facts::default();
            facts.read(info);
            facts.warnings()
        };
        let full = "maxmemory:9\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(warnings(""), []);
        assert_eq!(warnings("aof_enabled:1\r\nmaxmemory:9\r\nmaxmemory_policy:noeviction\r\n"), []);
        assert_eq!(warnings("aof_enabled:0\r\n"), [Warning::Forgets]);
        assert_eq!(warnings(full), [Warning::Evicts]);
        assert_eq!(warnings(&format!("aof_enabled:0\r\n{full}")), [Warning::Evicts, Warning::Forgets]);
    }

    #[test]
    fn servers_that_will_not_do_are_refused() {
        let check = |version: &str, mode: &str, role: &str| {
            let hello = Hello { version: version.into(), mode: mode.into(), role: role.into() };
            hello.check().map_err(|why| why.kind)
        };
        assert_eq!(check("7.0.15", "standalone", "master"), Ok(()));
        assert_eq!(check("6.2.0", "standalone", "master"), Ok(()));
        assert_eq!(check("df-1", "standalone", "master"), Ok(()));
        assert_eq!(check("6.0.20", "standalone", "master"), Err(ErrorKind::Unsupported));
        assert_eq!(check("7.0.15", "cluster", "master"), Err(ErrorKind::Unsupported));
        assert_eq!(check("7.0.15", "sentinel", ""), Err(ErrorKind::Unsupported));
        assert_eq!(check("7.0.15", "standalone", "replica"), Err(ErrorKind::Config));
    }
}
