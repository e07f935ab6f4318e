//! `run` with other primitives than a mutex, and `once`: on a real server.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::Trials;
use crate::server::Server;
use crate::support::{Place, kill, text};

pub(crate) const TRIALS: Trials = &[
    ("kinds::shared_permits_and_several_names", shared_permits_and_several_names),
    ("kinds::a_slot_is_run_once", a_slot_is_run_once),
    ("kinds::a_lock_lasts_from_acquire_to_release", a_lock_lasts_from_acquire_to_release),
    ("kinds::an_acquire_that_is_interrupted_leaves_the_line", an_acquire_that_is_interrupted_leaves_the_line),
];

fn shared_permits_and_several_names() {
    let server = Server::start();
    let place = Place::at(server.url());
    let reader = place.run(&["-s", "config", "--", "sleep", "1000"]);
    place.until_held("config");
    assert_eq!(place.code(&["run", "-n", "-s", "config", "--", "true"]), Some(0));
    assert_eq!(place.code(&["run", "-n", "-x", "config", "--", "true"]), Some(75));
    let permit = place.run(&["--permits", "2", "--of", "3", "render", "--", "sleep", "1000"]);
    place.until_held("render");
    assert_eq!(place.code(&["run", "-n", "--permits", "1", "--of", "3", "render", "--", "true"]), Some(0));
    assert_eq!(place.code(&["run", "-n", "--permits", "2", "--of", "3", "render", "--", "true"]), Some(75));
    let script = "echo \"$TENURE_LOCK\" \"$TENURE_TOKEN_1\" \"$TENURE_TOKEN_2\"";
    let output = place.output(&["run", "b", "a", "--", "sh", "-c", script]);
    let said = text(&output.stdout);
    assert!(said.starts_with("b\na ") && said.split_whitespace().count() == 4, "{said}");
    let held = place.hold("b");
    assert_eq!(place.code(&["run", "-n", "a", "b", "--", "true"]), Some(75));
    assert_eq!(place.code(&["run", "-n", "a", "--", "true"]), Some(0));
    drop((reader, permit, held));
}

fn a_slot_is_run_once() {
    let server = Server::start();
    let place = Place::at(server.url());
    let once = || place.code(&["once", "job", "--slot", "a", "--", "sh", "-c", "echo >> ran; exit 3"]);
    assert_eq!((once(), once()), (Some(3), Some(0)));
    assert_eq!(std::fs::read_to_string(place.file("ran")).unwrap(), "\n");
    let runs = &place.json(&["show", "job"])[0]["runs"];
    assert_eq!((&runs[0]["result"], &runs[0]["error"]), (&"failed".into(), &"exit 3".into()), "{runs}");
}

fn a_lock_lasts_from_acquire_to_release() {
    let server = Server::start();
    let place = Place::at(server.url());
    let handle = text(&place.output(&["acquire", "deploy"]).stdout);
    let with = |verb: &str| {
        place.tenure(&[verb]).env("TENURE_HANDLE", handle.trim()).output().unwrap().status.code()
    };
    assert_eq!(place.code(&["run", "-n", "deploy", "--", "true"]), Some(75));
    assert_eq!((with("renew"), with("release")), (Some(0), Some(0)));
    assert_eq!(place.code(&["run", "-n", "deploy", "--", "true"]), Some(0));
    assert_eq!((with("renew"), with("release")), (Some(80), Some(80)));
}

/// Nobody tells the server that a process is gone: it has to withdraw by itself.
fn an_acquire_that_is_interrupted_leaves_the_line() {
    let server = Server::start();
    let place = Place::at(server.url());
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let handle = text(&place.output(&["acquire", "deploy"]).stdout);
        let mut waiter = place.tenure(&["acquire", "deploy"]).spawn().unwrap();
        place.until_waiting("deploy", 1);
        kill(i32::try_from(waiter.id()).unwrap(), signal);
        assert_eq!(waiter.wait().unwrap().signal(), Some(signal.as_raw()), "it ends by the signal");
        assert_eq!(place.json(&["show", "deploy"])[0]["waiting"], serde_json::json!([]));
        assert_eq!(place.code(&["release", handle.trim()]), Some(0));
        assert_eq!(place.json(&["ls"]), Vec::<serde_json::Value>::new(), "nobody was granted it");
    }
}
