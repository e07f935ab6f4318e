//! Which fault excuses which rule, and when.

use std::collections::HashMap;

use crate::history::{History, Name, Op, Phase};

/// One fault.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) name: Name,
    pub(crate) target: Name,
    pub(crate) from: u64,
    /// When it ended; the end of the history if that does not say.
    pub(crate) to: u64,
    pub(crate) breaks: Vec<Name>,
}

impl Window {
    /// The client process that it hits, if any.
    pub(crate) fn client(&self) -> Option<u32> {
        self.target.as_str().strip_prefix("client ")?.parse().ok()
    }

    /// Whether a client is stopped for longer than this.
    pub(crate) fn pauses_longer_than(&self, ns: u64) -> bool {
        matches!(self.name.as_str(), "pause" | "pause_between_accesses")
            && self.target.as_str().starts_with("client")
            && self.to - self.from > ns
    }
}

/// A time in which a rule is not promised.
#[derive(Clone, Copy, Debug)]
struct Excuse {
    from: u64,
    to: u64,
}

/// The faults of a run.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    pub(crate) all: Vec<Window>,
    /// By rule: disjoint and sorted.
    wide: HashMap<&'static str, Vec<Excuse>>,
    /// By rule and client process, sorted by their beginning.
    narrow: HashMap<(&'static str, u32), Vec<Excuse>>,
}

impl Windows {
    pub(crate) fn of(history: &History) -> Windows {
        let end = history.events.last().map_or(0, |event| event.t);
        let mut all: Vec<Window> = Vec::new();
        let mut open: HashMap<(Name, u64), usize> = HashMap::new();
        for event in history.events.iter().filter(|event| event.op == Op::Fault) {
            let Some(fault) = &event.fault else { continue };
            let key = (fault.name, fault.id);
            if event.phase == Phase::Begin {
                open.insert(key, all.len());
                let (name, target, breaks) = (fault.name, fault.target, fault.breaks.clone());
                all.push(Window { name, target, from: event.t, to: end.max(event.t), breaks });
            } else if let Some(index) = open.remove(&key) {
                all[index].to = event.t;
            }
        }
        let mut windows = Windows { all, ..Windows::default() };
        windows.sort_out(history.header.ttl_ns());
        windows
    }

    fn sort_out(&mut self, ttl: u64) {
        for window in &self.all {
            let excuse = Excuse { from: window.from, to: window.to.saturating_add(ttl) };
            for rule in &window.breaks {
                match window.client() {
                    Some(p) => self.narrow.entry((rule.as_str(), p)).or_default().push(excuse),
                    None => self.wide.entry(rule.as_str()).or_default().push(excuse),
                }
            }
        }
        for excuses in self.wide.values_mut() {
            excuses.sort_by_key(|excuse| excuse.from);
            let mut merged: Vec<Excuse> = Vec::new();
            for excuse in excuses.iter() {
                match merged.last_mut() {
                    Some(last) if excuse.from <= last.to => last.to = last.to.max(excuse.to),
                    _ => merged.push(*excuse),
                }
            }
            *excuses = merged;
        }
    }

    /// Whether there is an instant from `from` to `to` when `rule` was not promised.
    pub(crate) fn excuse(&self, rule: &str, from: u64, to: u64) -> bool {
        self.wide.get(rule).is_some_and(|excuses| {
            let after = excuses.partition_point(|excuse| excuse.from <= to);
            after > 0 && excuses[after - 1].to >= from
        })
    }

    /// Like [`excuse`](Windows::excuse), for something that involves these client processes.
    pub(crate) fn excuse_for(&self, rule: &'static str, from: u64, to: u64, clients: &[u32]) -> bool {
        self.excuse(rule, from, to)
            || clients.iter().any(|p| {
                let narrow = self.narrow.get(&(rule, *p));
                narrow.is_some_and(|excuses| {
                    excuses.iter().any(|excuse| excuse.from <= to && excuse.to >= from)
                })
            })
    }

    /// When the last fault ended; 0 without faults.
    pub(crate) fn healed(&self) -> u64 {
        self.all.iter().map(|window| window.to).max().unwrap_or(0)
    }
}
