//! The server is away, goes away, or takes the lock away.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Trials;
use crate::server::{Server, free_port};
use crate::support::{Place, alive, json_of, kill, text, until};

pub(crate) const TRIALS: Trials = &[
    ("faults::unreachable_is_69", unreachable_is_69),
    ("faults::waiting_outlasts_a_server_that_is_away", waiting_outlasts),
    ("faults::a_frozen_server_is_given_up_in_time", frozen),
    ("faults::a_server_that_refuses_writes_is_named_at_once", a_server_that_refuses_writes),
    ("faults::the_wait_limits_the_time_in_line_alone", the_wait_limits_the_time_in_line_alone),
    ("faults::a_server_that_evicts_or_forgets_is_warned_of_once", a_server_that_evicts_or_forgets),
    ("faults::a_server_that_stops_stops_the_command", a_server_that_stops),
    ("faults::a_short_outage_is_outlasted", a_short_outage),
    ("faults::break_tells_the_holder", break_tells_the_holder),
    ("faults::a_guardian_that_slept_finds_its_lock_lost", a_guardian_that_slept),
];

/// A family that ignores SIGTERM, the grandchild in another session.
const STUBBORN: &str = "trap '' TERM; setsid sh -c 'echo $$ > other; while :; do sleep 0.01; done' & echo $$ > first; \
                        while :; do sleep 0.01; done";

fn unreachable_is_69() {
    let place = Place::at(format!("redis://127.0.0.1:{}", free_port().unwrap()));
    for args in [
        &["ls"][..],
        &["show", "x"],
        &["watch"],
        &["break", "--yes", "x"],
        &["run", "x", "--", "true"],
        &["run", "-n", "x", "--", "true"],
        &["run", "--wait", "300ms", "x", "--", "true"],
        &["run", "-s", "x", "--", "true"],
        &["run", "--permits", "1", "--of", "2", "x", "--", "true"],
        &["run", "x", "y", "--", "true"],
        &["once", "--every", "1d", "x", "--", "true"],
        &["elect", "-n", "x", "--", "true"],
        &["acquire", "x"],
        &["acquire", "--wait", "1s", "x"],
        &["bench", "--workload", "solo"],
        &["lab", "conform", "s4"],
    ] {
        assert_eq!(place.code(args), Some(69), "{args:?}");
    }
    let said = text(&place.output(&["run", "--wait", "300ms", "x", "--", "true"]).stderr);
    assert!(said.contains("cannot be reached") && said.contains("trying again"), "{said}");
}

fn waiting_outlasts() {
    let server = Server::start();
    let place = Place::at(server.url());
    server.kill();
    let waiting = place.run(&["--wait", "1m", "x", "--", "sh", "-c", "echo ran > ran"]);
    // Somebody else has the port for a moment: a visit there is a try.
    let listener = until("the port is free", || TcpListener::bind(("127.0.0.1", server.port)).ok());
    drop(listener.accept().unwrap());
    drop(listener);
    server.launch().unwrap();
    assert_eq!(waiting.wait().0, Some(0));
    assert_eq!(place.line_of("ran"), "ran");
    // Back, but taken: now the time is over while it is held.
    let _holder = place.hold("x");
    assert_eq!(place.code(&["run", "--wait", "300ms", "x", "--", "true"]), Some(75));
}

fn frozen() {
    let server = Server::start();
    let place = Place::at(server.url());
    server.freeze();
    let output = place.output(&["run", "--wait", "300ms", "x", "--", "true"]);
    server.thaw();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(69) && said.contains("not answer"), "{said}");
}

fn a_server_that_refuses_writes() {
    let server = Server::with(&["--min-replicas-to-write", "1"]);
    for scheme in ["redis", "redis+setnx"] {
        let place = Place::at(format!("{scheme}://127.0.0.1:{}", server.port));
        for args in [
            &["run", "-n", "x", "--", "true"][..],
            &["run", "--wait", "100ms", "x", "--", "true"],
            &["acquire", "-n", "x"],
            &["acquire", "--wait", "100ms", "x"],
            &["once", "--slot", "a", "x", "--", "true"],
            &["elect", "-n", "x", "--", "true"],
        ] {
            let began = Instant::now();
            let output = place.output(args);
            let (said, took) = (text(&output.stderr), began.elapsed());
            assert_eq!(output.status.code(), Some(69), "{args:?}: {said}");
            assert!(said.contains("NOREPLICAS"), "{args:?}: {said}");
            // The engine's own patience with a store is five seconds.
            assert!(took < Duration::from_secs(4), "{args:?}: {took:?}");
        }
    }
}

fn the_wait_limits_the_time_in_line_alone() {
    let server = Server::start();
    for scheme in ["redis", "redis+setnx"] {
        let place = Place::at(format!("{scheme}://127.0.0.1:{}", server.port));
        for args in [&["run", "x", "--", "true"][..], &["acquire", "y"], &["elect", "z", "--", "true"]] {
            let args = [&args[..1], &["--wait", "1ms"], &args[1..]].concat();
            assert_eq!(place.code(&args), Some(0), "{args:?}");
        }
        let _holder = place.hold("x");
        assert_eq!(place.code(&["run", "--wait", "1ms", "x", "--", "true"]), Some(75));
    }
}

fn a_server_that_evicts_or_forgets() {
    let full = &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"][..];
    let keeps = &["--appendonly", "yes"][..];
    for (options, evicts, forgets) in
        [(keeps.to_vec(), 0, 0), (Vec::new(), 0, 1), ([keeps, full].concat(), 1, 0), (full.to_vec(), 1, 1)]
    {
        let server = Server::with(&options);
        for scheme in ["redis", "redis+setnx"] {
            let place = Place::at(format!("{scheme}://127.0.0.1:{}", server.port));
            for args in [&["run", "x", "--", "true"][..], &["elect", "y", "--", "true"], &["acquire", "z"]] {
                let said = text(&place.output(args).stderr);
                let count = |word: &str| said.matches(word).count();
                assert_eq!(
                    (count("may evict"), count("a restart loses")),
                    (evicts, forgets),
                    "{args:?}: {said}"
                );
                assert_eq!(count("tenure: warning: "), evicts + forgets, "{said}");
            }
            let quiet = place.output(&["run", "-q", "x", "--", "true"]);
            assert_eq!(text(&quiet.stderr), "");
        }
        server.cli(&["FLUSHALL"]);
    }
}

fn a_server_that_stops() {
    for stop in [Server::kill as fn(&Server), |server| server.freeze()] {
        let server = Server::start();
        let place = Place::at(server.url());
        let args = ["--ttl", "3s", "--status-file", "status", "x", "--", "sh", "-c", STUBBORN];
        let running = place.run(&args);
        let pids = ["first", "other"].map(|name| place.pid_of(name));
        place.until_held("x");
        stop(&server);
        let (code, said) = running.wait();
        assert_eq!(code, Some(80), "{said}");
        assert!(said.contains("could not be renewed"), "{said}");
        assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
        assert_eq!(json_of(&place.file("status"))["outcome"], "lost");
    }
}

fn a_short_outage() {
    let server = Server::with(&["--appendonly", "yes"]);
    let place = Place::at(server.url());
    let script = "echo > began; while [ ! -e go ]; do sleep 0.01; done";
    let running = place.run(&["--ttl", "1m", "x", "--", "sh", "-c", script]);
    place.line_of("began");
    let before = place.until_held("x");
    server.kill();
    server.launch().unwrap();
    let after = place.until_held("x");
    assert_eq!(before["token"], after["token"]);
    fs::write(place.file("go"), "").unwrap();
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{said}");
}

fn break_tells_the_holder() {
    let server = Server::start();
    for scheme in ["redis", "redis+setnx"] {
        let place = Place::at(format!("{scheme}://127.0.0.1:{}", server.port));
        let script = "trap 'echo TERM > got; exit 0' TERM; echo $$ > first; while :; do sleep 0.01; done";
        // The dialect is told nothing: there the holder finds out when it renews.
        let ttl = if scheme == "redis" { "1h" } else { "3s" };
        let running = place.run(&["--ttl", ttl, "x", "--", "sh", "-c", script]);
        let first = place.pid_of("first");
        let token = place.until_held("x")["token"].as_i64().unwrap();
        assert_eq!(place.code(&["break", "--yes", "--token", &(token + 1).to_string(), "x"]), Some(75));
        assert_eq!(place.code(&["break", "--yes", "--reason", "stuck since 3 am", "x"]), Some(0));
        let (code, said) = running.wait();
        assert_eq!(code, Some(80), "{said}");
        assert!(scheme != "redis" || said.contains("stuck since 3 am"), "{said}");
        assert!(!alive(first));
        assert_eq!(place.line_of("got"), "TERM");
        let next = place.output(&["run", "x", "--", "sh", "-c", "echo $TENURE_TOKEN"]);
        assert!(text(&next.stdout).trim().parse::<i64>().unwrap() > token);
    }
}

fn a_guardian_that_slept() {
    let server = Server::start();
    let place = Place::at(server.url());
    let running = place.run(&["--ttl", "3s", "x", "--", "sh", "-c", STUBBORN]);
    let pids = ["first", "other"].map(|name| place.pid_of(name));
    place.until_held("x");
    let guardian = running.guardian();
    kill(guardian, Signal::STOP);
    // Granted to another, since the lease ended.
    assert_eq!(place.code(&["run", "x", "--", "true"]), Some(0));
    kill(guardian, Signal::CONT);
    let (code, said) = running.wait();
    assert_eq!(code, Some(80), "{said}");
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
}
