//! What is composed of locks: many at once, stripes, re-entry, elections, jobs that run once, hand-over. On `memory:` and
//! on `host:` in a directory.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenure::Locks;

mod election;
mod handover;
mod kit;
mod loops;
mod multi;
mod once;
mod reentrant;
mod scope;
mod striped;

const LONG: Duration = Duration::from_secs(20);

/// A directory for one store, removed with this value.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tenure-it-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        // In memory, where a sync costs nothing: leases here are short.
        let memory = PathBuf::from("/dev/shm");
        let path = if memory.is_dir() { memory } else { std::env::temp_dir() }.join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }

    fn url(&self) -> String {
        format!("host://{}", self.0.display())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store for one test.
struct Store {
    url: String,
    _dir: Option<Dir>,
}

impl Store {
    async fn connect(&self) -> Locks {
        Locks::connect(&self.url).await.expect("opens")
    }
}

/// A fresh store of each kind that needs no server.
fn stores() -> Vec<Store> {
    let dir = Dir::new();
    vec![Store { url: "memory:".into(), _dir: None }, Store { url: dir.url(), _dir: Some(dir) }]
}

/// Waits until nobody holds or waits for anything; for twenty seconds at most.
async fn nothing_left(locks: &Locks) {
    soon("free", async || locks.list("").await.expect("looks").is_empty()).await;
    assert_eq!(locks.live(), 0);
}

/// Waits until it is so; for twenty seconds at most.
async fn soon(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let end = std::time::Instant::now() + LONG;
    while !so().await {
        assert!(std::time::Instant::now() < end, "never {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
