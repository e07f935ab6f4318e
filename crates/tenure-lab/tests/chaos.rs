//! A short storm over each store, judged. This binary is also the command and its workers. Built with optimisation by
//! `cargo xtask test`: a debug build does too little under the faults.

use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;
use tenure_lab::cli::{Globals, LabArgs, run_lab};
use tenure_lab::harness::{Harness, Verdict};
use tenure_lab::servers::{self, Target};

/// Plays the command `tenure` when this is set.
const AS_COMMAND: &str = "TENURE_LAB_TEST_AS_COMMAND";

#[derive(Parser)]
struct Cli {
    #[arg(long, default_value = servers::USUAL)]
    url: String,
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Lab(LabArgs),
}

fn main() -> ExitCode {
    if let Some(status) = tenure_lab::worker_main() {
        return status;
    }
    if std::env::var_os(AS_COMMAND).is_some() {
        let cli = Cli::parse();
        let globals =
            Globals { url: cli.url, namespace: "test".into(), json: cli.json, quiet: false, verbose: 1 };
        let What::Lab(args) = cli.what;
        return run_lab(args, &globals);
    }
    // All mutants are one test.
    let mut harness = Harness::new().limit(Duration::from_secs(3600));
    harness.test("wrong_usage", || {
        wrong_usage();
        Verdict::Passed(String::new())
    });
    if !cfg!(debug_assertions) {
        storms(&mut harness);
    }
    harness.run()
}

/// What a debug build is too slow for.
fn storms(harness: &mut Harness<'_>) {
    for target in servers::targets() {
        of(target, harness);
    }
    let missing = servers::targets().filter(|target| target.url.is_none()).find_map(|target| target.missing);
    harness.test("mutants", || missing.map_or_else(|| mutants().into(), Verdict::Ignored));
}

/// The storms over one kind of store.
fn of(target: Target, harness: &mut Harness<'_>) {
    let Target { name, url, durabilities, missing } = target;
    let Some(url) = url else {
        for durability in durabilities {
            let missing = missing.clone();
            harness.test(format!("{name}_{durability}"), move || match missing {
                Some(why) => Verdict::Ignored(why),
                None => {
                    storm(&[], &["--server", name, "--durability", durability], 8);
                    Verdict::Passed(String::new())
                }
            });
        }
        return;
    };
    let entry = tenure::backend::find(name).expect("a backend");
    let files = entry.capabilities.scope == tenure::Scope::Host;
    let usual = url.clone();
    harness.test(name, move || {
        storm(&["--url", &usual], &[], if files { 8 } else { 5 });
        Verdict::Passed(String::new())
    });
    if files {
        harness.test(format!("{name}_with_a_directory"), move || {
            let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
            let kept = dir.path().join("kept");
            storm_kept(&["--url", &format!("{url}//{}/store", dir.path().display())], &[], 15, &kept);
            Verdict::Passed(files_and_namespaces(&kept))
        });
    }
}

fn tenure(args: &[&str]) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.env(AS_COMMAND, "1").args(args).stdin(Stdio::null());
    command.output().expect("the command")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// Every promise holds, the twin loses, and the stored history says the same.
fn storm(store: &[&str], how: &[&str], secs: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    storm_kept(store, how, secs, &dir.path().join("run"));
}

/// Files were removed, in both halves; and clients had pid namespaces, where that is allowed here. Says what there was.
fn files_and_namespaces(run: &std::path::Path) -> String {
    let text = std::fs::read_to_string(run.join("history.jsonl")).expect("the history");
    let begun = |fault: &str| {
        let fault = format!("\"fault\":\"{fault}\"");
        text.lines().filter(|line| line.contains(&fault) && line.contains("\"phase\":\"begin\"")).count()
    };
    let removed: usize = ["delete_store", "delete_live", "delete_directory"].into_iter().map(begun).sum();
    assert!(removed > 0, "no files were removed");
    let flags = ["--pid", "--fork", "--kill-child", "--mount-proc", "true"];
    let allowed = Command::new("unshare").args(flags).output().is_ok_and(|output| output.status.success());
    let apart = begun("pid_namespace");
    assert!(apart > 0 || !allowed, "nobody had a pid namespace");
    format!("files removed {removed} times, {apart} clients in pid namespaces of their own")
}

/// The same, with its history kept.
fn storm_kept(store: &[&str], how: &[&str], secs: u32, out: &std::path::Path) {
    let (secs, place) = (secs.to_string(), out.to_string_lossy().into_owned());
    let args = [store, &["--json", "lab", "chaos"], how, &["--secs", &secs, "--out", &place]].concat();
    let output = tenure(&args);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let verdicts = lines(&output);
    let history = std::fs::read_to_string(out.join("history.jsonl")).expect("the history");
    let header: Value = serde_json::from_str(history.lines().next().expect("a header")).expect("an object");
    let no_order = header["capabilities"]["order"] == "none";
    for rule in ["S1", "S2", "S3", "S4", "S5", "L2", "L3", "L4"] {
        let status = &verdicts.iter().find(|v| v["rule"] == rule).expect("a verdict")["status"];
        let expected = if rule == "L3" && no_order { "not promised" } else { "held" };
        assert_eq!(status, expected, "{rule}: {told}\n{verdicts:#?}");
    }
    // How much was done is the machine's affair: a tenth of what a quiet one must reach is enough to have tried.
    let floor = verdicts.iter().find(|v| v["rule"] == "floor").expect("a verdict");
    let count = |what: &str| floor["counts"][what].as_u64().expect("a count");
    assert!(count("acquisitions") * 10 >= count("at least"), "{told}\n{floor:#?}");
    assert!(count("fault windows") >= count("fault windows at least"), "{told}\n{floor:#?}");
    let missed = verdicts.iter().any(|v| v["status"] == "floor missed");
    assert_eq!(output.status.code(), Some(if missed { 2 } else { 0 }), "{told}\n{verdicts:#?}");
    assert!(told.contains("repeat with: tenure"), "{told}");
    let again = tenure(&["--json", "lab", "check", &place]);
    assert_eq!(lines(&again), verdicts, "the stored history says something else");
    obeys(&out.join("history.jsonl"));
    let page = std::fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(
        page.contains("<svg") && !page.contains("http://") && !page.contains("https://"),
        "not a page by itself"
    );
}

/// Every wrong protocol is caught, and the shipped one is not.
fn mutants() -> Result<String, String> {
    // Faults come at random: what is usually noticed in seconds may take longer.
    let output = tenure(&["--json", "lab", "mutants", "--secs", "120"]);
    let all = lines(&output);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(all[0]["status"], "held", "the shipped protocol: {told}\n{:#?}", all[0]);
    let survived: Vec<_> = all[1..].iter().filter(|one| one["status"] != "caught").collect();
    assert!(survived.is_empty() && output.status.success(), "{told}\n{survived:#?}");
    let times = all[1..].iter().filter_map(|one| Some((one["mutant"].as_str()?, one["after_ms"].as_u64()?)));
    let (slowest, ms) = times.clone().max_by_key(|(_, ms)| *ms).ok_or("nobody was caught by chaos")?;
    if times.count() < 16 {
        return Err("there are to be sixteen".into());
    }
    Ok(format!("{} caught; the slowest, {slowest}, after {ms} ms", all.len() - 1))
}

/// Every line is what the public format says.
fn obeys(history: &std::path::Path) {
    let schema = include_str!("../../../docs/wire/history.schema.json");
    let schema = serde_json::from_str(schema).expect("a schema");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let text = std::fs::read_to_string(history).expect("the history");
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).expect("an object a line");
        let wrong: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{line}: {wrong:?}");
    }
}

fn wrong_usage() {
    let full = tempfile::tempdir().expect("a directory");
    std::fs::write(full.path().join("file"), "there").expect("a file");
    let place = full.path().to_string_lossy().into_owned();
    let cases: &[(&[&str], &str)] = &[
        (&["lab", "chaos", "--server", "oracle"], "cannot start a server"),
        (&["lab", "chaos", "--out", &place], "is not empty"),
        (&["lab", "check", "/nowhere"], "/nowhere"),
        (&["lab", "mutants", "a_mutant_that_is_not"], "There are"),
    ];
    for (args, said) in cases {
        refused(args, said);
    }
    // A server that is away is said at once, by its address.
    let server = servers::targets().find(|target| target.url.is_none()).expect("a server");
    let away = format!("{}://127.0.0.1:1", server.name);
    refused(&["--url", &away, "lab", "chaos", "--secs", "1"], "127.0.0.1:1");
    refused(&["lab", "chaos", "--server", server.name, "--durability", "often"], "has no durability");
}

fn refused(args: &[&str], said: &str) {
    let output = tenure(args);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains(said), "{args:?}: {told}");
}
