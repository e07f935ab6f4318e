//! Asking all servers at once: whoever decides does not wait for the slowest.

use std::future::poll_fn;
use std::task::Poll;

use crate::core::moment::Moment;
use crate::runtime::{BoxFuture, LazyTimer, Runtime};

/// Requests to several servers, under way.
pub(super) struct Fan<T> {
    asked: Vec<(usize, BoxFuture<'static, T>)>,
}

/// What came first.
pub(super) enum Heard<T> {
    /// A server answered.
    Answer(usize, T),
    /// All have answered, or the time is over.
    Late,
}

impl<T> Fan<T> {
    pub(super) fn new(asked: impl Iterator<Item = (usize, BoxFuture<'static, T>)>) -> Fan<T> {
        Fan { asked: asked.collect() }
    }

    /// None.
    pub(super) fn none() -> Fan<T> {
        Fan { asked: Vec::new() }
    }

    /// Whether all have answered.
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Hears these as well.
    pub(super) fn add(&mut self, more: Fan<T>) {
        self.asked.extend(more.asked);
    }

    /// The next answer, until `until`. Cancel safe: what has not been heard is heard by the next call.
    pub(super) async fn next(&mut self, runtime: &dyn Runtime, until: Moment) -> Heard<T> {
        let mut timer = LazyTimer::new(runtime, until);
        poll_fn(|cx| {
            if self.asked.is_empty() {
                return Poll::Ready(Heard::Late);
            }
            let mut first = None;
            for (at, (_, answer)) in self.asked.iter_mut().enumerate() {
                if let Poll::Ready(said) = answer.as_mut().poll(cx) {
                    first = Some((at, said));
                    break;
                }
            }
            match first {
                Some((at, said)) => Poll::Ready(Heard::Answer(self.asked.swap_remove(at).0, said)),
                None => timer.poll(cx).map(|()| Heard::Late),
            }
        })
        .await
    }
}
