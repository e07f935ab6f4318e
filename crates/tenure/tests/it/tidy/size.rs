//! How long files and functions are, and what must not be left in them.

use super::{Source, has_word, none, sources};

const FILE_MAX: usize = 400;
const FUNCTION_MAX: usize = 70;

#[test]
fn no_file_is_too_long() {
    let long = |s: &Source| {
        let lines = s.code().count();
        (lines > FILE_MAX)
            .then(|| format!("{}: {lines} lines of code, more than {FILE_MAX}: split it", s.path))
    };
    none(&sources("", "rs").iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn no_function_is_too_long() {
    let sources = sources("", "rs");
    let (mut faults, mut functions) = (Vec::new(), 0);
    for source in &sources {
        let lines: Vec<_> = source.code().collect();
        for (at, (number, line)) in lines.iter().enumerate() {
            let Some(indent) = opened(line) else { continue };
            functions += 1;
            // As rustfmt writes it, a function ends at the next brace with its own indentation; one without a body ends
            // with its signature.
            let brace = format!("{indent}}}");
            let bare = format!("{indent})");
            let ends = |l: &str| l == brace || (l.starts_with(&bare) && l.ends_with(';'));
            let length = lines[at..].iter().position(|(_, l)| ends(l)).map_or(1, |n| n + 1);
            if length > FUNCTION_MAX {
                faults.push(format!(
                    "{}:{number}: {length} lines, more than {FUNCTION_MAX}: split it",
                    source.path
                ));
            }
        }
    }
    assert!(functions > 300, "only {functions} functions found: this test has gone blind");
    none(&faults);
}

/// The indentation of the function that `line` opens, if it opens one that is longer than a line.
fn opened(line: &str) -> Option<&str> {
    let rest = line.trim_start();
    let (head, _) = rest.split_once("fn ")?;
    let known =
        |w: &str| ["const", "async", "unsafe", "extern", "\"C\""].contains(&w) || w.starts_with("pub");
    let opens = head.split_whitespace().all(known) && !rest.ends_with(['}', ';']);
    opens.then(|| &line[..line.len() - rest.len()])
}

#[test]
fn nothing_is_left_over() {
    // In two pieces each, so that this file does not find itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("dbg", "!"),
        concat!("todo", "!"),
        concat!("unimplemented", "!"),
    ];
    let mut faults = Vec::new();
    for extension in ["rs", "md", "toml", "lua", "sql"] {
        for source in sources("", extension) {
            for (number, line) in source.text.lines().enumerate() {
                let attribute = line.trim_start().starts_with(concat!("#[", "ignore"));
                let found = marks.iter().find(|m| has_word(line, m)).copied();
                if let Some(mark) = found.or(attribute.then_some("an ignored test")) {
                    faults.push(format!("{}:{}: {mark} is left over", source.path, number + 1));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn chores_are_written_in_rust() {
    let scripts: Vec<String> =
        sources("", "sh").iter().map(|s| format!("{}: make it a chore of xtask", s.path)).collect();
    none(&scripts);
}
