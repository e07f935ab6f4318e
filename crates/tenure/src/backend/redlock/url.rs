//! Which servers vote: a URL, read once.

use std::time::Duration;

use super::LONGEST;
use crate::core::lease;
use crate::error::{Error, Result};
use crate::url::StoreUrl;

/// A set of servers.
pub(super) struct Voters {
    /// The URL without the hosts and without the options that are about all of them.
    pub(super) url: StoreUrl,
    pub(super) hosts: Vec<(String, Option<u16>)>,
    /// The longest lease.
    pub(super) longest: Duration,
}

impl Voters {
    /// Reads a URL.
    ///
    /// # Errors
    /// `Config`, saying what to write instead.
    pub(super) fn new(mut url: StoreUrl) -> Result<Voters> {
        let longest = match url.take("longest-ttl")? {
            Some(text) => longest(&text)?,
            None => LONGEST,
        };
        url.finish(&["longest-ttl"])?;
        let hosts = std::mem::take(&mut url.hosts);
        if hosts.len() < 3 || hosts.len().is_multiple_of(2) {
            return Err(Error::config(
                format!("a majority of {} servers is asked for", hosts.len()),
                "name an odd number of servers, at least 3, like redlock://a,b,c",
            ));
        }
        let port = |host: &(String, Option<u16>)| (host.0.to_ascii_lowercase(), host.1.unwrap_or(6379));
        for (n, host) in hosts.iter().enumerate() {
            if hosts[..n].iter().any(|other| port(other) == port(host)) {
                return Err(Error::config(
                    format!("the store URL names {}:{} twice", host.0, port(host).1),
                    "name each server once: one that has two votes is no majority",
                ));
            }
        }
        Ok(Voters { url, hosts, longest })
    }
}

fn longest(text: &str) -> Result<Duration> {
    let whole = text.strip_suffix('s').unwrap_or(text).parse().ok().map(Duration::from_secs);
    whole.filter(|ttl| (lease::TTL_MIN..=lease::TTL_MAX).contains(ttl)).ok_or_else(|| {
        Error::config(
            format!("longest-ttl={text} is not a number of seconds"),
            "write the longest ttl that any program asks for, like longest-ttl=60s",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(text: &str) -> Result<Voters> {
        Voters::new(StoreUrl::parse(text).expect("a URL"))
    }

    #[test]
    fn an_odd_number_of_different_servers_votes() {
        let v = voters("redlock://a,b:7000,c?longest-ttl=90s").expect("good");
        assert_eq!((v.hosts.len(), v.longest), (3, Duration::from_secs(90)));
        for bad in [
            "redlock://a",
            "redlock://a,b",
            "redlock://a,b,c,d",
            "redlock://a,b,A",
            "redlock://a,b,a:6379",
            "redlock://a,b,c?longest-ttl=soon",
            "redlock://a,b,c?longest=9",
        ] {
            assert_eq!(voters(bad).err().map(|e| e.kind()), Some(crate::ErrorKind::Config), "{bad}");
        }
    }
}
