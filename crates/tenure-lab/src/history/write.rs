//! Writing: a line costs one system call, and a process that is killed leaves whole lines.

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

/// The history file of one process. All its tasks may write at once; lines are not sorted, [`Merge`](super::Merge)
/// does that. Nothing is kept back: what was put is in the kernel's hands, so SIGKILL loses none of it.
#[derive(Debug)]
pub struct Writer {
    file: File,
}

impl Writer {
    /// A new, empty file. A process that is started again takes another one.
    ///
    /// # Errors
    /// The file is there already, or cannot be made.
    pub fn create(path: &Path) -> io::Result<Writer> {
        Ok(Writer { file: OpenOptions::new().append(true).create_new(true).open(path)? })
    }

    /// A history that one process writes alone: begins with the header.
    ///
    /// # Errors
    /// The same.
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
    /// `InvalidData` for an event that lacks what its operation must have; otherwise the file's error.
    pub fn put(&self, event: &Event) -> io::Result<()> {
        event.check_shape().map_err(|lack| io::Error::new(io::ErrorKind::InvalidData, lack))?;
        LINE.with_borrow_mut(|line| {
            line.clear();
            serde_json::to_writer(&mut *line, event)?;
            line.push(b'\n');
            // One write(2) in append mode is one piece of the file, whoever else writes. Only a full disk makes it short.
            (&self.file).write_all(line)
        })
    }
}

/// What one task writes with: knows the process and the client.
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

    /// An event of this client, stamped now.
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
