//! Locks as the command shows them: the objects of `--json`, and the words for people.

use serde::Serialize;
use tenure::{Broken, Kind, Line, Owner, Seen};

use crate::text::{ago, escape, json_line, rfc3339, short};

/// One lock, as `--json` prints it. The fields are a public interface.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    lock: &'a str,
    kind: Option<&'static str>,
    capacity: Option<u32>,
    token: Option<i64>,
    holders: Vec<Held<'a>>,
    waiting: Vec<Waits<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<Taken<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Who<'a> {
    claim: &'a str,
    user: &'a str,
    host: &'a str,
    pid: u32,
    program: &'a str,
    reason: &'a str,
    since: String,
}

#[derive(Debug, Serialize)]
struct Held<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    expires_in_ms: Option<u64>,
    weight: u32,
    token: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Waits<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    place: usize,
    weight: u32,
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
        pid: seen.owner.pid,
        program: &seen.owner.program,
        reason: &seen.reason,
        since: rfc3339(seen.since_us),
    }
}

impl<'a> Shown<'a> {
    /// A lock that somebody holds or waits for.
    pub(crate) fn line(line: &'a Line) -> Shown<'a> {
        let held = |seen: &'a Seen| Held {
            who: who(seen),
            expires_in_ms: seen.expires_in.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            weight: seen.weight,
            token: seen.token.map(|t| t.get()),
        };
        let waits =
            |(at, seen): (usize, &'a Seen)| Waits { who: who(seen), place: at + 1, weight: seen.weight };
        let taken = |broken: &'a Broken| Taken {
            at: rfc3339(broken.at_us),
            token: broken.token.map(|t| t.get()),
            why: &broken.why,
        };
        Shown {
            lock: line.key.name(),
            kind: Some(kind(line)),
            capacity: Some(line.capacity),
            token: line.token.map(|t| t.get()),
            holders: line.holders.iter().map(held).collect(),
            waiting: line.waiting.iter().enumerate().map(waits).collect(),
            broken: line.broken.as_ref().map(taken),
            event: None,
        }
    }

    /// A lock that nobody holds or waits for.
    pub(crate) fn free(lock: &'a str) -> Shown<'a> {
        let (holders, waiting) = (Vec::new(), Vec::new());
        Shown { lock, kind: None, capacity: None, token: None, holders, waiting, broken: None, event: None }
    }

    /// The same, as something that happened.
    pub(crate) fn event(mut self, event: &'a str) -> Shown<'a> {
        self.event = Some(event);
        self
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        json_line(self)
    }
}

/// The kind's name.
fn kind(line: &Line) -> &'static str {
    match line.kind {
        Kind::Mutex => "mutex",
        Kind::ReadWrite => "rwlock",
        Kind::Semaphore => "semaphore",
        _ => "other",
    }
}

/// `user@host (pid 4711, program)`.
pub(crate) fn name(owner: &Owner) -> String {
    escape(&format!("{}@{} (pid {}, {})", owner.user, owner.host, owner.pid, owner.program))
}

/// The head of the table that `ls` and `watch` draw.
pub(crate) fn head() -> Vec<String> {
    ["LOCK", "KIND", "HOLDER", "TOKEN", "HELD FOR", "EXPIRES IN", "WAITING", "REASON"]
        .map(String::from)
        .to_vec()
}

/// The rows of one lock: one for each holder, or one if there is none.
pub(crate) fn rows(line: &Line, now_us: u64) -> Vec<Vec<String>> {
    let lock = escape(line.key.name());
    let (kind, waiters) = (kind(line).to_owned(), line.waiters.to_string());
    if line.holders.is_empty() {
        let dash = || "-".to_owned();
        return vec![vec![lock, kind, dash(), dash(), dash(), dash(), waiters, String::new()]];
    }
    let row = |seen: &Seen| {
        vec![
            lock.clone(),
            kind.clone(),
            name(&seen.owner),
            seen.token.map_or_else(|| "-".into(), |t| t.to_string()),
            short(ago(seen.since_us, now_us)),
            seen.expires_in.map_or_else(|| "never".into(), short),
            waiters.clone(),
            escape(&seen.reason),
        ]
    };
    line.holders.iter().map(row).collect()
}

/// Everything about one lock, for people.
pub(crate) fn whole(line: &Line, now_us: u64) -> String {
    let mut out = format!("{}: {}, capacity {}", escape(line.key.name()), kind(line), line.capacity);
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
        out += &format!(
            "  held by {} for {}, since {}{token}{lease}, claim {}{}\n",
            name(&seen.owner),
            short(ago(seen.since_us, now_us)),
            rfc3339(seen.since_us),
            escape(&seen.claim),
            because(seen)
        );
    }
    for (at, seen) in line.waiting.iter().enumerate() {
        out += &format!(
            "  {:>3}. {} waits for {}, since {}, claim {}{}\n",
            at + 1,
            name(&seen.owner),
            short(ago(seen.since_us, now_us)),
            rfc3339(seen.since_us),
            escape(&seen.claim),
            because(seen)
        );
    }
    let more = line.waiters.saturating_sub(line.waiting.len() as u64);
    if more > 0 {
        out += &format!("       and {more} more\n");
    }
    if let Some(broken) = &line.broken {
        let token = broken.token.map(|t| format!(" from token {t}")).unwrap_or_default();
        out += &format!("  taken away{token} at {}: {}\n", rfc3339(broken.at_us), escape(&broken.why));
    }
    out
}
