//! Names of keys and channels. A public interface: `docs/wire/redis.md` describes it, and golden tests hold it.

use crate::key::Key;

/// What every key begins with.
pub(super) const PREFIX: &str = "tenure:{";

/// A key that nothing is kept in.
pub(super) const NOTHING: &str = "tenure:{}:x";

/// Where an operator may name the server: see `domain`.
pub(super) const NAME: &str = "tenure:domain";

/// The head of a lock: `tenure:{namespace/name}:l`. All keys of a lock share what is in the braces, so that they lie in one
/// slot. Injective: the characters that end a name, and those that escape them, are escaped.
pub(super) fn head(key: &Key) -> String {
    part(key, "}:l")
}

/// The lock whose head this is. `None`: it is no head.
pub(super) fn lock(head: &str) -> Option<Key> {
    lock_of_key(head, "}:l")
}

/// What one of several servers keeps of a lock: `tenure:{namespace/name}:q`.
pub(super) fn votes(key: &Key) -> String {
    part(key, "}:q")
}

/// A mark of a claim that servers which vote keep: `tenure:{namespace/name}:m<claim>`.
pub(super) fn mark(key: &Key, claim: &str) -> String {
    part(key, "}:m") + claim
}

/// The lock that these votes are about. `None`: they are none.
pub(super) fn voted(votes: &str) -> Option<Key> {
    lock_of_key(votes, "}:q")
}

fn part(key: &Key, suffix: &str) -> String {
    let mut out = String::with_capacity(PREFIX.len() + key.full().len() + suffix.len());
    out.push_str(PREFIX);
    escape(&mut out, key.full());
    out.push_str(suffix);
    out
}

fn lock_of_key(name: &str, suffix: &str) -> Option<Key> {
    let inside = name.strip_prefix(PREFIX)?.strip_suffix(suffix)?;
    if inside.contains(['{', '}']) {
        return None;
    }
    let key = Key::from_full(&unescape(inside)?).ok()?;
    // Only the one way to write a name is taken for it.
    (part(&key, suffix) == name).then_some(key)
}

/// The lock of which this key is a part, its head or another. `None`: it is no part of a lock.
pub(super) fn lock_of_part(key: &str) -> Option<Key> {
    let (inside, _) = key.strip_prefix(PREFIX)?.split_once("}:")?;
    Key::from_full(&unescape(inside)?).ok()
}

/// What keys of all locks begin with whose names begin like this.
pub(super) fn begin(name: &str) -> String {
    let mut out = String::from(PREFIX);
    escape(&mut out, name);
    out
}

/// What `SCAN` is to match to find the keys of one kind whose names begin like this.
pub(super) fn pattern(begin: &str, suffix: char) -> String {
    let mut plain = String::new();
    escape(&mut plain, begin);
    let mut out = String::from(PREFIX);
    for c in plain.chars() {
        if "*?[]\\^-".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out.push_str("*}:");
    out.push(suffix);
    out
}

/// The record that the dialect keeps beside a key: `tenure:{key}:t`.
pub(super) fn plain_record(key: &str) -> String {
    let mut out = String::from(PREFIX);
    escape(&mut out, key);
    out.push_str("}:t");
    out
}

/// The lock whose record this is, in the dialect with this prefix of keys. `None`: it is none.
pub(super) fn plain_lock(record: &str, prefix: &str, namespace: &str) -> Option<Key> {
    let inside = record.strip_prefix(PREFIX)?.strip_suffix("}:t")?;
    let key = unescape(inside)?;
    (plain_record(&key) == record).then_some(())?;
    Key::new(namespace, key.strip_prefix(prefix)?).ok()
}

/// The lock whose record or mark this is, in the dialect with this prefix of keys, shown in this namespace. `None`: it is none.
pub(super) fn plain_lock_of_part(key: &str, prefix: &str, namespace: &str) -> Option<Key> {
    let (inside, _) = key.strip_prefix(PREFIX)?.split_once("}:")?;
    Key::new(namespace, unescape(inside)?.strip_prefix(prefix)?).ok()
}

/// The channel on which a client is told.
pub(super) fn channel(client: &str) -> String {
    format!("tenure:client:{client}")
}

/// Appends `name` with `%`, braces and control characters as `%` and two hexadecimal digits.
pub(super) fn escape(out: &mut String, name: &str) {
    if !name.bytes().any(|b| b.is_ascii_control() || b"%{}".contains(&b)) {
        return out.push_str(name);
    }
    for c in name.chars() {
        if c.is_ascii_control() || "%{}".contains(c) {
            out.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_belongs_to_a_lock() {
        for name in ["orders/42", "100%", "{a}{b}", "}:l", "%7D"] {
            let key = Key::new("shop", name).expect("a name");
            let head = head(&key);
            for part in ["l", "w", "c", "m0000000000000000000000000000000c"] {
                let part = format!("{}{part}", &head[..head.len() - 1]);
                assert_eq!(lock_of_part(&part), Some(key.clone()), "{part}");
            }
        }
        for other in ["tenure:domain", "tenure:{}:l", "tenure:{shop}:l", "tenure:{shop/a", "orders/42"] {
            assert_eq!(lock_of_part(other), None, "{other}");
        }
    }

    #[test]
    fn a_part_belongs_to_a_lock_of_the_dialect() {
        for (name, prefix) in [("orders/42", ""), ("orders/42", "job:"), ("100%", "{a}"), ("}:l", "")] {
            let key = Key::new("shop", name).expect("a name");
            let record = plain_record(&format!("{prefix}{name}"));
            for part in ["t", "m0000000000000000000000000000000c"] {
                let part = format!("{}{part}", &record[..record.len() - 1]);
                assert_eq!(plain_lock_of_part(&part, prefix, "shop"), Some(key.clone()), "{part}");
            }
            assert_eq!(plain_lock_of_part(&record, "other:", "shop"), None);
        }
        assert_eq!(plain_lock_of_part("orders/42", "", "shop"), None);
    }

    #[test]
    fn names_of_keys() {
        for (name, head_is) in [
            ("orders/42", "tenure:{shop/orders/42}:l"),
            ("100%", "tenure:{shop/100%25}:l"),
            ("{a}{b}", "tenure:{shop/%7Ba%7D%7Bb%7D}:l"),
            ("}:l", "tenure:{shop/%7D:l}:l"),
            ("%7D", "tenure:{shop/%257D}:l"),
            ("é*?[x]", "tenure:{shop/é*?[x]}:l"),
        ] {
            let key = Key::new("shop", name).expect("a good name");
            assert_eq!(head(&key), head_is);
            assert_eq!(lock(head_is).as_ref(), Some(&key), "{name}");
        }
        for other in [
            "tenure:{shop/a}:w",
            "tenure:{shop}:l",
            "tenure:{shop/%61}:l",
            "tenure:{shop/%}:l",
            "x",
            "tenure:{shop/a}b}:l",
        ] {
            assert_eq!(lock(other), None, "{other}");
        }
    }

    #[test]
    fn patterns_match_only_themselves() {
        assert_eq!(pattern("shop/a*[b]\\", 'l'), "tenure:{shop/a\\*\\[b\\]\\\\*}:l");
        assert_eq!(pattern("a-b/", 't'), "tenure:{a\\-b/*}:t");
    }
}
