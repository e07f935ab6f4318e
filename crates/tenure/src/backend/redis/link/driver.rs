//! The driver of a link: writes what waits, reads answers and pushes.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::super::resp::{self, Parsed, Value};
use super::{Link, Waiting};
use crate::backend::net::{Fault, Link as _};

impl Link {
    /// The driver: runs until the link is dead. Dropped with its runtime, it leaves the link dead.
    pub(in super::super) async fn drive(self: Arc<Link>, pushes: impl Fn(Vec<Value>) + Send) {
        struct End(Arc<Link>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.fail(&Fault::Lost("the runtime that the connection lived in is gone".into()));
            }
        }
        let end = End(self);
        let link = &*end.0;
        let (mut read, mut write) = (pin!(link.read(&pushes)), pin!(link.write()));
        let fault = poll_fn(|cx| match read.as_mut().poll(cx) {
            Poll::Pending => write.as_mut().poll(cx),
            ready => ready,
        });
        link.fail(&fault.await);
    }

    async fn write(&self) -> Fault {
        loop {
            self.write.notified().await;
            self.beats.fetch_add(1, Ordering::Relaxed);
            if self.state().dead.is_some() {
                return Fault::Lost("the connection ended".into());
            }
            // Whoever else is ready to send does so first: one write for all.
            tokio::task::yield_now().await;
            loop {
                let outcome = {
                    let mut state = self.state();
                    self.put_together(&mut state);
                    let outcome = if state.out.is_empty() { Ok(true) } else { self.write_out(&mut state) };
                    state.writing = !matches!(outcome, Ok(true));
                    outcome
                };
                let more = match outcome {
                    Ok(true) => break,
                    Ok(false) => self.stream.writable().await,
                    Err(error) => Err(error),
                };
                if let Err(error) = more {
                    return Fault::Lost(format!("writing to the connection failed: {error}").into());
                }
            }
        }
    }

    async fn read(&self, pushes: &(impl Fn(Vec<Value>) + Send)) -> Fault {
        let mut buffer = Vec::new();
        let mut wanted = 1;
        loop {
            if let Err(error) = self.stream.readable().await {
                return Fault::Lost(format!("reading from the connection failed: {error}").into());
            }
            self.beats.fetch_add(1, Ordering::Relaxed);
            match self.stream.receive(&mut buffer) {
                Ok(0) => return Fault::Lost("the server closed the connection".into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => {
                    return Fault::Lost(format!("reading from the connection failed: {error}").into());
                }
            }
            if buffer.len() < wanted {
                self.state().heard = self.runtime.now();
                continue;
            }
            match self.take_in(&mut buffer, pushes) {
                Ok(more) => wanted = more,
                Err(fault) => return fault,
            }
        }
    }

    /// Hands on every whole value in the buffer. Says how many bytes the next one needs at least.
    fn take_in(&self, buffer: &mut Vec<u8>, pushes: &(impl Fn(Vec<Value>) + Send)) -> Result<usize, Fault> {
        let (mut at, mut answers, mut told) = (0, Vec::new(), Vec::new());
        let more = loop {
            match resp::parse(&buffer[at..]) {
                Ok(Parsed::Whole(value, length)) => {
                    at += length;
                    match value {
                        Value::Push(values) if !resp::subscribed(&values) => told.push(values),
                        value => answers.push(value),
                    }
                }
                Ok(Parsed::More(more)) => break more,
                Err(garbage) => return Err(Fault::Garbage(format!("{garbage}").into())),
            }
        };
        buffer.drain(..at);
        buffer.shrink_to(1 << 20);
        let mut matched = Vec::with_capacity(answers.len());
        let mut garbage = None;
        let crowd;
        {
            let mut state = self.state();
            state.heard = self.runtime.now();
            // Several are woken, and each is likely to ask for something: the driver waits for them, and writes once.
            crowd = answers.len() + told.len() > 1 && !state.writing;
            state.writing |= crowd;
            for value in answers {
                let push = matches!(value, Value::Push(_));
                let fits = |w: &Waiting| w.pushed == push || matches!(value, Value::Error(_));
                match state.waiting.pop_front_if(|w| fits(w)) {
                    Some(waiting) => matched.push((waiting, value)),
                    None => {
                        garbage = Some(Fault::Garbage("an answer that nobody asked for".into()));
                        break;
                    }
                }
            }
        }
        if crowd {
            self.write.notify_one();
        }
        for (waiting, value) in matched {
            waiting.to.answer(Ok(value));
        }
        for values in told {
            pushes(values);
        }
        garbage.map_or(Ok(more), Err)
    }
}
