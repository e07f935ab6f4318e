//! Locks as the command shows them: the objects of `--json`, and the words for people.

use serde::Serialize;
use tenure::{Broken, Kind, Line, Locks, Owner, Previous, Run, Seen, Visibility};

use crate::runs;
use crate::text::{ago, escape, json_line, now_us, rfc3339, short};

/// One lock, as `--json` prints it. The fields are a public interface.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    lock: &'a str,
    /// Only where locks of several namespaces are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    kind: Option<&'static str>,
    /// A read-write lock has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<Option<u32>>,
    token: Option<i64>,
    holders: Vec<Held<'a>>,
    /// How the hold before the present one ended, where the store knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<&'static str>,
    waiting: Vec<Waits<'a>>,
    /// How much the store shows, where that is not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<Taken<'a>>,
    /// Why nothing else is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    /// Of a job that runs once per slot, its last runs, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<runs::Shown<'a>>,
}

#[derive(Debug, Serialize)]
struct Who<'a> {
    claim: &'a str,
    user: &'a str,
    host: &'a str,
    pid: Option<u32>,
    program: &'a str,
    reason: &'a str,
    since: Option<String>,
    /// How many more tasks of its program wait behind this claim, for the lock to be passed on to them.
    #[serde(skip_serializing_if = "is_zero")]
    behind: u32,
}

#[derive(Debug, Serialize)]
struct Held<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    expires_in_ms: Option<u64>,
    #[serde(flatten)]
    share: Share,
    token: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Waits<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    place: usize,
    #[serde(flatten)]
    share: Share,
}

/// How much of the lock a claim takes: of a read-write lock, which side of it.
#[derive(Debug, Serialize)]
struct Share {
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
}

impl Share {
    fn of(line: &Line, seen: &Seen) -> Share {
        match line.kind {
            Kind::ReadWrite => {
                Share { weight: None, mode: Some(if reads(line, seen) { "read" } else { "write" }) }
            }
            _ => Share { weight: Some(seen.weight), mode: None },
        }
    }
}

/// The last time that an operator took the lock away.
#[derive(Debug, Serialize)]
struct Taken<'a> {
    at: String,
    token: Option<i64>,
    why: &'a str,
}

fn who(seen: &Seen) -> Who<'_> {
    Who {
        claim: &seen.claim,
        user: &seen.owner.user,
        host: &seen.owner.host,
        pid: Some(seen.owner.pid).filter(|pid| *pid > 0),
        program: &seen.owner.program,
        reason: &seen.reason,
        since: known(seen.since_us).map(rfc3339),
        behind: seen.behind,
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde wants it
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// An instant, unless the store does not know it: another program holds, and left no word.
pub(crate) fn known(us: u64) -> Option<u64> {
    Some(us).filter(|us| *us > 0)
}

impl<'a> Shown<'a> {
    /// A lock that somebody holds or waits for.
    pub(crate) fn line(line: &'a Line, sees: Visibility) -> Shown<'a> {
        let held = |seen: &'a Seen| Held {
            who: who(seen),
            expires_in_ms: seen.expires_in.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            share: Share::of(line, seen),
            token: seen.token.map(|t| t.get()),
        };
        let waits = |(at, seen): (usize, &'a Seen)| Waits {
            who: who(seen),
            place: at + 1,
            share: Share::of(line, seen),
        };
        let taken = |broken: &'a Broken| Taken {
            at: rfc3339(broken.at_us),
            token: broken.token.map(|t| t.get()),
            why: &broken.why,
        };
        Shown {
            lock: line.key.name(),
            namespace: None,
            kind: line.error.is_none().then(|| kind(line)),
            capacity: match &line.error {
                Some(_) => Some(None),
                None => (line.kind != Kind::ReadWrite).then_some(Some(line.capacity)),
            },
            token: line.token.map(|t| t.get()),
            holders: line.holders.iter().map(held).collect(),
            previous: Some(line.previous.as_str()).filter(|_| line.previous != Previous::Unknown),
            waiting: line.waiting.iter().enumerate().map(waits).collect(),
            visibility: partly(sees),
            broken: line.broken.as_ref().map(taken),
            error: line.error.as_deref(),
            event: None,
            runs: Vec::new(),
        }
    }

    /// A lock that nobody holds or waits for.
    pub(crate) fn free(lock: &'a str, sees: Visibility) -> Shown<'a> {
        let (holders, waiting, visibility) = (Vec::new(), Vec::new(), partly(sees));
        let (namespace, kind, token, broken, error, event) = (None, None, None, None, None, None);
        let (capacity, runs) = (Some(None), Vec::new());
        Shown {
            lock,
            namespace,
            kind,
            capacity,
            token,
            holders,
            previous: None,
            waiting,
            visibility,
            broken,
            error,
            event,
            runs,
        }
    }

    /// The same, with its namespace.
    pub(crate) fn namespace(mut self, namespace: Option<&'a str>) -> Shown<'a> {
        self.namespace = namespace;
        self
    }

    /// The same, as something that happened.
    pub(crate) fn event(mut self, event: &'a str) -> Shown<'a> {
        self.event = Some(event);
        self
    }

    /// The same, with the runs of the job of this name.
    pub(crate) fn runs(mut self, runs: &'a [Run]) -> Shown<'a> {
        self.runs = runs::shown(runs);
        self
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        json_line(self)
    }
}

/// The kind's name.
pub(crate) fn kind(line: &Line) -> &'static str {
    match line.kind {
        Kind::Mutex => "mutex",
        Kind::ReadWrite => "rwlock",
        Kind::Semaphore => "semaphore",
        _ => "other",
    }
}

/// The word for a store that does not show all.
fn partly(sees: Visibility) -> Option<&'static str> {
    match sees {
        Visibility::Full => None,
        Visibility::Holders => Some("holders"),
        Visibility::Counts => Some("counts"),
        _ => Some("none"),
    }
}

/// What a listing of a store leaves out, in a sentence; `None` where it shows all.
pub(crate) fn blind(locks: &Locks) -> Option<String> {
    let url = locks.url();
    let scheme = url.split(':').next().unwrap_or(url);
    let what = match locks.capabilities().visibility {
        Visibility::Full => return None,
        Visibility::Holders if scheme.ends_with("+setnx") => {
            "shows holders, but not waiters; lists only locks that Tenure held in the last ten minutes; has no namespaces"
        }
        Visibility::Holders => "shows holders, but not waiters",
        Visibility::Counts => "shows how many hold and wait, but not who",
        _ => "does not show who holds or waits",
    };
    Some(format!("tenure: {scheme}: {what}.\n"))
}

/// `user@host (pid 4711, program)`; of a program that left no word, only that.
pub(crate) fn name(owner: &Owner) -> String {
    if owner.pid == 0 && owner.user.is_empty() {
        return escape(&owner.program);
    }
    escape(&format!("{}@{} (pid {}, {})", owner.user, owner.host, owner.pid, owner.program))
}

/// Everything about one lock, for people.
pub(crate) fn whole(line: &Line, now_us: u64, sees: Visibility) -> String {
    let mut out = format!("{}: {}", escape(line.key.name()), kind(line));
    if line.kind != Kind::ReadWrite {
        out += &format!(", capacity {}", line.capacity);
    }
    if let Some(token) = line.token {
        out += &format!(", newest token {token}");
    }
    out.push('\n');
    let because = |seen: &Seen| {
        if seen.reason.is_empty() { String::new() } else { format!(": {}", escape(&seen.reason)) }
    };
    for seen in &line.holders {
        let token = seen.token.map(|t| format!(", token {t}")).unwrap_or_default();
        let lease = seen.expires_in.map(|d| format!(", lease ends in {}", short(d))).unwrap_or_default();
        let since = known(seen.since_us)
            .map(|us| format!(" for {}, since {}", short(ago(us, now_us)), rfc3339(us)))
            .unwrap_or_default();
        out += &format!(
            "  held by {}{since}{}{token}{lease}, claim {}{}{}\n",
            name(&seen.owner),
            share(line, seen),
            escape(&seen.claim),
            behind(seen),
            because(seen)
        );
    }
    if matches!(line.previous, Previous::Expired | Previous::Evicted) {
        let how = if line.previous == Previous::Expired { "expired" } else { "was taken away" };
        out += &format!("  the hold before {how}\n");
    }
    for (at, seen) in line.waiting.iter().enumerate() {
        out += &format!(
            "  {:>3}. {} waits for {}, since {}{}, claim {}{}{}\n",
            at + 1,
            name(&seen.owner),
            short(ago(seen.since_us, now_us)),
            rfc3339(seen.since_us),
            share(line, seen),
            escape(&seen.claim),
            behind(seen),
            because(seen)
        );
    }
    let named = |seen: &Seen| u64::from(seen.behind);
    let named: u64 =
        line.holders.iter().chain(&line.waiting).map(named).sum::<u64>() + line.waiting.len() as u64;
    let more = line.waiters.saturating_sub(named);
    if more > 0 {
        out += &format!("       and {more} more\n");
    }
    if sees == Visibility::Holders {
        out += "  this store does not show who waits\n";
    }
    if let Some(broken) = &line.broken {
        let token = broken.token.map(|t| format!(" from token {t}")).unwrap_or_default();
        out += &format!("  taken away{token} at {}: {}\n", rfc3339(broken.at_us), escape(&broken.why));
    }
    out
}

/// Who stands behind a claim without one of their own.
fn behind(seen: &Seen) -> String {
    match seen.behind {
        0 => String::new(),
        1 => ", 1 more task of it waits behind".to_owned(),
        n => format!(", {n} more tasks of it wait behind"),
    }
}

/// Whether a claim of a read-write lock is a reader's: a writer takes all of it.
pub(crate) fn reads(line: &Line, seen: &Seen) -> bool {
    seen.weight < line.capacity
}

/// How much of the lock somebody holds or waits for, where that is not all there is.
fn share(line: &Line, seen: &Seen) -> String {
    match line.kind {
        Kind::ReadWrite if reads(line, seen) => ", to read".to_owned(),
        Kind::ReadWrite => ", to write".to_owned(),
        Kind::Semaphore if seen.weight == 1 => ", 1 permit".to_owned(),
        Kind::Semaphore => format!(", {} permits", seen.weight),
        _ => String::new(),
    }
}

/// `1 lock`, `2 locks`.
pub(crate) fn many(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Who is in the way: `orders/42, held by app@web-1 (pid 4711, charge) since 2026-11-21T08:00:00.123Z`.
pub(crate) fn held_by(line: &Line, elapsed: bool) -> String {
    let lock = escape(line.key.name());
    let Some(first) = line.holders.first() else { return lock };
    let more = match line.holders.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let time = match (first.since_us, elapsed) {
        (0, _) => String::new(), // by a program that left no word
        (since, true) => format!(" for {}", short(ago(since, now_us()))),
        (since, false) => format!(" since {}", rfc3339(since)),
    };
    let why = if first.reason.is_empty() { String::new() } else { format!(" ({})", escape(&first.reason)) };
    format!("{lock}, held by {}{more}{time}{why}", name(&first.owner))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tenure::{Key, Token};

    use super::*;

    fn seen(claim: &str, behind: u32) -> Seen {
        Seen {
            claim: claim.into(),
            owner: Owner { user: "app".into(), host: "web-1".into(), pid: 4711, program: "charge".into() },
            reason: "night run".into(),
            since_us: 1_795_248_000_123_456,
            expires_in: Some(Duration::from_secs(20)),
            weight: 1,
            token: None,
            behind,
        }
    }

    /// One holds with three tasks behind it, one waits alone, one with a single task behind it, and two are not shown.
    fn crowded() -> Line {
        let mut line = Line::new(Key::new("shop", "orders/42").expect("a name"), Kind::Mutex, 1);
        line.holders = vec![Seen { token: Token::new(7), ..seen("aaaaaa", 3) }];
        line.waiting = vec![seen("bbbbbb", 0), seen("cccccc", 1)];
        line.waiters = 3 + 1 + 2 + 2;
        line
    }

    #[test]
    fn tasks_behind_a_claim_are_told_of_and_counted_once() {
        let said = whole(&crowded(), 1_795_248_001_123_456, Visibility::Full);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 5, "{said}");
        assert!(lines[1].ends_with(", claim aaaaaa, 3 more tasks of it wait behind: night run"), "{said}");
        assert!(lines[2].ends_with(", claim bbbbbb: night run"), "{said}");
        assert!(lines[3].ends_with(", claim cccccc, 1 more task of it waits behind: night run"), "{said}");
        assert_eq!(lines[4].trim(), "and 2 more", "{said}");
        let look =
            crate::table::Look { sees: Visibility::Full, namespaces: false, leases: true, bold: false };
        let table = crate::table::draw(&[crowded()], 1_795_248_001_123_456, look, None);
        assert!(table[1].split_whitespace().any(|word| word == "8"), "{table:?}");
    }

    #[test]
    fn the_number_behind_a_claim_is_in_its_object_if_there_is_anybody() {
        let line = crowded();
        let shown: serde_json::Value =
            serde_json::from_str(&Shown::line(&line, Visibility::Full).json()).expect("an object");
        assert_eq!(shown["holders"][0]["behind"], 3, "{shown}");
        assert_eq!(shown["waiting"][1]["behind"], 1, "{shown}");
        assert!(shown["waiting"][0].get("behind").is_none(), "{shown}");
    }

    #[test]
    fn a_read_write_lock_has_modes_and_no_weights() {
        let mut line = Line::new(Key::new("shop", "config").expect("a name"), Kind::ReadWrite, u32::MAX);
        line.holders = vec![seen("aaaaaa", 0)];
        line.waiting = vec![Seen { weight: u32::MAX, ..seen("bbbbbb", 0) }];
        let text = Shown::line(&line, Visibility::Full).json();
        let shown: serde_json::Value = serde_json::from_str(&text).expect("an object");
        assert_eq!(
            (&shown["holders"][0]["mode"], &shown["waiting"][0]["mode"]),
            (&"read".into(), &"write".into())
        );
        assert!(
            !text.contains("capacity") && !text.contains("weight") && !text.contains("4294967295"),
            "{text}"
        );
    }
}
