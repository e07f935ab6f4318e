//! What every fence must do, whatever it protects.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use tenure::fence::{Domain, Reason, Stamp};
use tenure::{Locks, Token};

/// One who uses the resource: a number that is read and written under a fence.
pub(crate) trait Side: Send {
    fn read(&mut self, stamp: &Stamp) -> Result<i64, Refused>;
    fn write(&mut self, stamp: &Stamp, value: i64) -> Result<(), Refused>;
}

/// One whose access lasts.
pub(crate) trait Slow: Send {
    fn enter(&mut self, stamp: &Stamp) -> Result<(), Refused>;
    fn get(&mut self) -> i64;
    fn put(&mut self, value: i64);
    fn leave(&mut self);
}

impl Side for Box<dyn Slow> {
    fn read(&mut self, stamp: &Stamp) -> Result<i64, Refused> {
        self.enter(stamp)?;
        let value = self.get();
        self.leave();
        Ok(value)
    }

    fn write(&mut self, stamp: &Stamp, value: i64) -> Result<(), Refused> {
        self.enter(stamp)?;
        self.put(value);
        self.leave();
        Ok(())
    }
}

/// What a refused access was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) text: String,
}

/// A resource of its own, with a fence that nobody has passed yet. The number is 100.
pub(crate) trait Resource: Send + Sync {
    fn side(&self) -> Box<dyn Side>;
    /// `None` where no access lasts.
    fn slow(&self) -> Option<Box<dyn Slow>>;
    fn raise(&self, to: &Stamp);
    fn reset(&self, to: &Stamp);
    /// The stamp that it keeps, where it can tell.
    fn kept(&self) -> Option<Stamp>;
    /// Whether a refusal names both domains, or tells where they are seen.
    fn names_both(&self) -> bool {
        true
    }
    /// How long to wait for something that must not happen: what is known to be wrong gets the time to show it.
    fn grace(&self) -> Duration {
        Duration::from_millis(200)
    }
}

pub(crate) type Make = fn() -> Box<dyn Resource>;
type Body = fn(&dyn Resource);

/// The names are what broken variants are caught by.
pub(crate) const ALL: &[(&str, Body)] = &[
    ("s3_a_stalled_holder_is_refused_once_the_next_has_only_read", stalled),
    ("s3_whoever_is_inside_ends_before_the_next_comes_in", inside),
    ("s3_effects_follow_tokens_whoever_races", races),
    ("a_token_of_another_store_is_refused_with_both_names", domains),
    ("raised_it_shuts_out_and_reset_it_moves", raised),
    ("tokens_of_any_size_are_compared_exactly", sizes),
];

pub(crate) fn of(kind: &'static str, make: Make) -> Vec<Trial> {
    ALL.iter().map(|(name, body)| crate::trial(format!("{kind}::{name}"), move || body(&*make()))).collect()
}

thread_local! {
    /// Whether this thread is to fail, and need not say so.
    static DOOMED: Cell<bool> = const { Cell::new(false) };
}

/// What is known to be wrong fails without a word.
pub(crate) fn quiet() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !DOOMED.get() {
            hook(info);
        }
    }));
}

/// Whether the trial of this name fails for this resource.
pub(crate) fn catches(name: &str, resource: &dyn Resource) -> bool {
    let (_, body) = ALL.iter().find(|(n, _)| *n == name).expect("a trial of that name");
    DOOMED.set(true);
    let caught = catch_unwind(AssertUnwindSafe(|| body(resource))).is_err();
    DOOMED.set(false);
    caught
}

pub(crate) fn stamp(domain: &str, token: i64) -> Stamp {
    Stamp::new(Domain::new(domain).expect("a domain"), Token::new(token).expect("a token"))
}

/// A holder whose lock was taken away while it slept, and the next one: of a real lock.
fn holders() -> (Stamp, Stamp) {
    let locks = Locks::memory();
    let domain = locks.blocking_domain().expect("named");
    let mutex = locks.mutex("stock/7").expect("a name");
    let asleep = mutex.blocking_lock().expect("granted");
    locks.blocking_evict("stock/7", Some(asleep.token()), "it sleeps").expect("evicted");
    let next = mutex.blocking_lock().expect("granted");
    (Stamp::new(domain.clone(), asleep.token()), Stamp::new(domain, next.token()))
}

fn reason<T>(result: Result<T, Refused>) -> Option<Reason> {
    result.err().map(|refused| refused.reason)
}

fn stalled(resource: &dyn Resource) {
    let (old, new) = holders();
    let (mut asleep, mut next) = (resource.side(), resource.side());
    assert_eq!(asleep.read(&old), Ok(100));
    assert_eq!(asleep.write(&old, 101), Ok(()), "the same token again");
    assert_eq!(next.read(&new), Ok(101));
    // It wakes up between the next holder's read and its write.
    let late = asleep.write(&old, 102);
    assert_eq!(reason(late.clone()), Some(Reason::Stale), "a stalled holder's write");
    let text = late.expect_err("refused").text;
    let numbers = [old.token(), new.token()].iter().all(|t| text.contains(&t.to_string()));
    assert!(numbers || !resource.names_both(), "{text}");
    assert_eq!(reason(asleep.read(&old)), Some(Reason::Stale), "its read too");
    assert_eq!(next.write(&new, 106), Ok(()));
    assert_eq!(next.read(&new), Ok(106), "no update was lost");
    assert!(resource.kept().is_none_or(|kept| kept == new));
}

fn inside(resource: &dyn Resource) {
    let Some(mut asleep) = resource.slow() else { return };
    let (old, new) = holders();
    assert_eq!(asleep.enter(&old), Ok(()));
    let before = asleep.get();
    let (send, came) = mpsc::channel();
    let mut next = resource.slow().expect("as before");
    let next = thread::spawn(move || {
        let entered = next.enter(&new);
        let found = next.get();
        let _ = send.send(());
        // Its own effect waits until the other's has been.
        next.put(found + 5);
        next.leave();
        (entered, found)
    });
    // One that comes in too early has read by now.
    let _ = came.recv_timeout(resource.grace());
    asleep.put(before + 1);
    asleep.leave();
    let (entered, found) = next.join().expect("no panic");
    assert_eq!(entered, Ok(()));
    assert_eq!(found, before + 1, "an effect of the one before came after the next had read");
}

/// Each writes its own token: what is read under a fence is never higher.
fn races(resource: &dyn Resource) {
    const SIDES: i64 = 6;
    let base = 1_795_168_537_675_000;
    let refused = thread::scope(|scope| {
        let racers: Vec<_> = (0..SIDES)
            .map(|n| {
                let (mut slow, mut side) = (resource.slow(), None);
                if slow.is_none() {
                    side = Some(resource.side());
                }
                scope.spawn(move || {
                    let mut refused = 0;
                    for round in 0..15 {
                        let token = base + round * SIDES + n;
                        let shown = stamp("memory:races", token);
                        let entered = match (&mut slow, &mut side) {
                            (Some(slow), _) => slow.enter(&shown).map(|()| {
                                let found = slow.get();
                                slow.put(token);
                                slow.leave();
                                found
                            }),
                            (None, Some(side)) => {
                                side.read(&shown).and_then(|found| side.write(&shown, token).map(|()| found))
                            }
                            (None, None) => unreachable!("one of both"),
                        };
                        match entered {
                            Ok(found) => assert!(found <= token, "{found} was written before {token}"),
                            Err(refusal) => {
                                assert_eq!(refusal.reason, Reason::Stale);
                                refused += 1;
                            }
                        }
                    }
                    refused
                })
            })
            .collect();
        racers.into_iter().map(|r| r.join().expect("in order")).sum::<i64>()
    });
    let last = base + 15 * SIDES - 1;
    assert!(refused < 15 * SIDES);
    assert_eq!(
        resource.side().read(&stamp("memory:races", last)),
        Ok(last),
        "the highest token's write is last"
    );
}

fn domains(resource: &dyn Resource) {
    let (mut one, mut other) = (resource.side(), resource.side());
    let ours = stamp("redis:cache.internal:6379/0", 7);
    assert_eq!(one.write(&ours, 5), Ok(()));
    for token in [1, 7, 9_000_000] {
        let foreign = stamp("etcd:cdf818194e3a8c32", token);
        let refused = other.write(&foreign, 6).expect_err("another store");
        assert_eq!(refused.reason, Reason::OtherDomain, "{refused:?}");
        let both = ["redis:cache.internal:6379/0", "etcd:cdf818194e3a8c32"];
        assert!(!resource.names_both() || both.iter().all(|d| refused.text.contains(d)), "{refused:?}");
        assert_eq!(reason(other.read(&foreign)), Some(Reason::OtherDomain));
    }
    assert_eq!(one.read(&ours), Ok(5));
    assert!(resource.kept().is_none_or(|kept| kept == ours));
}

fn raised(resource: &dyn Resource) {
    let mut side = resource.side();
    let at = |token| stamp("redis:a", token);
    assert_eq!(side.write(&at(7), 1), Ok(()));
    resource.raise(&at(8));
    assert_eq!(reason(side.write(&at(7), 2)), Some(Reason::Stale), "shut out before anybody else came");
    resource.raise(&at(3));
    assert_eq!(reason(side.write(&at(7), 2)), Some(Reason::Stale), "raising never lowers");
    assert_eq!(side.write(&at(8), 3), Ok(()));
    resource.reset(&stamp("etcd:1", 2));
    assert_eq!(reason(side.read(&at(9))), Some(Reason::OtherDomain), "the old store's holders");
    assert_eq!(reason(side.read(&stamp("etcd:1", 1))), Some(Reason::Stale));
    assert_eq!(side.read(&stamp("etcd:1", 2)), Ok(3));
    assert_eq!(side.write(&stamp("etcd:1", 4), 9), Ok(()));
    assert!(resource.kept().is_none_or(|kept| kept == stamp("etcd:1", 4)));
}

fn sizes(resource: &dyn Resource) {
    let mut side = resource.side();
    let tokens = [1, 9, 10, 99, 1_795_168_537_675_201, (1 << 53) + 1, (1 << 53) + 2, i64::MAX - 1, i64::MAX];
    for pair in tokens.windows(2) {
        assert_eq!(side.read(&stamp("redis:a", pair[0])), Ok(100));
        assert_eq!(side.read(&stamp("redis:a", pair[1])), Ok(100));
        assert_eq!(reason(side.read(&stamp("redis:a", pair[0]))), Some(Reason::Stale), "{pair:?}");
    }
}
