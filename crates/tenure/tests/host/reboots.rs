//! Tokens of a directory outlive a reboot, a removed store and a clock that goes back.

use std::fs;
use std::os::unix::fs::FileExt;

use tenure::ErrorKind;
use tenure::backend::Anchor;
use tenure::backend::host::faults;

use crate::kit::{Dir, open, refused};

/// Takes and releases a lock, and says the token.
fn cycle(dir: &Dir, name: &str) -> i64 {
    let client = open(&dir.0).expect("opens");
    let claim = client.claim(name);
    let token = client.take(&claim);
    client.release(&claim).expect("release");
    token
}

/// Makes the floor file say that tokens far in the future were given, as a clock that has gone back since would.
fn clock_was_ahead(dir: &Dir) -> i64 {
    // Two copies of: magic, serial, floor, checksum. The store itself writes it, with a clock an hour ahead.
    let client = open(&dir.0).expect("opens");
    let ahead = i64::try_from(client.runtime_wall_us()).expect("a time") + 3_600_000_000;
    faults::raise_floor(&dir.0, ahead).expect("raised");
    ahead
}

#[test]
fn after_a_reboot_everybody_is_dead_and_tokens_go_on() {
    let dir = Dir::new();
    let before = {
        let client = open(&dir.0).expect("opens");
        let mut claim = client.claim("x");
        claim.anchor = Anchor::Time; // not even the end of the process ends it
        client.take(&claim)
    };
    let ahead = clock_was_ahead(&dir);
    faults::reboot(&dir.0).expect("another boot");
    let after = cycle(&dir, "x");
    assert!(after > before && after > ahead, "{after} after {before}, floor {ahead}");
    for n in 0..200 {
        let token = cycle(&dir, &format!("lock/{n}"));
        assert!(token > ahead, "every shard heard of the floor");
    }
}

#[test]
fn a_store_that_was_removed_keeps_its_floor() {
    let dir = Dir::new();
    let mut highest = cycle(&dir, "x");
    for _ in 0..5 {
        let ahead = clock_was_ahead(&dir);
        fs::remove_file(dir.file("store")).expect("removed");
        let token = cycle(&dir, "x");
        assert!(token > highest && token > ahead);
        highest = token;
    }
}

#[test]
fn no_token_is_given_that_the_floor_on_disk_does_not_cover() {
    let dir = Dir::new();
    for round in 0..5 {
        let token = cycle(&dir, "x");
        let floor = dir.floor();
        assert!(floor > token, "round {round}: token {token} is not below the floor {floor}");
        faults::reboot(&dir.0).expect("another boot");
    }
}

#[test]
fn one_torn_copy_of_the_floor_is_no_loss_and_two_are_refused() {
    for torn in 0..2 {
        let dir = Dir::new();
        let before = cycle(&dir, "x");
        let copies = dir.copies_of_the_floor();
        assert_eq!(copies.len(), 2);
        let floor = fs::File::options().write(true).open(dir.file("floor")).expect("the floor");
        floor.write_all_at(&[0xEE; 9], copies[torn] + 12).expect("torn");
        faults::reboot(&dir.0).expect("another boot");
        assert!(cycle(&dir, "x") > before);
        for at in copies {
            floor.write_all_at(&[0xEE; 9], at + 12).expect("torn");
        }
        faults::reboot(&dir.0).expect("another boot");
        refused(open(&dir.0), ErrorKind::Protocol, "the highest token ever given is unknown");
        assert!(dir.file("store").exists(), "nothing was touched");
        fs::remove_file(dir.file("floor")).expect("the advice");
        cycle(&dir, "x");
    }
}

#[test]
fn a_floor_that_cannot_be_written_gives_no_token() {
    let dir = Dir::new();
    fs::create_dir(dir.file("floor")).expect("in the way");
    let client = open(&dir.0);
    let error =
        client.and_then(|client| client.attempt(&client.claim("x"))).expect_err("no token without a floor");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    fs::remove_dir(dir.file("floor")).expect("out of the way");
    cycle(&dir, "x");
}

#[test]
fn the_domain_of_tokens_lasts_as_long_as_their_order() {
    let domain = |dir: &Dir| open(&dir.0).expect("opens").domain();
    let (one, other) = (Dir::new(), Dir::new());
    cycle(&one, "x");
    assert!(!one.file("domain").exists(), "nobody asked");
    let name = domain(&one).expect("a name");
    assert!(name.as_str().starts_with("host:"), "{name}");
    assert_ne!(domain(&other).expect("a name"), name, "another store");
    // Tokens outlive a reboot, a removed store and a killed builder; and so does their domain.
    faults::reboot(&one.0).expect("another boot");
    assert_eq!(domain(&one).expect("a name"), name);
    fs::remove_file(one.file("store")).expect("removed");
    fs::write(one.file("domain.new"), "1 ho").expect("the remains of one who was killed");
    assert_eq!(domain(&one).expect("a name"), name);
    for damage in ["", "1 ", "2 host:x\n", "1 host:x", "1 host:\u{e9}\n"] {
        fs::write(one.file("domain"), damage).expect("damaged");
        refused(domain(&one), ErrorKind::Protocol, "remove it");
    }
    fs::remove_file(one.file("domain")).expect("the advice");
    assert_ne!(domain(&one).expect("a name"), name, "a new one: fences notice");
}

#[test]
fn the_domain_of_shared_memory_is_the_machine_and_the_user() {
    let domain =
        || tenure::Locks::blocking_connect("host:").expect("opens").blocking_domain().expect("named");
    let name = domain();
    assert_eq!(domain(), name);
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let user = rustix::process::geteuid().as_raw();
    assert!(name.as_str().starts_with(&format!("host:{node}.")), "{name}");
    assert!(name.as_str().ends_with(&format!("/{user}")), "{name}");
}
