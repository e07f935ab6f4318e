//! Names repeat millions of times in a history; equal ones share one copy.

use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// All names that this process has met. They are never freed: a run has some dozens.
static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);

thread_local! {
    /// The same, without the lock.
    static NEAR: std::cell::RefCell<HashSet<&'static str>> = std::cell::RefCell::new(HashSet::new());
}

/// The name of a lock, a client, a resource, a fault: a word of a small vocabulary, cheap to copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(&'static str);

impl Name {
    /// The name with this text.
    #[must_use]
    pub fn new(text: &str) -> Name {
        if let Some(known) = NEAR.with_borrow(|near| near.get(text).copied()) {
            return Name(known);
        }
        let known = {
            let mut all = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let all = all.get_or_insert_default();
            all.get(text).copied().unwrap_or_else(|| {
                let fresh: &'static str = Box::leak(text.into());
                all.insert(fresh);
                fresh
            })
        };
        NEAR.with_borrow_mut(|near| near.insert(known));
        Name(known)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Name, E> {
                Ok(Name::new(text))
            }
        }
        from.deserialize_str(Text)
    }
}
