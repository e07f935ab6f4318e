//! Connections that fail, end at once, hang and come back, in virtual time.

mod room;
mod seeds;
mod wire;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::room::{Room, lock};
use self::wire::{Client, Event, Fate, MS, Server};
use super::guard::{IDLE, PATIENCE, SILENCE, TICK};
use super::supervise::{self, CONNECT, STEADY};
use super::{Lane, Protocol, Why, open};
use crate::backend::Errand;
use crate::core::backoff;
use crate::core::moment::Moment;
use crate::error::{ErrorKind, Result};
use crate::runtime::Runtime;
use crate::runtime::virtual_time::{Handle, Virtual};

const SECOND: Duration = Duration::from_secs(1);

/// When an answer came, and which.
type Answered = Arc<Mutex<Option<(Moment, std::result::Result<(), Why>)>>>;

struct World {
    rt: Arc<Virtual>,
    server: Arc<Server>,
    home: Arc<Room>,
    own: Arc<Room>,
    client: Arc<Client>,
}

fn begin(rt: &Arc<Virtual>, server: &Arc<Server>) -> (Arc<Room>, Arc<Room>, Handle<Result<Arc<Client>>>) {
    let (home, own) = (Room::new(rt), Room::new(rt));
    let (caller, ours, server) = (home.clone(), own.clone(), server.clone());
    let opened = rt.go(async move {
        open(Some(caller), |home| Ok(Client::new(&server, home, ours.clone()))).await?.keep()
    });
    (home, own, opened)
}

impl World {
    /// A client that has been connected for a while.
    fn new(seed: u64) -> World {
        let rt = Virtual::seeded(seed);
        let server = Server::new(&rt);
        let (home, own, mut opened) = begin(&rt, &server);
        rt.step(5 * SECOND);
        let client = opened.done().expect("done").expect("connected");
        World { rt, server, home, own, client }
    }

    /// Asks for work, from a task of this place.
    fn ask(&self, from: &Arc<Room>, errand: Errand, number: u64) -> Answered {
        let client = self.client.clone();
        self.spawn(from, async move { client.work(errand, number).await })
    }

    fn spawn(
        &self,
        place: &Arc<Room>,
        work: impl Future<Output = std::result::Result<(), Why>> + Send + 'static,
    ) -> Answered {
        let answered = Answered::default();
        let (rt, slot) = (self.rt.clone(), answered.clone());
        place.spawn(async move {
            let answer = work.await;
            *lock(&slot) = Some((rt.now(), answer));
        });
        answered
    }

    /// What was answered, and how long after `asked`.
    fn answer(answered: &Answered, asked: Moment) -> (Duration, std::result::Result<(), Why>) {
        let (at, answer) = lock(answered).clone().expect("answered");
        (at.since(asked), answer)
    }

    /// The lanes on which the server sends pushes.
    fn told(&self) -> Vec<Lane> {
        self.server.live().iter().filter(|link| link.is_told()).map(|link| link.lane).collect()
    }

    /// Closes the client; nothing of it may live on.
    fn close(self) {
        self.client.lanes().close();
        self.rt.step(CONNECT + SECOND);
        assert_eq!(self.server.live().len(), 0, "connections were left");
        assert_eq!(self.rt.tasks(), 0, "tasks were left");
    }
}

/// How long after each of these moments the next one was.
fn gaps(times: &[Moment]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1].since(pair[0])).collect()
}

/// Whether these are the pauses before try 1, 2, 3 and so on.
#[track_caller]
fn check_pauses(pauses: &[Duration]) {
    for (n, pause) in (1..).zip(pauses) {
        let least = backoff::pause(n, 0);
        assert!(*pause >= least && *pause <= least * 2, "pause {n}: {pause:?}, at least {least:?}");
    }
}

#[test]
fn a_server_that_refuses_is_tried_again_with_growing_pauses() {
    let mut firsts = Vec::new();
    for seed in 0..50 {
        let world = World::new(seed);
        world.server.fates(Lane::Command, [Fate::Refused; 12]);
        world.server.cut(Lane::Command);
        world.rt.step(30 * SECOND);
        let dialled = world.server.times(Event::Dialled(Lane::Command));
        assert_eq!(dialled.len(), 14, "the first, twelve that were refused, and the one that was made");
        let gaps = gaps(&dialled[1..]);
        assert_eq!(gaps[0], Duration::ZERO, "the first two tries cost no pause");
        check_pauses(&gaps[1..]);
        assert_eq!(world.server.count(Event::LinkDown), 2, "once for the keeper's, once for the new one");
        assert_eq!(world.server.count(Event::Dialled(Lane::Keeper)), 1, "the other one is left alone");
        firsts.push(gaps[1]);
        world.close();
    }
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() > 40, "clients come back together: {firsts:?}");
}

/// A runtime that ends may drop the driver long before the supervisor, and other tasks in between ask for something.
#[test]
fn a_connection_whose_driver_is_gone_takes_no_request() {
    for seed in 0..50 {
        let world = World::new(seed);
        let link = world.client.lanes().link(Lane::Command).expect("connected");
        drop(supervise::drive(world.client.clone(), Lane::Command, link));
        // Before anything else has run.
        let taken = world.client.lanes().pick(Errand::Awaited).expect("there is another one");
        assert_eq!(taken.lane, Lane::Keeper);
        world.rt.step(5 * SECOND);
        assert_eq!(world.told(), [Lane::Command], "it was made again");
        world.close();
    }
}

#[test]
fn a_connection_is_good_only_after_it_lasted() {
    for seed in 0..50 {
        let world = World::new(seed);
        let short = 100 * MS;
        world.server.fates(Lane::Keeper, [Fate::Lasts(short); 9]);
        world.server.fates(Lane::Keeper, [Fate::Lasts(STEADY * 2), Fate::Refused, Fate::Good]);
        world.server.cut(Lane::Keeper);
        world.rt.step(60 * SECOND);
        let dialled = world.server.times(Event::Dialled(Lane::Keeper));
        assert_eq!(dialled.len(), 13);
        let gaps = gaps(&dialled[1..]);
        assert_eq!(gaps[0], short, "the first two tries cost no pause");
        let pauses: Vec<_> = gaps[1..9].iter().map(|gap| *gap - short).collect();
        check_pauses(&pauses);
        assert_eq!(gaps[9], STEADY * 2, "after a good one there is no pause");
        assert_eq!(gaps[10], Duration::ZERO);
        assert_eq!(world.server.count(Event::Kept), 12, "told of each that was made");
        assert_eq!(world.server.count(Event::LinkDown), 0, "no pushes came there");
        world.close();
    }
}

#[test]
fn the_keeper_stands_in_and_the_news_is_told_once_after_each_return() {
    for seed in 0..50 {
        let world = World::new(seed);
        assert_eq!(world.told(), [Lane::Command]);
        world.server.fates(Lane::Command, [Fate::Refused; 8]);
        world.server.cut(Lane::Command);
        world.rt.step(20 * MS);
        assert_eq!(world.told(), [Lane::Keeper], "it stands in");
        assert_eq!(world.server.count(Event::LinkDown), 1);
        // It breaks too: the next one stands in.
        world.server.cut(Lane::Keeper);
        world.rt.step(20 * MS);
        assert_eq!(world.told(), [Lane::Keeper]);
        assert_eq!(world.server.count(Event::LinkDown), 2);
        world.rt.step(20 * SECOND);
        assert_eq!(world.told(), [Lane::Command], "the command connection is back");
        assert_eq!(world.server.count(Event::LinkDown), 3);
        let log = world.server.log();
        let told: Vec<_> =
            log.iter().map(|(_, event)| *event).filter(|e| !matches!(e, Event::Dialled(_))).collect();
        let (down, kept) = (Event::LinkDown, [Event::Made(Lane::Keeper), Event::Kept]);
        let stands = [Event::Subscribed(Lane::Keeper), down];
        let back = [Event::Made(Lane::Command), Event::Subscribed(Lane::Command), down];
        let all = [&back[..2], &kept, &stands, &kept, &stands, &back, &[Event::Unsubscribed(Lane::Keeper)]]
            .concat();
        let sorted = |mut events: Vec<Event>| {
            events[..4].sort_by_key(|e| format!("{e:?}"));
            events
        };
        assert_eq!(sorted(told), sorted(all));
        world.close();
    }
}

#[test]
fn a_connection_that_hangs_is_given_up_after_its_limit() {
    let world = World::new(1);
    let asked = world.rt.now();
    world.server.mute.store(true, Ordering::SeqCst);
    let lost = world.ask(&world.home, Errand::Awaited, 1);
    world.rt.step(SILENCE - MS);
    assert!(lock(&lost).is_none(), "it may still be answered");
    world.rt.step(2 * TICK + MS);
    let (after, answer) = World::answer(&lost, asked);
    assert_eq!(answer.expect_err("lost").kind, ErrorKind::Uncertain);
    assert!(after >= SILENCE && after <= SILENCE + 2 * TICK, "{after:?}");
    // The keeper connection does not answer either: the subscription on it is given up as well, and so is each try.
    world.rt.step(30 * SECOND);
    assert_eq!(world.told(), []);
    let tries = gaps(&world.server.times(Event::Made(Lane::Command))[1..]);
    assert!(
        !tries.is_empty() && tries.iter().all(|gap| *gap >= CONNECT && *gap <= CONNECT + SECOND),
        "{tries:?}"
    );
    assert!(world.server.count(Event::Made(Lane::Keeper)) > 2, "the keeper's was given up");
    world.server.mute.store(false, Ordering::SeqCst);
    world.rt.step(10 * SECOND);
    assert_eq!(world.told(), [Lane::Command]);
    world.close();
}

/// The watchdog sleeps when that begins: nothing else is under way.
#[test]
fn a_stand_in_that_hangs_is_given_up() {
    let world = World::new(1);
    world.server.fates(Lane::Command, [Fate::Refused; 20]);
    world.server.mute.store(true, Ordering::SeqCst);
    world.server.cut(Lane::Command);
    world.rt.step(SILENCE + 4 * TICK);
    assert_eq!(world.server.count(Event::Made(Lane::Keeper)), 2);
    world.server.mute.store(false, Ordering::SeqCst);
    world.rt.step(CONNECT + SECOND);
    assert_eq!(world.told(), [Lane::Keeper]);
    world.close();
}

#[test]
fn no_request_waits_longer_than_patience_whatever_else_arrives() {
    let world = World::new(1);
    let asked = world.rt.now();
    world.server.mute.store(true, Ordering::SeqCst);
    let lost = world.ask(&world.own, Errand::Background, 1);
    while world.rt.now().since(asked) < PATIENCE - TICK {
        world.server.push(Lane::Keeper);
        world.rt.step(500 * MS);
        assert!(lock(&lost).is_none() || world.rt.now().since(asked) >= PATIENCE);
    }
    world.rt.step(4 * TICK);
    let (after, answer) = World::answer(&lost, asked);
    assert_eq!(answer.expect_err("lost").kind, ErrorKind::Uncertain);
    assert!(after >= PATIENCE && after <= PATIENCE + 2 * TICK, "{after:?}");
    world.close();
}

#[test]
fn an_idle_connection_is_tried() {
    let world = World::new(1);
    world.rt.step(300 * SECOND);
    let made = |lane| world.server.count(Event::Made(lane));
    assert_eq!((made(Lane::Command), made(Lane::Keeper)), (1, 1), "what answers is kept");
    world.server.mute.store(true, Ordering::SeqCst);
    world.rt.step(2 * IDLE);
    world.server.mute.store(false, Ordering::SeqCst);
    world.rt.step(10 * SECOND);
    assert!(made(Lane::Command) > 1 && made(Lane::Keeper) > 1, "what is dead was not noticed");
    world.close();
}

#[test]
fn a_blocked_runtime_is_passed_by() {
    let world = World::new(1);
    let asked = world.rt.now();
    let left = world.ask(&world.home, Errand::Awaited, 1);
    world.rt.step(Duration::ZERO);
    // What is written there now does not leave, since the runtime is blocked.
    world.home.block(true);
    let link = world.client.lanes().link(Lane::Command).expect("a connection");
    let client = world.client.clone();
    let stuck = world.spawn(&world.own, async move { client.work_on(&link, 2).await });
    world.rt.step(10 * TICK);
    assert_eq!(world.server.count(Event::Done(2)), 1, "it went the other way");
    let (after, answer) = World::answer(&stuck, asked);
    assert!(answer.is_ok() && after < 10 * TICK, "{after:?} {answer:?}");
    assert!(lock(&left).is_none(), "its task is blocked too");
    let elsewhere = world.ask(&world.own, Errand::Awaited, 3);
    world.rt.step(TICK);
    assert!(World::answer(&elsewhere, asked).1.is_ok());
    world.home.block(false);
    world.rt.step(SECOND);
    assert_eq!(World::answer(&left, asked).1.expect_err("lost").kind, ErrorKind::Uncertain);
    assert_eq!(world.server.count(Event::Made(Lane::Command)), 1, "the connection lives on");
    let again = world.ask(&world.home, Errand::Awaited, 4);
    world.rt.step(SECOND);
    assert!(World::answer(&again, asked).1.is_ok());
    // That woke the watchdog, which saw the runtime run: it is used again.
    let (client, used) = (world.client.clone(), Arc::new(Mutex::new(None)));
    let slot = used.clone();
    world.home.spawn(async move {
        *lock(&slot) = client.lanes().pick(Errand::Awaited).ok().map(|link| link.lane);
    });
    world.rt.step(MS);
    assert_eq!(*lock(&used), Some(Lane::Command));
    world.close();
}

#[test]
fn what_was_not_sent_is_said_to_be_unsent() {
    let world = World::new(1);
    world.server.down.store(true, Ordering::SeqCst);
    world.server.cut(Lane::Keeper);
    world.home.block(true);
    let link = world.client.lanes().link(Lane::Command).expect("a connection");
    let (client, asked) = (world.client.clone(), world.rt.now());
    // Written to a blocked runtime, while there is no other connection.
    let stuck = world.spawn(&world.own, async move { client.work_on(&link, 1).await });
    world.rt.step(SECOND);
    let nowhere = world.ask(&world.own, Errand::Background, 2);
    world.rt.step(SECOND);
    for answered in [stuck, nowhere] {
        let why = World::answer(&answered, asked).1.expect_err("not sent");
        assert!(why.unsent && why.error().is_unsent() && why.kind == ErrorKind::Unavailable, "{why:?}");
    }
    world.server.down.store(false, Ordering::SeqCst);
    world.home.block(false);
    world.rt.step(5 * SECOND);
    assert_eq!((world.server.count(Event::Done(1)), world.server.count(Event::Done(2))), (0, 0));
    world.close();
}

#[test]
fn the_keeper_takes_over_when_the_callers_runtime_ends() {
    for seed in 0..100 {
        let world = World::new(seed);
        // At any moment of making a new keeper connection.
        world.server.cut(Lane::Keeper);
        world.rt.step(Duration::from_micros(world.rt.below(6000)));
        world.home.end();
        world.rt.step(SECOND);
        assert_eq!(world.told(), [Lane::Keeper], "seed {seed}");
        let asked = world.rt.now();
        let works = world.ask(&world.own, Errand::Awaited, 1);
        world.server.fates(Lane::Keeper, [Fate::Refused; 3]);
        world.rt.step(SECOND);
        assert!(World::answer(&works, asked).1.is_ok());
        let news = world.server.count(Event::LinkDown);
        world.server.cut(Lane::Keeper);
        world.rt.step(5 * SECOND);
        assert_eq!(world.told(), [Lane::Keeper], "seed {seed}");
        assert_eq!(world.server.count(Event::LinkDown), news + 1, "once after its return");
        assert_eq!(world.server.count(Event::Dialled(Lane::Command)), 1);
        // A connection without pushes is of no use there: another one may have them.
        world.server.deny.store(true, Ordering::SeqCst);
        world.server.cut(Lane::Keeper);
        world.rt.step(5 * SECOND);
        assert_eq!(world.told(), []);
        world.server.deny.store(false, Ordering::SeqCst);
        world.rt.step(5 * SECOND);
        assert_eq!(world.told(), [Lane::Keeper], "seed {seed}");
        world.close();
    }
}

#[test]
fn a_runtime_that_makes_no_connections_is_not_used() {
    let rt = Virtual::seeded(1);
    let server = Server::new(&rt);
    server.fates(Lane::Command, [Fate::Panics]);
    let (home, own, mut opened) = begin(&rt, &server);
    rt.step(SECOND);
    let client = opened.done().expect("done").expect("connected");
    let world = World { rt, server, home, own, client };
    world.home.end();
    world.rt.step(SECOND);
    assert_eq!(world.told(), [Lane::Command], "it runs on the thread of its own");
    world.close();
}

#[test]
fn connecting_that_fails_or_is_dropped_leaves_nothing() {
    for (at, fate) in [Fate::Refused, Fate::Hangs, Fate::Deaf, Fate::Good].into_iter().enumerate() {
        for lane in Lane::BOTH {
            for dropped in [None, Some(0), Some(1), Some(3), Some(1000)] {
                let rt = Virtual::seeded(at as u64);
                let server = Server::new(&rt);
                server.fates(lane, [fate]);
                let (_home, _own, mut opened) = begin(&rt, &server);
                if let Some(after) = dropped {
                    rt.step(after * MS);
                    opened.cancel();
                } else {
                    rt.step(CONNECT + SECOND);
                    let opened = opened.done().expect("done");
                    assert_eq!(
                        opened.as_ref().err().map(|e| e.kind()),
                        match fate {
                            Fate::Good => None,
                            _ => Some(ErrorKind::Unavailable),
                        }
                    );
                    if let Ok(client) = opened {
                        client.lanes().close();
                    }
                }
                rt.step(CONNECT + SECOND);
                // Whoever got the client before closes it.
                let kept = matches!(fate, Fate::Good) && dropped.is_some_and(|after| after > 3);
                assert_eq!(server.live().len(), if kept { 2 } else { 0 }, "{fate:?} {lane:?} {dropped:?}");
                assert!(kept || rt.tasks() == 0, "{fate:?} {lane:?} {dropped:?}: tasks were left");
            }
        }
    }
}
