//! Reads a whole history into memory, or names the line that is wrong.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::event::Event;
use super::{Header, VERSION};

/// A history.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Describes the run.
    pub header: Header,
    /// The events, by `t`.
    pub events: Vec<Event>,
}

/// Why a history cannot be read.
#[derive(Debug)]
pub struct ReadError {
    /// The line, counted from 1; 0 stands for the file itself.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

impl std::error::Error for ReadError {}

impl History {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be opened, or a line is malformed.
    pub fn read(path: &Path) -> Result<History, ReadError> {
        let file =
            File::open(path).map_err(|e| ReadError { line: 0, what: format!("{}: {e}", path.display()) })?;
        History::parse(file).map_err(|mut error| {
            if error.line == 0 {
                error.what = format!("{}: {}", path.display(), error.what);
            }
            error
        })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// A line is malformed.
    pub fn parse(text: impl Read) -> Result<History, ReadError> {
        let mut text = BufReader::with_capacity(64 << 10, text);
        let mut buffer = Vec::new();
        let mut header = None;
        let mut events: Vec<Event> = Vec::new();
        let mut sorted = true;
        for line in 1.. {
            let bad = |what: String| ReadError { line, what };
            buffer.clear();
            if text.read_until(b'\n', &mut buffer).map_err(|e| bad(e.to_string()))? == 0 {
                break;
            }
            if buffer.trim_ascii().is_empty() {
                continue;
            }
            if header.is_none() {
                header = Some(first(&buffer).map_err(bad)?);
                continue;
            }
            // serde_json counts lines of this one text; we know the line of the file.
            let event: Event = serde_json::from_slice(&buffer).map_err(|e| bad(reason(&e)))?;
            sorted &= events.last().is_none_or(|last| last.t <= event.t);
            events.push(event);
        }
        if !sorted {
            events.sort_by_key(|event| event.t);
        }
        let header = header.ok_or_else(|| ReadError { line: 0, what: "the file is empty".into() })?;
        Ok(History { header, events })
    }
}

fn first(line: &[u8]) -> Result<Header, String> {
    let header: Header = serde_json::from_slice(line).map_err(|e| reason(&e))?;
    match header.history {
        VERSION if header.ttl_ms == 0 => Err("the header has no ttl_ms".into()),
        VERSION => Ok(header),
        0 => Err(r#"the first line is no header; a header begins with {"history":1"#.into()),
        other => Err(format!("a history of version {other}; this program reads version {VERSION}")),
    }
}

fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => format!("{} (column {})", &text[..at], error.column()),
        None => text,
    }
}
