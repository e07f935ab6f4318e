use std::time::Duration;

use crate::{LockOptions, Locks, Needs, Owner, TokenStrength};

fn refused<T: serde::de::DeserializeOwned>(text: &str) -> String {
    match serde_json::from_str::<T>(text) {
        Ok(_) => panic!("taken: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn options_are_read_and_written_as_people_write_them() {
    let text = r#"{"ttl":"1m30s","reason":"order 42","owner":{"user":"ann","host":"web-1","pid":7,"program":"shop"},"fair":true}"#;
    let options: LockOptions = serde_json::from_str(text).expect("options");
    assert_eq!(options.ttl, Some(Duration::from_secs(90)));
    assert_eq!((options.reason.as_deref(), options.fair), (Some("order 42"), true));
    assert_eq!(options.owner.as_ref().map(|owner| owner.user.as_str()), Some("ann"));
    let again = serde_json::to_string(&options).expect("written");
    assert_eq!(again, text.replace("1m30s", "90s"));
    let none: LockOptions = serde_json::from_str("{}").expect("all of it may be left out");
    assert_eq!(serde_json::to_string(&none).expect("written"), "{}");
    // They work like those that were made by hand.
    let short: LockOptions = serde_json::from_str(r#"{"ttl":"2s"}"#).expect("options");
    let lock = Locks::memory().mutex("x").expect("name").with(short).expect("fits");
    assert!(lock.blocking_lock().expect("free").remaining() < Duration::from_secs(2));
}

#[test]
fn what_does_not_exist_or_fit_is_refused_with_a_reason() {
    for (text, why) in [
        (r#"{"tll":"10s"}"#, "unknown field `tll`, expected one of `ttl`"),
        (r#"{"ttl":10}"#, "a duration in quotes"),
        (r#"{"ttl":"10"}"#, "did you mean 10s?"),
        (r#"{"ttl":"10 s"}"#, "write it like 250ms"),
        (r#"{"ttl":"10ms"}"#, "use 100 ms to 24 h"),
        (r#"{"ttl":"25h"}"#, "out of range"),
        (r#"{"owner":{"name":"ann"}}"#, "unknown field `name`"),
        (r#"{"fair":"yes"}"#, "expected a boolean"),
    ] {
        let said = refused::<LockOptions>(text);
        assert!(said.contains(why), "{text}: {said}");
    }
    let long = format!(r#"{{"reason":"{}"}}"#, "r".repeat(257));
    assert!(refused::<LockOptions>(&long).contains("use at most 256"));
    let long = format!(r#"{{"user":"{}"}}"#, "u".repeat(129));
    assert!(refused::<Owner>(&long).contains("use at most 128"));
}

#[test]
fn needs_are_read_by_the_words_of_the_capabilities() {
    let needs: Needs = serde_json::from_str(r#"{"token":"hybrid","fifo":true,"push":true}"#).expect("needs");
    Locks::memory().require(needs).expect("memory has them");
    let needs: Needs = serde_json::from_str(r#"{"token":"consensus"}"#).expect("needs");
    assert!(Locks::memory().require(needs).is_err());
    let needs = Needs::new().token(TokenStrength::Hybrid).survives_restart();
    let text = serde_json::to_string(&needs).expect("written");
    assert_eq!(text, r#"{"token":"hybrid","survives_restart":true}"#);
    assert!(refused::<Needs>(r#"{"tokens":"hybrid"}"#).contains("unknown field `tokens`"));
    assert!(refused::<Needs>(r#"{"token":"strong"}"#).contains("unknown variant `strong`"));
}
