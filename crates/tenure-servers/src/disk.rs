//! A small disk that a trial can fill: a mounted tmpfs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::process::run;

/// How large it is.
const OPTIONS: &str = "size=256m,mode=0700";

/// The disk. Unmounted when this value is dropped.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one on a directory.
    ///
    /// # Errors
    /// Says why that is not allowed here.
    pub fn mount(dir: &Path) -> Result<Disk, String> {
        run("mount", &["-t", "tmpfs", "-o", OPTIONS, "tenure-lab", &dir.to_string_lossy()])?;
        Ok(Disk(dir.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Writes until nothing more fits.
    pub fn fill(&self) {
        let Ok(mut file) = File::create(self.filler()) else { return };
        let block = vec![1u8; 1 << 20];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..512]).is_ok() {}
    }

    /// Makes room again.
    pub fn free(&self) {
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.0.to_string_lossy()]);
    }
}
