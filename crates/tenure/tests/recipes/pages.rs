//! The pages of the manual show what the programs do, word for word.

use std::fs;
use std::path::PathBuf;

use libtest_mimic::{Failed, Trial};

/// A page for each program, and a program for each page.
pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("pages::show_the_programs_as_they_are", shown)]
}

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The lines without what they have in common on the left.
fn flush(lines: &[&str]) -> Vec<String> {
    let depth = |line: &&&str| line.len() - line.trim_start().len();
    let least =
        lines.iter().filter(|line| !line.trim().is_empty()).min_by_key(depth).map_or(0, |l| depth(&l));
    lines.iter().map(|line| line.get(least..).unwrap_or_default().trim_end().to_owned()).collect()
}

/// The pieces of Rust that a page shows, each cut where it leaves something out.
fn pieces(page: &str) -> Vec<Vec<&str>> {
    let (mut pieces, mut piece): (Vec<Vec<&str>>, Option<Vec<&str>>) = (Vec::new(), None);
    for line in page.lines() {
        match (&mut piece, line.trim()) {
            (None, "```rs") => piece = Some(Vec::new()),
            (None, _) => {}
            (Some(_), "```") => pieces.extend(piece.take()),
            (Some(lines), "// ...") => pieces.push(std::mem::take(lines)),
            (Some(lines), _) => lines.push(line),
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn shown() -> Result<(), Failed> {
    let folder = fs::read_dir(here("examples/recipes"))?;
    let mut names: Vec<String> = folder
        .filter_map(|e| e.ok()?.path().file_stem().map(|n| n.to_string_lossy().into_owned()))
        .filter(|name| !["main", "shop"].contains(&name.as_str()))
        .collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    let mut faults = Vec::new();
    for name in names {
        let program = fs::read_to_string(here(&format!("examples/recipes/{name}.rs")))?;
        let program: Vec<&str> = program.lines().collect();
        let page = fs::read_to_string(here(&format!("src/manual/recipes/{name}.md")))
            .map_err(|error| format!("{name} has no page: {error}"))?;
        let pieces = pieces(&page);
        if pieces.is_empty() {
            faults.push(format!("{name}.md shows no program"));
        }
        for piece in pieces {
            let (piece, n) = (flush(&piece), piece.len());
            if !program.windows(n).any(|window| flush(window) == piece) {
                faults.push(format!("{name}.md shows what the program does not do:\n{}", piece.join("\n")));
            }
        }
        for heading in ["# The fence", "# When the holder dies"] {
            if !page.contains(heading) {
                faults.push(format!("{name}.md has no {heading:?}"));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}
