//! `cargo xtask lint`: everything that is judged without running the product.

use std::fs;

use crate::Stop;
use crate::args::Args;
use crate::counts::Counts;
use crate::process::{cargo, command, find, root, succeeds};
use crate::test::WHOLE;
use crate::{docs, policy, spelling};

/// Packages that are not in the workspace.
pub(crate) const APART: [&str; 2] = ["bench", "integrations"];

/// How a check ended.
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// It could not be done here, for this reason.
    Skipped(String),
}

impl From<bool> for Outcome {
    fn from(passed: bool) -> Outcome {
        if passed { Outcome::Passed } else { Outcome::Failed }
    }
}

type Check = (String, Box<dyn Fn() -> Result<Outcome, Stop>>);

/// Runs all checks, the cheap ones first, and closes with the line that counts them.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    Args::parse(args, &[], &[])?.no_words()?;
    let mut counts = Counts::default();
    let mut table = String::new();
    for (name, check) in checks()? {
        println!("== {name}");
        let outcome = check().unwrap_or_else(|stop| {
            let (Stop::Usage(why) | Stop::Broken(why)) = stop;
            println!("{why}");
            Outcome::Failed
        });
        let (count, word) = match outcome {
            Outcome::Passed => (&mut counts.passed, "ok".to_owned()),
            Outcome::Failed => (&mut counts.failed, "FAILED".to_owned()),
            Outcome::Skipped(why) => (&mut counts.skipped, format!("skipped: {why}")),
        };
        *count += 1;
        table += &format!("lint {name} ... {word}\n");
    }
    print!("\n{table}\n{counts}\n");
    Ok(counts.failed == 0)
}

fn checks() -> Result<Vec<Check>, Stop> {
    let mut checks: Vec<Check> = vec![
        plain("format", &["fmt", "--all", "--check"]),
        ("shell".into(), Box::new(|| Ok(succeeds(&mut command("bash", &["-n", ".ci/run"]))?.into()))),
        ("spelling".into(), Box::new(spelling::check)),
        ("licences, bans and sources".into(), Box::new(policy::check)),
        clippy("clippy", &[WHOLE, &["--all-targets"]].concat()),
    ];
    // Without any backend, with each alone, and as most people build it: no feature may need another one.
    for features in feature_sets()? {
        let name = format!("features of the library: {}", features.as_deref().unwrap_or("default"));
        let mut args = vec!["--package", "tenure"];
        if let Some(features) = &features {
            args.extend([
                "--no-default-features",
                "--features",
                if features == "none" { "" } else { features },
            ]);
        }
        checks.push(clippy(&name, &args));
    }
    let docs = [&["doc", "--no-deps", "--quiet"], WHOLE].concat();
    checks.push(documented("documentation", &docs));
    // What a user of the default features reads must not link to what is hidden from them.
    checks.push(documented(
        "documentation, default features",
        &["doc", "--no-deps", "--quiet", "--package", "tenure"],
    ));
    checks.push(("the manual's site, and its links".into(), Box::new(|| docs::run(&[]).map(Outcome::from))));
    for apart in APART.iter().filter(|folder| root().join(folder).is_dir()) {
        let manifest = format!("{apart}/Cargo.toml");
        let format = ["fmt", "--manifest-path", &manifest, "--check"];
        checks.push(plain(&format!("format of {apart}"), &format));
        let all = ["--manifest-path", &manifest, "--target-dir", "target", "--all-targets"];
        checks.push(clippy(&format!("clippy of {apart}"), &all));
    }
    Ok(checks)
}

/// `none`, each feature of the library alone, and `None` for the default.
fn feature_sets() -> Result<Vec<Option<String>>, Stop> {
    let manifest = fs::read_to_string(root().join("crates/tenure/Cargo.toml"))?;
    let mut sets = vec![Some("none".to_owned())];
    sets.extend(features(&manifest).filter(|f| f != "default").map(Some));
    sets.push(None);
    Ok(sets)
}

/// The keys of a manifest's `[features]`.
fn features(manifest: &str) -> impl Iterator<Item = String> {
    let section = manifest.split("\n[").find_map(|s| s.strip_prefix("features]")).unwrap_or_default();
    let keys = section.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim().to_owned());
    keys.filter(|key| !key.starts_with('#')).collect::<Vec<_>>().into_iter()
}

fn plain(name: &str, args: &[&str]) -> Check {
    with(name, args, |command| command)
}

fn clippy(name: &str, args: &[&str]) -> Check {
    plain(name, &[&["clippy", "--quiet"], args, &["--", "-D", "warnings"]].concat())
}

fn documented(name: &str, args: &[&str]) -> Check {
    with(name, args, |command| command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// A check that is one run of cargo.
fn with(
    name: &str,
    args: &[&str],
    setup: fn(&mut std::process::Command) -> &mut std::process::Command,
) -> Check {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    let check = move || {
        if args[0] == "clippy" && find("cargo-clippy").is_none() {
            return Ok(Outcome::Skipped("clippy is not installed".into()));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ok(succeeds(setup(&mut cargo(&args)))?.into())
    };
    (name.to_owned(), Box::new(check))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_of_the_library_is_checked_alone() {
        let sets = feature_sets().ok().expect("the manifest is there");
        let named: Vec<&str> = sets.iter().flatten().map(String::as_str).collect();
        for feature in ["none", "memory", "host", "unstable", "metrics", "serde"] {
            assert!(named.contains(&feature), "{feature} is missing from {named:?}");
        }
        assert!(sets.contains(&None) && !named.contains(&"default"));
    }
}
