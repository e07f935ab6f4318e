//! `docs/wire` against the constants: a format that changes without its document, or its version, is a broken promise.

use std::collections::BTreeSet;

use super::read;

#[test]
fn the_host_file_is_documented_as_it_is() {
    let layout = read("crates/tenure/src/backend/host/format.rs");
    let cells = read("crates/tenure/src/core/line/cells.rs");
    let arena = read("crates/tenure/src/core/line/arena.rs");
    let chunks = read("crates/tenure/src/backend/host/chunks.rs");
    let named = [
        "LAYOUT",
        "PAGE",
        "SLOTS",
        "SLOT_SIZE",
        "SHARDS",
        "AREAS",
        "HEAD",
        "WINDOW",
        "RING",
        "LOG_MAX",
        "CELL",
    ];
    let mut coded = BTreeSet::new();
    for (module, name, value) in [layout, arena, chunks].iter().flat_map(|source| constants(source)) {
        match module.as_str() {
            "" if named.contains(&name.as_str()) => _ = coded.insert((String::new(), name, value)),
            // The header's fields are indices of words and halves; the document counts bytes.
            "header" => {
                let byte = value.split(" / ").next().unwrap_or_default().to_owned();
                coded.insert((String::new(), name, byte));
            }
            _ => {}
        }
    }
    let ours = |(module, name, _): &(String, String, String)| !module.is_empty() && name != "MAGIC_WORD";
    coded.extend(constants(&cells).into_iter().filter(ours));
    assert!(coded.len() > 60, "only {} constants found: this test has gone blind", coded.len());
    let written = rows(&read("docs/wire/host.md"));
    let missing: Vec<_> = coded.difference(&written).collect();
    let stale: Vec<_> = written.difference(&coded).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/wire/host.md lacks {missing:#?} and should not have {stale:#?}"
    );
}

/// Module, name and value of each constant of a file.
fn constants(source: &str) -> Vec<(String, String, String)> {
    let mut module = String::new();
    let mut out = Vec::new();
    for line in source.lines().take_while(|l| *l != "#[cfg(test)]") {
        if let Some((_, name)) = line.strip_suffix(" {").and_then(|l| l.split_once("mod ")) {
            name.clone_into(&mut module);
        } else if line == "}" {
            module.clear();
        }
        let Some((_, rest)) = line.split_once("const ") else { continue };
        let Some((name, rest)) = rest.split_once(": ") else { continue };
        let Some((_, value)) = rest.strip_suffix(';').and_then(|r| r.split_once(" = ")) else { continue };
        let numbers: Vec<&str> = ["head: ", "inline: ", "words: "]
            .iter()
            .filter_map(|key| value.split_once(key).and_then(|(_, v)| v.split([',', ' ']).next()))
            .collect();
        let value = if numbers.len() == 3 { numbers.join(", ") } else { value.to_owned() };
        out.push((module.clone(), name.to_owned(), value));
    }
    out
}

/// The rows of the document's tables that begin with a constant's name, with the heading above them.
fn rows(document: &str) -> BTreeSet<(String, String, String)> {
    let mut module = String::new();
    let mut out = BTreeSet::new();
    for line in document.lines() {
        if line.starts_with('#') {
            let name = line.strip_prefix("### `").and_then(|l| l.split('`').next()).unwrap_or_default();
            name.clone_into(&mut module);
        }
        let Some((name, rest)) = line.strip_prefix("| `").and_then(|l| l.split_once("` | ")) else {
            continue;
        };
        let Some((value, _)) = rest.split_once(" |") else { continue };
        if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            out.insert((module.clone(), name.to_owned(), value.to_owned()));
        }
    }
    out
}
