//! The fence in the caller's own transaction, against a real PostgreSQL, which it starts itself.

#[allow(dead_code, clippy::unwrap_used)] // shared with the library's own tests
#[path = "../../crates/tenure/tests/fence/programs.rs"]
mod programs;

use integrations::postgres::{Stop, migrate, sell};
use programs::{Dir, Server, command, find, succeeds};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tenure::Locks;

fn start() -> Server {
    let dir = Dir::new();
    let data = dir.file("data");
    let init = ["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync"];
    succeeds(command("initdb", "postgres", &dir).args(init));
    let mut server = command("postgres", "postgres", &dir);
    server.args(["-D", &data, "-k", &dir.file(""), "-c", "listen_addresses=", "-c", "fsync=off"]);
    Server::start(dir, server, |dir| {
        let asked = std::process::Command::new(find("psql").expect("installed"))
            .args(["-X", "-h", &dir.file(""), "-U", "postgres", "-c", "SELECT 1"])
            .output();
        asked.is_ok_and(|output| output.status.success())
    })
}

#[tokio::test]
async fn a_late_holder_is_refused_and_changes_nothing() {
    if let Some(missing) =
        ["postgres", "initdb", "psql", "setpriv"].into_iter().find(|name| find(name).is_none())
    {
        eprintln!("ignored: this machine has no {missing}");
        return;
    }
    let server = start();
    let options = PgConnectOptions::new().socket(&server.dir.0).username("postgres").database("postgres");
    let pool = PgPool::connect_with(options).await.expect("connects");
    migrate(&pool).await.expect("migrates");
    migrate(&pool).await.expect("once more");
    for statement in
        ["CREATE TABLE stock (id bigint PRIMARY KEY, left_over bigint)", "INSERT INTO stock VALUES (7, 10)"]
    {
        sqlx::query(statement).execute(&pool).await.expect("a table");
    }

    let locks = Locks::memory();
    let domain = locks.domain().await.expect("a domain");
    let stock = locks.mutex("stock/7").expect("a name");
    let late = stock.lock().await.expect("free");
    let old = late.token();
    assert_eq!(sell(&pool, &domain, old).await.expect("in time"), 9);
    late.release().await.expect("ours");
    let next = stock.lock().await.expect("free");
    assert_eq!(sell(&pool, &domain, next.token()).await.expect("in time"), 8);
    assert!(matches!(sell(&pool, &domain, old).await, Err(Stop::LockLost)));
    let elsewhere = Locks::memory().domain().await.expect("a domain");
    assert!(matches!(sell(&pool, &elsewhere, next.token()).await, Err(Stop::WrongStore)));
    assert_eq!(sell(&pool, &domain, next.token()).await.expect("nothing was lost"), 7);
    pool.close().await;
}
