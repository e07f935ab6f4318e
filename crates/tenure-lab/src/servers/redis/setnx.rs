//! The dialect that everybody writes first, on the servers of Redis.

use std::io::{self, BufRead};
use std::sync::Arc;

use tenure::backend::BoxFuture;

use super::super::{Bare, Guest, Own, StoreKind, Wish, path};
use super::{Redis, Served};
#[cfg(feature = "proofs")]
use crate::broken::Variant;
use crate::failure::Outcome;

/// The kind.
pub(crate) struct Setnx;

impl StoreKind for Setnx {
    fn scheme(&self) -> &'static str {
        "redis+setnx"
    }

    fn sites(&self) -> &'static [&'static str] {
        &["redis_setnx"]
    }

    fn make(&self, wish: &Wish<'_>) -> Outcome<Option<Arc<dyn Own>>> {
        Ok(Some(Arc::new(Served::start("redis+setnx", wish)?)))
    }

    fn missing(&self) -> Option<String> {
        Redis.missing()
    }

    fn port(&self) -> Option<u16> {
        Redis.port()
    }

    /// Its keys know no namespace, so they have one in their prefix.
    fn apart(&self, url: &str, namespace: &str) -> String {
        if url.contains('?') { url.to_owned() } else { format!("{url}?prefix={namespace}:") }
    }

    fn request(
        &self,
        from: &mut dyn BufRead,
        change: &mut dyn FnMut(&str) -> String,
    ) -> io::Result<Option<Vec<u8>>> {
        Redis.request(from, change)
    }

    fn as_loaded(&self, piece: &str) -> String {
        Redis.as_loaded(piece)
    }

    #[cfg(test)]
    fn scripts(&self) -> Vec<&'static str> {
        Redis.scripts()
    }

    #[cfg(feature = "proofs")]
    fn variants(&self) -> &'static [Variant] {
        super::wrong::OF_THE_DIALECT
    }

    fn reaches(&self, url: &str) -> bool {
        path::scheme(url).eq_ignore_ascii_case(self.scheme())
    }

    fn bare<'a>(&self, url: &'a str) -> BoxFuture<'a, Outcome<Box<dyn Bare>>> {
        Redis.bare(url)
    }

    fn guest(&self) -> Option<&'static dyn Guest> {
        Redis.guest()
    }
}
