//! A fence in the caller's own transaction, with rusqlite.

use rusqlite::{Connection, TransactionBehavior, params};
use tenure::fence::{Reason, sql};
use tenure::{Domain, Token};

/// Why nothing was sold.
#[derive(Debug)]
pub enum Stop {
    /// Another holder was here since: stop, and do not retry with this lock.
    LockLost,
    /// The token comes from another store than the fence.
    WrongStore,
    /// The database.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Stop {
        match sql::reason(&error.to_string()) {
            Some(Reason::Stale) => Stop::LockLost,
            Some(Reason::OtherDomain) => Stop::WrongStore,
            None => Stop::Database(error),
        }
    }
}

/// Once, at deployment. Running it again changes nothing.
///
/// # Errors
/// What the database says.
pub fn migrate(connection: &Connection) -> Result<(), rusqlite::Error> {
    sql::SQLITE.migration().try_for_each(|statement| connection.execute_batch(statement))
}

/// Sells one item, in one transaction with the check of the token. Returns what is left.
///
/// # Errors
/// [`Stop::LockLost`] if a newer holder has been here.
pub fn sell(connection: &mut Connection, domain: &Domain, token: Token) -> Result<i64, Stop> {
    // IMMEDIATE: the check is a write, and nobody comes between it and what follows. Dropping it rolls back.
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute(sql::SQLITE.check(), params!["stock/7", domain.as_str(), token.get()])?;
    let left: i64 = tx.query_row("SELECT left_over FROM stock WHERE id = 7", [], |row| row.get(0))?;
    tx.execute("UPDATE stock SET left_over = ?1 WHERE id = 7", params![left - 1])?;
    tx.commit()?;
    Ok(left - 1)
}

#[cfg(test)]
mod tests {
    use tenure::Locks;

    use super::*;

    #[test]
    fn a_late_holder_is_refused_and_changes_nothing() {
        let mut connection = Connection::open_in_memory().expect("a database");
        migrate(&connection).expect("migrates");
        migrate(&connection).expect("once more");
        let table = "CREATE TABLE stock (id INTEGER PRIMARY KEY, left_over INTEGER); INSERT INTO stock VALUES (7, 10)";
        connection.execute_batch(table).expect("a table");

        let locks = Locks::memory();
        let domain = locks.blocking_domain().expect("a domain");
        let stock = locks.mutex("stock/7").expect("a name");
        let late = stock.blocking_lock().expect("free");
        assert_eq!(sell(&mut connection, &domain, late.token()).expect("in time"), 9);
        let old = late.token();
        late.blocking_release().expect("ours");
        let next = stock.blocking_lock().expect("free");
        assert_eq!(sell(&mut connection, &domain, next.token()).expect("in time"), 8);
        assert!(matches!(sell(&mut connection, &domain, old), Err(Stop::LockLost)));
        let elsewhere = Locks::memory().blocking_domain().expect("a domain");
        assert!(matches!(sell(&mut connection, &elsewhere, next.token()), Err(Stop::WrongStore)));
        assert_eq!(sell(&mut connection, &domain, next.token()).expect("nothing was lost"), 7);
    }
}
