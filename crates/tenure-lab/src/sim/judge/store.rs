//! What the store did with each claim, and whether it may.

use tenure::backend::{Answer, Claim, ClaimId, Grant, Kind, Lease, Leave, Released, Standing};
use tenure::core::moment::nanos;

use super::super::locks::{SEATS, lock_of, room};
use super::super::message::Serving;
use super::{At, Judge, Record};

impl Judge {
    pub(in super::super) fn attempted(
        &mut self,
        s: Serving,
        claim: &Claim,
        answer: &Result<Answer, tenure::Error>,
    ) {
        let Ok(answer) = answer else { return };
        let stepped = self.born_wrongly(s.machine);
        let record = self.record(s, claim);
        let taken = matches!(answer.standing, Standing::Held(_) | Standing::Waiting { .. });
        let ghost = taken && record.withdrawn && !record.excused && !stepped;
        let what = || format!("{} was taken after it was withdrawn", claim.id.short());
        self.rule("S9", s.t, !ghost, what);
        self.answered(s, claim.id, answer);
    }

    pub(in super::super) fn renewed(
        &mut self,
        s: Serving,
        claim: &Claim,
        answer: &Result<Answer, tenure::Error>,
    ) {
        let Ok(answer) = answer else { return };
        let known = self.records.get(&claim.id.0).map(|r| (r.at, r.excused, r.end > s.now));
        let taken = matches!(answer.standing, Standing::Held(_) | Standing::Waiting { .. });
        let created = taken && !known.is_some_and(|(at, excused, lives)| excused || (at != At::Out && lives));
        let what = || format!("a renewal made {}", claim.id.short());
        self.rule("S10", s.t, !created, what);
        self.answered(s, claim.id, answer);
    }

    /// What the server said of a claim: it stays what it was, unless there is a reason.
    fn answered(&mut self, s: Serving, id: ClaimId, answer: &Answer) {
        let Some(record) = self.records.get_mut(&id.0) else { return };
        let before = (record.at, record.token);
        let lives = record.at != At::Out && record.end > s.now && !record.excused;
        match &answer.standing {
            Standing::Held(grant) => {
                let token = grant.token.map_or(0, tenure::Token::get);
                let other = before.0 == At::Holds && lives && before.1 != token;
                record.at = At::Holds;
                record.token = token;
                record.end = end(s.shown, grant.lease);
                let what = || format!("{} has the token {} and then {token}", id.short(), before.1);
                self.rule("S7", s.t, !other, what);
                if before.0 != At::Holds || before.1 != token {
                    self.grant(s, id, token);
                }
            }
            Standing::Waiting { place, .. } => {
                let back = before.0 == At::Holds && lives;
                if before.0 != At::Waits || record.end <= s.now {
                    self.stood += 1;
                    record.stood = Some(self.stood);
                }
                record.at = At::Waits;
                record.end = place.map_or(s.now, |lease| end(s.shown, lease));
                self.rule("S4", s.t, !back, || format!("{} held and waits again", id.short()));
            }
            Standing::Busy | Standing::Gone { .. } | Standing::Removed => {
                record.at = At::Out;
                let what = || format!("{} vanished, though nobody ended it", id.short());
                self.rule("S4", s.t, !lives, what);
            }
        }
    }

    /// A waiting claim was granted by what another one did.
    pub(in super::super) fn granted(&mut self, s: Serving, id: ClaimId, grant: Grant) {
        let Some(record) = self.records.get(&id.0) else { return };
        let stepped = self.born_wrongly(record.machine);
        let Some(record) = self.records.get_mut(&id.0) else { return };
        let ghost = record.withdrawn && !record.excused && !stepped;
        let token = grant.token.map_or(0, tenure::Token::get);
        (record.at, record.token, record.end) = (At::Holds, token, end(s.shown, grant.lease));
        self.rule("S9", s.t, !ghost, || format!("{} was granted after it was withdrawn", id.short()));
        self.grant(s, id, token);
    }

    /// The store granted: nobody else may believe from this instant on, nobody was overtaken, and what was to stay has
    /// stayed.
    fn grant(&mut self, s: Serving, id: ClaimId, token: i64) {
        self.grants += 1;
        let Some(record) = self.records.get_mut(&id.0) else { return };
        let (lock, excused, stood) = (record.lock, record.excused, record.stood.take().unwrap_or(u64::MAX));
        let weight = record.weight;
        if token != 0 {
            self.by_token.insert((lock, token), id);
        }
        if excused {
            return;
        }
        let (used, off) = (self.highest[lock], self.forgot && self.set_back || stood == 0);
        if lock != SEATS {
            let whole = weight == room(lock);
            let admits = off || used.admits(token, whole) || !whole && self.joins_forgotten(lock, token);
            self.rule("S2", s.t, admits, || format!("{token} is granted, and {used:?} was used"));
        }
        let kept = &mut self.kept[lock];
        kept.retain(|(until, _)| *until > s.now);
        let kept = kept.iter().map(|(_, weight)| weight).sum::<u64>();
        self.nobody_else("S5", s.t, (lock, weight + kept), id, None);
        let what = || format!("{} is granted, of which {kept} was to stay", id.short());
        self.rule("S1", s.t, kept == 0 || kept + weight <= room(lock), what);
        if !self.fifo {
            return;
        }
        let first = |r: &Record| r.at == At::Waits && r.end > s.now && r.stood.is_some_and(|at| at < stood);
        let overtaken = self.records.values().any(|r| r.lock == lock && !r.excused && first(r));
        self.rule("L3", s.t, !overtaken, || format!("{} overtook another one", id.short()));
    }

    /// An operator took a lock away, whatever was to stay.
    pub(in super::super) fn cleared(&mut self, lock: usize) {
        self.kept[lock].clear();
    }

    /// A hold went on under another claim.
    pub(in super::super) fn transferred(
        &mut self,
        s: Serving,
        from: &Claim,
        to: &Claim,
        answer: &Result<Answer, tenure::Error>,
    ) {
        let Ok(answer) = answer else { return };
        let stepped = self.born_wrongly(s.machine);
        let before = self.records.get(&from.id.0);
        let excused = before.is_none_or(|r| r.excused);
        let used = i64::from(from.cohort.used) - 1;
        let held = before.filter(|r| r.at == At::Holds && r.end > s.now).map(|r| r.token + used);
        let record = self.record(s, to);
        record.excused |= excused;
        // It stands where the other one stood: before everybody who waits.
        record.stood = Some(0);
        if let Standing::Held(grant) = &answer.standing {
            let stands = record.at == At::Holds && record.end > s.now;
            let ghost = record.withdrawn && !record.excused && !stepped;
            self.rule("S9", s.t, !ghost, || format!("{} went on after it was withdrawn", to.id.short()));
            let token = grant.token.map_or(0, tenure::Token::get);
            // A writer that becomes a reader has a new token: the readers'.
            let whole = room(lock_of(&from.key));
            let downgraded = from.kind == Kind::ReadWrite
                && u64::from(from.weight) == whole
                && u64::from(to.weight) < whole;
            let follows = held.is_some_and(|held| if downgraded { token > held } else { token == held });
            let made = !excused && !stands && !follows;
            self.rule("S10", s.t, !made, || format!("a transfer made {} of {held:?}", to.id.short()));
            if let Some(from) = self.records.get_mut(&from.id.0) {
                from.at = At::Out;
            }
        }
        self.answered(s, to.id, answer);
    }

    /// A hold went on with less: whoever is first in line and has room now is granted in the same step.
    pub(in super::super) fn shrank(&mut self, s: Serving, from: &Claim, to: &Claim) {
        let (lock, goes_on) =
            (lock_of(&to.key), self.records.get(&to.id.0).is_some_and(|r| r.at == At::Holds));
        // Once a fault broke a promise of this lock, nobody knows what the store has of it: the judge does not.
        let unknown = self.records.values().any(|r| r.lock == lock && r.excused);
        if to.weight >= from.weight || !goes_on || unknown {
            return;
        }
        let kept = self.kept[lock].iter().filter(|(until, _)| *until > s.now);
        let mut taken: u64 = kept.map(|(_, weight)| weight).sum();
        let mut first: Option<(u64, u64, u128)> = None;
        for (id, r) in self.records.iter().filter(|(_, r)| r.lock == lock && r.end > s.now) {
            match r.at {
                At::Out => {}
                At::Holds => taken += r.weight,
                At::Waits => {
                    let place = (r.stood.unwrap_or(u64::MAX), r.weight, *id);
                    first = first.map_or(Some(place), |first| Some(first.min(place)));
                }
            }
        }
        let fits = first.is_some_and(|(_, weight, _)| taken + weight <= room(lock));
        let what = || format!("{taken} are taken, and {first:?} still waits");
        self.rule("L3", s.t, !fits, what);
    }

    pub(in super::super) fn evicted(&mut self, id: ClaimId) {
        if let Some(record) = self.records.get_mut(&id.0) {
            (record.at, record.evicted) = (At::Out, true);
            record.withdrawn |= self.marks;
        }
    }

    /// A claim ended with its session.
    pub(in super::super) fn ended(&mut self, id: ClaimId, now: u64) {
        if let Some(record) = self.records.get_mut(&id.0) {
            (record.at, record.end) = (At::Out, record.end.min(now));
        }
    }

    pub(in super::super) fn released(
        &mut self,
        s: Serving,
        claim: &Claim,
        leave: Leave,
        released: &Result<Released, tenure::Error>,
    ) {
        let Ok(released) = released else { return };
        let record = self.record(s, claim);
        let lives = record.at != At::Out && record.end > s.now && !record.excused;
        record.at = At::Out;
        record.given_back |= *released == Released::WasHeld;
        // A hold that stays is followed by its mark.
        record.withdrawn |= !matches!(leave, Leave::For(_));
        let (lock, weight, excused) = (record.lock, record.weight, record.excused);
        if let (Leave::For(d), Released::WasHeld, false) = (leave, released, excused) {
            self.kept[lock].push((s.now + nanos(d), weight));
        }
        let unknown = lives && *released == Released::Gone;
        self.rule("S4", s.t, !unknown, || format!("{} vanished before its release", claim.id.short()));
    }
}

fn end(now: u64, lease: Lease) -> u64 {
    match lease {
        Lease::For(d) => now + nanos(d),
        Lease::Unbounded => u64::MAX,
    }
}
