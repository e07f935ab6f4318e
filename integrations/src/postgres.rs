//! A fence in the caller's own transaction, with sqlx and PostgreSQL.

use sqlx::PgPool;
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
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Stop {
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
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::Error> {
    for statement in sql::POSTGRES.migration() {
        sqlx::query(statement).execute(pool).await?;
    }
    Ok(())
}

/// Sells one item, in one transaction with the check of the token. Returns what is left.
///
/// # Errors
/// [`Stop::LockLost`] if a newer holder has been here.
pub async fn sell(pool: &PgPool, domain: &Domain, token: Token) -> Result<i64, Stop> {
    let mut tx = pool.begin().await?;
    // First of all, before anything is read: from here on, earlier holders wait or are refused.
    sqlx::query(sql::POSTGRES.check())
        .bind("stock/7")
        .bind(domain.as_str())
        .bind(token.get())
        .execute(&mut *tx)
        .await?;
    let left: i64 =
        sqlx::query_scalar("SELECT left_over FROM stock WHERE id = 7").fetch_one(&mut *tx).await?;
    sqlx::query("UPDATE stock SET left_over = $1 WHERE id = 7").bind(left - 1).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(left - 1)
}
