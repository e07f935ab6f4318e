//! A runtime whose clocks a trial can skew.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tenure::backend::BoxFuture;
use tenure::core::moment::{Moment, nanos};
use tenure::runtime::Runtime;
use tenure::runtime::thread::ThreadRuntime;

/// How often a sleeper looks at the moved clock.
const NAP: Duration = Duration::from_millis(5);

/// The real runtime with moved clocks.
#[derive(Debug)]
pub(crate) struct SkewedRuntime {
    boot: Boot,
    wall: AtomicI64,
    wall_reads: AtomicU64,
}

impl SkewedRuntime {
    /// The clocks as they are.
    pub(crate) fn new() -> Arc<SkewedRuntime> {
        SkewedRuntime::fast(1)
    }

    /// A boot clock that runs `rate` times as fast: for waits that involve no store.
    pub(crate) fn fast(rate: u32) -> Arc<SkewedRuntime> {
        let inner: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
        let start = inner.now();
        let boot = Boot { inner, start, rate, jump: Arc::default() };
        Arc::new(SkewedRuntime { boot, wall: AtomicI64::new(0), wall_reads: AtomicU64::new(0) })
    }

    /// Moves the boot clock ahead, as it moves while the machine sleeps.
    pub(crate) fn jump(&self, by: Duration) {
        self.boot.jump.fetch_add(nanos(by), Ordering::SeqCst);
    }

    /// How often anybody has read the wall clock.
    pub(crate) fn wall_reads(&self) -> u64 {
        self.wall_reads.load(Ordering::SeqCst)
    }

    /// Sets the wall clock off by so many seconds.
    pub(crate) fn set_wall_off(&self, seconds: i64) {
        self.wall.store(seconds, Ordering::SeqCst);
    }
}

/// The moved boot clock.
#[derive(Clone, Debug)]
struct Boot {
    inner: Arc<dyn Runtime>,
    start: Moment,
    rate: u32,
    jump: Arc<AtomicU64>,
}

impl Boot {
    fn now(&self) -> Moment {
        let passed = nanos(self.inner.now().since(self.start));
        Moment(self.start.nanos() + passed * u64::from(self.rate) + self.jump.load(Ordering::SeqCst))
    }
}

impl Runtime for SkewedRuntime {
    fn now(&self) -> Moment {
        self.boot.now()
    }

    fn wall_us(&self) -> u64 {
        self.wall_reads.fetch_add(1, Ordering::SeqCst);
        self.boot.inner.wall_us().saturating_add_signed(self.wall.load(Ordering::SeqCst) * 1_000_000)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.boot.inner.fill(bytes);
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        let boot = self.boot.clone();
        Box::pin(async move {
            // A jump is noticed by whoever looks at the clock next, as with the real one: at the end of a nap.
            while boot.now() < at {
                let left = at.since(boot.now()) / boot.rate;
                boot.inner.sleep_until(boot.inner.now() + left.min(NAP)).await;
            }
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.boot.inner.spawn(task);
    }
}
