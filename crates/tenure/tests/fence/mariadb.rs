//! MariaDB: a server of our own, and its client.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenure::fence::sql;

use crate::programs::{Dir, Server, command, find, succeeds};
use crate::session::Session;
use crate::table::{Check, Dialect, Row, names_apart};
use crate::{Suite, trial, trials};

pub(crate) const SUITE: Suite = Suite {
    name: "mariadb",
    needs: &["mariadbd", "mariadb-install-db", "mariadb", "setpriv"],
    trials: || {
        let mut all = trials::of("mariadb", || Box::new(Row::new(DIALECT)));
        all.push(trial("mariadb::names_are_compared_byte_for_byte".into(), || names_apart(DIALECT)));
        all.push(trial("mariadb::a_name_that_is_too_long_is_refused_in_every_mode".into(), long_names));
        all.push(trial("mariadb::names_do_not_depend_on_the_connection".into(), character_sets));
        all
    },
};

pub(crate) const DIALECT: Dialect = Dialect {
    statements: sql::MYSQL,
    session,
    bound,
    begin: "START TRANSACTION;",
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
    let data = format!("--datadir={}", dir.file("data"));
    let mut install = command("mariadb-install-db", "mysql", &dir);
    install.args(["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"]);
    succeeds(install.arg("--innodb-flush-log-at-trx-commit=0"));
    let mut server = command("mariadbd", "mysql", &dir);
    server.args(["--no-defaults", &data, &format!("--socket={}", dir.file("socket")), "--skip-networking"]);
    server.args(["--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"]);
    server.arg(format!("--pid-file={}", dir.file("pid")));
    let server = Server::start(dir, server, |dir| {
        let asked = client(dir, "mysql").args(["-e", "SELECT 1"]).output();
        asked.is_ok_and(|output| output.status.success())
    });
    let mut session = Session::start(&mut client(&server.dir, "mysql"), echo);
    assert_eq!(session.ask("CREATE DATABASE shop; USE shop;"), "");
    // Twice: whoever migrates again changes nothing.
    for statement in sql::MYSQL.migration().chain(sql::MYSQL.migration()) {
        let said = session.ask(&format!("DELIMITER //\n{statement}\n//\nDELIMITER ;"));
        assert!(!said.contains("ERROR"), "{said}");
    }
    assert_eq!(session.ask("CREATE TABLE stock (id VARCHAR(50) PRIMARY KEY, n BIGINT) ENGINE = InnoDB;"), "");
    server
}

fn client(dir: &Dir, database: &str) -> Command {
    let mut command = Command::new(find("mariadb").expect("installed"));
    command.args(["--no-defaults", &format!("--socket={}", dir.file("socket")), "-u", "root"]);
    command.args(["--batch", "--skip-column-names", "--force", "--unbuffered", database]);
    command
}

fn echo(mark: &str) -> String {
    format!("SELECT '{mark}';")
}

fn session() -> Session {
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let server = server.get_or_insert_with(start);
    Session::start(&mut client(&server.dir, "shop"), echo)
}

fn bound(statement: &str, parameters: &[String]) -> String {
    let names = &["@a", "@b", "@c"][..parameters.len()];
    let set: Vec<String> = names.iter().zip(parameters).map(|(n, p)| format!("{n} = {p}")).collect();
    format!(
        "DELIMITER //\nPREPARE fence FROM \"{statement}\"//\nDELIMITER ;\nSET {};\nEXECUTE fence USING {};\n\
         DEALLOCATE PREPARE fence;",
        set.join(", "),
        names.join(", ")
    )
}

/// Without the strict mode, a server cuts off what does not fit: two long names would share a fence.
fn long_names() {
    let mut session = session();
    assert_eq!(session.ask("SET SESSION sql_mode = '';"), "");
    let name = "n".repeat(201);
    for long in [name.clone(), "n".repeat(2000), format!("{name}{}", " ".repeat(300))] {
        for statement in [sql::MYSQL.check(), sql::MYSQL.raise(), sql::MYSQL.reset()] {
            let said = session.ask(&bound(statement, &[format!("'{long}'"), "'redis:a'".into(), "7".into()]));
            assert!(said.contains("200 characters"), "{} characters: {said}", long.len());
        }
    }
    assert_eq!(session.ask("SET NAMES utf8mb4;"), "");
    let most = "\u{1f512}".repeat(200);
    let said =
        session.ask(&bound(sql::MYSQL.check(), &[format!("'{most}'"), "'redis:a'".into(), "7".into()]));
    assert_eq!(said, "", "200 characters of four bytes fit");
}

/// The same name from a connection with another character set is the same resource.
fn character_sets() {
    let mut session = session();
    assert_eq!(session.ask("SET NAMES utf8mb4;"), "");
    for (name, token, refused) in [
        ("'set/\u{e4}'", "9", false),
        ("_latin1 x'7365742FE4'", "8", true),
        ("_latin1 x'7365742FE4'", "9", false),
    ] {
        let said = session.ask(&bound(sql::MYSQL.check(), &[name.into(), "'redis:a'".into(), token.into()]));
        assert_eq!(said.contains(sql::STALE), refused, "{name} {token}: {said}");
    }
}
