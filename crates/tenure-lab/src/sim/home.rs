//! The runtime that a client connected in: it may block, or end before the client does.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tenure::backend::BoxFuture;

use super::world::locked;

/// The state of the runtime that a client connected in.
#[derive(Debug, Default)]
pub(super) struct Home {
    blocked: AtomicBool,
    ended: AtomicBool,
    /// Its tasks, to wake when it goes on or ends.
    parked: Mutex<Vec<Waker>>,
}

impl Home {
    /// It blocks, or goes on.
    pub(super) fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
        self.wake();
    }

    /// It ends, and drops its tasks.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.wake();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// A task of this runtime.
    pub(super) fn inside(self: &Arc<Home>, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        Box::pin(Inside { home: self.clone(), task: Some(task) })
    }

    fn wake(&self) {
        let parked = std::mem::take(&mut *locked(&self.parked));
        parked.into_iter().for_each(Waker::wake);
    }

    /// Nobody wakes its tasks any more.
    pub(super) fn clear(&self) {
        let parked = std::mem::take(&mut *locked(&self.parked));
        drop(parked);
    }
}

/// A task at home.
struct Inside {
    home: Arc<Home>,
    task: Option<BoxFuture<'static, ()>>,
}

impl Future for Inside {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.home.has_ended() {
            self.task = None;
            return Poll::Ready(());
        }
        // Whatever wakes it later, the end of its home does too.
        let mut parked = locked(&self.home.parked);
        if !parked.iter().any(|waker| waker.will_wake(cx.waker())) {
            parked.push(cx.waker().clone());
        }
        drop(parked);
        if self.home.blocked.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let Some(task) = self.task.as_mut() else { return Poll::Ready(()) };
        let polled = task.as_mut().poll(cx);
        if polled.is_ready() {
            self.task = None;
        }
        polled
    }
}
