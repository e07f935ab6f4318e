//! The same scenarios and workloads on a real Redis server of their own.

use crate::server::{self, Server};
use crate::{explain, lines, tenure};
use tenure_lab::harness::{Harness, Verdict};

/// Adds them; without the program that they need they are ignored, which says so.
pub(crate) fn add(harness: &mut Harness<'_>) {
    let all: &[(&str, fn())] = &[
        ("redis::sale_tenure_is_exact", sale_tenure_is_exact),
        ("redis::sale_with_faults_only_the_fence_is_exact", sale_with_faults),
        ("redis::sale_in_the_dialect", sale_in_the_dialect),
        ("redis::every_workload_measures", every_workload_measures),
        ("redis::steps_are_a_table", steps_are_a_table),
        ("redis::holds_tell_what_the_server_spends", holds_tell_what_the_server_spends),
        ("redis::conform_is_a_guest", conform_is_a_guest),
        ("redis::conform_says_what_the_dialect_does_not_promise", conform_of_the_dialect),
        ("redis::bad_input_is_refused", bad_input_is_refused),
    ];
    let missing = server::missing();
    for (name, run) in all {
        let missing = missing.clone();
        harness.test(*name, move || {
            if let Some(why) = missing {
                return Verdict::Ignored(why);
            }
            run();
            Verdict::Passed(String::new())
        });
    }
}

fn on(url: &str, line: &str) -> std::process::Output {
    tenure(["--url", url].into_iter().chain(line.split(' ')))
}

fn sale_tenure_is_exact() {
    let server = Server::start();
    let output = on(&server.url(), "--json lab flash-sale --clients 40 --processes 4 --stock 200 --seed 7");
    let all = lines(&output);
    assert!(output.status.success(), "{}", explain(&output));
    let names: Vec<_> = all.iter().map(|l| l["strategy"].as_str().expect("a name")).collect();
    assert_eq!(names, ["none", "naive", "careful", "tenure", "tenure+fence"], "{}", explain(&output));
    assert_eq!(all[0]["verdict"], "wrong");
    assert!(all[1]["acquire_max_us"].as_u64() > Some(0), "the naive lock is a lock: {}", all[1]);
    for one in &all[3..] {
        assert_eq!((&one["verdict"], &one["sold"]), (&"exact".into(), &200.into()), "{one}");
        for zero in ["oversold", "lost_updates", "refused_by_fence", "errors", "left"] {
            assert_eq!(one[zero], 0, "{zero} of {one}");
        }
        assert!(one["jain"].as_f64() > Some(0.5), "first come, first served: {one}");
    }
    // The homemade locks were on this server, not files: the server counted what it was asked.
    let stats = server.cli(&["INFO", "commandstats"]);
    for word in ["cmdstat_set:", "cmdstat_del:", "cmdstat_eval:"] {
        assert!(stats.contains(word), "{word} {stats}");
    }
    let left = server.keys();
    assert!(
        left.iter().all(|key| key.starts_with("tenure:{test/flash-sale/") && key.ends_with(":l")),
        "{left:?}"
    );
}

fn sale_with_faults() {
    let server = Server::start();
    let line = "--json lab flash-sale --clients 24 --processes 3 --stock 150 --faults --strategies tenure,tenure+fence";
    // Whether a pause hits a holder between its look and its write is chance: some sale of several does.
    let (mut wrong, mut refused) = (false, false);
    for _ in 0..6 {
        let output = on(&server.url(), line);
        let all = lines(&output);
        let (plain, fenced) = (&all[0], &all[1]);
        for one in &all {
            assert!(one["stopped"].as_u64() > Some(0), "the faults happened: {one}");
        }
        assert_eq!(fenced["verdict"], "exact", "{}", explain(&output));
        wrong |= plain["verdict"] == "wrong";
        refused |= fenced["refused_by_fence"].as_u64() > Some(0);
        if wrong && refused {
            return;
        }
    }
    assert!(wrong, "a pause beyond the lease, without the fence, loses nothing");
    assert!(refused, "no write of a stopped holder was refused");
}

fn sale_in_the_dialect() {
    let server = Server::start();
    let url = server.url().replace("redis://", "redis+setnx://");
    let output = on(&url, "--json lab flash-sale --clients 12 --processes 2 --stock 60");
    assert!(output.status.success(), "{}", explain(&output));
    assert!(lines(&output)[3..].iter().all(|one| one["verdict"] == "exact"), "{}", explain(&output));
}

fn every_workload_measures() {
    let server = Server::start();
    for (peer, works) in [
        ("tenure", &["solo", "spread", "storm", "fan", "handoff", "holds"][..]),
        ("setnx", &["solo", "spread", "storm", "fan", "handoff"]),
        ("ping", &["solo", "spread"]),
    ] {
        for work in works {
            let line =
                format!("--json bench --workload {work} --secs 0.3 --tasks 8 --processes 1 --peer {peer}");
            let output = on(&server.url(), &line);
            assert!(output.status.success(), "{line}: {}", explain(&output));
            let one = &lines(&output)[0];
            assert_eq!(
                (&one["peer"], &one["work"], &one["errors"]),
                (&peer.into(), &(*work).into(), &0.into())
            );
            assert!(one["max_us"].as_f64() > Some(0.0), "{one}");
            assert!(*work == "holds" || one["cycles"].as_u64() > Some(0), "{one}");
        }
    }
    for line in [
        "--json bench --workload fan --secs 0.3 --tasks 12 --processes 3",
        "--json bench --workload handoff --secs 0.5",
        "--json bench --workload handoff --secs 0.5 --peer setnx",
    ] {
        let output = on(&server.url(), line);
        assert!(output.status.success(), "{line}: {}", explain(&output));
        assert!(lines(&output)[0]["processes"].as_u64() > Some(1), "{}", explain(&output));
    }
    assert!(
        server.keys().iter().all(|key| !key.contains("setnx")),
        "the peer leaves nothing: {:?}",
        server.keys()
    );
}

fn steps_are_a_table() {
    let server = Server::start();
    let output = on(&server.url(), "bench --steps 5,10,20 --secs 0.2");
    assert!(output.status.success(), "{}", explain(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    for word in ["cycles/s", "mean", "errors"] {
        assert!(rows[0].contains(&word), "{text}");
    }
    let tasks: Vec<&str> = rows[1..].iter().map(|row| row[2]).collect();
    assert_eq!(tasks, ["5", "10", "20"], "{text}");
    assert!(rows[1..].iter().all(|row| row.last() == Some(&"0")), "no errors: {text}");
}

fn holds_tell_what_the_server_spends() {
    let server = Server::start();
    let output = on(&server.url(), "--json bench --workload holds --tasks 200 --secs 2.5");
    assert!(output.status.success(), "{}", explain(&output));
    let one = &lines(&output)[0];
    assert_eq!(one["held"], 200, "{one}");
    assert!(one["renewals"].as_u64() >= Some(200), "each was renewed: {one}");
    for field in ["cpu_percent", "server_cpu_percent", "server_memory_kb"] {
        assert!(one[field].as_f64() > Some(0.0), "{field} of {one}");
    }
    // A user who may not ask what the server spends can measure all the same.
    server.cli(&["ACL", "SETUSER", "guest", "on", ">secret", "~*", "&*", "+@all", "-info"]);
    let url = server.url().replace("redis://", "redis://guest:secret@");
    let output = on(&url, "--json bench --workload holds --tasks 5 --secs 0.2");
    assert!(
        output.status.success() && lines(&output)[0]["server_cpu_percent"].is_null(),
        "{}",
        explain(&output)
    );
}

/// Somebody's data is there, and is the same afterwards; what the suite leaves goes by itself.
fn conform_is_a_guest() {
    let server = Server::start();
    for (key, value) in [("user:1", "ann"), ("tenure:{default/theirs}:l", "not a head")] {
        assert_eq!(server.cli(&["SET", key, value]), "OK");
    }
    let output = on(&server.url(), "--json lab conform s4");
    let text = explain(&output);
    assert!(
        output.status.code() == Some(64) && text.contains("holds 2 keys") && text.contains("--yes"),
        "{text}"
    );
    let output = on(&server.url(), "--json lab conform --yes s4");
    assert!(output.status.success(), "{}", explain(&output));
    assert!(
        lines(&output).iter().any(|l| l["rule"] == "S4" && l["verdict"] == "held"),
        "{}",
        explain(&output)
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("2 keys") && said.contains("namespaces test-"), "it says where it works: {said}");
    assert_eq!(server.cli(&["GET", "user:1"]), "ann");
    assert_eq!(server.cli(&["GET", "tenure:{default/theirs}:l"]), "not a head");
    nothing_but(&server, &["tenure:{default/theirs}:l", "user:1"]);
    // Where there is nothing but Tenure's own, nobody has to agree; the dialect leaves nothing either.
    assert_eq!(server.cli(&["DEL", "user:1"]), "1");
    for url in [server.url(), server.url().replace("redis://", "redis+setnx://")] {
        let output = on(&url, "lab conform s10");
        assert!(output.status.success(), "{}", explain(&output));
        nothing_but(&server, &["tenure:{default/theirs}:l"]);
    }
}

/// Besides these keys there is at most what names the store, and a mark of a late withdrawal, which goes by itself.
fn nothing_but(server: &Server, keys: &[&str]) {
    let all = server.keys();
    assert!(keys.iter().all(|key| all.iter().any(|k| k == key)), "{all:?}");
    for key in all.iter().filter(|key| !keys.contains(&key.as_str()) && *key != "tenure:domain") {
        let ttl: i64 = server.cli(&["PTTL", key]).parse().expect("a number");
        assert!(key.contains("}:m") && ttl <= 65_000, "{key} is left for {ttl} ms");
    }
}

fn conform_of_the_dialect() {
    let server = Server::start();
    let url = server.url().replace("redis://", "redis+setnx://");
    let output = on(&url, "lab conform l3");
    let text = explain(&output);
    assert!(output.status.success() && text.contains("not promised"), "{text}");
    assert!(text.contains("since order is none"), "with the reason: {text}");
}

fn bad_input_is_refused() {
    let server = Server::start();
    let url = server.url();
    for (line, status, says) in [
        ("bench --workload storm --peer ping", 64, "ping does solo and spread"),
        ("bench --workload holds --peer setnx", 64, "all but holds"),
        ("lab conform nosuchtrial", 64, "no trial has such a name"),
    ] {
        let output = on(&url, line);
        assert_eq!(output.status.code(), Some(status), "{line}: {}", explain(&output));
        assert!(explain(&output).to_lowercase().contains(says), "{line}: {}", explain(&output));
    }
    let output = on("host:", "bench --workload solo --peer ping");
    assert_eq!(output.status.code(), Some(78), "{}", explain(&output));
    let tls = server.url().replace("redis://", "rediss://");
    let output = on(&tls, "lab flash-sale");
    assert_eq!(output.status.code(), Some(78), "{}", explain(&output));
    assert!(explain(&output).contains("without TLS"), "{}", explain(&output));
    drop(server);
    let output = on(&url, "lab flash-sale --clients 4 --processes 2");
    assert_eq!(output.status.code(), Some(69), "{}", explain(&output));
}
