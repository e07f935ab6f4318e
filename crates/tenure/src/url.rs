//! URLs of stores: `scheme://[user[:password]@]host[:port][,host[:port]...][/database][?key=value]`, `memory:`,
//! `host:` and `host:///dir`.

use std::fmt;

use crate::error::{Error, Result};

/// A password, or a URL that may hold one: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a string.
    #[must_use]
    pub fn new(secret: String) -> Secret {
        Secret(secret)
    }

    /// The string itself: for the wire only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A parsed store URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    /// Before the first `:`, in lower case.
    pub scheme: String,
    /// The user, decoded.
    pub user: Option<String>,
    /// The password, decoded.
    pub password: Option<Secret>,
    /// Hosts with their ports, in order; an IPv6 address without its brackets.
    pub hosts: Vec<(String, Option<u16>)>,
    /// What follows the hosts, decoded, with its leading `/`; empty for none.
    pub path: String,
    /// `?key=value&...`, decoded, in order.
    pub options: Vec<(String, String)>,
}

impl StoreUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// `Config`, saying what is wrong with it; the message never holds a password.
    pub fn parse(text: &str) -> Result<StoreUrl> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(bad(
                "the store URL has no scheme",
                "write it with its colon, like host: or redis://127.0.0.1",
            ));
        };
        let good = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(good) {
            return Err(bad(
                "the store URL does not begin with a scheme",
                "write it like host: or redis://127.0.0.1",
            ));
        }
        if rest.contains('#') {
            return Err(bad("the store URL contains a #", "write it as %23 in a name or password"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // Nothing of what follows may be shown: an @ there means that a password was cut in two.
        if query.contains('@') {
            return Err(bad(
                "the store URL has an @ after its ?",
                "write %3F for a ? in a password, and %40 for an @ in an option",
            ));
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
            None => ("", rest),
        };
        if !authority.is_empty() && path.contains('@') {
            return Err(bad(
                "the store URL has an @ after the / that ends its hosts",
                "write %2F for a / in a password, and %40 for an @ in a path",
            ));
        }
        if !rest.starts_with("//") && !path.is_empty() {
            return Err(bad(
                &format!("expected // after {scheme}: in the store URL"),
                "write it like host:///dir for a directory, or redis://127.0.0.1:6379 for a server",
            ));
        }
        let (user, password, hosts) = parse_authority(authority)?;
        let mut options = Vec::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(bad("an option of the store URL has no value", "write it as key=value"));
            };
            options.push((decode(key)?, decode(value)?));
        }
        let scheme = scheme.to_ascii_lowercase();
        Ok(StoreUrl { scheme, user, password, hosts, path: decode(path)?, options })
    }

    /// Takes the option `key` out of the URL.
    ///
    /// # Errors
    /// `Config` where it is given twice.
    pub fn take(&mut self, key: &str) -> Result<Option<String>> {
        let mut found = None;
        let mut twice = false;
        self.options.retain(|(k, v)| {
            if k != key {
                return true;
            }
            twice |= found.replace(v.clone()).is_some();
            false
        });
        if twice {
            Err(bad(&format!("the URL option {key} is given twice"), "give it once"))
        } else {
            Ok(found)
        }
    }

    /// Refuses what no one has taken: unknown options, and parts that `scheme` has no use for.
    ///
    /// # Errors
    /// `Config`, naming the first one.
    pub fn finish(&self, known: &[&str]) -> Result<()> {
        let Some((key, _)) = self.options.first() else { return Ok(()) };
        let hint = closest(key, known).map(|k| format!("did you mean {k}? ")).unwrap_or_default();
        let its = if hint.is_empty() { "its" } else { "Its" };
        Err(bad(
            &format!("{}: has no URL option {key:?}", self.scheme),
            &match known {
                [] => format!("remove it: {}: has no options", self.scheme),
                _ => format!("{hint}{its} options are: {}", known.join(", ")),
            },
        ))
    }

    /// The URL without its password, safe to show and to hand to other programs.
    #[must_use]
    pub fn redacted(&self) -> String {
        let mut out = format!("{}:", self.scheme);
        if !self.hosts.is_empty() || !self.path.is_empty() || self.user.is_some() {
            out += "//";
        }
        if let Some(user) = &self.user {
            out += &encode(user);
            out.push('@');
        }
        for (i, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let shown = if host.contains(':') { format!("[{host}]") } else { encode(host) };
            out += &format!("{comma}{shown}");
            if let Some(port) = port {
                out += &format!(":{port}");
            }
        }
        out += &self.path.split('/').map(encode).collect::<Vec<_>>().join("/");
        for (i, (key, value)) in self.options.iter().enumerate() {
            out += &format!("{}{}={}", if i == 0 { '?' } else { '&' }, encode(key), encode(value));
        }
        out
    }
}

type Authority = (Option<String>, Option<Secret>, Vec<(String, Option<u16>)>);

fn parse_authority(text: &str) -> Result<Authority> {
    let (credentials, hosts) = match text.rsplit_once('@') {
        Some((c, h)) => (Some(c), h),
        None => (None, text),
    };
    let (user, password) = match credentials {
        None => (None, None),
        Some(c) => match c.split_once(':') {
            Some((u, p)) => (Some(decode(u)?), Some(Secret(decode(p)?))),
            None => (Some(decode(c)?), None),
        },
    };
    let mut out = Vec::new();
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        out.push(parse_host(host)?);
    }
    Ok((user.filter(|u| !u.is_empty()), password, out))
}

fn parse_host(text: &str) -> Result<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((inside, after)) = rest.split_once(']') else {
                return Err(bad("the store URL has a [ without its ]", "write an IPv6 address as [::1]"));
            };
            if !after.is_empty() && !after.starts_with(':') {
                return Err(bad(
                    "the store URL has something other than a port after a ]",
                    "write an IPv6 address as [::1]:6379",
                ));
            }
            (inside.to_owned(), after.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((h, p)) => (decode(h)?, Some(p)),
            None => (decode(text)?, None),
        },
    };
    if host.is_empty() {
        return Err(bad("the store URL has an empty host", "remove the comma, or name the host"));
    }
    let port = match port {
        None => None,
        Some(p) => Some(p.parse().ok().filter(|&n| n != 0 && !p.starts_with('+')).ok_or_else(|| {
            // Not shown: without an @, what looks like a port is a password.
            bad(
                "the store URL has no port number after a host and its colon",
                "use 1 to 65535; write an IPv6 address as [::1], and an @ between a password and the host",
            )
        })?),
    };
    Ok((host, port))
}

fn bad(what: &str, advice: &str) -> Error {
    Error::config(what, advice)
}

fn decode(text: &str) -> Result<String> {
    let broken = || bad("the store URL has a % without two hexadecimal digits after it", "write %25 for a %");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or_else(broken);
        let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
        out.push(u8::try_from(value).map_err(|_| broken())?);
    }
    String::from_utf8(out)
        .map_err(|_| bad("the store URL is not UTF-8 after decoding", "check its % escapes"))
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out += &format!("%{b:02X}");
        }
    }
    out
}

/// The candidate nearest to `word`, if it is near enough to have been meant: a slip or two, or a beginning that only one of
/// them has.
#[must_use]
pub fn closest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let best = candidates.iter().map(|c| (distance(word, c), *c)).min()?;
    let length = word.chars().count();
    // In a short word one slip is much: two letters that changed places count as one.
    if best.0 <= 1 + length / 4 && best.0 < length.max(2) {
        return Some(best.1);
    }
    let mut begun = candidates.iter().filter(|c| length > 1 && c.starts_with(word));
    match (begun.next(), begun.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// The edit distance: inserted, left out and changed letters, and neighbours that changed places.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut last = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            next[j] = changed.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                next[j] = next[j].min(last[j - 2] + 1);
            }
        }
        last = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

/// What to write for a scheme that other programs use.
pub(crate) fn elsewhere(scheme: &str) -> Option<&'static str> {
    Some(match scheme {
        "valkey" | "keydb" | "dragonfly" | "kvrocks" => {
            "this server speaks the protocol of Redis: write redis://"
        }
        "valkeys" | "redis+tls" | "redis+ssl" | "redis-tls" | "valkey+tls" => {
            "write rediss:// for Redis with TLS"
        }
        "redis+tcp" | "redis-tcp" | "tcp" => "write redis:// for Redis",
        "redis+unix" | "redis-socket" | "redis+socket" | "redis-unix" | "unix" | "valkey+unix" => {
            "Redis on a Unix socket is not supported: let it listen on 127.0.0.1, and write redis://127.0.0.1"
        }
        "redis-sentinel" | "redis+sentinel" | "rediss+sentinel" | "sentinel" | "redis-cluster"
        | "redis+cluster" | "rediss+cluster" => {
            "Redis Sentinel and Redis Cluster are not supported yet: name one plain server with redis://"
        }
        "file" | "dir" | "directory" | "path" | "flock" => {
            "write host:///dir for locks in a directory of this machine"
        }
        "local" | "localhost" | "shm" => "write host: for locks on this machine",
        "mem" | "inmemory" | "in-memory" => "write memory: for locks inside one process",
        "http" | "https" | "etcd" | "etcd3" | "zookeeper" | "zk" | "postgres" | "postgresql" | "mysql"
        | "mariadb" | "nats" | "amqp" | "consul" => "this store is not supported yet",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_url_parses_and_shows_no_password() {
        let text = "redis://a%40b:p%3Aw%2F@h1:6379,[::1]:7000,h3/2?tls=yes";
        let url = StoreUrl::parse(text).expect("parses");
        assert_eq!(url.user.as_deref(), Some("a@b"));
        assert_eq!(url.password.as_ref().map(Secret::expose), Some("p:w/"));
        assert_eq!(url.hosts, [("h1".into(), Some(6379)), ("::1".into(), Some(7000)), ("h3".into(), None)]);
        assert_eq!((url.path.as_str(), url.options.len()), ("/2", 1));
        assert_eq!(url.redacted(), "redis://a%40b@h1:6379,[::1]:7000,h3/2?tls=yes");
        assert!(!format!("{url:?}").contains("p:w"));
    }

    #[test]
    fn short_forms() {
        for text in ["memory:", "host:", "host:///var/lib/locks"] {
            assert_eq!(StoreUrl::parse(text).expect("parses").redacted(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_without_panic() {
        for text in [
            "",
            "redis",
            ":x",
            "1a://x",
            "redis:6379",
            "redis://h:0",
            "redis://h:70000",
            "redis://[::1",
            "redis://a,,b",
            "redis://h?x",
            "redis://h/%zz",
            "redis://h/%e9",
            "redis://h#x",
            "redis://[::1]x",
        ] {
            assert!(StoreUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_part_of_a_password_is_shown_however_broken_the_url() {
        for text in [
            "redis://u:topsecret@h:bad",
            "redis://u:topsecret",
            "redis://u:topsecret/x@h",
            "redis://u:1/topsecret@h",
            "redis://u:1?topsecret@h",
            "redis://u:1?topsecret=@h",
            "redis://u:1#topsecret@h",
            "redis://u:%topsecret@h",
            "redis:u:topsecret@h",
        ] {
            let error = StoreUrl::parse(text).expect_err(text);
            assert!(!error.to_string().contains("topsecret"), "{error}");
        }
    }

    #[test]
    fn near_words_are_found() {
        assert_eq!(closest("rediss", &["redis", "host"]), Some("redis"));
        assert_eq!(closest("hots", &["memory", "host"]), Some("host"));
        assert_eq!(closest("zookeeper", &["memory", "host"]), None);
        let verbs = ["run", "once", "elect", "acquire", "renew", "release", "ls", "show", "completions"];
        for (word, meant) in [
            ("rnu", Some("run")),
            ("ru", Some("run")),
            ("sl", Some("ls")),
            ("lss", Some("ls")),
            ("shwo", Some("show")),
            ("relaese", Some("release")),
            ("comp", Some("completions")),
            ("completinos", Some("completions")),
            ("aquire", Some("acquire")),
            ("re", None),
            ("xy", None),
            ("x", None),
            ("", None),
            ("frobnicate", None),
        ] {
            assert_eq!(closest(word, &verbs), meant, "{word}");
        }
    }
}
