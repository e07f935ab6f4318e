//! MariaDB: a server of our own, and its client.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenure::fence::sql;

use crate::programs::{Dir, Server, command, find, succeeds};
use crate::session::Session;
use crate::table::{Check, Dialect, Row};
use crate::{Suite, trials};

pub(crate) const SUITE: Suite = Suite {
    name: "mariadb",
    needs: &["mariadbd", "mariadb-install-db", "mariadb", "setpriv"],
    trials: || trials::of("mariadb", || Box::new(Row::new(DIALECT))),
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
