//! The manual: its links, and its lists of what the code has.

use std::collections::{BTreeMap, BTreeSet};

use super::{none, read, root, sources};

/// Where links to items lead on the web.
const ITEMS: &str = "https://docs.rs/tenure/latest/tenure/";

/// The definitions of a page's links: label and target.
fn definitions(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    lines.map(|(label, target)| (label.to_owned(), target.to_owned())).collect()
}

/// The labels that a page's text uses: `[text][label]`.
fn used(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2).collect::<String>();
    // What stands in backticks is no link, but for those around a link's own text.
    let lines = prose.replace("[`", "[").replace("`]", "]");
    let prose = lines.split('`').step_by(2).collect::<String>();
    prose.split("][").skip(1).filter_map(|rest| Some(rest.split_once(']')?.0.to_owned())).collect()
}

/// A page says in its last lines where its links lead on the web; `links.md`, which comes first in rustdoc, where they lead
/// there. Both are the same item or page.
#[test]
fn links_of_the_manual_mean_the_same_on_the_web_and_in_rustdoc() {
    let inside = definitions(&read("crates/tenure/src/manual/links.md"));
    let mut faults = Vec::new();
    let mut known = BTreeSet::new();
    for page in sources("", "md") {
        let manual = page.path.starts_with("crates/tenure/src/manual/") && !page.path.ends_with("/links.md");
        if !manual && page.path != "README.md" {
            continue;
        }
        let web = definitions(&page.text);
        let mut fault = |what: String| faults.push(format!("{}: {what}", page.path));
        if page.text.contains("](crate::") {
            fault("a link to crate:: leads nowhere on the web: use a label".to_owned());
        }
        for label in used(&page.text) {
            let Some(target) = web.get(&label) else {
                fault(format!("[{label}] is not defined"));
                continue;
            };
            known.insert(label.clone());
            let here = inside.get(&label).map(String::as_str);
            if let Some(name) = label.strip_prefix("manual::") {
                let file = format!("{}.md", name.replace("::", "/"));
                if !target.ends_with(file.rsplit('/').next().unwrap_or_default()) {
                    fault(format!("[{label}] leads to {target}"));
                }
            }
            let expected = format!("crate::{label}");
            match (target.strip_prefix(ITEMS), target.contains("://"), here) {
                // An item: the last part of its path is in the address.
                (Some(item), _, Some(here)) if here == expected => {
                    let last = label.trim_end_matches("()").rsplit("::").next().unwrap_or_default();
                    if !item.contains(last) {
                        fault(format!("[{label}] leads to {target}"));
                    }
                }
                (None, false, Some(here)) if here == expected || here.contains(target) => {}
                (None, true, None) => {}
                _ => fault(format!("[{label}] leads to {target}, but in rustdoc to {here:?}")),
            }
        }
    }
    faults.extend(
        inside.keys().filter(|l| !known.contains(*l)).map(|l| format!("links.md: nothing uses [{l}]")),
    );
    assert!(known.len() > 50, "only {} links found: this test has gone blind", known.len());
    none(&faults);
}

/// The first cells of the table between two marks, without their backticks.
fn cells(text: &str, begin: &str, end: &str) -> BTreeSet<String> {
    let table = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).expect("the marks").0;
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| Some(row.split('`').nth(1)?.to_owned())).collect()
}

#[test]
fn the_readme_names_every_cargo_feature() {
    let named = cells(&read("README.md"), "| feature of the library |", "No feature changes");
    let manifest = read("crates/tenure/Cargo.toml");
    let features = manifest.split_once("\n[features]\n").expect("features").1;
    let features = features.split("\n[").next().unwrap_or_default().lines();
    let there: BTreeSet<String> = features
        .filter_map(|line| Some(line.split_once(" = ")?.0.to_owned()))
        .filter(|name| name != "default" && !name.starts_with('#'))
        .collect();
    assert_eq!(named, there, "README.md: the table of cargo features");
}

#[test]
fn the_manual_names_every_metric() {
    let page = read("crates/tenure/src/manual/operations.md");
    let named = cells(&page, "<!-- metrics:", "<!-- end of metrics -->");
    let there: BTreeSet<String> = sources("crates/tenure/src", "rs")
        .iter()
        .flat_map(|source| source.text.split("\"tenure_").skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|rest| Some(format!("tenure_{}", rest.split_once('"')?.0)))
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(there.len() > 8, "{there:?}");
    assert_eq!(named, there, "manual/operations.md: the table of metrics");
    let code = read("crates/tenure/src/engine/telling.rs").split_whitespace().collect::<String>();
    let described = |name: &&String| {
        ["counter", "gauge", "histogram"]
            .iter()
            .any(|kind| code.contains(&format!("describe_{kind}!(\"{name}\"")))
    };
    let missing = there.iter().filter(|name| !described(name));
    none(&missing.map(|name| format!("telling.rs does not describe {name}")).collect::<Vec<_>>());
}

#[test]
fn the_manual_names_every_kind_of_error() {
    let page = read("crates/tenure/src/manual/errors.md");
    let code = read("crates/tenure/src/error.rs");
    let kinds = code.split_once("pub enum ErrorKind {").expect("the kinds").1;
    let kinds = kinds.split("\n}").next().unwrap_or_default().lines().map(str::trim);
    let kinds: Vec<&str> = kinds.filter_map(|l| l.strip_suffix(',')).filter(|l| !l.contains(' ')).collect();
    assert!(kinds.len() >= 7, "{kinds:?}");
    let missing = kinds.iter().filter(|kind| !page.contains(&format!("| `{kind}` |")));
    none(&missing.map(|kind| format!("manual/errors.md does not name {kind}")).collect::<Vec<_>>());
}

#[test]
fn every_page_of_the_manual_is_in_rustdoc() {
    let modules = read("crates/tenure/src/manual/mod.rs");
    let folder = root().join("crates/tenure/src/manual");
    let pages = sources("crates/tenure/src/manual", "md");
    assert!(folder.is_dir() && pages.len() > 15);
    let missing = pages.iter().map(|p| p.path.replace("crates/tenure/src/manual/", ""));
    let missing = missing.filter(|name| !modules.contains(&format!("\"{name}\"")));
    none(&missing.map(|name| format!("manual/mod.rs does not include {name}")).collect::<Vec<_>>());
}

/// The page shows the example as it is, so its code is compiled and tested.
#[test]
fn the_page_on_backends_shows_the_example() {
    let files = ["src/lib.rs", "src/record.rs", "tests/conform.rs"];
    let example: String = files.iter().map(|file| read(&format!("examples/backend-files/{file}"))).collect();
    let page = read("crates/tenure/src/manual/writing_a_backend.md");
    let shown: Vec<&str> =
        page.split("```rs\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(shown.len() > 4, "only {} pieces found: this test has gone blind", shown.len());
    let missing = shown.iter().filter(|piece| !example.contains(**piece));
    none(&missing.map(|piece| format!("no file of the example has:\n{piece}")).collect::<Vec<_>>());
}
