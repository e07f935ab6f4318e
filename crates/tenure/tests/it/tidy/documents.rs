//! Documents that must agree with the code.

use std::collections::BTreeSet;

use tenure::Capabilities;
use tenure::backend::table;

use super::{none, read, root, sources};

/// Whatever a backend's author may forget. A backend is a module that a feature of its own name compiles in; a dialect of
/// one (`redis+setnx`) is in it.
#[test]
fn every_backend_is_in_the_table_the_features_and_the_documents() {
    let contract = read("crates/tenure/src/backend/mod.rs");
    let lines: Vec<&str> = contract.lines().collect();
    let gated = lines.windows(2).filter_map(|pair| {
        let feature = pair[0].strip_prefix("#[cfg(feature = \"")?.strip_suffix("\")]")?;
        pair[1].ends_with(&format!("mod {feature};")).then(|| feature.to_owned())
    });
    let modules: BTreeSet<String> = gated.collect();
    let known: BTreeSet<String> = table().map(|e| e.capabilities.backend.to_owned()).collect();
    assert!(known.len() >= 2, "run this with all features");
    let manifest = read("crates/tenure/Cargo.toml");
    let (manual, readme) = (read("crates/tenure/src/manual/backends.md"), read("README.md"));
    let mut faults = Vec::new();
    let mut forgotten = |name: &str, place: &str, there: bool| {
        if !there {
            faults.push(format!("backend {name}: forgotten in {place}"));
        }
    };
    for name in modules.union(&known) {
        let module = name.split('+').next().unwrap_or(name);
        forgotten(name, "src/backend/mod.rs: its mod line, under its feature", modules.contains(module));
        forgotten(name, "src/backend/mod.rs: the table", known.contains(name));
        forgotten(name, "Cargo.toml: [features]", manifest.contains(&format!("\n{module} = [")));
        forgotten(name, "manual/backends.md: a section", manual.contains(&format!("\n# `{name}:")));
        forgotten(name, "README.md: the table", readme.contains(&format!("| `{name}:")));
    }
    for entry in std::fs::read_dir(root().join("crates/tenure/src/backend")).expect("the folder of backends")
    {
        let name =
            entry.expect("an entry").path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let declared = name == "mod" || contract.lines().any(|l| l.ends_with(&format!("mod {name};")));
        forgotten(&name, "src/backend/mod.rs: its mod line", declared);
    }
    none(&faults);
    for entry in table() {
        assert!(tenure::backend::find(entry.schemes[0]).is_ok());
        let module = entry.capabilities.backend.split('+').next().unwrap_or_default();
        assert_eq!(entry.feature, module, "a backend's feature has its name");
    }
}

#[test]
fn the_manual_s_table_of_backends_equals_the_constants() {
    let manual = read("crates/tenure/src/manual/backends.md");
    let rows: Vec<String> =
        manual.lines().filter(|l| l.starts_with("| ")).skip(1).map(str::to_owned).collect();
    let expected: Vec<String> = table().map(|e| row(&e.capabilities)).collect();
    assert_eq!(rows, expected, "the table of manual/backends.md");
}

fn row(c: &Capabilities) -> String {
    let modes = [(c.modes.mutex, "mutex"), (c.modes.rw, "rw"), (c.modes.semaphore, "semaphore")];
    let modes: Vec<&str> = modes.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
    let (name, modes) = (c.backend, modes.join(", "));
    let (scope, end, token, order) = (c.scope, c.hold_end, c.token, c.order);
    let (wakeup, visibility, turns, survives) = (c.wakeup, c.visibility, c.turns, c.survives);
    let (ttl, after, transfer, evict, previous) = (c.ttl, c.after, c.transfer, c.evict, c.previous);
    format!(
        "| {name} | {scope} | {end} | {token} | {order} | {modes} | {wakeup} | {visibility} | {turns} | {survives} | \
         {ttl} | {after} | {transfer} | {evict} | {previous} |"
    )
}

#[test]
fn the_changelog_has_this_version_once() {
    let version = env!("CARGO_PKG_VERSION");
    let changelog = read("CHANGELOG.md");
    let headings = changelog.lines().filter(|l| l.starts_with(&format!("## [{version}]"))).count();
    assert_eq!(headings, 1, "CHANGELOG.md must have exactly one heading for {version}");
}

#[test]
fn the_toolchain_is_the_stated_one() {
    let manifest = read("Cargo.toml");
    let stated = manifest.lines().find_map(|l| l.strip_prefix("rust-version = ")).expect("a rust-version");
    let version = stated.trim_matches('"');
    let toolchain = read("rust-toolchain.toml");
    assert!(toolchain.contains(&format!("channel = \"{version}.")), "rust-toolchain.toml is not {version}");
}

#[test]
fn the_map_is_short_and_names_what_is_there() {
    let map = read("ARCHITECTURE.md");
    assert!(map.lines().count() <= 150, "ARCHITECTURE.md is a map, not a book");
    let mut faults = Vec::new();
    for folder in ["crates", "crates/tenure/src"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            if !map.contains(&name) && !["lib.rs"].contains(&name.as_str()) {
                faults.push(format!("ARCHITECTURE.md does not name {folder}/{name}"));
            }
        }
    }
    let files =
        map.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs") || word.ends_with(".lua"));
    let known = sources("crates/tenure/src", "rs").into_iter().chain(sources("crates/tenure/src", "lua"));
    let known: Vec<String> = known.map(|file| file.path).collect();
    for file in files {
        if !known.iter().any(|path| path.ends_with(&format!("/{file}"))) {
            faults.push(format!("ARCHITECTURE.md names {file}, which is not there"));
        }
    }
    none(&faults);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut faults = Vec::new();
    for document in sources("", "md") {
        let folder = root().join(&document.path).parent().expect("a folder").to_owned();
        // `[text](target)`, and `[label]: target` at the begin of a line.
        let places = document.text.match_indices("](").map(|(at, _)| at + 2);
        let labels = document.text.match_indices("\n[").filter_map(|(at, _)| {
            let line = document.text[at + 1..].lines().next()?;
            Some(at + 1 + line.find("]: ")? + 3)
        });
        for rest in places.chain(labels).map(|at| &document.text[at..]) {
            let target = rest.split([')', '#', '\n']).next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.contains("::");
            if !elsewhere && !folder.join(target).exists() {
                faults.push(format!("{}: the link to {target} leads nowhere", document.path));
            }
        }
    }
    none(&faults);
}

/// Style rule of the library's documentation: the three questions that a user of a lock has.
#[test]
fn public_async_methods_answer_the_three_questions() {
    let headings = ["# Cancel safety", "# On drop", "# When the answer is lost"];
    let hidden = ["/src/core/", "/src/engine/", "/src/backend/"];
    let (mut faults, mut methods) = (Vec::new(), 0);
    for source in sources("crates/tenure/src", "rs") {
        if hidden.iter().any(|h| source.path.contains(h)) {
            continue;
        }
        let mut docs = String::new();
        for (number, line) in source.text.lines().map(str::trim).enumerate() {
            if let Some(doc) = line.strip_prefix("///") {
                docs.push_str(doc);
                docs.push('\n');
                continue;
            }
            let future =
                line.starts_with("pub fn ") && line.contains("impl Future") && line.contains("-> impl");
            if line.starts_with("pub async fn ") || future {
                methods += 1;
                let missing = headings.iter().filter(|h| !docs.contains(**h));
                faults.extend(
                    missing.map(|h| format!("{}:{}: {line}: no heading {h}", source.path, number + 1)),
                );
            }
            if !line.starts_with("#[") {
                docs.clear();
            }
        }
    }
    assert!(methods >= 10, "only {methods} public async methods found: this test has gone blind");
    none(&faults);
}

/// Every accident names what holds it off, and what it names is there: a trial, or a test.
#[test]
fn every_accident_names_a_test_that_exists() {
    let page = read("crates/tenure/src/manual/accidents.md");
    let code: String = sources("crates", "rs").into_iter().map(|s| s.text).collect();
    let mut faults = Vec::new();
    let entries: Vec<String> =
        page.split("\n- **").skip(1).map(|e| e.split("\n#").next().unwrap_or(e).to_owned()).collect();
    assert!(entries.len() > 30, "only {} entries found: this test has gone blind", entries.len());
    for entry in entries {
        let flat = entry.split_whitespace().collect::<Vec<_>>().join(" ");
        let names = flat
            .split_once("*Held by* ")
            .map(|(_, list)| list.split('`').skip(1).step_by(2))
            .into_iter()
            .flatten();
        let mut named = 0;
        for name in names {
            named += 1;
            if !code.contains(&format!("fn {name}()")) && !code.contains(&format!("name: \"{name}\"")) {
                faults.push(format!("accidents.md: no test or trial is called {name}"));
            }
        }
        if named == 0 {
            faults.push(format!("accidents.md: nothing holds off: {flat}"));
        }
    }
    none(&faults);
}
