//! SQLite: a database file, and the shell sqlite3 as two processes that use it.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenure::fence::sql;

use crate::programs::{Dir, find};
use crate::session::Session;
use crate::table::{Check, Dialect, Row, names_apart};
use crate::{Suite, trial, trials};

pub(crate) const SUITE: Suite = Suite {
    name: "sqlite",
    needs: &["sqlite3", "stdbuf"],
    trials: || {
        let mut all = trials::of("sqlite", || Box::new(Row::new(DIALECT)));
        all.push(trial("sqlite::names_are_compared_byte_for_byte".into(), || names_apart(DIALECT)));
        all.push(trial("sqlite::a_name_that_is_bound_as_a_blob_is_refused".into(), blobs));
        all
    },
};

pub(crate) const DIALECT: Dialect = Dialect {
    statements: sql::SQLITE,
    session,
    bound,
    begin: "BEGIN IMMEDIATE;",
    names_both: false, // its triggers can only say a fixed text
    check: Check::Proper,
    grace: Duration::from_millis(200),
};

fn start(dir: &Dir) -> Session {
    let mut command = Command::new("stdbuf");
    command.args(["-o0"]).arg(find("sqlite3").expect("installed")).args(["-batch", &dir.file("db")]);
    let mut session = Session::start(&mut command, |mark| format!(".print {mark}"));
    assert_eq!(session.ask(".timeout 60000\nPRAGMA synchronous = OFF;"), "");
    session
}

static DIR: Mutex<Option<Dir>> = Mutex::new(None);

pub(crate) fn stop() {
    drop(DIR.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn session() -> Session {
    let mut dir = DIR.lock().unwrap_or_else(PoisonError::into_inner);
    start(dir.get_or_insert_with(|| {
        let dir = Dir::new();
        let mut session = start(&dir);
        // Twice: whoever migrates again changes nothing.
        for statement in sql::SQLITE.migration().chain(sql::SQLITE.migration()) {
            let said = session.ask(statement);
            assert_eq!(said, "");
        }
        assert_eq!(session.ask("CREATE TABLE stock (id TEXT PRIMARY KEY, n INTEGER);"), "");
        dir
    }))
}

fn bound(statement: &str, parameters: &[String]) -> String {
    let set: Vec<String> =
        parameters.iter().enumerate().map(|(n, p)| format!(".parameter set ?{} \"{p}\"", n + 1)).collect();
    format!(".parameter clear\n{}\n{statement};", set.join("\n"))
}

fn blobs() {
    let mut session = session();
    let blob = "x'".to_owned() + "626c6f62" + "'";
    let said = session.ask(&bound(sql::SQLITE.check(), &[blob, "'redis:a'".into(), "7".into()]));
    assert!(said.contains("CHECK"), "{said}");
    let said = session.ask(&bound(sql::SQLITE.check(), &["'blob'".into(), "'redis:a'".into(), "7".into()]));
    assert_eq!(said, "");
}
