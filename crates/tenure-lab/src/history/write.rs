//! Writes events: one system call per line, so a killed process leaves whole lines.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::event::{Event, Op, Phase};
use super::{Header, Name};
use crate::num::boot_ns;

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The history file of one process. All its tasks may write at the same time. Lines are not sorted; [`Merge`](super::Merge)
/// does that. Nothing is buffered: once `put` returns, the kernel has the line, so SIGKILL does not lose it.
#[derive(Debug)]
pub struct Writer {
    file: File,
}

impl Writer {
    /// Creates an empty file. A process that is started again takes another one.
    ///
    /// # Errors
    /// The file exists already, or cannot be created.
    pub fn create(path: &Path) -> io::Result<Writer> {
        Ok(Writer { file: OpenOptions::new().append(true).create_new(true).open(path)? })
    }

    /// Creates a history that one process writes alone, with the header.
    ///
    /// # Errors
    /// Like [`create`](Writer::create).
    pub fn whole(path: &Path, header: &Header) -> io::Result<Writer> {
        let writer = Writer::create(path)?;
        let mut line = serde_json::to_vec(header)?;
        line.push(b'\n');
        (&writer.file).write_all(&line)?;
        Ok(writer)
    }

    /// Appends one event.
    ///
    /// # Errors
    /// `InvalidData` if the event lacks a field that its operation must have; otherwise the file's error.
    pub fn put(&self, event: &Event) -> io::Result<()> {
        event.check_shape().map_err(|lack| io::Error::new(io::ErrorKind::InvalidData, lack))?;
        LINE.with_borrow_mut(|line| {
            line.clear();
            serde_json::to_writer(&mut *line, event)?;
            line.push(b'\n');
            // One write(2) in append mode is contiguous, whoever else writes. Only a full disk makes it short.
            (&self.file).write_all(line)
        })
    }
}

/// Writes the events of one task: knows its process and its client.
#[derive(Clone, Debug)]
pub struct Recorder {
    writer: Arc<Writer>,
    p: u32,
    c: Name,
}

impl Recorder {
    /// For the client `c` (as `3.1`) of process `p`.
    #[must_use]
    pub fn new(writer: Arc<Writer>, p: u32, c: impl Into<Name>) -> Recorder {
        Recorder { writer, p, c: c.into() }
    }

    /// A new event of this client, stamped now.
    #[must_use]
    pub fn now(&self, op: Op, phase: Phase) -> Event {
        Event::new(boot_ns(), self.p, op, phase).client(self.c)
    }

    /// Appends one event.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn put(&self, event: &Event) -> io::Result<()> {
        self.writer.put(event)
    }
}
