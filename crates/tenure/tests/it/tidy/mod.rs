//! The rules of the house, as tests. Each says what is wrong and where.

mod arrows;
mod documents;
mod features;
mod manual;
mod size;
mod stores;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the crate lies two folders below the root").to_owned()
}

/// A file below the root, by its path.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A file with its path from the root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Its lines that are code, with their numbers: neither blank nor all comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(i, line)| (i + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//") && !line.trim().is_empty())
    }
}

/// All files below `folder` with this extension, in order of their paths.
fn sources(folder: &str, extension: &str) -> Vec<Source> {
    fn walk(folder: &Path, extension: &str, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, extension, out);
            } else if path.is_file() && !path.is_symlink() && path.extension().is_some_and(|e| e == extension)
            {
                out.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(folder), extension, &mut paths);
    paths.sort();
    let from_root =
        |p: &PathBuf| p.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
    paths.iter().map(|p| Source { path: from_root(p), text: read(&from_root(p)) }).collect()
}

/// Fails with all faults at once.
#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Whether a word occurs that no letter, digit or `_` continues.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = line[at + word.len()..].chars().next().is_some_and(part);
        !before && !after
    })
}
