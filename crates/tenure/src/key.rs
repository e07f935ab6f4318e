//! Names of locks: parsed once, valid ever after.

use std::fmt;
use std::sync::Arc;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::error::{Error, Result};

/// The longest name of a lock or a namespace, in bytes of UTF-8.
pub const NAME_MAX: usize = 200;

/// A lock's full name: a namespace of one level, and a name whose levels are separated by `/`.
///
/// Two keys are equal only if all their bytes are; nothing is folded, and every backend encodes them injectively.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// `namespace/name`; a namespace has no `/`, so the first one separates them.
    full: Arc<str>,
    split: u8,
}

impl Key {
    /// A key in a namespace.
    ///
    /// # Errors
    /// `Config`, saying which rule: 1 to 200 bytes, NFC, no control, bidirectional or zero-width characters, no empty
    /// level, no level `.` or `..`, no space at either end; a namespace has one level.
    pub fn new(namespace: &str, name: &str) -> Result<Key> {
        check_namespace(namespace)?;
        check("lock name", name)?;
        let split = u8::try_from(namespace.len())
            .map_err(|_| Error::config("the namespace is too long", "use at most 200 bytes"))?;
        Ok(Key { full: format!("{namespace}/{name}").into(), split })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.full[..usize::from(self.split)]
    }

    /// The name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.full[usize::from(self.split) + 1..]
    }

    /// `namespace/name`, the form that backends encode. Injective: a namespace has no `/`.
    #[must_use]
    pub fn full(&self) -> &str {
        &self.full
    }

    /// Whether a listing of this prefix shows it: by whole levels, at the prefix or below it. A prefix that ends with `/` leaves
    /// out the lock of that name, and an empty one shows all.
    pub(crate) fn is_below(&self, prefix: &str) -> bool {
        let (levels, strictly) = match prefix.strip_suffix('/') {
            Some(levels) => (levels, true),
            None => (prefix, false),
        };
        let rest = self.name().strip_prefix(levels);
        levels.is_empty() || rest.is_some_and(|r| r.starts_with('/') || (r.is_empty() && !strictly))
    }

    /// One level below, a number: the caller has checked that the longest fits.
    pub(crate) fn level(&self, number: u32) -> Key {
        Key { full: format!("{}/{number}", self.full).into(), split: self.split }
    }

    /// The key that [`full`](Key::full) came from.
    ///
    /// # Errors
    /// `Config` where `full` is not the full name of any key.
    pub fn from_full(full: &str) -> Result<Key> {
        match full.split_once('/') {
            Some((namespace, name)) => Key::new(namespace, name),
            None => Err(Error::config(format!("{full:?} has no namespace"), "write it as namespace/name")),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", &*self.full)
    }
}

/// Checks a namespace: the rules of a name, and one level.
///
/// # Errors
/// `Config`, saying which rule.
pub(crate) fn check_namespace(namespace: &str) -> Result<()> {
    check("namespace", namespace)?;
    if namespace.contains('/') {
        return Err(refuse("namespace", namespace, "has more than one level", "leave out the /"));
    }
    Ok(())
}

/// Checks a prefix of names, as `ls` takes it: like a name, a `/` at its end allowed.
///
/// # Errors
/// `Config`, saying which rule.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() { Ok(()) } else { check("prefix", prefix.strip_suffix('/').unwrap_or(prefix)) }
}

fn check(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(refuse(what, name, "is empty", "use 1 to 200 bytes"));
    }
    if name.len() > NAME_MAX {
        let long = format!("is {} bytes long", name.len());
        return Err(refuse(what, name, &long, "use at most 200 bytes"));
    }
    if let Some(bad) = name.chars().find(|&c| is_hidden(c)) {
        let found = format!("contains U+{:04X}", u32::from(bad));
        return Err(refuse(what, name, &found, "leave out control, bidirectional and zero-width characters"));
    }
    if !is_nfc(name) {
        return Err(refuse(what, name, "is not in Unicode normal form C", "normalise it (NFC) first"));
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Err(refuse(what, name, "has a space at one end", "trim it"));
    }
    for level in name.split('/') {
        let rule = match level {
            "" => "has an empty level",
            "." | ".." => "has a level that is . or ..",
            _ => continue,
        };
        return Err(refuse(what, name, rule, "separate levels that have names by single slashes"));
    }
    Ok(())
}

fn refuse(what: &str, name: &str, rule: &str, advice: &str) -> Error {
    let shown: String = name.chars().take(60).collect();
    let more = if shown.len() < name.len() { "..." } else { "" };
    Error::config(format!("the {what} {shown:?}{more} {rule}"), advice)
}

fn is_nfc(name: &str) -> bool {
    match is_nfc_quick(name.chars()) {
        IsNormalized::Yes => true,
        IsNormalized::No => false,
        IsNormalized::Maybe => name.nfc().eq(name.chars()),
    }
}

/// Control (Cc), line and paragraph separators, and the format characters (Cf) that reorder or hide text.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0x00AD | 0x034F | 0x061C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
            | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB
            | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}
