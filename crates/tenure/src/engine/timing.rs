//! Futures that run out of time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::Runtime;
use crate::backend::BoxFuture;
use crate::core::moment::Moment;

/// A timer that is only made when it is first waited for: most answers come at once.
pub(crate) struct LazyTimer<'a> {
    runtime: &'a dyn Runtime,
    at: Moment,
    timer: Option<BoxFuture<'static, ()>>,
}

impl<'a> LazyTimer<'a> {
    pub(crate) fn new(runtime: &'a dyn Runtime, at: Moment) -> LazyTimer<'a> {
        LazyTimer { runtime, at, timer: None }
    }

    /// Ready once the moment has come; never for [`Moment::NEVER`].
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.at == Moment::NEVER {
            return Poll::Pending;
        }
        let (runtime, at) = (self.runtime, self.at);
        self.timer.get_or_insert_with(|| runtime.sleep_until(at)).as_mut().poll(cx)
    }
}

/// Lets the other tasks of the runtime run.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs `work` until `at`; `None` if it was not done by then.
pub(crate) async fn race<T>(runtime: &dyn Runtime, at: Moment, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut timer = LazyTimer::new(runtime, at);
    poll_fn(move |cx| match Pin::as_mut(&mut work).poll(cx) {
        Poll::Ready(out) => Poll::Ready(Some(out)),
        Poll::Pending => timer.poll(cx).map(|()| None),
    })
    .await
}
