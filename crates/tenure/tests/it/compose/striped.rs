//! A name split into stripes.

use tenure::{ErrorKind, Locks, STRIPES_MAX};

use crate::tidy::read;

/// The document's table is the test vector: whoever reads it finds the same locks.
#[test]
fn the_documented_stripes_are_the_real_ones() {
    let document = read("docs/wire/compositions.md");
    let rows: Vec<&str> = document
        .lines()
        .skip_while(|l| !l.starts_with("| key (UTF-8)"))
        .skip(2)
        .take_while(|l| l.starts_with("| "))
        .collect();
    assert!(rows.len() >= 5, "the table is gone: this test has gone blind");
    let locks = Locks::memory();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let key = cells[0].trim_matches('`');
        for (n, cell) in [7, 64, 65_536].into_iter().zip(&cells[1..]) {
            let striped = locks.striped("stock", n).expect("a name");
            assert_eq!(striped.stripe(key).to_string(), **cell, "{key:?} of {n}");
            assert_eq!(striped.of(key).key().name(), format!("stock/{cell}"));
        }
    }
}

#[test]
fn keys_spread_evenly() {
    let striped = Locks::memory().striped("s", 16).expect("a name");
    let mut counts = [0_u32; 16];
    for n in 0..16_000 {
        counts[striped.stripe(format!("order {n}")) as usize] += 1;
    }
    assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
    assert_eq!(striped.all().count(), 16);
}

#[test]
fn a_stripe_is_one_lock_for_all_its_keys() {
    let locks = Locks::memory();
    let one = locks.striped("s", 1).expect("a name");
    let guard = one.of("a").blocking_lock().expect("free");
    assert!(one.of("b").blocking_try_lock().expect("asks").is_none());
    assert!(locks.mutex("s/0").expect("a name").blocking_try_lock().expect("asks").is_none());
    guard.blocking_release().expect("ours");
    for n in [0, STRIPES_MAX + 1] {
        let error = locks.striped("s", n).expect_err("out of range");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("65536"), "{error}");
    }
    assert_eq!(locks.striped("s/", 2).expect_err("bad name").kind(), ErrorKind::Config);
    assert_eq!(locks.striped("x".repeat(199), 2).expect_err("too long").kind(), ErrorKind::Config);
}
