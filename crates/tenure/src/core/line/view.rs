//! What `inspect` shows. Looking changes nothing.

use super::cells::{self, LOCK, NONE, claim, hi, lo, lock, root};
use super::tree::{self, ByLock, BySeq};
use super::{Arena, Kind, Lines, Now, Previous};

/// One lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRow {
    /// `namespace/name`.
    pub key: Vec<u8>,
    /// What kind of line.
    pub kind: Kind,
    /// Its capacity: the least that a holder names, or else that of the first waiter.
    pub capacity: u32,
    /// The token of the newest grant, or 0.
    pub token: i64,
    /// Who holds, oldest grant first.
    pub holders: Vec<ClaimRow>,
    /// Who waits, first in line first; cut off at the asker's limit.
    pub waiting: Vec<ClaimRow>,
    /// How many wait in all.
    pub waiters: u64,
    /// The last eviction: when (µs since the epoch), which token, why.
    pub broken: Option<(u64, i64, Vec<u8>)>,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// Its id.
    pub id: u128,
    /// The process slot it is anchored to.
    pub slot: u32,
    /// Who and why, in the backend's own encoding.
    pub note: Vec<u8>,
    /// Since when it holds or waits, in µs since the epoch.
    pub since_us: u64,
    /// When its lease ends.
    pub end: u64,
    /// Its weight.
    pub weight: u32,
    /// Its token, or 0.
    pub token: i64,
    /// Of a holder: how the hold before it ended.
    pub previous: Previous,
}

/// How many locks one page looks at: what it costs has an end even where few of them match.
const VISITS: u32 = 4096;

impl<A: Arena> Lines<A> {
    /// One lock, without what has ended by `now`; `None` if nobody holds it or waits for it.
    pub fn view(&self, key: &[u8], waiting_max: usize, now: Now) -> Option<LineRow> {
        self.row(self.lock(&self.name(key)), waiting_max, now)
    }

    /// Up to `limit` locks of a namespace whose full names are `prefix` or lie below it by whole levels (empty: all),
    /// and where to go on. A page may be short, or empty, and not the last.
    pub fn page(
        &self,
        namespace: &[u8],
        prefix: &[u8],
        after: Option<u128>,
        limit: usize,
        waiting_max: usize,
        now: Now,
    ) -> (Vec<LineRow>, Option<u128>) {
        let mut seek = Seek { locks: Vec::new(), visits: VISITS, last: after, full: false };
        let root = lo(self.root(root::LOCKS));
        self.seek(root, after, &mut seek, limit.max(1), &|key| below(key, namespace, prefix), 0);
        let rows = seek.locks.iter().filter_map(|&l| self.row(l, waiting_max, now)).collect();
        (rows, seek.last.filter(|_| seek.full))
    }

    /// Whether a claim that is known here has another note than this one: a renewal with it changes what is shown.
    pub fn restates(&self, id: u128, note: &[u8]) -> bool {
        let c = self.claim(id);
        c != NONE && cells::compare(&self.arena, note, c, &claim::NOTE).is_ne()
    }

    fn seek(
        &self,
        node: u32,
        after: Option<u128>,
        seek: &mut Seek,
        limit: usize,
        wanted: &dyn Fn(&[u8]) -> bool,
        depth: u32,
    ) {
        if node == NONE || seek.full || self.arena.faulty() || self.checked(node, LOCK) == NONE {
            return;
        }
        if depth > tree::DEEPEST {
            return self.arena.fault();
        }
        let hash = u128::from(self.at(node, lock::HASH)) << 64 | u128::from(self.at(node, lock::HASH + 1));
        let (left, right) = tree::children::<ByLock, A>(&self.arena, node);
        if after.is_none_or(|a| hash > a) {
            self.seek(left, after, seek, limit, wanted, depth + 1);
            // Locks of the same hash (nobody will see two) go on one page: the place between them has no name.
            seek.full |= (seek.visits == 0 || seek.locks.len() >= limit) && seek.last != Some(hash);
            if seek.full {
                return;
            }
            seek.visits = seek.visits.saturating_sub(1);
            seek.last = Some(hash);
            if wanted(&cells::text(&self.arena, node, &lock::KEY)) {
                seek.locks.push(node);
            }
        }
        self.seek(right, after, seek, limit, wanted, depth + 1);
    }

    fn row(&self, l: u32, waiting_max: usize, now: Now) -> Option<LineRow> {
        if l == NONE {
            return None;
        }
        let (held, waits) = self.line(l);
        let holders = self.claims(held, usize::MAX, now.ns);
        let waiting = self.claims(waits, waiting_max, now.ns);
        let waiters = tree::size(&self.arena, waits).saturating_sub(self.expired_below(waits, now.ns, 0));
        let capacity = |c: u32| lo(self.at(c, claim::CAPACITY));
        let capacity = match holders.iter().map(|c| capacity(*c)).min() {
            Some(least) => least,
            None if waiters > 0 => capacity(*waiting.first().unwrap_or(&tree::first(&self.arena, waits))),
            None => return None,
        };
        let broken_at = self.at(l, lock::BROKEN_AT);
        let broken = (broken_at != 0).then(|| {
            let why = cells::text(&self.arena, l, &lock::BROKEN);
            (broken_at, self.at(l, lock::BROKEN_TOKEN).cast_signed(), why)
        });
        Some(LineRow {
            key: cells::text(&self.arena, l, &lock::KEY),
            kind: self.kind(l).ok()?,
            capacity,
            token: self.at(l, lock::NEWEST).cast_signed(),
            holders: holders.into_iter().map(|c| self.claim_row(c)).collect(),
            waiting: waiting.into_iter().map(|c| self.claim_row(c)).collect(),
            waiters,
            broken,
        })
    }

    /// The first claims of a line whose lease ends after `now`.
    pub(super) fn claims(&self, line: u32, most: usize, now: u64) -> Vec<u32> {
        let mut found = Vec::new();
        if most > 0 {
            let mut fuel = self.arena.cells();
            tree::walk::<BySeq, A>(&self.arena, line, &mut fuel, &mut |c| {
                if self.at(c, claim::END) > now {
                    found.push(c);
                }
                found.len() < most
            });
        }
        found
    }

    /// How many claims of a line have ended.
    fn expired_below(&self, node: u32, now: u64, depth: u32) -> u64 {
        if tree::soon(&self.arena, node) > now || self.arena.faulty() {
            return 0;
        }
        if node == NONE || depth > tree::DEEPEST {
            self.arena.fault();
            return 0;
        }
        let (left, right) = tree::children::<BySeq, A>(&self.arena, node);
        let here = u64::from(self.at(node, claim::END) <= now);
        here + self.expired_below(left, now, depth + 1) + self.expired_below(right, now, depth + 1)
    }

    fn claim_row(&self, c: u32) -> ClaimRow {
        ClaimRow {
            id: self.id(c),
            slot: hi(self.at(c, claim::LOCK_SLOT)),
            note: cells::text(&self.arena, c, &claim::NOTE),
            since_us: self.at(c, claim::SINCE),
            end: self.at(c, claim::END),
            weight: self.weight(c),
            token: self.at(c, claim::TOKEN).cast_signed(),
            previous: self.before(c),
        }
    }
}

/// A page under way.
struct Seek {
    locks: Vec<u32>,
    visits: u32,
    last: Option<u128>,
    full: bool,
}

/// Whether a full name lies in a namespace and, by whole levels, at or below a prefix.
fn below(key: &[u8], namespace: &[u8], prefix: &[u8]) -> bool {
    let inside = |key: &[u8], top: &[u8]| {
        let rest = key.strip_prefix(top.strip_suffix(b"/").unwrap_or(top));
        rest.map(|rest| (rest.is_empty(), rest.first() == Some(&b'/')))
    };
    let slash = if namespace.is_empty() { key.iter().position(|&b| b == b'/') } else { None };
    // In all namespaces: what follows the first slash is compared with what follows the prefix's.
    let key = &key[slash.unwrap_or(0)..];
    (namespace.is_empty() || matches!(inside(key, namespace), Some((_, true))))
        && (prefix.is_empty()
            || matches!(inside(key, prefix), Some((same, lower)) if lower || (same && !prefix.ends_with(b"/"))))
}
