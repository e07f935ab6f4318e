//! How a link ends, and what its supervisor sees of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Link, Waiting};
use crate::backend::net::{self, Fault, Load};
use crate::backend::redis::resp;
use crate::backend::redis::together::{self, Queued, To};

/// What has not left, for another link to send.
#[derive(Debug)]
struct Unsent {
    requests: Vec<(Vec<u8>, Waiting)>,
    verbs: Vec<Queued>,
}

impl Unsent {
    /// Tells those who asked that nothing was sent.
    fn refuse(self, fault: &Fault) {
        for (_, waiting) in self.requests {
            waiting.to.answer(Err(fault.unsent()));
        }
        together::unsent(self.verbs, fault);
    }
}

impl Link {
    /// Takes back what has not left yet, so that another link can send it; what has left stays unanswered.
    fn take_unsent(&self) -> Unsent {
        let mut state = self.state();
        let state = &mut *state;
        let first = state.base + state.gone as u64;
        let keep = state.waiting.partition_point(|w| w.from < first);
        let mut taken = Vec::new();
        for waiting in state.waiting.drain(keep..) {
            let at = usize::try_from(waiting.from - state.base).unwrap_or(usize::MAX);
            taken.push((state.out.get(at..at + waiting.length).unwrap_or_default().to_vec(), waiting));
        }
        if let Some((_, first)) = taken.first() {
            state.out.truncate(usize::try_from(first.from - state.base).unwrap_or(usize::MAX));
        }
        Unsent { requests: taken, verbs: std::mem::take(&mut state.verbs) }
    }

    /// Takes over requests that another link has not sent.
    fn adopt(&self, unsent: Unsent) {
        let mut state = self.state();
        for (bytes, waiting) in unsent.requests {
            self.push(&mut state, &bytes, waiting);
        }
        match state.dead.clone() {
            None => state.verbs.extend(unsent.verbs),
            Some(fault) => together::unsent(unsent.verbs, &fault),
        }
        self.start_writing(state);
    }

    /// Answers everybody who waits with an error, without closing: answers that still come are thrown away.
    fn give_up(&self, why: &str) {
        let why: Arc<str> = why.into();
        let mut state = self.state();
        for waiting in &mut state.waiting {
            let to = std::mem::replace(&mut waiting.to, To::Each(Vec::new()));
            to.answer(Err(Fault::Lost(why.clone())));
        }
    }

    /// Why the link is dead, if it is.
    fn dead(&self) -> Option<Fault> {
        self.state().dead.clone()
    }
}

impl net::Link for Link {
    fn fail(&self, fault: &Fault) {
        let orphans = {
            let mut state = self.state();
            if state.dead.is_some() {
                return;
            }
            state.dead = Some(fault.clone());
            let sent = state.base + state.gone as u64;
            let orphans: Vec<Waiting> = state.waiting.drain(..).collect();
            state.out = Vec::new();
            (orphans, sent, std::mem::take(&mut state.verbs))
        };
        self.stream.shut();
        self.ended.notify_one();
        self.write.notify_one();
        for waiting in orphans.0 {
            let fault = if waiting.from >= orphans.1 { fault.unsent() } else { fault.clone() };
            waiting.to.answer(Err(fault));
        }
        together::unsent(orphans.2, fault);
    }

    async fn ended(&self) -> Fault {
        loop {
            if let Some(fault) = self.dead() {
                return fault;
            }
            self.ended.notified().await;
        }
    }

    fn load(&self) -> Load {
        let now = self.runtime.now();
        let state = self.state();
        Load {
            oldest: state
                .waiting
                .front()
                .map(|w| w.since)
                .or(state.verbs.first().map(|q| q.since))
                .map(|since| now.since(since)),
            silent: now.since(state.heard),
            beats: self.beats.load(Ordering::Relaxed),
        }
    }

    fn nudge(&self) {
        self.write.notify_one();
    }

    fn ping(&self) {
        drop(self.send(&resp::command(&[b"PING"])));
    }

    fn pass_by(&self, other: Option<&Link>, why: &str) {
        let unsent = self.take_unsent();
        match other {
            Some(other) => other.adopt(unsent),
            None => unsent.refuse(&Fault::Unsent(why.into())),
        }
        self.give_up(why);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::backend::net::Link as _;
    use crate::backend::redis::scripts::Names;
    use crate::backend::redis::stream::Stream;
    use crate::runtime::virtual_time::Virtual;

    /// A link whose driver does not run, and its other end.
    async fn blocked() -> (Arc<Link>, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let stream = Stream::connect("127.0.0.1", port, None).await.expect("listens");
        let (far, _) = listener.accept().expect("connected");
        far.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        (Link::new(stream, Virtual::seeded(1), Arc::<Names>::default()), far)
    }

    #[tokio::test]
    async fn what_has_not_left_a_blocked_runtime_moves_or_is_unsent() {
        let (first, second) = (resp::command(&[b"GET", b"a"]), resp::command(&[b"GET", b"b"]));
        for there_is_another in [true, false] {
            let (link, _far) = blocked().await;
            let (other, mut far) = blocked().await;
            // The first is written at once; the second waits for the driver.
            let (left, mut stuck) = (link.send(&first), link.send(&second));
            link.pass_by(there_is_another.then_some(&*other), "blocked");
            assert!(matches!(left.await, Ok(Err(Fault::Lost(_)))));
            if there_is_another {
                let mut bytes = vec![0; second.len()];
                far.read_exact(&mut bytes).expect("sent");
                assert_eq!(bytes, second);
                assert!(stuck.try_recv().is_err(), "its answer may still come");
                other.fail(&Fault::Lost("cut".into()));
                assert!(matches!(stuck.await, Ok(Err(Fault::Lost(_)))));
            } else {
                assert!(matches!(stuck.await, Ok(Err(Fault::Unsent(_)))));
            }
        }
    }
}
