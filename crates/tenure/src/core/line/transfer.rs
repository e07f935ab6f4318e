//! A hold that goes on under another claim.

use super::cells::{self, NONE, claim, hi, lo, pair, state};
use super::settle::MARK_NS;
use super::verbs::{SWEEP, weighs};
use super::{Arena, Ask, Kind, Lines, Now, Place, Previous, RW_CAPACITY, Refusal, ends};

impl<A: Arena> Lines<A> {
    /// Continues the hold of the claim `from` under the claim `to`: the same lock, place, token and since-time; the
    /// id, weight, lease, slot and note of `to`. Nobody knows `from` afterwards. Repeated, it answers where `to` stands;
    /// where `from` does not hold, `to` is gone. What became free is granted.
    ///
    /// A writer that becomes a reader gets the readers' token: a new one, which the readers that join it share.
    ///
    /// # Errors
    /// `Larger`, where `to` weighs more than is held; otherwise as [`attempt`](Lines::attempt).
    pub fn transfer(&mut self, from: u128, to: &Ask<'_>, now: Now) -> Result<Place, Refusal> {
        let result = self.transfer_steps(from, to, now);
        self.finish(result)
    }

    fn transfer_steps(&mut self, from: u128, to: &Ask<'_>, now: Now) -> Result<Place, Refusal> {
        weighs(to)?;
        self.tidy(SWEEP, now)?;
        let l = self.settled(&self.name(to.key), now)?;
        let known = self.known(to.id, now)?;
        if known != NONE {
            if !self.stands(known, l) {
                return Ok(self.gone(known));
            }
            self.extend(l, known, now);
            self.commit()?;
            return Ok(self.standing(l, known));
        }
        if now.ns.saturating_sub(to.birth) > MARK_NS {
            return Ok(Place::Gone { why: None });
        }
        let c = self.known(from, now)?;
        if !self.stands(c, l) || self.state(c) != state::HELD {
            return Ok(self.gone(c));
        }
        let kind = self.kind(l)?;
        if kind != to.kind {
            return Err(Refusal::Kind(kind));
        }
        if to.weight > self.weight(c) {
            return Err(Refusal::Larger);
        }
        self.continue_as(l, c, to, now)?;
        self.settle(l, now)?;
        Ok(self.standing(l, c))
    }

    /// The step itself. The claim is taken out of the trees and put back, since its id decides its places in them.
    fn continue_as(&mut self, l: u32, c: u32, to: &Ask<'_>, now: Now) -> Result<(), Refusal> {
        let shrinks = self.kind(l)? == Kind::ReadWrite && self.weight(c) == RW_CAPACITY;
        if shrinks && to.weight < RW_CAPACITY {
            let token = self.token(l, to.weight, now)?;
            self.set(c, claim::TOKEN, token.cast_unsigned());
            self.set_ended(l, Previous::Released);
        }
        self.unplace(l, c);
        self.unindex(c);
        #[allow(clippy::cast_possible_truncation)] // both halves
        let id = [(to.id >> 64) as u64, to.id as u64];
        self.set(c, claim::ID, id[0]);
        self.set(c, claim::ID + 1, id[1]);
        let before = self.before(c);
        self.set(c, claim::STATE, pair(ends::granted(state::HELD, before), to.weight));
        self.set(c, claim::CAPACITY, pair(to.capacity, to.capacity));
        self.set(c, claim::END, now.ns.saturating_add(to.ttl));
        self.set(c, claim::TTL, to.ttl);
        self.set(c, claim::WAITING_TTL, to.waiting);
        if cells::compare(&self.arena, to.note, c, &claim::NOTE).is_ne() {
            self.free_text(c, &claim::NOTE);
            if self.write_text(c, &claim::NOTE, to.note, false)? < to.note.len() {
                return Err(Refusal::Full);
            }
        }
        let word = self.at(c, claim::LOCK_SLOT);
        if hi(word) != to.slot {
            self.unanchor(c);
            self.set(c, claim::LOCK_SLOT, pair(lo(word), to.slot));
            self.anchor(c, to.slot)?;
        }
        self.index(c, to.id);
        self.place(l, c, true);
        self.touch(l);
        self.commit()
    }
}
