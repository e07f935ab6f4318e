//! A hold that goes on under another claim, through the contract, on both forms of the store.

use std::time::Duration;

use libtest_mimic::Trial;
use tenure::ErrorKind;
use tenure::backend::{Call, Claim, Kind, Leave, Released, Standing};

use crate::contract::{Store, gone, held, on_both};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("moves::s4_s9_a_hold_goes_on_once", || on_both(goes_on_once)),
        trial("moves::what_cannot_go_on_is_refused", || on_both(refused)),
    ]
}

/// Reason and since-time of the only holder.
fn holder(store: &Store) -> (String, u64) {
    let line = store.line().expect("held");
    (line.holders[0].reason.clone(), line.holders[0].since_us)
}

fn goes_on_once(store: Store) {
    let [a, b, c] = ["first", "second", "third"].map(|reason| store.claim(reason));
    let token = store.take(&a).token;
    let since = holder(&store).1;
    assert_eq!(held(store.transfer(&a, &b)).expect("goes on").token, token);
    assert_eq!(holder(&store), ("second".into(), since));
    assert_eq!(held(store.transfer(&a, &b)).expect("asked again").token, token);
    assert_eq!(store.transfer(&a, &c), gone(None), "continued once only");
    assert_eq!(store.release(&a, Leave::Nothing), Released::Gone, "the old id can do nothing");
    let renewed = pollster::block_on(store.backend.renew(&[a, b.clone()], Call::PATIENT));
    let renewed: Vec<_> = renewed.into_iter().map(|r| r.expect("answers").standing).collect();
    assert_eq!(renewed[0], gone(None));
    assert!(matches!(renewed[1], Standing::Held(_)));
    // A claim that was withdrawn before the transfer arrives gets nothing, and takes nothing away.
    assert_eq!(store.release(&c, Leave::Final), Released::Gone);
    assert_eq!(store.transfer(&b, &c), gone(None));
    assert_eq!(store.release(&b, Leave::Nothing), Released::WasHeld);
    let last = store.claim("");
    assert!(store.take(&last).token > token);
    store.release(&last, Leave::Nothing);
}

fn refused(store: Store) {
    let [a, b] = ["first", "second"].map(|reason| store.claim(reason));
    assert_eq!(store.transfer(&a, &b), gone(None), "nothing is created");
    store.take(&a);
    let larger = Claim { weight: 2, capacity: 2, kind: Kind::Mutex, ..store.claim("") };
    let error = pollster::block_on(store.backend.transfer(&a, &larger, Call::PATIENT)).expect_err("larger");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let other = Claim { kind: Kind::Semaphore, capacity: 3, ..store.claim("") };
    let error =
        pollster::block_on(store.backend.transfer(&a, &other, Call::PATIENT)).expect_err("another kind");
    assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::Unsupported), "{error}");
    pollster::block_on(store.backend.evict(&a.key, None, "enough", Call::PATIENT)).expect("answers");
    assert_eq!(store.transfer(&a, &b), gone(Some("enough")));
    let kept = store.claim("");
    store.take(&kept);
    assert_eq!(store.release(&kept, Leave::For(Duration::from_secs(9))), Released::WasHeld);
    assert_eq!(store.transfer(&kept, &b), gone(None), "what was released does not go on");
}
