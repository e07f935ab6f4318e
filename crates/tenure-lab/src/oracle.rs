//! The line of claims as a naive list: what every implementation is compared with, step by step.
//!
//! It shares no code with the product and does everything the slow and obvious way. A line is a list of claims in the
//! order in which they came; the marks are another list. Times are plain numbers.

/// For how long a withdrawn or evicted claim is remembered, in ns.
pub const MARK: u64 = 60_000_000_000;

/// One claim, as it asks.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its id.
    pub id: u128,
    /// Its lock.
    pub lock: usize,
    /// The kind of lock that it takes it for: mutex (each grant has a token), read-write lock (a writer weighs
    /// everything; the readers between two writers share a token), semaphore (no tokens).
    pub kind: char,
    /// How much it takes.
    pub weight: u32,
    /// Of how much.
    pub capacity: u32,
    /// Whether it waits.
    pub stand: bool,
    /// Its lease while it holds, and while it waits.
    pub leases: [u64; 2],
    /// When it was made.
    pub birth: u64,
}

/// Where a claim stands. A token is the number of its grant in this line, from 1; 0 where the kind has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    Held {
        grant: u64,
        end: u64,
    },
    Waits {
        ahead: usize,
        end: u64,
        look: u64,
    },
    Busy,
    Gone(Option<String>),
    /// The line is of another kind.
    Refused,
}

/// What a release leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Nothing,
    Mark,
    For(u64),
}

/// A claim in line. `grant` is `None` while it waits. `left`: released, with the hold left in place; a mark follows it
/// if that is true.
#[derive(Clone, Debug)]
pub struct Entry {
    pub ask: Ask,
    pub end: u64,
    pub grant: Option<u64>,
    left: Option<bool>,
}

/// All lines, all marks.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// Every claim of every lock, first come first.
    pub entries: Vec<Entry>,
    marks: Vec<(u128, u64, Option<String>)>,
    grants: u64,
    shared: Vec<(usize, u64)>,
}

impl Oracle {
    fn line(&self, lock: usize) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |e| e.ask.lock == lock)
    }

    fn find(&self, lock: usize, id: u128) -> Option<usize> {
        self.entries.iter().position(|e| e.ask.lock == lock && e.ask.id == id && e.left.is_none())
    }

    fn fits(&self, ask: &Ask) -> bool {
        let used = |e: &Entry| e.grant.map_or(0, |_| u64::from(e.ask.weight));
        let all = self.line(ask.lock).map(used).sum::<u64>() + u64::from(ask.weight);
        let held = self.line(ask.lock).filter(|e| e.grant.is_some()).map(|e| &e.ask);
        held.chain([ask]).all(|a| all <= u64::from(a.capacity))
    }

    /// Removes what has ended, and grants the longest prefix that fits.
    pub fn settle(&mut self, now: u64) {
        self.marks.retain(|(_, until, _)| *until >= now);
        let ended = self.entries.iter().filter(|e| e.end <= now && e.left == Some(true));
        self.marks.extend(ended.map(|e| (e.ask.id, now + MARK, None)));
        self.entries.retain(|e| e.end > now);
        for i in 0..self.entries.len() {
            let ask = self.entries[i].ask.clone();
            let first = self.line(ask.lock).find(|e| e.grant.is_none()).is_some_and(|e| e.ask.id == ask.id);
            if first && self.fits(&ask) {
                self.entries[i].grant = Some(self.grant(&ask));
                self.entries[i].end = now + ask.leases[0];
            }
        }
        self.shared.retain(|(lock, _)| self.entries.iter().any(|e| e.ask.lock == *lock));
    }

    fn grant(&mut self, ask: &Ask) -> u64 {
        let reads = ask.kind == 'r' && ask.weight < ask.capacity;
        match self.shared.iter().find(|(lock, _)| *lock == ask.lock) {
            _ if ask.kind == 's' => return 0,
            Some((_, grant)) if reads => return *grant,
            _ => self.shared.retain(|(lock, _)| *lock != ask.lock),
        }
        self.grants += 1;
        self.shared.extend(reads.then_some((ask.lock, self.grants)));
        self.grants
    }

    fn stands(&self, lock: usize, id: u128) -> Stands {
        let Some(e) = self.find(lock, id).map(|i| &self.entries[i]) else {
            return Stands::Gone(self.marks.iter().find(|m| m.0 == id).and_then(|m| m.2.clone()));
        };
        if let Some(grant) = e.grant {
            return Stands::Held { grant, end: e.end };
        }
        let before: Vec<_> = self.line(lock).take_while(|e| e.ask.id != id).collect();
        let ahead = before.iter().filter(|e| e.grant.is_none()).count();
        Stands::Waits { ahead, end: e.end, look: before.iter().map(|e| e.end).min().unwrap_or(u64::MAX) }
    }

    /// Stands in line, or looks again.
    pub fn attempt(&mut self, ask: &Ask, now: u64) -> Stands {
        self.settle(now);
        let marked = self.marks.iter().any(|m| m.0 == ask.id);
        let known = marked || self.entries.iter().any(|e| e.ask.id == ask.id);
        if known || now.saturating_sub(ask.birth) > MARK {
            return self.renew(ask.lock, ask.id, now);
        }
        let other = self.line(ask.lock).any(|e| e.ask.kind != ask.kind);
        let room = self.fits(ask) && self.line(ask.lock).all(|e| e.grant.is_some());
        let grant = match room {
            _ if other => return Stands::Refused,
            false if !ask.stand => return Stands::Busy,
            _ => room.then(|| self.grant(ask)),
        };
        let end = now + ask.leases[usize::from(!room)];
        self.entries.push(Entry { ask: ask.clone(), end, grant, left: None });
        self.stands(ask.lock, ask.id)
    }

    /// Renews what is there; never creates.
    pub fn renew(&mut self, lock: usize, id: u128, now: u64) -> Stands {
        self.settle(now);
        if let Some(e) = self.find(lock, id).map(|i| &mut self.entries[i]) {
            e.end = e.end.max(now + e.ask.leases[usize::from(e.grant.is_none())]);
        }
        self.stands(lock, id)
    }

    /// Ends a hold or a wait; says whether it held.
    pub fn release(&mut self, ask: &Ask, leave: Leave, now: u64) -> Option<bool> {
        self.settle(now);
        let Some(i) = self.find(ask.lock, ask.id) else {
            if let Some(e) = self.entries.iter_mut().find(|e| e.ask.id == ask.id) {
                e.left = e.left.map(|marked| marked || leave == Leave::Mark);
            } else if leave == Leave::Mark && now.saturating_sub(ask.birth) <= MARK {
                self.marks.push((ask.id, now + MARK, None));
            }
            return None;
        };
        let held = self.entries[i].grant.is_some();
        match leave {
            Leave::For(d) if held => (self.entries[i].left, self.entries[i].end) = (Some(false), now + d),
            _ => drop(self.entries.remove(i)),
        }
        self.marks.extend((leave == Leave::Mark).then_some((ask.id, now + MARK, None)));
        self.settle(now);
        Some(held)
    }

    /// Continues a hold under another claim: what it holds stays where it is in line, and becomes at most smaller.
    pub fn transfer(&mut self, from: u128, to: &Ask, now: u64) -> Stands {
        self.settle(now);
        let known = self.marks.iter().any(|m| m.0 == to.id) || self.entries.iter().any(|e| e.ask.id == to.id);
        if known || now.saturating_sub(to.birth) > MARK {
            return self.renew(to.lock, to.id, now);
        }
        let Some(i) = self.find(to.lock, from) else { return self.stands(to.lock, from) };
        let (grant, old) = (self.entries[i].grant, self.entries[i].ask.clone());
        match grant {
            None => return Stands::Gone(None),
            Some(_) if old.kind != to.kind || to.weight > old.weight => return Stands::Refused,
            _ => (self.entries[i].ask, self.entries[i].end) = (to.clone(), now + to.leases[0]),
        }
        if old.kind == 'r' && old.weight == old.capacity && to.weight < old.weight {
            self.entries[i].grant = Some(self.grant(to));
        }
        self.settle(now);
        self.stands(to.lock, to.id)
    }

    /// Takes the lock from all that hold it by this grant, or from all; says from how many.
    pub fn evict(&mut self, lock: usize, grant: Option<u64>, why: &str, now: u64) -> usize {
        self.settle(now);
        let out = |e: &Entry| e.ask.lock == lock && e.grant.is_some_and(|g| grant.is_none_or(|w| w == g));
        let gone: Vec<u128> = self.entries.iter().filter(|e| out(e)).map(|e| e.ask.id).collect();
        self.entries.retain(|e| !gone.contains(&e.ask.id));
        self.marks.extend(gone.iter().map(|id| (*id, now + MARK, Some(why.to_owned()))));
        self.settle(now);
        gone.len()
    }
}
