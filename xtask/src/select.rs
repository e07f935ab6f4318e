//! `--only NAME`: which tests are meant by a name.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Stop;
use crate::process::{cargo, stdout};

/// The arguments of `cargo test` for each name: a part of a test binary that has a name, else a test binary (of several packages, each), else a package, else a module of a test binary, else a
/// module of a crate.
pub(crate) fn suites(names: &[&str]) -> Result<Vec<Vec<String>>, Stop> {
    let told = stdout(&mut cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&told).map_err(|e| Stop::Broken(format!("cargo metadata: {e}")))?;
    let targets = targets(&metadata);
    let mut all = Vec::new();
    for name in names {
        all.extend(of_name(name, &targets)?);
    }
    Ok(all)
}

/// One target of one package.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    package: String,
    kind: String,
    name: String,
    source: String,
}

fn targets(metadata: &Value) -> Vec<Target> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let mut out = Vec::new();
    for package in list(&metadata["packages"]) {
        for target in list(&package["targets"]) {
            out.push(Target {
                package: text(&package["name"]),
                kind: text(&target["kind"][0]),
                name: text(&target["name"]),
                source: text(&target["src_path"]),
            });
        }
    }
    out
}

/// Parts of a test binary that have a name: a test binary, and what its tests begin with.
const PARTS: &[(&str, &str)] = &[("primitives", "conform")];

/// Test binaries of one name in several packages are one suite.
fn of_name(name: &str, targets: &[Target]) -> Result<Vec<Vec<String>>, Stop> {
    let binaries: Vec<&Target> = targets.iter().filter(|t| t.kind == "test" && t.name == name).collect();
    if binaries.len() < 2 {
        return Ok(vec![suite(name, targets)?]);
    }
    let words = |target: &Target| ["--package", &target.package, "--test", name].map(str::to_owned).to_vec();
    Ok(binaries.into_iter().map(words).collect())
}

fn suite(name: &str, targets: &[Target]) -> Result<Vec<String>, Stop> {
    let words = |words: &[&str]| Ok(words.iter().map(|w| (*w).to_owned()).collect());
    let tests = || targets.iter().filter(|t| t.kind == "test");
    let part = PARTS.iter().find(|(part, _)| *part == name);
    if let Some(target) = part.and_then(|(_, binary)| tests().find(|t| t.name == *binary)) {
        let filter = format!("{name}::");
        return words(&["--package", &target.package, "--test", &target.name, "--", &filter]);
    }
    if let Some(target) = tests().find(|t| t.name == name) {
        return words(&["--package", &target.package, "--test", name]);
    }
    if targets.iter().any(|t| t.package == name) {
        return words(&["--package", name]);
    }
    let filter = format!("{name}::");
    if let Some(target) = tests().find(|t| has_module(&t.source, name)) {
        return words(&["--package", &target.package, "--test", &target.name, "--", &filter]);
    }
    let own = |t: &&Target| ["lib", "bin"].contains(&t.kind.as_str()) && has_module(&t.source, name);
    if let Some(target) = targets.iter().find(own) {
        let which = format!("--{}s", target.kind).replace("--libs", "--lib");
        return words(&["--package", &target.package, &which, "--", &filter]);
    }
    let known: Vec<&str> = tests().map(|t| t.name.as_str()).collect();
    Err(Stop::Usage(format!(
        "no test binary, package or module is called {name:?}; test binaries: {}",
        if known.is_empty() { "none".into() } else { known.join(", ") }
    )))
}

/// Whether a module of that name lies beside or below a target's root file.
fn has_module(source: &str, name: &str) -> bool {
    fn below(folder: &Path, name: &str) -> bool {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| e.path()).any(|path| {
            let is = path.file_stem().is_some_and(|s| s == name);
            match path.is_dir() {
                true => (is && path.join("mod.rs").is_file()) || below(&path, name),
                false => is && path.extension().is_some_and(|e| e == "rs"),
            }
        })
    }
    // `tests/one.rs` has no modules of its own; `tests/it/main.rs` and `src/lib.rs` have.
    let source = Path::new(source);
    let alone = source.parent().is_some_and(|p| p.ends_with("tests"));
    !alone && source.parent().is_some_and(|folder| below(folder, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Vec<Target> {
        let target = |package: &str, kind: &str, name: &str, source: &str| Target {
            package: package.into(),
            kind: kind.into(),
            name: name.into(),
            source: source.into(),
        };
        let main = concat!(env!("CARGO_MANIFEST_DIR"), "/src/main.rs");
        vec![
            target("xtask", "bin", "xtask", main),
            target("lab", "test", "broken", "/nowhere/tests/broken.rs"),
            target("lab", "test", "conform", "/nowhere/tests/conform.rs"),
            target("lab", "test", "recipes", "/nowhere/tests/recipes.rs"),
            target("xtask", "test", "recipes", "/nowhere/tests/recipes.rs"),
        ]
    }

    fn chosen(name: &str) -> Option<String> {
        let suites = of_name(name, &here()).ok()?;
        Some(suites.iter().map(|words| words.join(" ")).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn binaries_then_packages_then_modules() {
        assert_eq!(chosen("broken").as_deref(), Some("--package lab --test broken"));
        assert_eq!(chosen("lab").as_deref(), Some("--package lab"));
        assert_eq!(chosen("counts").as_deref(), Some("--package xtask --bins -- counts::"));
        assert_eq!(chosen("primitives").as_deref(), Some("--package lab --test conform -- primitives::"));
        let both = "--package lab --test recipes; --package xtask --test recipes";
        assert_eq!(chosen("recipes").as_deref(), Some(both));
        assert_eq!(chosen("brokne"), None);
    }
}
