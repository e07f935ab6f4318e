//! Futures that run out of time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::{BoxFuture, Runtime};
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

/// Runs futures side by side in one task; what they come to, in their order.
pub(crate) async fn join_all<F: Future>(work: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut work: Vec<_> = work.into_iter().map(|one| Some(Box::pin(one))).collect();
    let mut done: Vec<_> = work.iter().map(|_| None).collect();
    let mut left = work.len();
    poll_fn(|cx| {
        for (slot, done) in work.iter_mut().zip(&mut done) {
            if let Some(Poll::Ready(out)) = slot.as_mut().map(|one| one.as_mut().poll(cx)) {
                (*slot, *done, left) = (None, Some(out), left - 1);
            }
        }
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Runs `work` until `end` comes, whichever is first; `end` goes before.
pub(crate) async fn unless<T, E>(
    end: impl Future<Output = E>,
    work: impl Future<Output = T>,
) -> Result<T, E> {
    let (mut end, mut work) = (pin!(end), pin!(work));
    poll_fn(|cx| match end.as_mut().poll(cx) {
        Poll::Ready(end) => Poll::Ready(Err(end)),
        Poll::Pending => work.as_mut().poll(cx).map(Ok),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_the_order_of_what_was_asked() {
        let slow = |n: usize| async move {
            for _ in 0..n {
                yield_now().await;
            }
            n
        };
        assert_eq!(pollster::block_on(join_all([3, 1, 0, 2].map(slow))), [3, 1, 0, 2]);
        assert_eq!(pollster::block_on(join_all(std::iter::empty::<std::future::Ready<u8>>())), [0; 0]);
    }

    #[test]
    fn the_end_goes_before_the_work() {
        use std::future::{pending, ready};
        assert_eq!(pollster::block_on(unless(ready(1), ready(2))), Err(1));
        assert_eq!(pollster::block_on(unless(pending::<()>(), ready(2))), Ok(2));
    }
}
