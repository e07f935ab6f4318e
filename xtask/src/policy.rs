//! What may be linked: licences, bans, wildcards and sources, as `deny.toml` says, over what `cargo metadata` tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::Stop;
use crate::lint::{APART, Outcome};
use crate::process::{cargo, root, stdout};

/// The platforms whose dependencies are judged: those that the library runs on.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-apple-darwin"];

/// Checks every package that the workspace is built from.
pub(crate) fn check() -> Result<Outcome, Stop> {
    let rules = Rules::parse(&fs::read_to_string(root().join("deny.toml"))?)?;
    let mut args = vec!["metadata", "--format-version", "1", "--all-features"];
    args.extend(PLATFORMS.iter().flat_map(|p| ["--filter-platform", p]));
    let mut faults = Vec::new();
    let apart = APART.iter().map(|folder| format!("{folder}/Cargo.toml"));
    for manifest in std::iter::once("Cargo.toml".to_owned()).chain(apart).filter(|m| root().join(m).is_file())
    {
        let told = stdout(&mut cargo(&[&args[..], &["--manifest-path", &manifest]].concat()))?;
        let metadata: Value =
            serde_json::from_str(&told).map_err(|e| Stop::Broken(format!("cargo metadata: {e}")))?;
        faults.extend(rules.judge(&metadata));
    }
    faults.iter().for_each(|fault| println!("{fault}"));
    Ok(faults.is_empty().into())
}

/// The part of `deny.toml` that is judged here.
#[derive(Debug)]
struct Rules {
    licences: Vec<String>,
    banned: Vec<String>,
    single: Vec<String>,
}

impl Rules {
    /// Reads the two lists. Not a TOML parser: one that reads this one file, and fails if it finds nothing.
    fn parse(text: &str) -> Result<Rules, Stop> {
        let text: String = text
            .lines()
            .filter(|l| !l.trim_start().starts_with('#'))
            .fold(String::new(), |t, l| t + l + "\n");
        let licences = list(&text, "allow").flat_map(quoted).map(str::to_owned).collect::<Vec<_>>();
        let (mut banned, mut single) = (Vec::new(), Vec::new());
        for line in list(&text, "deny").flat_map(str::lines) {
            let Some(name) = quoted(line).next() else { continue };
            let rules =
                if line.contains("deny-multiple-versions = true") { &mut single } else { &mut banned };
            rules.push(name.to_owned());
        }
        if licences.is_empty() || banned.is_empty() || single.is_empty() {
            return Err(Stop::Broken(
                "deny.toml does not read as expected: allow = [..] and deny = [..]".into(),
            ));
        }
        Ok(Rules { licences, banned, single })
    }

    /// What is wrong with the packages, a line each.
    fn judge(&self, metadata: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        let mut versions: BTreeMap<&str, u32> = BTreeMap::new();
        let mut registries = BTreeSet::new();
        for package in packages(metadata) {
            let name = package["name"].as_str().unwrap_or_default();
            let shown = format!("{name} {}", package["version"].as_str().unwrap_or_default());
            *versions.entry(name).or_default() += 1;
            if self.banned.iter().any(|b| b == name) {
                faults.push(format!("{shown}: banned"));
            }
            let licence = package["license"].as_str().unwrap_or_default();
            if !self.allows(licence) {
                faults.push(format!("{shown}: licence {licence:?} is not allowed"));
            }
            match package["source"].as_str() {
                Some(source) if source.starts_with("registry+") => _ = registries.insert(source),
                Some(other) => faults.push(format!("{shown}: comes from {other}")),
                None => faults.extend(wildcards(package).map(|w| format!("{shown}: depends on {w} *"))),
            }
        }
        if registries.len() > 1 {
            faults.push(format!("more than one registry: {registries:?}"));
        }
        let twice = |name: &&String| versions.get(name.as_str()).is_some_and(|n| *n > 1);
        faults.extend(self.single.iter().filter(twice).map(|name| format!("{name}: more than one version")));
        faults
    }

    /// Whether a licence expression can be met with the allowed ones.
    fn allows(&self, expression: &str) -> bool {
        let flat = expression.replace('/', " OR ").replace(['(', ')'], "");
        let one = |licence: &str| self.licences.iter().any(|l| l == licence.trim());
        // All sides of an AND; of `(A OR B) AND C` without its parentheses, the stricter reading of the two.
        let any = |side: &str| side.split(" OR ").any(one);
        !expression.is_empty() && flat.split(" AND ").all(any)
    }
}

/// The packages that some platform links, ours included.
fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
    let used: Vec<&str> = nodes.filter_map(|n| n["id"].as_str()).collect();
    let all = metadata["packages"].as_array().into_iter().flatten();
    all.filter(move |p| p["id"].as_str().is_some_and(|id| used.contains(&id)))
}

/// Dependencies of one of our packages that take any version from a registry.
fn wildcards(package: &Value) -> impl Iterator<Item = &str> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.filter(|d| d["path"].is_null() && d["req"] == "*").filter_map(|d| d["name"].as_str())
}

/// The inside of each `key = [ .. ]`.
fn list<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let opens = format!("\n{key} = [");
    let at: Vec<usize> = text.match_indices(&opens).map(|(at, _)| at + opens.len()).collect();
    at.into_iter().filter_map(|at| text[at..].split_once("]").map(|(inside, _)| inside))
}

/// The strings between quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> Rules {
        let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
        Rules::parse(&text).ok().expect("deny.toml reads")
    }

    #[test]
    fn licence_expressions() {
        let rules = rules();
        let good = [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "0BSD OR GPL-2.0",
        ];
        let bad = ["", "GPL-3.0", "MIT AND GPL-3.0", "AGPL-3.0-only", "(GPL-3.0 OR LGPL-3.0) AND MIT"];
        good.iter().for_each(|l| assert!(rules.allows(l), "{l}"));
        bad.iter().for_each(|l| assert!(!rules.allows(l), "{l}"));
    }

    #[test]
    fn each_rule_finds_its_fault() {
        let package = |name: &str, version: &str, licence: &str, source: Value| {
            json!({"id": format!("{name} {version}"), "name": name, "version": version, "license": licence,
                "source": source, "dependencies": [{"name": "any", "req": "*", "path": null}]})
        };
        let git = json!("git+https://example.org/x");
        let packages = [
            package("ours", "1.0.0", "MIT", Value::Null),
            package("openssl-sys", "1.0.0", "MIT", json!("registry+usual")),
            package("tokio", "1.0.0", "MIT", json!("registry+usual")),
            package("tokio", "2.0.0", "MIT", json!("registry+usual")),
            package("viral", "1.0.0", "GPL-3.0", json!("registry+other")),
            package("astray", "1.0.0", "MIT", git),
        ];
        let nodes: Vec<Value> = packages.iter().map(|p| json!({"id": p["id"]})).collect();
        let metadata = json!({"packages": packages, "resolve": {"nodes": nodes}});
        assert_eq!(
            rules().judge(&metadata),
            [
                "ours 1.0.0: depends on any *",
                "openssl-sys 1.0.0: banned",
                "viral 1.0.0: licence \"GPL-3.0\" is not allowed",
                "astray 1.0.0: comes from git+https://example.org/x",
                "more than one registry: {\"registry+other\", \"registry+usual\"}",
                "tokio: more than one version",
            ]
        );
    }
}
