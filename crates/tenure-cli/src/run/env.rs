//! `TENURE_HELD`: the locks that this command and its parents hold, so that no command waits for itself.
//!
//! One line each: the store's URL without a password, a space, the namespace, a slash, the name. A URL holds no space
//! and a name no line end, so each line reads in one way. `TENURE_HELD_AS` has a line for each of them: the fencing token
//! (or `-`), how the lock is held, the claim as listings show it (or `-`), and the guardian's process id.
//!
//! A variable is not a hold: it can outlive the hold (in a dump of the environment, in a session that stayed), or come
//! from another user or another machine. So the store is asked, and a hold that continues is entered again only below
//! the guardian that stops everything when the hold ends.

use std::path::Path;

use tenure::{Key, Locks, Owner, Result, Seen, StoreUrl};

use super::descendants;

/// One lock as a line of `TENURE_HELD`.
pub(super) fn line(url: &str, key: &Key) -> String {
    format!("{} {}", identity(url), key.full())
}

/// One lock that this command or a parent of it holds, or so the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// As [`line()`] writes it.
    pub(super) line: String,
    /// Its fencing token, if it has one.
    pub(super) token: Option<i64>,
    /// How it is held: `mutex`, `read`, `write`, `permits=K/N`, `once`; `unknown` if that was not handed down.
    pub(super) way: String,
    /// The claim, as listings show it.
    pub(super) claim: Option<String>,
    /// The process that keeps the lock and stops everything below it when the lock is lost.
    pub(super) guardian: Option<i32>,
}

/// An entry that the store confirms.
#[derive(Clone, Debug)]
pub(super) struct Confirmed {
    pub(super) held: Held,
    /// Whether this process ends with the hold: it descends from the hold's guardian.
    pub(super) below: bool,
}

/// Reads `TENURE_HELD` and `TENURE_HELD_AS`, whose lines belong together.
pub(super) fn read(held: &str, ways: &str) -> Vec<Held> {
    let lines: Vec<&str> = held.lines().filter(|l| !l.is_empty()).collect();
    let ways: Vec<&str> = ways.lines().filter(|l| !l.is_empty()).collect();
    let together = lines.len() == ways.len();
    let one = |(at, line): (usize, &&str)| {
        let mut words = ways.get(at).filter(|_| together).copied().unwrap_or_default().split(' ');
        let token = words.next().and_then(|token| token.parse().ok());
        let way = words.next().unwrap_or("unknown").to_owned();
        let claim = words.next().filter(|claim| *claim != "-").map(str::to_owned);
        let guardian = words.next().and_then(|pid| pid.parse().ok());
        Held { line: (*line).to_owned(), token, way, claim, guardian }
    };
    lines.iter().enumerate().map(one).collect()
}

/// The entry of that lock, the innermost.
pub(super) fn find<'a>(held: &'a [Held], line: &str) -> Option<&'a Held> {
    held.iter().rev().find(|h| h.line == line)
}

/// The innermost entry of that lock which is a hold, as the store says. Asks nothing if there is no entry.
///
/// # Errors
/// Whatever the store answers.
pub(super) async fn confirmed(held: &[Held], locks: &Locks, key: &Key) -> Result<Option<Confirmed>> {
    let line = line(locks.url(), key);
    if find(held, &line).is_none() {
        return Ok(None);
    }
    let seen = locks.inspect(key.name()).await?;
    Ok(seen.and_then(|seen| confirm(held, &line, &seen.holders)))
}

/// [`confirmed`] for code without async.
///
/// # Errors
/// As [`confirmed`].
pub(super) fn blocking_confirmed(held: &[Held], locks: &Locks, key: &Key) -> Result<Option<Confirmed>> {
    let line = line(locks.url(), key);
    if find(held, &line).is_none() {
        return Ok(None);
    }
    let seen = locks.blocking_inspect(key.name())?;
    Ok(seen.and_then(|seen| confirm(held, &line, &seen.holders)))
}

/// The innermost entry of that line which is one of these claims.
fn confirm(held: &[Held], line: &str, holders: &[Seen]) -> Option<Confirmed> {
    let host = Owner::this_process().host;
    let one = |entry: &Held| {
        let seen = holders.iter().find(|seen| entry.is(seen, &host))?;
        let below = entry.guardian.map_or_else(|| ends_with(seen, &host), is_above);
        Some(Confirmed { held: entry.clone(), below })
    };
    held.iter().rev().filter(|entry| entry.line == line).find_map(one)
}

impl Held {
    /// Whether this claim is the hold of the entry. Readers share a token and permits have none, so the claim decides if
    /// it is known.
    fn is(&self, seen: &Seen, host: &str) -> bool {
        let token = seen.token.map(|t| t.get());
        match (&self.claim, self.token) {
            (Some(claim), _) => seen.claim == *claim && self.token == token,
            (None, Some(_)) => self.token == token,
            // Nothing but a name was handed down.
            (None, None) => ends_with(seen, host),
        }
    }
}

/// Whether the process that is shown as the holder is one that this process descends from.
fn ends_with(seen: &Seen, host: &str) -> bool {
    seen.owner.host == host && i32::try_from(seen.owner.pid).is_ok_and(is_above)
}

fn is_above(pid: i32) -> bool {
    pid > 0 && i32::try_from(std::process::id()).is_ok_and(|me| descendants::is_below(me, pid))
}

/// Both variables for a command.
pub(super) fn write(held: &[Held]) -> (String, String) {
    let lines: Vec<&str> = held.iter().map(|h| h.line.as_str()).collect();
    let way = |h: &Held| {
        let token = h.token.map_or_else(|| "-".to_owned(), |t| t.to_string());
        let claim = h.claim.as_deref().unwrap_or("-");
        let guardian = h.guardian.map_or_else(String::new, |pid| format!(" {pid}"));
        format!("{token} {} {claim}{guardian}", h.way)
    };
    (lines.join("\n"), held.iter().map(way).collect::<Vec<_>>().join("\n"))
}

/// One name for one store, however it was written: a directory by its one true path, a server by its address.
fn identity(url: &str) -> String {
    if url.starts_with("redis") {
        return server(url).unwrap_or_else(|| url.to_owned());
    }
    let Some(path) = url.strip_prefix("host://").filter(|p| p.starts_with('/') && !p.contains(['%', '?']))
    else {
        return url.to_owned();
    };
    let path = Path::new(path).canonicalize().ok().and_then(|p| p.to_str().map(str::to_owned));
    match path {
        Some(path) if !path.contains(char::is_whitespace) => format!("host://{path}"),
        _ => url.to_owned(),
    }
}

/// A Redis server without what does not tell locks apart: who connects, and how TLS is checked. What is left out of a URL
/// has its usual value.
fn server(url: &str) -> Option<String> {
    let mut url = StoreUrl::parse(url).ok()?;
    (url.user, url.password) = (None, None);
    for (host, port) in &mut url.hosts {
        host.make_ascii_lowercase();
        if matches!(host.as_str(), "localhost" | "::1") {
            "127.0.0.1".clone_into(host);
        }
        port.get_or_insert(6379);
    }
    if url.path.trim_start_matches('/').is_empty() {
        "/0".clone_into(&mut url.path);
    }
    url.options.retain(|(key, _)| key == "prefix");
    Some(url.redacted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_elsewhere_do_not_clash() {
        let key = |namespace, name| Key::new(namespace, name).expect("a key");
        let of = |line: String, token, way: &str, claim: Option<&str>, guardian| Held {
            line,
            token,
            way: way.into(),
            claim: claim.map(str::to_owned),
            guardian,
        };
        let a = line("host:", &key("default", "a b"));
        let held = vec![
            of(a.clone(), Some(7), "mutex", None, Some(4711)),
            of(line("redis://h", &key("default", "c")), None, "permits=1/2", Some("9f3a61"), None),
        ];
        let (lines, ways) = write(&held);
        assert_eq!(read(&lines, &ways), held);
        assert_eq!(find(&held, &a), held.first());
        // As earlier versions wrote it.
        let short = read(&a, "7 mutex");
        assert_eq!(short, [of(a.clone(), Some(7), "mutex", None, None)]);
        // Only one of the two was changed: what is held is known, and not how.
        let lost = read(&lines, "7 mutex");
        assert!(lost.len() == 2 && lost.iter().all(|h| h.way == "unknown" && h.token.is_none()), "{lost:?}");
        assert_eq!(read("", "7 mutex"), []);
        for (url, key) in [
            ("host:///tmp", key("default", "a b")),
            ("host:", key("other", "a b")),
            ("host:", key("default", "a")),
            ("host:", key("default", "c")),
        ] {
            assert_eq!(find(&held, &line(url, &key)), None, "{url} {key:?}");
        }
    }

    #[test]
    fn a_directory_has_one_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).expect("a link");
        let key = Key::new("default", "x").expect("a key");
        let names = [dir.path().to_path_buf(), link, dir.path().join(".")];
        let lines: Vec<String> =
            names.iter().map(|p| line(&format!("host://{}", p.display()), &key)).collect();
        assert!(lines.iter().all(|l| *l == lines[0]), "{lines:?}");
    }

    #[test]
    fn a_server_has_one_name() {
        let same = ["redis://h", "redis://H:6379", "redis://u@h/0", "redis://h/"];
        assert!(same.iter().all(|url| identity(url) == "redis://h:6379/0"), "{same:?}");
        assert_eq!(identity("redis://localhost"), identity("redis://127.0.0.1:6379"));
        let other =
            ["redis://h:7000", "redis://h/1", "rediss://h", "redis+setnx://h", "redis+setnx://h?prefix=a"];
        let mut names: Vec<String> = other.iter().map(|url| identity(url)).collect();
        names.push(identity("redis://h"));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), other.len() + 1, "{names:?}");
        assert_eq!(identity("rediss://h?tls-ca=/x"), identity("rediss://h"));
    }
}
