//! The lab's scenarios and workloads, run as a user runs them. This binary is also the command and its workers.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, ExitCode, Output};
use std::sync::OnceLock;

use clap::{Parser, Subcommand};
use serde_json::Value;
use tenure_lab::cli::{BenchArgs, Globals, LabArgs, run_bench, run_lab};
use tenure_lab::harness::{Harness, Verdict};
use tenure_servers::redis as server;

#[path = "scenarios/redis.rs"]
mod redis;

/// Plays the command `tenure` when this is set: to the store that is used where none is named.
const AS_COMMAND: &str = "TENURE_LAB_TEST_AS_COMMAND";

/// The store of these tests.
static STORE: OnceLock<String> = OnceLock::new();

#[derive(Parser)]
struct Cli {
    #[arg(long)]
    url: Option<String>,
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Lab(LabArgs),
    Bench(BenchArgs),
}

fn main() -> ExitCode {
    if let Some(status) = tenure_lab::worker_main() {
        return status;
    }
    if let Ok(store) = std::env::var(AS_COMMAND) {
        let cli = Cli::parse();
        let url = cli.url.unwrap_or(store);
        let globals = Globals { url, namespace: "test".into(), json: cli.json, quiet: false, verbose: 1 };
        return match cli.what {
            What::Lab(args) => run_lab(args, &globals),
            What::Bench(args) => run_bench(args, &globals),
        };
    }
    // Shared memory, as `host:`, and nobody else's: another version may use that here.
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
    STORE.get_or_init(|| format!("host://{}/store", dir.path().display()));
    let mut harness = Harness::new();
    let mut test = |name: &str, run: fn()| {
        harness.test(name, move || {
            run();
            Verdict::Passed(String::new())
        });
    };
    test("sale::no_lock_loses_and_tenure_is_exact", no_lock_loses_and_tenure_is_exact);
    test("sale::with_faults_only_the_fence_is_exact", with_faults_only_the_fence_is_exact);
    test("sale::the_table_and_the_report", the_table_and_the_report);
    test("sale::bad_input_is_refused_before_anything_runs", bad_input_is_refused_before_anything_runs);
    test("bench::every_workload_measures", every_workload_measures);
    test("bench::fan_and_handoff_across_processes", fan_and_handoff_across_processes);
    test("bench::bad_input_is_refused", bench_bad_input_is_refused);
    test("conform::promise_by_promise", conform_promise_by_promise);
    test("conform::bad_input_is_refused", conform_bad_input_is_refused);
    redis::add(&mut harness);
    harness.run()
}

fn conform_promise_by_promise() {
    let output = tenure(words("--json lab conform s4_strangers_cannot_release"));
    assert!(output.status.success(), "{}", explain(&output));
    let all = lines(&output);
    assert_eq!(
        (all.len(), &all[0]["rule"], &all[0]["verdict"]),
        (1, &"S4".into(), &"held".into()),
        "{}",
        explain(&output)
    );
    // What a store cannot promise is said, with the reason, and is not an error.
    let output = tenure(words("--url memory: lab conform s1_exclusion_across_processes"));
    let text = explain(&output);
    assert!(
        output.status.success() && text.contains("not promised") && text.contains("scope is process"),
        "{text}"
    );
}

fn conform_bad_input_is_refused() {
    refused("lab conform nosuchtrial", 64, "no trial has such a name");
    refused("--url hots: lab conform", 78, "did you mean host");
}

fn tenure<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    let me = std::env::current_exe().expect("this executable");
    let store = STORE.get().expect("a store");
    Command::new(me).env(AS_COMMAND, store).args(args).output().expect("runs")
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

fn explain(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn no_lock_loses_and_tenure_is_exact() {
    let output = tenure(words("--json lab flash-sale --clients 40 --processes 4 --stock 200 --seed 7"));
    let all = lines(&output);
    let names: Vec<_> = all.iter().map(|l| l["strategy"].as_str().expect("a name")).collect();
    assert_eq!(names, ["none", "naive", "careful", "tenure", "tenure+fence"], "{}", explain(&output));
    assert!(output.status.success(), "{}", explain(&output));
    assert_eq!(all[0]["verdict"], "wrong");
    assert!(all[0]["oversold"].as_u64() > Some(0) && all[0]["lost_updates"].as_u64() > Some(0), "{}", all[0]);
    let expected: Vec<_> = all.iter().map(|l| l["expected"].as_str().expect("a word")).collect();
    assert_eq!(expected, ["wrong", "either", "either", "exact", "exact"]);
    // Nobody waits in a sale without a lock, so nearly always several are inside; with Tenure never.
    assert!(all[0]["held_by_one"].as_f64() < Some(0.5), "{}", all[0]);
    for one in &all[3..] {
        assert_eq!(one["held_by_several"].as_f64(), Some(0.0), "two inside at once: {one}");
        let (rate, ceiling) = (one["cycles_per_s"].as_f64(), one["ceiling_per_s"].as_f64());
        assert!(
            rate > Some(0.0) && rate < ceiling,
            "one at a time cannot be faster than its pauses allow: {one}"
        );
        assert!(one["held_by_one"].as_f64() > Some(0.0), "{one}");
        assert_eq!((&one["verdict"], &one["sold"]), (&"exact".into(), &200.into()), "{one}");
        for zero in ["oversold", "lost_updates", "refused_by_fence", "errors", "left"] {
            assert_eq!(one[zero], 0, "{zero} of {one}");
        }
        assert!(one["jain"].as_f64() > Some(0.5), "first come, first served: {one}");
    }
    let wanted = "strategy clients processes stock sold oversold lost_updates refused_by_fence errors seconds cycles_per_s \
                  acquire_p50_us acquire_p99_us acquire_max_us jain held_by_one ceiling_per_s verdict expected";
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut at = 0;
    for field in wanted.split_ascii_whitespace() {
        let found = text[at..]
            .find(&format!("\"{field}\":"))
            .unwrap_or_else(|| panic!("{field} is missing or out of order"));
        at += found;
    }
}

fn with_faults_only_the_fence_is_exact() {
    let line = "--json lab flash-sale --clients 24 --processes 3 --stock 150 --faults --strategies careful,tenure,tenure+fence";
    let output = tenure(words(line));
    let all = lines(&output);
    assert!(output.status.success(), "{}", explain(&output));
    let (careful, plain, fenced) = (&all[0], &all[1], &all[2]);
    assert_eq!(
        careful["verdict"], "wrong",
        "comparing before the delete does not stop a late write: {careful}"
    );
    assert_eq!(fenced["verdict"], "exact", "{}", explain(&output));
    for one in &all {
        assert!(one["stopped"].as_u64() > Some(0), "the faults happened: {one}");
    }
    for one in [plain, fenced] {
        assert_eq!(one["killed"], 1, "{one}");
    }
    assert!(fenced["refused_by_fence"].as_u64() > Some(0), "a stopped holder's write was refused: {fenced}");
    assert_eq!(plain["verdict"], "wrong", "a pause beyond the lease, without the fence: {plain}");
}

fn the_table_and_the_report() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("report.html");
    let line =
        "lab flash-sale --clients 8 --processes 2 --stock 20 --strategies none,naive --seed 5 --report";
    let mut args: Vec<&OsStr> = line.split(' ').map(OsStr::new).collect();
    args.push(file.as_os_str());
    let output = tenure(args);
    let text = explain(&output);
    let explained =
        ["Jain's index", "as expected without a lock", "so any fixed ttl is a guess", "1 / their mean"];
    let named =
        ["strategy", "oversold", "lost updates", "fairness", "verdict", "naive", "one inside", "of ceiling"];
    for word in named.into_iter().chain(explained) {
        assert!(text.contains(word), "{word} is missing in {text}");
    }
    assert!(!text.contains('\x1b'), "no colour where nobody sees it");
    let page = fs::read_to_string(&file).expect("the report");
    assert!(page.contains("<svg") && page.ends_with("</html>\n"));
    // What it ran on, and the command that repeats it.
    for word in ["cores", env!("CARGO_PKG_VERSION"), "--strategies none,naive --seed 5", "20 in stock"] {
        assert!(page.contains(word), "{word} is missing in the report");
    }
    for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "the report needs nothing from outside: {outside}");
    }
}

fn refused(line: &str, status: i32, says: &str) {
    let output = tenure(words(line));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{line}: {text}");
    // What to do begins with a capital.
    assert!(text.to_lowercase().contains(&says.to_lowercase()), "{line} must say {says:?}: {text}");
    assert!(output.stdout.is_empty(), "{line}: {}", explain(&output));
}

fn bad_input_is_refused_before_anything_runs() {
    refused("lab flash-sale --clients 0", 64, "--clients is 0");
    refused("lab flash-sale --clients 99999999", 64, "too many");
    refused("lab flash-sale --stock 0", 64, "--stock is 0");
    refused("lab flash-sale --clients 3 --processes 4", 64, "at most as many");
    refused("lab flash-sale --processes 1 --faults", 64, "one process is killed");
    refused("lab flash-sale --strategies tenrue", 64, "did you mean tenure");
    refused("lab flash-sale --work 2m", 64, "--work is too long");
    refused("lab flash-sale --report /nowhere/at/all.html", 64, "cannot be written");
    refused("--url memory: lab flash-sale", 78, "cannot be shared");
    refused("--url hots: lab flash-sale", 78, "did you mean host");
    refused("lab flash-sale --work 10", 2, "no unit");
}

fn every_workload_measures() {
    for work in ["solo", "spread", "storm", "fan", "handoff", "holds"] {
        for peer in ["tenure", "flock"] {
            if (work, peer) == ("holds", "flock") {
                continue;
            }
            let output = tenure(words(&format!(
                "--json bench --workload {work} --secs 0.3 --tasks 8 --processes 1 --peer {peer}"
            )));
            assert!(output.status.success(), "{work} {peer}: {}", explain(&output));
            let one = &lines(&output)[0];
            assert_eq!((&one["peer"], &one["work"]), (&peer.into(), &work.into()));
            assert_eq!(one["errors"], 0, "{one}");
            assert!(one["max_us"].as_f64() > Some(0.0), "{one}");
            if work == "holds" {
                assert_eq!(one["held"], 8, "{one}");
            } else {
                assert!(one["cycles"].as_u64() > Some(0), "{one}");
            }
        }
    }
    let output = tenure(words("--json bench --workload spread --secs 0.1 --steps 1,4"));
    let tasks: Vec<_> = lines(&output).iter().map(|l| l["tasks"].as_u64()).collect();
    assert_eq!(tasks, [Some(1), Some(4)], "{}", explain(&output));
}

fn fan_and_handoff_across_processes() {
    for line in [
        "--json bench --workload fan --secs 0.3 --tasks 12 --processes 3",
        "--json bench --workload handoff --secs 0.5",
        "--json bench --workload handoff --secs 0.5 --peer futex",
        "--json bench --workload handoff --secs 0.5 --peer flock",
    ] {
        let output = tenure(words(line));
        assert!(output.status.success(), "{line}: {}", explain(&output));
        let one = &lines(&output)[0];
        assert!(one["processes"].as_u64() > Some(1), "{one}");
        assert!(one["cycles"].as_u64() > Some(4) && one["p50_us"].as_f64() > Some(0.0), "{one}");
    }
}

fn bench_bad_input_is_refused() {
    refused("bench --workload solo --secs 0", 64, "out of range");
    refused("bench --workload spread --tasks 0", 64, "out of range");
    refused("bench --workload solo --steps 1,2", 64, "fixed number");
    refused("bench --workload storm --processes 2", 64, "out of range for storm");
    refused("bench --workload solo --peer futex", 64, "futex does handoff");
    refused("--url memory: bench --workload fan --processes 2", 78, "cannot be shared");
    refused("bench --workload sol", 2, "solo");
}
