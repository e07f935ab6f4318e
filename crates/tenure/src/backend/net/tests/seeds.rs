//! Any faults in any order, from seeds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::room::lock;
use super::wire::{Event, Fate, MS};
use super::{Answered, Duration, Lane, Moment, Protocol, Runtime, SECOND, SILENCE, TICK, World};
use crate::backend::Errand;
use crate::error::ErrorKind;

/// A request that was asked for.
struct Asked {
    number: u64,
    at: Moment,
    /// Its task runs on the caller's runtime, so it may stand still or end with that.
    at_home: bool,
    answered: Answered,
}

fn random_fate(world: &World) -> Fate {
    let time = Duration::from_millis(world.rt.below(3000));
    match world.rt.below(6) {
        0 => Fate::Refused,
        1 => Fate::Hangs,
        2 => Fate::Deaf,
        3 => Fate::Lasts(time),
        4 => Fate::Mute(time),
        _ => Fate::Good,
    }
}

/// Something happens.
fn happen(world: &World, asked: &mut Vec<Asked>) {
    let lane = Lane::BOTH[usize::from(world.rt.below(2) == 1)];
    let toggle = |flag: &std::sync::atomic::AtomicBool| flag.fetch_xor(true, Ordering::SeqCst);
    match world.rt.below(24) {
        0..=2 => world.server.cut(lane),
        3 => drop(toggle(&world.server.down)),
        4 => drop(toggle(&world.server.mute)),
        5 | 6 => world.home.block(!world.home.blocked.load(Ordering::SeqCst)),
        7 if world.rt.below(4) == 0 => world.home.end(),
        7..=9 => world.server.fates(lane, [random_fate(world)]),
        n => {
            let at_home = n % 2 == 0;
            let place: &Arc<_> = if at_home { &world.home } else { &world.own };
            let errand = if n % 3 == 0 { Errand::Background } else { Errand::Awaited };
            let number = asked.len() as u64;
            let answered = world.ask(place, errand, number);
            asked.push(Asked { number, at: world.rt.now(), at_home, answered });
        }
    }
}

/// One run; all that happened.
fn run(seed: u64) -> Vec<(Moment, Event)> {
    let world = World::new(seed);
    let mut asked = Vec::new();
    for _ in 0..60 {
        happen(&world, &mut asked);
        world.rt.step(Duration::from_micros(world.rt.below(1_500_000)));
    }
    world.server.down.store(false, Ordering::SeqCst);
    world.server.mute.store(false, Ordering::SeqCst);
    world.server.heal();
    world.home.block(false);
    world.rt.step(60 * SECOND);
    let log = world.server.log();
    check(seed, &world, &asked, &log);
    world.close();
    log
}

fn check(seed: u64, world: &World, asked: &[Asked], log: &[(Moment, Event)]) {
    let gone = world.home.has_ended();
    let lanes: Vec<Lane> = world.server.live().iter().map(|link| link.lane).collect();
    let (both, heir) = if gone { (1, Lane::Keeper) } else { (2, Lane::Command) };
    assert_eq!(lanes.len(), both, "seed {seed}: {lanes:?} live");
    assert_eq!(world.told(), [heir], "seed {seed}: pushes come to one connection, and to that one");
    assert!(world.client.lanes().link(heir).is_some_and(|link| link.is_told()), "seed {seed}");
    // Whoever waits looks again after the pushes moved.
    let last = |wanted: fn(&Event) -> bool| log.iter().rev().find(|(_, e)| wanted(e)).map(|(at, _)| *at);
    let moved = log.iter().filter(|(_, e)| matches!(e, Event::Subscribed(_))).count();
    let news = world.server.count(Event::LinkDown);
    assert!(news < moved.max(1), "seed {seed}: {news} pieces of news of {moved} subscriptions");
    if moved > 1 {
        let (moved, told) = (last(|e| matches!(e, Event::Subscribed(_))), last(|e| *e == Event::LinkDown));
        assert!(told >= moved, "seed {seed}: nobody was told at {moved:?}, only at {told:?}");
    }
    for one in asked {
        let done = world.server.count(Event::Done(one.number));
        assert!(done <= 1, "seed {seed}: request {} was done {done} times", one.number);
        let Some((at, answer)) = lock(&one.answered).clone() else {
            assert!(one.at_home && gone, "seed {seed}: request {} has no answer", one.number);
            continue;
        };
        let limit = SILENCE + 4 * TICK + 10 * MS;
        assert!(one.at_home || at.since(one.at) <= limit, "seed {seed}: {} waited too long", one.number);
        match answer {
            Ok(()) => assert_eq!(done, 1, "seed {seed}: request {}", one.number),
            Err(why) if why.unsent => assert_eq!(done, 0, "seed {seed}: {} was sent", one.number),
            Err(why) => assert_eq!(why.kind, ErrorKind::Uncertain, "seed {seed}: {why:?}"),
        }
    }
}

#[test]
fn after_any_faults_both_connections_are_back_and_one_gets_the_pushes() {
    for seed in 0..300 {
        let log = run(seed);
        if seed % 10 == 0 {
            assert_eq!(run(seed), log, "seed {seed} is not the same twice");
        }
    }
}
