//! One hot name split into many.

use crate::error::{Error, Result};
use crate::key::Key;
use crate::locks::Locks;
use crate::mutex::Mutex;

/// The most stripes.
pub const STRIPES_MAX: u32 = 65_536;

impl Locks {
    /// The name split into `stripes` locks, `name/0` to `name/<stripes - 1>`: work on different keys mostly takes different
    /// locks. Everybody who shares the name must use the same number.
    ///
    /// # Errors
    /// `Config` for a bad name, and for a number that is not 1 to 65,536; `Unsupported` as [`mutex`](Locks::mutex).
    pub fn striped(&self, name: impl AsRef<str>, stripes: u32) -> Result<Striped> {
        if !(1..=STRIPES_MAX).contains(&stripes) {
            let what = format!("{stripes} stripes are asked for");
            return Err(Error::config(what, format!("use 1 to {STRIPES_MAX}")));
        }
        let name = name.as_ref();
        // The longest name of all stripes is a good one, and so are the others.
        self.mutex(format!("{name}/{}", stripes - 1))?;
        let name = Key::new(self.namespace(), name)?;
        Ok(Striped { locks: self.clone(), name, stripes })
    }
}

/// A name split into a fixed number of locks, what some call a segment lock. Made by [`Locks::striped`]; cheap to clone.
///
/// Which lock a key falls into is a public interface (`docs/wire/compositions.md`), so programs in other languages find the
/// same one. Two keys may fall into the same stripe: a task that takes two of them waits for itself then. Take several at
/// once with [`Locks::multi`], by the names of their locks, each once.
///
/// ```
/// # fn main() -> tenure::Result<()> {
/// let stock = tenure::Locks::memory().striped("stock", 64)?;
/// let guard = stock.of("article 4711").blocking_lock()?;
/// assert_eq!(guard.key().name(), format!("stock/{}", stock.stripe("article 4711")));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Striped {
    locks: Locks,
    name: Key,
    stripes: u32,
}

impl Striped {
    /// The lock that `key` falls into: the same one at all times and in all programs.
    #[must_use]
    pub fn of(&self, key: impl AsRef<[u8]>) -> Mutex {
        self.at(self.stripe(key))
    }

    /// The number of the stripe that `key` falls into.
    #[must_use]
    pub fn stripe(&self, key: impl AsRef<[u8]>) -> u32 {
        stripe(key.as_ref(), self.stripes)
    }

    /// All stripes, by number: for work that needs the whole.
    pub fn all(&self) -> impl Iterator<Item = Mutex> {
        (0..self.stripes).map(|n| self.at(n))
    }

    /// How many stripes there are.
    #[must_use]
    pub fn stripes(&self) -> u32 {
        self.stripes
    }

    fn at(&self, stripe: u32) -> Mutex {
        self.locks.mutex_of(self.name.level(stripe))
    }
}

/// FNV-1a of 64 bits, mixed once more since its low bits alone are not even, modulo the number of stripes.
fn stripe(key: &[u8], stripes: u32) -> u32 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^= hash >> 33;
    u32::try_from(hash % u64::from(stripes)).unwrap_or(0)
}
