//! Where the store is: a URL, read once.

use std::path::PathBuf;

use super::usual;
use crate::error::{Error, Result};
use crate::url::StoreUrl;

/// The directory that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Named by the URL, so it must keep its promises over a reboot. The default place promises less.
    pub(super) durable: bool,
}

impl Place {
    /// Reads `host:` or `host:///dir`.
    pub(super) fn of(url: &StoreUrl) -> Result<Place> {
        if let Some((host, _)) = url.hosts.first() {
            return Err(Error::config(
                format!("host: is on this machine, and the URL names the host {host:?}"),
                "write host: for shared memory or host:///dir, with three slashes, for a directory",
            ));
        }
        if url.user.is_some() || url.password.is_some() {
            return Err(Error::config(
                "host: takes no user and no password",
                "leave them out: file modes decide",
            ));
        }
        url.finish(&[])?;
        let path = url.path.trim_end_matches('/');
        if url.path.is_empty() {
            return Ok(Place { path: usual::directory()?, durable: false });
        }
        if path.is_empty() || path.contains('\0') {
            return Err(Error::config(
                format!("{:?} cannot be a store's directory", url.path),
                "name a directory of its own, like host:///var/lib/myapp/locks",
            ));
        }
        Ok(Place { path: path.into(), durable: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Result<Place> {
        Place::of(&StoreUrl::parse(url)?)
    }

    #[test]
    fn urls_name_places() {
        assert!(!place("host:").expect("the default").durable);
        assert_eq!(place("host:///a/b/").expect("a directory"), Place { path: "/a/b".into(), durable: true });
        for bad in
            ["host://a/b", "host:///", "host:///a%00b", "host:///a?x=1", "host://u@/a", "host://:pw@/a"]
        {
            let error = place(bad).expect_err(bad);
            assert_eq!(error.kind(), crate::ErrorKind::Config, "{bad}: {error}");
            assert!(!error.advice().is_empty() && !error.to_string().contains("pw"), "{error}");
        }
    }
}
