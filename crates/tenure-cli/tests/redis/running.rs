//! `run`: what the command sees, waiting, nesting, and who is kept out.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::Trials;
use crate::server::Server;
use crate::support::{Place, text};

pub(crate) const TRIALS: Trials = &[
    ("run::the_command_sees_its_lock", the_command_sees_its_lock),
    ("run::status_and_busy", status_and_busy),
    ("run::waiters_come_in_line", waiters_come_in_line),
    ("run::a_lock_of_a_parent_is_refused_however_the_server_is_named", nested),
    ("run::an_old_environment_proves_nothing", an_old_environment_proves_nothing),
    ("run::the_commands_of_the_readme_work", the_commands_of_the_readme_work),
    ("run::what_is_left_is_a_head_without_holders", what_is_left),
];

fn the_command_sees_its_lock() {
    let server = Server::start();
    for scheme in ["redis", "redis+setnx"] {
        let place = Place::at(format!("{scheme}://127.0.0.1:{}", server.port));
        let script = "echo $TENURE_LOCK $TENURE_NAMESPACE $TENURE_URL $TENURE_TOKEN";
        let output = place.output(&["--namespace", "shop", "run", "orders/42", "--", "sh", "-c", script]);
        let said = text(&output.stdout);
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(&words[..3], ["orders/42", "shop", &place.url()], "{said}");
        let token: i64 = words[3].parse().unwrap();
        let next = place.output(&[
            "--namespace",
            "shop",
            "run",
            "orders/42",
            "--",
            "sh",
            "-c",
            "echo $TENURE_TOKEN",
        ]);
        assert!(text(&next.stdout).trim().parse::<i64>().unwrap() > token);
    }
}

fn status_and_busy() {
    let server = Server::start();
    for scheme in ["redis", "redis+setnx"] {
        let place = Place::at(format!("{scheme}://127.0.0.1:{}", server.port));
        assert_eq!(place.code(&["run", "x", "--", "sh", "-c", "exit 7"]), Some(7));
        assert_eq!(place.code(&["run", "x", "--", "sh", "-c", "kill -9 $$"]), Some(137));
        assert_eq!(place.code(&["run", "x", "--", "/nowhere/at/all"]), Some(127));
        let holder = place.hold("x");
        assert_eq!(place.code(&["run", "-n", "x", "--", "true"]), Some(75));
        assert_eq!(place.code(&["run", "--wait", "300ms", "-E", "9", "x", "--", "true"]), Some(9));
        let output = place.output(&["run", "--wait", "300ms", "x", "--", "true"]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(75) && said.contains("held by"), "{said}");
        drop(holder);
    }
}

fn waiters_come_in_line() {
    let server = Server::start();
    let place = Place::at(server.url());
    let holder = place.run(&["x", "--", "sh", "-c", "echo > began; while [ ! -e go ]; do sleep 0.01; done"]);
    place.line_of("began");
    place.until_held("x");
    let mut waiting = Vec::new();
    for n in 1..=3 {
        waiting.push(place.run(&[
            "--reason",
            &n.to_string(),
            "x",
            "--",
            "sh",
            "-c",
            &format!("echo {n} >> order"),
        ]));
        let line = place.until_waiting("x", n);
        assert_eq!(line["waiting"][n - 1]["reason"], n.to_string(), "{line}");
    }
    std::fs::write(place.file("go"), "").unwrap();
    assert_eq!(holder.wait().0, Some(0));
    for one in waiting {
        assert_eq!(one.wait().0, Some(0));
    }
    assert_eq!(std::fs::read_to_string(place.file("order")).unwrap(), "1\n2\n3\n");
}

fn nested() {
    let server = Server::start();
    let place = Place::at(server.url());
    let tenure = crate::support::TENURE;
    let port = server.port;
    for (url, code) in [
        (format!("redis://127.0.0.1:{port}"), 64),
        (format!("redis://127.0.0.1:{port}/0"), 64),
        (format!("redis://localhost:{port}"), 64),
        // Another database is another store.
        (format!("redis://127.0.0.1:{port}/1"), 0),
    ] {
        let output = place.output(&["run", "x", "--", tenure, "--url", &url, "run", "x", "--", "true"]);
        assert_eq!(output.status.code(), Some(code), "{url}: {}", text(&output.stderr));
        assert!(code == 0 || text(&output.stderr).contains("would wait for itself"));
    }
    assert_eq!(place.code(&["run", "x", "--", tenure, "run", "y", "--", "true"]), Some(0));
}

fn an_old_environment_proves_nothing() {
    let server = Server::start();
    for scheme in ["redis", "redis+setnx"] {
        let place = Place::at(format!("{scheme}://127.0.0.1:{}", server.port));
        let dump = "printf '%s' \"$TENURE_HELD\" > held; printf '%s' \"$TENURE_HELD_AS\" > as";
        let tenure = crate::support::TENURE;
        // Below its hold it is one.
        let again = format!(
            "{dump}; {tenure} run --reentrant -n x -- sh -c 'echo $TENURE_TOKEN'; echo $TENURE_TOKEN"
        );
        let output = place.output(&["run", "x", "--", "sh", "-c", &again]);
        let said = text(&output.stdout);
        let tokens: Vec<&str> = said.lines().collect();
        assert!(tokens.len() == 2 && tokens[0] == tokens[1] && !tokens[0].is_empty(), "{output:?}");
        let after = |args: &[&str]| {
            let variable = |name: &str| std::fs::read_to_string(place.file(name)).unwrap();
            let mut command = place.tenure(args);
            command.env("TENURE_HELD", variable("held")).env("TENURE_HELD_AS", variable("as"));
            command.output().unwrap().status.code()
        };
        assert_eq!(after(&["run", "-n", "x", "--", "true"]), Some(0));
        let _other = place.hold("x");
        assert_eq!(after(&["run", "-n", "x", "--", "true"]), Some(75));
        assert_eq!(after(&["run", "-n", "--reentrant", "x", "--", "true"]), Some(75));
    }
}

fn what_is_left() {
    let server = Server::start();
    let place = Place::at(server.url());
    let first = place.hold("a/b");
    let waiter = place.run(&["a/b", "--", "true"]);
    place.until_waiting("a/b", 1);
    drop(waiter); // SIGKILL while it waits
    place.until_waiting("a/b", 0);
    drop(first); // SIGKILL while it holds: the guardian stops the command and gives the lock back
    crate::support::until("the lock is free", || {
        (place.json(&["show", "a/b"])[0]["holders"].as_array()?.is_empty()).then_some(())
    });
    let left = server.keys();
    let only_its_own = left.iter().all(|key| key.starts_with("tenure:{default/a/b}:"));
    assert!(only_its_own, "{left:?}");
    for key in &left {
        let ttl: i64 = server.cli(&["PTTL", key]).parse().unwrap();
        // Ten minutes, and up to two more: docs/wire/redis.md.
        assert!(ttl > 0 && ttl <= 720_000, "{key} stays for {ttl} ms");
    }
}

fn the_commands_of_the_readme_work() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let named = "TENURE_URL=redis://127.0.0.1 ";
    let ours: Vec<&str> = readme.lines().filter_map(|l| l.strip_prefix("$ ")?.strip_prefix(named)).collect();
    assert!(ours.len() >= 2, "only {ours:?} found: this test has gone blind");
    let server = Server::start();
    let place = Place::at(server.url());
    let script = place.file("charge.sh");
    std::fs::write(&script, "#!/bin/sh\necho \"$TENURE_LOCK $TENURE_URL\" >> ran\n").unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let _other = place.hold("something/else");
    let own = Path::new(crate::support::TENURE).parent().unwrap().display().to_string();
    for line in ours {
        let output = Command::new("sh")
            .args(["-c", line])
            .env("PATH", format!("{own}:{}", std::env::var("PATH").unwrap_or_default()))
            .env("TENURE_URL", server.url())
            .current_dir(place.file(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {} {}", output.status, text(&output.stderr));
        assert!(!line.starts_with("tenure ls") || text(&output.stdout).contains("something/else"));
    }
    assert_eq!(place.line_of("ran"), format!("orders/42 {}", server.url()));
}
