//! PostgreSQL: a server of our own, and its client psql.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenure::fence::sql;

use crate::programs::{Dir, Server, command, find, succeeds};
use crate::session::Session;
use crate::table::{Check, Dialect, Row, names_apart};
use crate::{Suite, trial, trials};

pub(crate) const SUITE: Suite = Suite {
    name: "postgres",
    needs: &["postgres", "initdb", "psql", "setpriv"],
    trials: || {
        let mut all = trials::of("postgres", || Box::new(Row::new(DIALECT)));
        all.push(trial("postgres::names_are_compared_byte_for_byte".into(), || names_apart(DIALECT)));
        all
    },
};

pub(crate) const DIALECT: Dialect = Dialect {
    statements: sql::POSTGRES,
    session,
    bound,
    begin: "BEGIN;",
    names_both: true,
    check: Check::Proper,
    grace: Duration::from_millis(200),
};

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

pub(crate) fn stop() {
    drop(SERVER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn start() -> Server {
    let dir = Dir::new();
    let data = dir.file("data");
    succeeds(command("initdb", "postgres", &dir).args([
        "-D",
        &data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "--no-sync",
    ]));
    let mut server = command("postgres", "postgres", &dir);
    server.args(["-D", &data, "-k", &dir.file(""), "-c", "listen_addresses=", "-c", "fsync=off"]);
    server.args(["-c", "shared_buffers=16MB", "-c", "lock_timeout=60s", "-c", "max_connections=60"]);
    let server = Server::start(dir, server, |dir| {
        let asked = client(dir).args(["-c", "SELECT 1"]).output();
        asked.is_ok_and(|output| output.status.success())
    });
    let mut session = Session::start(&mut client(&server.dir), echo);
    // Twice: whoever migrates again changes nothing.
    for statement in sql::POSTGRES.migration().chain(sql::POSTGRES.migration()) {
        let said = session.ask(statement);
        assert!(!said.contains("ERROR"), "{said}");
    }
    assert_eq!(session.ask("CREATE TABLE stock (id text PRIMARY KEY, n bigint);"), "");
    server
}

fn client(dir: &Dir) -> Command {
    let mut command = Command::new(find("psql").expect("installed"));
    command.args(["-X", "-q", "-A", "-t", "-h", &dir.file(""), "-U", "postgres", "-d", "postgres"]);
    // With the SQLSTATE, and without the line that failed.
    command.args(["-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=never"]).env_remove("PGOPTIONS");
    command
}

fn echo(mark: &str) -> String {
    format!("\\echo {mark}")
}

fn session() -> Session {
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let server = server.get_or_insert_with(start);
    Session::start(&mut client(&server.dir), echo)
}

fn bound(statement: &str, parameters: &[String]) -> String {
    // A name of its own: one that is prepared in a transaction that fails stays.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("fence{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let types = ["text", "text", "bigint"][..parameters.len()].join(", ");
    format!("PREPARE {name}({types}) AS {statement};\nEXECUTE {name}({});", parameters.join(", "))
}
