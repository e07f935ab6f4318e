//! One registry knows the stores, and one crate starts servers.

use super::{none, sources};

/// The registry of stores.
const REGISTRY: &str = "crates/tenure-lab/src/servers/";

#[test]
fn only_the_registry_of_the_lab_names_stores() {
    let schemes: Vec<&str> =
        tenure::backend::table().flat_map(|entry| entry.schemes.iter().copied()).collect();
    let named = |line: &str| {
        schemes.iter().any(|scheme| {
            let literal = [format!("\"{scheme}\""), format!("\"{scheme}:"), format!("{scheme}://")];
            literal.iter().any(|text| line.contains(text))
        })
    };
    let mut faults = Vec::new();
    let lab = sources("crates/tenure-lab/src", "rs");
    for source in lab.iter().filter(|source| !source.path.starts_with(REGISTRY)) {
        // Examples in help, and URLs that a unit test parses, are for people.
        let code = source.code().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
        for (number, line) in code.filter(|(_, line)| named(line) && !line.contains("tenure lab ")) {
            faults.push(format!("{}:{number} names a store; ask {REGISTRY}: {}", source.path, line.trim()));
        }
    }
    assert!(lab.iter().any(|source| source.path.starts_with(REGISTRY)), "the registry has moved");
    none(&faults);
}

#[test]
fn only_one_crate_starts_servers() {
    let programs = ["redis-server", "redis-sentinel"];
    let allowed = [
        "crates/tenure-servers/",
        REGISTRY,
        "xtask/src/servers.rs",
        "crates/tenure/tests/it/tidy/",
        "crates/tenure/src/url.rs", // schemes of other products, which it explains
    ];
    let mut faults = Vec::new();
    for source in ["crates", "xtask"].iter().flat_map(|folder| sources(folder, "rs")) {
        if allowed.iter().any(|path| source.path.starts_with(path)) {
            continue;
        }
        for (number, line) in source.code() {
            if programs.iter().any(|program| line.contains(&format!("\"{program}\""))) {
                let path = &source.path;
                faults.push(format!("{path}:{number} starts a server; use crates/tenure-servers"));
            }
        }
    }
    none(&faults);
}

/// Whoever knows one store finds the same thing under the same name in another.
#[test]
fn every_store_uses_the_same_file_names() {
    let all = sources("crates/tenure/src/backend", "rs");
    let mut folders: Vec<&str> =
        all.iter().filter_map(|source| source.path.rsplit_once('/')).map(|(folder, _)| folder).collect();
    folders.sort_unstable();
    folders.dedup();
    // A store has a row in the table; what stores share has none.
    let has_row = |folder: &&str| {
        let module = format!("{folder}/mod.rs");
        all.iter().any(|s| s.path == module && s.code().any(|(_, line)| line.contains("ENTRY: Entry")))
    };
    let stores: Vec<&str> = folders.into_iter().filter(has_row).collect();
    assert!(stores.len() >= 2, "only {stores:?} are stores");
    let mut faults = Vec::new();
    for store in stores {
        let inside = |name: &str| {
            let path = format!("{store}/{name}.rs");
            all.iter().find(|source| source.path == path)
        };
        for name in ["domain", "format", "url", "verbs"] {
            if inside(name).is_none() {
                faults.push(format!("{store} has no {name}.rs"));
            }
        }
    }
    none(&faults);
}

#[test]
fn legends_have_one_module_a_line() {
    let mut faults = Vec::new();
    for source in sources("crates", "rs") {
        for (number, line) in source.text.lines().enumerate() {
            let legend = line.starts_with("//! - `") || line.starts_with("//! - [`");
            if legend && (line.contains(". - `") || line.contains(". - [`")) {
                faults.push(format!("{}:{} explains two modules in one line", source.path, number + 1));
            }
        }
    }
    none(&faults);
}
