//! Running other programs.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// A command that runs at the root and reads nothing.
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// `cargo` with the toolchain that runs this.
pub(crate) fn cargo(args: &[&str]) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), args)
}

/// What a program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// A whole line.
    Line(&'a str),
    /// The begin of a line: there is no more for now.
    Begun(&'a str),
}

/// Runs a command to its end, passing on its stdout as it comes and showing it to `each`, with its process id. Its stderr
/// is ours.
pub(crate) fn watch(command: &mut Command, mut each: impl FnMut(u32, Said<'_>)) -> io::Result<ExitStatus> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| named(command, e))?;
    let id = child.id();
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        let mut out = io::stdout();
        loop {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            out.write_all(bytes)?;
            out.flush()?;
            let length = bytes.len();
            for part in bytes.split_inclusive(|b| *b == b'\n') {
                line.extend_from_slice(part);
                if line.ends_with(b"\n") {
                    each(id, Said::Line(String::from_utf8_lossy(&line).trim_end()));
                    line.clear();
                }
            }
            reader.consume(length);
            if !line.is_empty() {
                each(id, Said::Begun(&String::from_utf8_lossy(&line)));
            }
        }
        if !line.is_empty() {
            each(id, Said::Line(String::from_utf8_lossy(&line).trim_end()));
        }
    }
    child.wait()
}

/// Runs a command to its end, its output ours.
pub(crate) fn succeeds(command: &mut Command) -> io::Result<bool> {
    Ok(command.status().map_err(|e| named(command, e))?.success())
}

/// The stdout of a command that succeeds, or what it said on stderr.
pub(crate) fn stdout(command: &mut Command) -> io::Result<String> {
    let output = command.output().map_err(|e| named(command, e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{command:?} failed ({}): {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where a program is, looking where a shell and an administrator would.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let extra = extra.into_iter().chain(postgres());
    std::env::split_paths(&path).chain(extra).map(|dir| dir.join(program)).find(|p| p.is_file())
}

/// Where Debian puts PostgreSQL's own programs: a folder for each version.
fn postgres() -> impl Iterator<Item = PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    versions.filter_map(|version| Some(version.ok()?.path().join("bin")))
}

fn named(command: &Command, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot run {}: {error}", command.get_program().display()))
}
