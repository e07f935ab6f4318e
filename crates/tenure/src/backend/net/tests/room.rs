//! Rooms in place of runtimes, which block and end as a test says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::super::thread::Place;
use crate::backend::BoxFuture;
use crate::runtime::Runtime;
use crate::runtime::virtual_time::Virtual;

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In place of a runtime.
#[derive(Debug)]
pub(super) struct Room {
    rt: Arc<Virtual>,
    here: AtomicBool,
    pub(super) blocked: AtomicBool,
    ended: AtomicBool,
    /// Tasks to wake when it is no longer blocked, or ends.
    parked: Mutex<Vec<Waker>>,
}

impl Room {
    pub(super) fn new(rt: &Arc<Virtual>) -> Arc<Room> {
        let no = || AtomicBool::new(false);
        Arc::new(Room { rt: rt.clone(), here: no(), blocked: no(), ended: no(), parked: Mutex::default() })
    }

    /// Runs a task there as soon as the clock moves.
    pub(super) fn spawn(self: &Arc<Room>, task: impl Future<Output = ()> + Send + 'static) {
        let future: BoxFuture<'static, ()> = Box::pin(task);
        self.rt.spawn(Box::pin(Inside { room: self.clone(), future: Some(future) }));
    }

    pub(super) fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::SeqCst);
        self.wake();
    }

    /// Drops all tasks.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        let parked = std::mem::take(&mut *lock(&self.parked));
        parked.into_iter().for_each(Waker::wake);
    }
}

impl Place for Arc<Room> {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        Room::spawn(self, task);
    }

    fn is_here(&self) -> bool {
        self.here.load(Ordering::SeqCst)
    }
}

struct Inside {
    room: Arc<Room>,
    future: Option<BoxFuture<'static, ()>>,
}

impl Future for Inside {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let room = self.room.clone();
        if room.has_ended() {
            self.future = None;
            return Poll::Ready(());
        }
        // Whatever wakes it later, the room's end does too.
        let mut parked = lock(&room.parked);
        if !parked.iter().any(|waker| waker.will_wake(cx.waker())) {
            parked.push(cx.waker().clone());
        }
        drop(parked);
        let Some(future) = self.future.as_mut().filter(|_| !room.blocked.load(Ordering::SeqCst)) else {
            return Poll::Pending;
        };
        room.here.store(true, Ordering::SeqCst);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        room.here.store(false, Ordering::SeqCst);
        // A panic ends the task only, as in tokio.
        let polled = polled.unwrap_or(Poll::Ready(()));
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }
}
