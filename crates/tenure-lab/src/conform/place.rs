//! Where the suite runs by itself: stores that it makes, and wipes, for every backend of the table.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tenure::backend;

use crate::failure::{Doing, Outcome};
use crate::server::Redis;

/// A store that the suite runs on.
#[derive(Debug)]
pub struct Place {
    /// Its name in test output.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// The store's directory, where it is the suite's own: it may be wiped.
    own: Option<TempDir>,
    /// The store's server, where it is the suite's own: it may be killed and wiped.
    pub(super) server: Option<Arc<Redis>>,
    /// Why there is no such store here, if so.
    absent: Option<String>,
}

impl Place {
    /// A store that belongs to somebody else.
    #[must_use]
    pub fn given(name: &str, url: &str) -> Place {
        Place { name: name.into(), url: url.into(), own: None, server: None, absent: None }
    }

    fn temporary(name: &str, parent: &Path) -> Outcome<Place> {
        let dir = tempfile::Builder::new().prefix("tenure-conform-").tempdir_in(parent);
        let dir = dir.doing(|| format!("make a directory in {}", parent.display()))?;
        let url = format!("host://{}", dir.path().join("store").display());
        Ok(Place { own: Some(dir), ..Place::given(name, &url) })
    }

    /// On a server of its own; every trial is skipped, and counted as skipped, where there is none to start.
    fn served(name: &str, scheme: &str) -> Result<Place, String> {
        if let Some(why) = Redis::missing() {
            return Ok(Place { absent: Some(why), ..Place::given(name, scheme) });
        }
        let server = Arc::new(Redis::start()?);
        Ok(Place { name: name.into(), ..Place::on(scheme, &server, &server.address()) })
    }

    /// On this server of the suite's own, which is at this address to its clients.
    pub(crate) fn on(scheme: &str, server: &Arc<Redis>, address: &str) -> Place {
        Place { server: Some(server.clone()), ..Place::given(scheme, &format!("{scheme}://{address}")) }
    }

    /// Why there is no such store here, if so.
    #[must_use]
    pub fn absent(&self) -> Option<&str> {
        self.absent.as_deref()
    }

    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.own.as_ref().map(|dir| dir.path().join("store"))
    }
}

/// The stores that the suite can make by itself, for every backend of the table.
///
/// # Errors
/// Where a directory cannot be made; and for a backend that nobody has taught this function.
pub fn places() -> Result<Vec<Place>, String> {
    let mut places = Vec::new();
    for entry in backend::table() {
        match entry.feature {
            "memory" => places.push(Place::given("memory", "memory:")),
            "host" => {
                // Shared memory, and a disk where /tmp is one; both in the durable form, which is the stronger one.
                places.push(Place::temporary("host", Path::new("/dev/shm")).map_err(|e| e.to_string())?);
                places.push(Place::temporary("host_dir", &std::env::temp_dir()).map_err(|e| e.to_string())?);
            }
            // Two rows of the table share a feature, and each has its servers.
            "redis" => {
                let scheme = entry.schemes.first().copied().unwrap_or_default();
                places.push(Place::served(&scheme.replace('+', "_"), scheme)?);
            }
            other => return Err(format!("conform::places does not know where to find a store for {other}")),
        }
    }
    Ok(places)
}
