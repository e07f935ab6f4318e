//! `TENURE_HELD`: the locks that this command and its parents hold, so that nobody waits for himself.
//!
//! One line each: the store's URL without a password, a space, the namespace, a slash, the name. A URL holds no space
//! and a name no line end, so each line reads in one way. `TENURE_HELD_AS` has a line for each of them: the fencing token
//! (or `-`), a space, and how the lock is held.

use std::path::Path;

use tenure::{Key, StoreUrl};

/// One lock as a line of `TENURE_HELD`.
pub(super) fn line(url: &str, key: &Key) -> String {
    format!("{} {}", identity(url), key.full())
}

/// One lock that this command or a parent of it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// As [`line()`] writes it.
    pub(super) line: String,
    /// Its fencing token, where it has one.
    pub(super) token: Option<i64>,
    /// How it is held: `mutex`, `read`, `write`, `permits=K/N`, `once`; `unknown` where that was not handed down.
    pub(super) way: String,
}

/// Reads `TENURE_HELD` and `TENURE_HELD_AS`, whose lines belong together.
pub(super) fn read(held: &str, ways: &str) -> Vec<Held> {
    let lines: Vec<&str> = held.lines().filter(|l| !l.is_empty()).collect();
    let ways: Vec<&str> = ways.lines().filter(|l| !l.is_empty()).collect();
    let together = lines.len() == ways.len();
    let one = |(at, line): (usize, &&str)| {
        let (token, way) =
            ways.get(at).filter(|_| together).and_then(|w| w.split_once(' ')).unwrap_or(("-", "unknown"));
        Held { line: (*line).to_owned(), token: token.parse().ok(), way: way.to_owned() }
    };
    lines.iter().enumerate().map(one).collect()
}

/// The hold of that lock by a parent, the innermost.
pub(super) fn find<'a>(held: &'a [Held], line: &str) -> Option<&'a Held> {
    held.iter().rev().find(|h| h.line == line)
}

/// Both variables for a command.
pub(super) fn write(held: &[Held]) -> (String, String) {
    let lines: Vec<&str> = held.iter().map(|h| h.line.as_str()).collect();
    let way = |h: &Held| {
        let token = h.token.map_or_else(|| "-".to_owned(), |t| t.to_string());
        format!("{token} {}", h.way)
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
        let of = |line: String, token, way: &str| Held { line, token, way: way.into() };
        let a = line("host:", &key("default", "a b"));
        let held = vec![
            of(a.clone(), Some(7), "mutex"),
            of(line("redis://h", &key("default", "c")), None, "permits=1/2"),
        ];
        let (lines, ways) = write(&held);
        assert_eq!(read(&lines, &ways), held);
        assert_eq!(find(&held, &a), held.first());
        // Somebody changed one of the two: what is held is known, and not how.
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
