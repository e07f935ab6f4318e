//! Attempts and releases that are asked for in the same instant leave as one call of one script.
//!
//! A call of a script costs the server more than what most verbs do in it, so a hundred tasks that are busy with a lock
//! each cost it half as much this way. The answers come back one by one: a verb that the server refused in company, for
//! whatever reason, is asked again alone, so nobody is told another one's error.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::digits;
use super::resp::{self, Value};
use super::scripts::{Names, Script};
use crate::backend::net::Fault;
use crate::core::moment::Moment;

/// The answer to a request.
pub(super) type Reply = Result<Value, Fault>;

/// The most verbs in one call: a longer script would hold the server up.
pub(super) const MOST: usize = 48;

/// So many verbs are worth a call of their own: waiting for more would leave the server idle while this side works.
/// A hundred tasks with a lock each do one and a half times as much as when all of it left at once (32; 16 and 48 came to
/// the same).
pub(super) const ENOUGH: usize = 32;

/// An attempt or a release, encoded but for the script that does it.
#[derive(Debug)]
pub(super) struct Verb {
    script: Script,
    /// The lock's head and the arguments, each as it goes out.
    words: Vec<u8>,
    /// Where the head ends.
    key: usize,
    /// How many arguments there are.
    count: usize,
}

impl Verb {
    pub(super) fn new(script: Script, key: &[u8], arguments: &[&[u8]]) -> Verb {
        let mut words =
            Vec::with_capacity(16 + key.len() + arguments.iter().map(|a| a.len() + 8).sum::<usize>());
        resp::text(&mut words, key);
        let key = words.len();
        arguments.iter().for_each(|a| resp::text(&mut words, a));
        Verb { script, words, key, count: arguments.len() }
    }

    /// The request for this one only.
    pub(super) fn alone(&self, names: &Names, out: &mut Vec<u8>) {
        begin(out, names, self.script, 1, self.count);
        out.extend_from_slice(&self.words);
    }

    fn letter(&self) -> &'static [u8] {
        if self.script == Script::Release { b"r" } else { b"a" }
    }
}

/// A verb that waits to be sent.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) verb: Verb,
    pub(super) reply: oneshot::Sender<Reply>,
    pub(super) since: Moment,
}

/// One request for all of these; its bytes in `out`.
pub(super) fn request(some: &[Queued], names: &Names, out: &mut Vec<u8>) -> Range<usize> {
    let from = out.len();
    match some {
        [one] => one.verb.alone(names, out),
        _ => {
            let count = some.iter().map(|q| q.verb.count + 1).sum();
            begin(out, names, Script::Together, some.len(), count);
            some.iter().for_each(|q| out.extend_from_slice(&q.verb.words[..q.verb.key]));
            for queued in some {
                resp::text(out, queued.verb.letter());
                out.extend_from_slice(&queued.verb.words[queued.verb.key..]);
            }
        }
    }
    from..out.len()
}

fn begin(out: &mut Vec<u8>, names: &Names, script: Script, keys: usize, arguments: usize) {
    resp::head(out, b'*', 3 + keys + arguments);
    resp::text(out, b"EVALSHA");
    resp::text(out, names.name(script).as_bytes());
    resp::text(out, digits::padded(keys as u64, 1).as_bytes());
}

/// Tells whoever asked for these that they never left.
pub(super) fn unsent(verbs: Vec<Queued>, fault: &Fault) {
    for queued in verbs {
        let _ = queued.reply.send(Err(fault.unsent()));
    }
}

/// Who gets an answer.
#[derive(Debug)]
pub(super) enum To {
    One(oneshot::Sender<Reply>),
    /// Each of them their part of it.
    Each(Vec<oneshot::Sender<Reply>>),
}

impl To {
    /// Hands it out. Who does not listen any more gets nothing.
    pub(super) fn answer(self, reply: Reply) {
        let each = match self {
            To::One(one) => return drop(one.send(reply)),
            To::Each(each) => each,
        };
        let mut parts = match reply {
            Ok(Value::List(parts)) if parts.len() == each.len() => parts.into_iter(),
            Ok(Value::Error(text)) => return refuse(each, &text),
            // Not an answer to this: whoever reads it sees that.
            Ok(_) => Vec::new().into_iter(),
            Err(fault) => return each.into_iter().for_each(|to| drop(to.send(Err(fault.clone())))),
        };
        for to in each {
            let part = parts.next().unwrap_or(Value::Nil);
            let reply = match part.text().and_then(|text| text.strip_prefix('!')) {
                Some(why) => Err(Fault::Batch(why.into())),
                None => Ok(part),
            };
            let _ = to.send(reply);
        }
    }
}

fn refuse(each: Vec<oneshot::Sender<Reply>>, text: &str) {
    let text: Arc<str> = text.into();
    for to in each {
        let _ = to.send(Err(Fault::Batch(text.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(script: Script, key: &str, arguments: &[&str]) -> (Queued, oneshot::Receiver<Reply>) {
        let (reply, receiver) = oneshot::channel();
        let arguments: Vec<&[u8]> = arguments.iter().map(|a| a.as_bytes()).collect();
        (Queued { verb: Verb::new(script, key.as_bytes(), &arguments), reply, since: Moment(0) }, receiver)
    }

    #[test]
    fn one_is_sent_as_ever_and_several_as_one() {
        let names = Names::default();
        names.learn(Script::Attempt, "A".into());
        names.learn(Script::Together, "T".into());
        let (a, _a) = queued(Script::Attempt, "x", &["1", "2"]);
        let (r, _r) = queued(Script::Release, "y", &["3"]);
        let mut out = Vec::new();
        assert_eq!(request(std::slice::from_ref(&a), &names, &mut out), 0..out.len());
        assert_eq!(out, resp::command(&[b"EVALSHA", b"A", b"1", b"x", b"1", b"2"]));
        let from = out.len();
        assert_eq!(request(&[a, r], &names, &mut out), from..out.len());
        let both: [&[u8]; 10] = [b"EVALSHA", b"T", b"2", b"x", b"y", b"a", b"1", b"2", b"r", b"3"];
        assert_eq!(out[from..], resp::command(&both));
    }

    #[test]
    fn each_gets_their_own_answer() {
        let ask = |reply: Reply| {
            let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
            To::Each(senders).answer(reply);
            receivers.iter_mut().map(|r| format!("{:?}", r.try_recv().expect("answered"))).collect::<Vec<_>>()
        };
        let text = |t: &str| Value::Text(t.into());
        let three = ask(Ok(Value::List(vec![text("one"), text("!WRONGTYPE"), text("three")])));
        assert_eq!(three[0], format!("{:?}", Reply::Ok(text("one"))));
        assert_eq!(three[1], "Err(Batch(\"WRONGTYPE\"))");
        assert_eq!(three[2], format!("{:?}", Reply::Ok(text("three"))));
        assert_eq!(ask(Ok(Value::Error("NOSCRIPT".into()))), vec!["Err(Batch(\"NOSCRIPT\"))"; 3]);
        assert_eq!(ask(Ok(Value::List(vec![text("one")]))), vec!["Ok(Nil)"; 3]);
        assert_eq!(ask(Err(Fault::Lost("cut".into()))), vec!["Err(Lost(\"cut\"))"; 3]);
    }
}
