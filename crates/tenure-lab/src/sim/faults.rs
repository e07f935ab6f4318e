//! What can go wrong in a simulated run, and how often it did.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! faults {
    ($($fault:ident $name:literal: $what:literal;)*) => {
        /// A point where a run can be hurt.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Fault { $($fault),* }

        /// All of them, by number: the name in tables and on the command line, and what happens.
        pub(super) const FAULTS: &[(Fault, &str, &str)] = &[$((Fault::$fault, $name, $what)),*];
    };
}

faults! {
    RequestLost "request-lost": "a request never arrives";
    AnswerLost "answer-lost": "a request is applied and its answer never arrives";
    Silence "silence": "nobody is told that a message was lost: whoever waits, waits on";
    RequestTwice "request-twice": "a request arrives twice";
    RequestLate "request-late": "a request is overtaken by those sent after it";
    AnswerLate "answer-late": "an answer is overtaken by those sent after it";
    AgesLate "ages-late": "a request arrives up to two minutes after it was sent";
    Refused "refused": "the server says that it cannot, and applies nothing";
    Reset "reset": "a connection breaks, and what was on its way may still arrive";
    OneReset "one-of-two": "one of a client's two connections breaks";
    HomeBlocked "runtime-blocked": "the runtime that a client connected in stands still for a while";
    HomeEnded "runtime-ended": "the runtime that a client connected in ends before the client does";
    HalfOpen "half-open": "nothing comes through either way, and nobody is told for a while";
    DeafServer "one-way-requests": "only what the client sends is lost, for a while";
    DeafClient "one-way-answers": "only what the server sends is lost, for a while";
    PushLost "push-lost": "a push never arrives";
    PushTwice "push-twice": "a push arrives twice";
    PushLate "push-late": "a push is overtaken";
    ServerCrash "server-crash": "the server stops, and comes back with its memory";
    Amnesia "amnesia": "the server stops, and comes back empty";
    Rollback "rollback": "the server stops, and comes back as it was some time ago";
    ServerPause "server-pause": "the server stands still";
    ServerForward "server-clock-forward": "the server's clock steps forward";
    ServerBack "server-clock-back": "the server's clock steps back";
    ServerRocks "server-clock-to-and-fro": "the server's clock steps back, and forward again after a while";
    Failover "failover-behind": "the server stops, and another one with its data follows, whose clock is behind";
    FailoverEmpty "failover-empty": "the server's clock steps back; then it stops, and an empty one whose clock is right follows";
    ServerDrift "server-drift": "the server's clock runs at a rate that rho allows for";
    ClientDrift "client-drift": "a client's clock runs at a rate that rho allows for";
    BadRate "bad-rate": "a client's clock runs so slowly that rho does not allow for it";
    ClientForward "client-clock-forward": "a client's clock steps forward";
    ClientPause "client-pause": "a client stands still for less than a lease";
    ClientStop "client-stop": "a client stands still for longer than a lease";
    ClientCrash "client-crash": "a client ends without a word";
    ClientBack "client-back": "another client takes the place of one that crashed";
    Close "close": "a client is closed while it holds and waits";
    CancelPolls "cancel-polls": "a call is dropped after some polls";
    CancelTime "cancel-time": "a call is dropped at some instant";
    CancelRelease "cancel-release": "a release is dropped before its answer";
    Dropped "dropped": "a guard is dropped, not released";
    Handed "handed-over": "a hold becomes a handle, which another client adopts, releases or forgets";
    Downgraded "downgraded": "a writer goes on as a reader";
    Returned "permits-returned": "a holder of several permits gives one back and goes on with the others";
    Twice "handed-twice": "two clients adopt the same handle";
    Hoarded "hoarded": "a guard is kept for longer than its lease";
    Evicted "evicted": "an operator takes a lock away";
    CutOff "cut-off": "the server that a client pings is cut off from the one that ends sessions";
    Scramble "scramble": "tasks that are ready run in another order";
}

/// How many points there are.
pub(super) const COUNT: usize = FAULTS.len();

/// How often each point was hit.
pub(super) type Hits = [u64; COUNT];

impl Fault {
    pub(super) fn name(self) -> &'static str {
        FAULTS[self as usize].1
    }

    /// How often a fault may strike at most, of ten thousand chances.
    pub(super) fn most(self) -> u64 {
        match self {
            Fault::Silence | Fault::Scramble | Fault::Twice | Fault::ServerDrift | Fault::ClientDrift => {
                5_000
            }
            Fault::CancelPolls
            | Fault::CancelTime
            | Fault::CancelRelease
            | Fault::Dropped
            | Fault::Handed => 3_000,
            Fault::Downgraded | Fault::Returned => 5_000,
            Fault::BadRate | Fault::Hoarded => 1_500,
            Fault::AgesLate | Fault::Refused => 300,
            _ => 1_000,
        }
    }
}

/// Which faults a run may have, and how often.
#[derive(Debug)]
pub(super) struct Faults {
    /// Of ten thousand chances.
    rates: [u32; COUNT],
    hits: [AtomicU32; COUNT],
    /// How many faults there were or would have been.
    serial: AtomicU32,
    /// Those that are left out, by their number in this run: how a failure is shrunk.
    skip: BTreeSet<u32>,
}

impl Faults {
    pub(super) fn new(rates: [u32; COUNT], skip: BTreeSet<u32>) -> Faults {
        Faults { rates, hits: [const { AtomicU32::new(0) }; COUNT], serial: AtomicU32::new(0), skip }
    }

    pub(super) fn rate(&self, fault: Fault) -> u32 {
        self.rates[fault as usize]
    }

    /// A chance was taken: counts the hit and gives its number, unless it is one that is left out.
    pub(super) fn hit(&self, fault: Fault) -> Option<u32> {
        let number = self.serial.fetch_add(1, Ordering::Relaxed);
        if self.skip.contains(&number) {
            return None;
        }
        self.hits[fault as usize].fetch_add(1, Ordering::Relaxed);
        Some(number)
    }

    /// How many there were, the ones left out included.
    pub(super) fn serial(&self) -> u32 {
        self.serial.load(Ordering::Relaxed)
    }

    pub(super) fn add_to(&self, sum: &mut Hits) {
        for (sum, hits) in sum.iter_mut().zip(&self.hits) {
            *sum += u64::from(hits.load(Ordering::Relaxed));
        }
    }
}
