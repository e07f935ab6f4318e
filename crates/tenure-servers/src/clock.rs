//! A wall clock that a trial can step, for a server that it starts: a library that the server loads before all others.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::run;

/// The clock of one server.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
    file: File,
}

impl Clock {
    /// Compiles the library with the C compiler of this machine.
    ///
    /// # Errors
    /// Says what is missing, for example a C compiler.
    pub fn new(home: &Path) -> Result<Clock, String> {
        let text = |error: std::io::Error| error.to_string();
        let (source, library, offset) = (home.join("clock.c"), home.join("clock.so"), home.join("clock"));
        fs::write(&source, include_str!("clock.c")).map_err(text)?;
        let words = ["-shared", "-fPIC", "-O2", "-o", &library.to_string_lossy(), &source.to_string_lossy()];
        run("cc", &words)?;
        let file = File::create(&offset).map_err(text)?;
        // The server maps one page of it.
        file.write_all_at(&[0; 4096], 0).map_err(text)?;
        Ok(Clock { library, offset, file })
    }

    /// Lets a server read this clock.
    pub fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CHAOS_CLOCK", &self.offset);
    }

    /// Sets by how many ns the server's wall clock is off. It steps at once.
    pub fn step(&self, ns: i64) {
        let _ = self.file.write_all_at(&ns.to_ne_bytes(), 0);
    }
}
