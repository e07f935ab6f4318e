//! What child processes do. A child is this binary again, running the one test below.

use std::path::PathBuf;

use crate::kit::{Role, open, token};

/// The entry of child processes. Run as a test, it checks that children play their roles.
#[test]
fn child() {
    let Ok(role) = std::env::var("TENURE_TEST_ROLE") else {
        let mut child = Role::start("greet", "/".as_ref(), &["hello"]);
        child.hears("hello");
        return child.ends();
    };
    let dir = PathBuf::from(std::env::var("TENURE_TEST_DIR").expect("a directory"));
    let args = std::env::var("TENURE_TEST_ARGS").expect("arguments");
    let args: Vec<&str> = args.split('\n').filter(|a| !a.is_empty()).collect();
    match role.as_str() {
        "greet" => say(args[0]),
        "hold" => hold(&dir, args[0]),
        other => panic!("no role {other}"),
    }
}

fn say(word: &str) {
    use std::io::Write;
    let mut out = std::io::stdout();
    writeln!(out, "{word}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Takes a lock, says so, and keeps it until it is killed or its input ends.
fn hold(dir: &std::path::Path, name: &str) {
    let client = open(dir).expect("opens");
    let claim = client.claim(name);
    if token(client.attempt(&claim).expect("attempt").standing).is_none() {
        say("waiting");
        client.wait(&claim, None);
    }
    say("held");
    let mut rest = String::new();
    let _ = std::io::Read::read_to_string(&mut std::io::stdin(), &mut rest);
}
