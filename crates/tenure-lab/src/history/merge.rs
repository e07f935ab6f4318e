//! Puts the files of all processes together, by time.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Header;
use super::event::{Claim, Event, Op, Phase};

/// The files of a run.
#[derive(Debug, Default)]
pub struct Merge {
    parts: Vec<Part>,
    until: Option<u64>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    died: Option<u64>,
}

/// The result of a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Events written.
    pub events: u64,
    /// Last lines that were cut off and left out: the kernel may end the write of a killed process at a page boundary.
    pub torn: u64,
    /// `lost` events added for the holds of killed processes.
    pub ended: u64,
}

/// A line of a part: its time, then where it is.
struct At {
    t: u64,
    part: usize,
    from: usize,
    to: usize,
}

impl Merge {
    /// None yet.
    #[must_use]
    pub fn new() -> Merge {
        Merge::default()
    }

    /// Adds the file of a process that ended by itself.
    #[must_use]
    pub fn part(mut self, path: impl Into<PathBuf>) -> Merge {
        self.parts.push(Part { path: path.into(), died: None });
        self
    }

    /// Adds the file of a process that was killed; `t` is just before the signal was sent. Its holds are marked as lost at
    /// that time, or at its last event if that came later, because the dead believe nothing. Faults that it began end then too.
    #[must_use]
    pub fn died(mut self, path: impl Into<PathBuf>, t: u64) -> Merge {
        self.parts.push(Part { path: path.into(), died: Some(t) });
        self
    }

    /// Leaves out later events. Use it while processes still write: the files are not read at the same instant.
    #[must_use]
    pub fn until(mut self, t: u64) -> Merge {
        self.until = Some(t);
        self
    }

    /// Writes the history to `out`, which is replaced.
    ///
    /// # Errors
    /// A file cannot be read or written, or a whole line has no time.
    pub fn write(&self, header: &Header, out: &Path) -> io::Result<Merged> {
        let mut merged = Merged::default();
        let mut texts = Vec::new();
        for part in &self.parts {
            let mut text = fs::read(&part.path).map_err(|e| named(&part.path, &e))?;
            let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            merged.torn += u64::from(whole < text.len());
            text.truncate(whole);
            if let Some(t) = part.died {
                merged.ended += bury(&mut text, t).map_err(|e| named(&part.path, &e))?;
            }
            texts.push(text);
        }
        let mut lines = Vec::new();
        for (part, text) in texts.iter().enumerate() {
            let mut from = 0;
            while let Some(length) = text[from..].iter().position(|b| *b == b'\n') {
                let to = from + length + 1;
                let t = stamp(&text[from..to]).map_err(|e| named(&self.parts[part].path, &e))?;
                if self.until.is_none_or(|until| t <= until) {
                    lines.push(At { t, part, from, to });
                }
                from = to;
            }
        }
        // Stable: events with the same time keep the order of their file.
        lines.sort_by_key(|at| at.t);
        merged.events = lines.len() as u64;
        let mut file = BufWriter::with_capacity(1 << 20, File::create(out)?);
        serde_json::to_writer(&mut file, &Header { events: Some(merged.events), ..header.clone() })?;
        file.write_all(b"\n")?;
        for at in lines {
            file.write_all(&texts[at.part][at.from..at.to])?;
        }
        file.flush()?;
        Ok(merged)
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The time of a line; our own lines begin with it.
fn stamp(line: &[u8]) -> io::Result<u64> {
    #[derive(Deserialize)]
    struct Stamp {
        t: u64,
    }
    if let Some(rest) = line.strip_prefix(b"{\"t\":") {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let number = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
        if let Some(t) = number {
            return Ok(t);
        }
    }
    Ok(serde_json::from_slice::<Stamp>(line)?.t)
}

/// Appends a `lost` for each claim that the dead process held, and the ends of the faults that it began. The number of
/// claims.
fn bury(text: &mut Vec<u8>, t: u64) -> io::Result<u64> {
    let mut open: HashMap<Claim, Event> = HashMap::new();
    let mut faults: BTreeMap<u64, Event> = BTreeMap::new();
    let mut last = t;
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let event: Event = serde_json::from_slice(line)?;
        last = last.max(event.t);
        match (&event.fault, event.phase) {
            (Some(fault), Phase::Begin) => {
                faults.insert(fault.id, event);
                continue;
            }
            (Some(fault), _) => {
                faults.remove(&fault.id);
                continue;
            }
            (None, _) => {}
        }
        match (event.claim, event.op, event.phase) {
            (Some(claim), Op::Acquire, Phase::Ok) => {
                open.insert(claim, event);
            }
            (Some(claim), Op::Lost, _)
            | (Some(claim), Op::Release, Phase::Invoke)
            | (Some(claim), Op::Check, Phase::Lost) => {
                open.remove(&claim);
            }
            _ => {}
        }
    }
    let mut left: Vec<_> = open.into_iter().collect();
    left.sort_by_key(|(claim, _)| *claim);
    for (claim, held) in &left {
        let mut lost =
            Event::new(last, held.p, Op::Lost, Phase::Ok).claim(*claim).detail("its process was killed");
        (lost.c, lost.lock) = (held.c, held.lock);
        serde_json::to_writer(&mut *text, &lost)?;
        text.push(b'\n');
    }
    for fault in faults.into_values() {
        serde_json::to_writer(&mut *text, &Event { t: last, phase: Phase::End, ..fault })?;
        text.push(b'\n');
    }
    Ok(left.len() as u64)
}
