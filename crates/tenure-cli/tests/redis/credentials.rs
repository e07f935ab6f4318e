//! Passwords: from where they come, that nobody sees them, and what a wrong one is called.

use std::fs;
use std::process::Stdio;

use crate::Trials;
use crate::server::Server;
use crate::support::{Place, bare, text};

pub(crate) const TRIALS: Trials = &[
    ("credentials::from_the_url_a_variable_or_a_file", from_one_place),
    ("credentials::two_passwords_are_78", two_passwords_are_78),
    ("credentials::wrong_or_missing_is_77", wrong_or_missing_is_77),
    ("credentials::a_user_with_the_least_permissions", a_user),
    ("credentials::the_command_is_told_no_password", the_command_is_told_no_password),
    ("credentials::the_lab_has_them_too", the_lab_has_them_too),
];

const SECRET: &str = "s3cret/:@ %";
/// The same as a part of a URL.
const QUOTED: &str = "s3cret%2F%3A%40%20%25";

fn guarded() -> Server {
    Server::with(&["--requirepass", SECRET])
}

/// Exit code, stdout and stderr; none of which shows the password.
fn call(args: &[&str], pairs: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = bare(args).envs(pairs.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    for said in [&out, &err] {
        assert!(!said.contains("s3cret"), "{args:?} shows a password: {said}");
    }
    (output.status.code(), out, err)
}

fn from_one_place() {
    let server = guarded();
    let place = Place::new();
    let file = place.file("password");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let (url, file) = (server.url(), file.display().to_string());
    let whole = url.replace("redis://", &format!("redis://:{QUOTED}@"));
    for (url, pairs) in [
        (&whole, &[][..]),
        (&url, &[("TENURE_PASSWORD", SECRET)]),
        (&url, &[("TENURE_PASSWORD_FILE", file.as_str())]),
    ] {
        for args in [
            &["--url", url, "-v", "run", "x", "--", "true"][..],
            &["--url", url, "-v", "ls", "--json"],
            &["--url", url, "-v", "show", "x"],
        ] {
            let (code, _, err) = call(args, pairs);
            assert_eq!(code, Some(0), "{pairs:?}: {err}");
        }
    }
}

fn two_passwords_are_78() {
    let server = guarded();
    let place = Place::new();
    let file = place.file("password");
    fs::write(&file, SECRET).unwrap();
    let whole = server.url().replace("redis://", &format!("redis://:{QUOTED}@"));
    for name in ["TENURE_PASSWORD", "TENURE_PASSWORD_FILE"] {
        let value = if name == "TENURE_PASSWORD" { SECRET } else { file.to_str().unwrap() };
        for args in [
            &["--url", &whole, "ls"][..],
            &["--url", &whole, "run", "x", "--", "true"],
            &["--url", &whole, "bench", "--workload", "solo"],
        ] {
            let (code, _, err) = call(args, &[(name, value)]);
            assert_eq!(code, Some(78), "{err}");
            assert!(err.contains("two passwords"), "{err}");
        }
    }
}

fn wrong_or_missing_is_77() {
    let server = guarded();
    let url = server.url();
    for pairs in [&[][..], &[("TENURE_PASSWORD", "s3cret-but-wrong")]] {
        for args in [
            &["--url", &url, "ls"][..],
            &["--url", &url, "-v", "break", "--yes", "x"],
            &["--url", &url, "run", "x", "--", "true"],
            // Waiting does not help.
            &["--url", &url, "run", "--wait", "1h", "x", "--", "true"],
            &["--url", &url, "once", "--slot", "a", "x", "--", "true"],
            &["--url", &url, "elect", "x", "--", "true"],
            &["--url", &url, "acquire", "x"],
            &["--url", &url, "bench", "--workload", "solo"],
        ] {
            let (code, _, err) = call(args, pairs);
            assert_eq!(code, Some(77), "{args:?} {pairs:?}: {err}");
        }
    }
}

fn a_user() {
    let server = Server::start();
    let wire = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire/redis.md");
    let wire = fs::read_to_string(wire).unwrap();
    let rule = wire.lines().find(|l| l.starts_with("ACL SETUSER tenure")).unwrap();
    assert_eq!(server.cli(&rule.split(' ').collect::<Vec<_>>()), "OK");
    let url = server.url().replace("redis://", "redis://tenure@");
    let pairs = [("TENURE_PASSWORD", "secret")];
    for args in [
        &["--url", &url, "run", "x", "--", "true"][..],
        &["--url", &url, "ls"],
        &["--url", &url, "show", "x"],
    ] {
        let (code, _, err) = call(args, &pairs);
        assert_eq!(code, Some(0), "{args:?}: {err}");
    }
    let (code, _, err) = call(&["--url", &url, "break", "--yes", "x"], &pairs);
    assert_eq!(code, Some(75), "nobody holds it: {err}");
}

fn the_command_is_told_no_password() {
    let server = guarded();
    let whole = server.url().replace("redis://", &format!("redis://:{QUOTED}@"));
    let (code, out, err) =
        call(&["--url", &whole, "run", "x", "--", "sh", "-c", "echo $TENURE_URL; env | grep TENURE_"], &[]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().next(), Some(server.url().as_str()));
}

fn the_lab_has_them_too() {
    let server = guarded();
    let url = server.url();
    for args in [
        "--json bench --workload solo --secs 0.1",
        "--json bench --workload fan --tasks 4 --processes 2 --secs 0.1",
        "lab flash-sale --clients 4 --processes 2 --stock 20 --strategies naive,tenure",
        "lab conform s4_strangers_cannot_release",
    ] {
        let args: Vec<&str> = ["--url", &url].into_iter().chain(args.split(' ')).collect();
        let (code, _, err) = call(&args, &[("TENURE_PASSWORD", SECRET)]);
        assert_eq!(code, Some(0), "{args:?}: {err}");
    }
}
