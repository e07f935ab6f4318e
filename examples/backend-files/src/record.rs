//! The file of one lock, and what each verb makes of it. Pure: the time is an argument, and nothing is read or written.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::backend::{Claim, Grant, Lease, Leave, Standing};
use tenure::core::lease::MARK_LIFE;
use tenure::core::moment::nanos;
use tenure::{Error, Key, Kind, Line, Owner, Previous, Released, Result, Seen, Token};

/// After which pause the engine asks again for a lock that somebody else holds. It adds randomness by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// When a verb runs.
pub(crate) struct Now {
    /// The boot clock, in ns.
    pub(crate) ns: u64,
    /// The wall clock, in µs since the epoch.
    pub(crate) wall_us: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The newest token; 0 before the first grant.
    token: i64,
    hold: Option<Hold>,
    /// Claims of which no late request may ever be granted, and until when each is remembered.
    marks: Vec<(u128, u64)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Hold {
    id: u128,
    since_us: u64,
    lease_ns: u64,
    end_ns: u64,
    /// User, host, process and program.
    owner: (String, String, u32, String),
    reason: String,
}

impl Record {
    /// Every verb begins here: what has expired goes.
    pub(crate) fn settle(&mut self, now: &Now) {
        // After a reboot the clock counts from nothing again, and what is written seems to last for ever.
        self.hold.iter_mut().for_each(|hold| hold.end_ns = hold.end_ns.min(now.ns + hold.lease_ns));
        self.marks.iter_mut().for_each(|(_, until)| *until = (*until).min(now.ns + nanos(MARK_LIFE)));
        self.marks.retain(|(_, until)| *until > now.ns);
        self.hold.take_if(|hold| hold.end_ns <= now.ns);
    }

    /// Whether nothing but the token is left.
    pub(crate) fn is_idle(&self) -> bool {
        self.hold.is_none() && self.marks.is_empty()
    }

    /// Grants the lock if it is free.
    pub(crate) fn attempt(&mut self, claim: &Claim, now: &Now) -> Result<Standing> {
        refuse(claim)?;
        // S7: a claim that holds is told so again. S9: a claim that was withdrawn is not granted, nor is one that is so old
        // that its mark may have expired. All of it is one step with the grant, under the store's own lock.
        let old = now.ns.saturating_sub(claim.birth.nanos()) > nanos(MARK_LIFE);
        if self.is_held_by(claim) || self.is_marked(claim) || old {
            return self.renew(claim, now);
        }
        if self.hold.is_some() {
            let waiting = Standing::Waiting { place: None, ahead: None, look_again: LOOK_AGAIN };
            return Ok(if claim.stand { waiting } else { Standing::Busy });
        }
        // S2: the token is greater than the last one. If the file was lost, the clock makes it greater than all lost ones.
        let next = self.token.checked_add(1).ok_or_else(|| {
            Error::unavailable("the lock has given its last fencing token", "use a lock of another name")
        })?;
        self.token = next.max(i64::try_from(now.wall_us).unwrap_or(0));
        self.hold = Some(Hold { id: claim.id.0, since_us: now.wall_us, ..Hold::default() });
        self.renew(claim, now)
    }

    /// S10: finds the claim's hold or says `Gone`. It never creates one.
    pub(crate) fn renew(&mut self, claim: &Claim, now: &Now) -> Result<Standing> {
        let Some(hold) = self.hold.as_mut().filter(|hold| hold.id == claim.id.0) else {
            return Ok(Standing::Gone { why: None });
        };
        hold.lease_ns = nanos(claim.ttl);
        hold.end_ns = now.ns + hold.lease_ns;
        let Owner { user, host, pid, program } = &*claim.owner;
        hold.owner = (user.clone(), host.clone(), *pid, program.clone());
        hold.reason = claim.reason.to_string();
        let (token, lease) = (Token::new(self.token), Lease::For(claim.ttl));
        Ok(Standing::Held(Grant { token, lease, previous: Previous::Unknown }))
    }

    /// S4: ends the hold of this claim, and of no other.
    pub(crate) fn release(&mut self, claim: &Claim, leave: Leave, now: &Now) -> Result<Released> {
        let held = self.is_held_by(claim);
        if held && matches!(leave, Leave::For(_)) {
            return Err(Error::unsupported("files: keeps no hold without its holder", "use another store"));
        }
        if leave == Leave::Final && !self.is_marked(claim) {
            self.marks.push((claim.id.0, now.ns + nanos(MARK_LIFE)));
        }
        self.hold.take_if(|_| held);
        Ok(if held { Released::WasHeld } else { Released::Gone })
    }

    /// What a listing shows; nothing for a lock that nobody holds.
    pub(crate) fn line(&self, key: Key, now: &Now) -> Option<Line> {
        let hold = self.hold.as_ref()?;
        let (user, host, pid, program) = hold.owner.clone();
        let mut line = Line::new(key, Kind::Mutex, 1);
        line.token = Token::new(self.token);
        line.holders = vec![Seen {
            claim: tenure::backend::ClaimId(hold.id).short(),
            owner: Owner { user, host, pid, program },
            reason: hold.reason.clone(),
            since_us: hold.since_us,
            expires_in: Some(Duration::from_nanos(hold.end_ns.saturating_sub(now.ns))),
            weight: 1,
            token: line.token,
            behind: 0,
        }];
        Some(line)
    }

    fn is_held_by(&self, claim: &Claim) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.id == claim.id.0)
    }

    fn is_marked(&self, claim: &Claim) -> bool {
        self.marks.iter().any(|(id, _)| *id == claim.id.0)
    }
}

/// What this store cannot carry is refused, and never made smaller.
fn refuse(claim: &Claim) -> Result<()> {
    if claim.kind != Kind::Mutex {
        return Err(Error::unsupported("files: carries mutexes only", "use another store"));
    }
    if (claim.weight, claim.capacity, claim.cohort.tokens) != (1, 1, 1) {
        return Err(Error::config("a mutex has one holder with one token", "ask for one"));
    }
    Ok(())
}
