//! Scopes of work: waiting for oneself is an error, not a hang.

use std::future::poll_fn;
use std::pin::pin;

use crate::engine::scope::Scope;

/// Runs `work` as one scope: to wait in it for a lock that it holds itself is refused at once, with an error of kind
/// `Config` ("would wait for itself"), instead of hanging for ever.
///
/// A lock counts as held by the scope that it was acquired in, for as long as its guard lives and is not lost. Only waiting
/// is refused: `try_lock` answers `None`, as ever. It is about one `Locks` and its clones; a task spawned from `work` is
/// outside of it. For a read-write lock it refuses to wait for a writer's place while reading, and for a semaphore to wait
/// for more permits than are left by those that the scope has.
///
/// **When it is too strict.** What is acquired in the scope counts even if its guard was sent to somebody else, who would
/// have released it. And branches of one task that run side by side (`join!`, `select!`) are one scope: where each of them
/// takes the same lock for itself, give each a scope of its own. A scope within another one counts what the outer one
/// holds, since that one waits for it; scopes side by side do not see each other.
///
/// ```
/// # pollster::block_on(async {
/// let locks = tenure::Locks::memory();
/// let orders = locks.mutex("orders")?;
/// let error = tenure::scope(async {
///     let _guard = orders.lock().await?;
///     orders.lock().await // somewhere deep in a call
/// })
/// .await
/// .expect_err("would wait for itself");
/// assert_eq!(error.kind(), tenure::ErrorKind::Config);
/// # Ok::<(), tenure::Error>(()) }).unwrap();
/// ```
///
/// # Cancel safety
/// As `work`'s own.
///
/// # On drop
/// Drops `work`.
///
/// # When the answer is lost
/// It asks nothing.
pub async fn scope<F: Future>(work: F) -> F::Output {
    let scope = Scope::within();
    let mut work = pin!(work);
    poll_fn(|cx| {
        let _entered = scope.enter();
        work.as_mut().poll(cx)
    })
    .await
}

/// [`scope`] for code without async: what `work` does on this thread is one scope.
pub fn blocking_scope<T>(work: impl FnOnce() -> T) -> T {
    let scope = Scope::within();
    let _entered = scope.enter();
    work()
}
