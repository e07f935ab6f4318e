//! The verbs, the push, and the death of a process.

use tenure::Released;
use tenure::backend::{News, Standing};

use crate::kit::{Client, Dir, Role, open, token};

fn waits(client: &Client, claim: &tenure::backend::Claim) {
    assert!(matches!(client.attempt(claim).expect("attempt").standing, Standing::Waiting { .. }));
}

#[test]
fn a_waiter_in_this_process_is_granted_by_push() {
    let dir = Dir::new();
    let (a, b) = (open(&dir.0).expect("opens"), open(&dir.0).expect("opens again"));
    let (first, second) = (a.claim("x"), b.claim("x"));
    let one = a.take(&first);
    waits(&b, &second);
    assert_eq!(a.release(&first).expect("release"), Released::WasHeld);
    let two = b.wait(&second, None);
    assert!(two > one);
    assert_eq!(a.release(&first).expect("again"), Released::Gone);
    assert_eq!(b.release(&second).expect("release"), Released::WasHeld);
    assert!(b.lines().is_empty());
}

#[test]
fn a_waiter_in_another_process_is_granted_by_push() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    for _ in 0..20 {
        let claim = client.claim("x");
        client.take(&claim);
        let mut other = Role::start("hold", &dir.0, &["x"]);
        other.hears("waiting");
        client.release(&claim).expect("release");
        other.hears("held");
        let next = client.claim("x");
        waits(&client, &next);
        drop(other.child.stdin.take());
        client.wait(&next, None);
        client.release(&next).expect("release");
        other.ends();
    }
}

#[test]
fn a_killed_holder_makes_room_at_once() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    for _ in 0..10 {
        let mut other = Role::start("hold", &dir.0, &["x"]);
        other.hears("held");
        let claim = client.claim("x");
        waits(&client, &claim);
        other.kill();
        client.wait(&claim, None);
        client.release(&claim).expect("release");
    }
}

#[test]
fn an_evicted_holder_is_told() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let claim = client.claim("x");
    let before = client.take(&claim);
    assert_eq!(client.evict("x", "maintenance"), Released::WasHeld);
    let news = client.news.recv_timeout(crate::kit::PATIENCE).expect("news");
    assert!(
        matches!(&news, News::Gone(id, Some(why)) if *id == claim.id && why == "maintenance"),
        "{news:?}"
    );
    let next = client.claim("x");
    assert!(token(client.attempt(&next).expect("attempt").standing).expect("free") > before);
}
