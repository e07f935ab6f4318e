//! Events as lines: the fields of each, the order in which they are written, and how they are read.

use std::fmt;

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::event::{Claim, Event, Fault, Kind, Op, Phase};
use super::name::Name;

/// The phases of each operation, and the fields that it must have in them, besides `t`, `p`, `op` and `phase`.
pub const SHAPES: &[(Op, &[Phase], &[&str])] = &[
    (Op::Acquire, &[Phase::Invoke], &["c", "lock", "kind", "weight", "capacity", "claim"]),
    (Op::Acquire, &[Phase::Ok, Phase::Fail, Phase::Info], &["c", "lock", "claim"]),
    (Op::Queued, &[Phase::Ok], &["c", "lock", "claim"]),
    (Op::Cancel, &[Phase::Ok], &["c", "claim"]),
    (Op::Enter, &[Phase::Invoke], &["c", "lock", "claim", "resource"]),
    (Op::Enter, &[Phase::Ok], &["c", "lock", "claim", "resource", "value"]),
    (Op::Enter, &[Phase::Fail, Phase::Info, Phase::Refused], &["c", "lock", "claim", "resource"]),
    (Op::Write, &[Phase::Ok], &["c", "lock", "claim", "resource", "value", "fenced"]),
    (
        Op::Write,
        &[Phase::Invoke, Phase::Fail, Phase::Info, Phase::Refused],
        &["c", "lock", "claim", "resource", "fenced"],
    ),
    (Op::Check, &[Phase::Ok, Phase::Lost], &["c", "claim"]),
    (Op::Renew, &[Phase::Ok, Phase::Lost, Phase::Info], &["c", "claim"]),
    (Op::Lost, &[Phase::Ok], &["c", "claim"]),
    (Op::Release, &[Phase::Invoke, Phase::Ok, Phase::Gone, Phase::Unknown], &["c", "claim"]),
    (Op::Fault, &[Phase::Begin], &["fault", "id", "target", "breaks"]),
    (Op::Fault, &[Phase::End], &["fault", "id"]),
    (Op::Final, &[Phase::Ok], &["resource", "value", "fenced"]),
    (Op::Residue, &[Phase::Ok], &["detail"]),
];

impl Event {
    /// Checks that the event has the fields that its operation and phase must have.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn check_shape(&self) -> Result<(), String> {
        let Some((_, _, fields)) =
            SHAPES.iter().find(|(op, phases, _)| *op == self.op && phases.contains(&self.phase))
        else {
            return Err(format!("{} has no phase {}", self.op.word(), self.phase.word()));
        };
        for field in *fields {
            if !self.has(field) {
                return Err(format!("{} {} without {field}", self.op.word(), self.phase.word()));
            }
        }
        if self.token.is_some_and(|token| token <= 0) {
            return Err("a token is a positive number".into());
        }
        Ok(())
    }

    fn has(&self, field: &str) -> bool {
        match field {
            "c" => self.c.is_some(),
            "lock" => self.lock.is_some(),
            "kind" => self.kind.is_some(),
            "weight" => self.weight.is_some(),
            "capacity" => self.capacity.is_some(),
            "claim" => self.claim.is_some(),
            "resource" => self.resource.is_some(),
            "value" => self.value.is_some(),
            "fenced" => self.fenced.is_some(),
            "detail" => self.detail.is_some(),
            _ => self.fault.is_some(),
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("t", &self.t)?;
        map.serialize_entry("p", &self.p)?;
        // Absent fields are left out.
        macro_rules! some {
            ($($field:ident),*) => {$(
                if let Some(value) = &self.$field {
                    map.serialize_entry(stringify!($field), value)?;
                }
            )*};
        }
        some!(c);
        map.serialize_entry("op", &self.op)?;
        map.serialize_entry("phase", &self.phase)?;
        some!(lock, kind, weight, capacity, claim, token, deadline, previous, resource, fenced, value);
        if let Some(fault) = &self.fault {
            map.serialize_entry("fault", &fault.name)?;
            map.serialize_entry("id", &fault.id)?;
            map.serialize_entry("target", &fault.target)?;
            map.serialize_entry("breaks", &fault.breaks)?;
        }
        some!(detail);
        map.end()
    }
}

/// A line as it is written. Unknown fields are ignored.
#[derive(Deserialize)]
struct Line {
    t: u64,
    p: u32,
    op: Op,
    phase: Phase,
    c: Option<Name>,
    lock: Option<Name>,
    kind: Option<Kind>,
    weight: Option<u32>,
    capacity: Option<u32>,
    claim: Option<Claim>,
    token: Option<i64>,
    deadline: Option<u64>,
    previous: Option<Name>,
    resource: Option<Name>,
    fenced: Option<bool>,
    value: Option<i64>,
    fault: Option<Name>,
    id: Option<u64>,
    target: Option<Name>,
    breaks: Option<Vec<Name>>,
    detail: Option<Box<serde_json::Value>>,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Event, D::Error> {
        let line = Line::deserialize(from)?;
        let fault = match (line.op, line.fault, line.id) {
            (Op::Fault, Some(name), Some(id)) => {
                if line.phase == Phase::Begin && (line.target.is_none() || line.breaks.is_none()) {
                    return Err(D::Error::custom("fault begin without target or breaks"));
                }
                let target = line.target.unwrap_or_else(|| Name::new(""));
                Some(Box::new(Fault { name, id, target, breaks: line.breaks.unwrap_or_default() }))
            }
            _ => None,
        };
        let event = Event {
            t: line.t,
            p: line.p,
            op: line.op,
            phase: line.phase,
            c: line.c,
            lock: line.lock,
            kind: line.kind,
            fenced: line.fenced,
            weight: line.weight,
            capacity: line.capacity,
            claim: line.claim,
            token: line.token,
            deadline: line.deadline,
            previous: line.previous,
            resource: line.resource,
            value: line.value,
            fault,
            detail: line.detail,
        };
        event.check_shape().map_err(D::Error::custom)?;
        Ok(event)
    }
}

impl Serialize for Claim {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Claim, D::Error> {
        struct Digits;
        impl serde::de::Visitor<'_> for Digits {
            type Value = Claim;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a claim of 16 hexadecimal digits in lower case")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Claim, E> {
                let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                let number = u64::from_str_radix(text, 16).ok();
                let sound = text.len() == 16 && text.bytes().all(digit);
                number
                    .filter(|_| sound)
                    .map(Claim)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_str(Digits)
    }
}
