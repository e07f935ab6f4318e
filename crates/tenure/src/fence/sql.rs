//! Fences in a table, for resources in the same database: PostgreSQL, MySQL or MariaDB, SQLite.
//!
//! These are statements, for any driver. Run [`migration`](Statements::migration) once. Run [`check`](Statements::check) as
//! the first statement of every transaction that reads or writes the resource, with three parameters: the name of the
//! resource, the domain and the token. A refused check is an error of the database, so the transaction ends without an
//! effect if errors end transactions there. The fence's row stays locked until the end of the transaction, so a holder
//! with a higher token waits for transactions that are inside.
//!
//! ```
//! use tenure::fence::{Reason, Stamp, sql};
//! # trait Database { fn execute(&mut self, sql: &str, parameters: &[&dyn ToString]) -> Result<(), Failure>; }
//! # #[derive(Debug)] struct Failure(&'static str);
//! # impl std::fmt::Display for Failure {
//! #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.0) }
//! # }
//! /// Takes one from the stock, in a transaction of the caller.
//! fn take_one(transaction: &mut impl Database, stamp: &Stamp) -> Result<(), Failure> {
//!     let (domain, token) = (stamp.domain().as_str(), stamp.token().get());
//!     transaction.execute(sql::POSTGRES.check(), &[&"stock/7", &domain, &token])?; // before reading, too
//!     transaction.execute("UPDATE stock SET left = left - 1 WHERE id = 7", &[])
//! }
//! # struct Refusing;
//! # impl Database for Refusing {
//! #     fn execute(&mut self, _: &str, _: &[&dyn ToString]) -> Result<(), Failure> {
//! #         Err(Failure("ERROR: tenure fence: stale token 5: stock/7 has seen 6"))
//! #     }
//! # }
//! # fn main() -> Result<(), tenure::Error> {
//! # let stamp = Stamp::new("redis:cache:6379/0".parse()?, "5".parse()?);
//! # let transaction = &mut Refusing;
//! if let Err(failure) = take_one(transaction, &stamp) {
//!     match sql::reason(&failure.to_string()) {
//!         Some(Reason::Stale) => println!("another holder has the lock: stop the work"),
//!         Some(Reason::OtherDomain) => println!("the token comes from another store"),
//!         None => println!("the database failed: {failure}"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! Differences between the databases:
//! - PostgreSQL: at `REPEATABLE READ` and above, a check fails with 40001 if its transaction started before another one
//!   registered a higher token. If it is retried, it is refused. A holder that stalls inside its transaction keeps others
//!   out until `idle_in_transaction_session_timeout`.
//! - MySQL, MariaDB: the check needs a transaction around it to protect the statements that follow. After an error the
//!   program must roll back. Others wait for `innodb_lock_wait_timeout`.
//! - SQLite: start with `BEGIN IMMEDIATE`. After an error the program must roll back.

use super::{Reason, sections};

/// SQLSTATE of a refused check: the token is stale (PostgreSQL, MySQL, MariaDB).
pub const STALE: &str = "TF001";
/// SQLSTATE of a refused check: the token is of another domain (PostgreSQL, MySQL, MariaDB).
pub const OTHER_DOMAIN: &str = "TF002";

/// For PostgreSQL 9.5 and newer. Parameters `$1` to `$3`.
pub const POSTGRES: Statements = Statements(include_str!("sql/postgres.sql"));
/// For MySQL 5.7 and newer and MariaDB 10.3 and newer. Parameters `?`.
pub const MYSQL: Statements = Statements(include_str!("sql/mysql.sql"));
/// For SQLite 3.24 and newer. Parameters `?1` to `?3`.
pub const SQLITE: Statements = Statements(include_str!("sql/sqlite.sql"));

/// The statements for one kind of database. Their parameters are: resource, domain, token. `show` has only the first one,
/// and `migration` has none.
#[derive(Clone, Copy, Debug)]
pub struct Statements(&'static str);

impl Statements {
    /// Creates the table and the routines of the checks. Run each statement by itself, in this order. Running them again
    /// changes nothing.
    pub fn migration(&self) -> impl Iterator<Item = &'static str> {
        sections::named(self.0, "migration")
    }

    /// Registers the token, or fails. Run it first in each transaction that reads or writes the resource.
    #[must_use]
    pub fn check(&self) -> &'static str {
        self.one("check")
    }

    /// Reads the domain and the highest token seen: one row, or none.
    #[must_use]
    pub fn show(&self) -> &'static str {
        self.one("show")
    }

    /// Refuses tokens below the given one from now on, in its domain. It never lowers the fence. Use it to shut out an
    /// evicted holder before the next one comes: give it the old holder's token plus one.
    #[must_use]
    pub fn raise(&self) -> &'static str {
        self.one("raise")
    }

    /// Forgets the tokens seen so far and starts with this domain and token. Operators use it to move a resource to another
    /// store.
    #[must_use]
    pub fn reset(&self) -> &'static str {
        self.one("reset")
    }

    fn one(&self, name: &'static str) -> &'static str {
        sections::one(self.0, name)
    }
}

/// Why a check was refused, from the text of the driver's error. `None`: it failed for another reason.
#[must_use]
pub fn reason(error: &str) -> Option<Reason> {
    match error.split_once("tenure fence: ")?.1 {
        text if text.starts_with("stale token") => Some(Reason::Stale),
        text if text.starts_with("other domain") => Some(Reason::OtherDomain),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_every_statement_once() {
        for statements in [POSTGRES, MYSQL, SQLITE] {
            for name in ["check", "show", "raise", "reset"] {
                assert_eq!(sections::named(statements.0, name).count(), 1, "{name}");
                assert!(!statements.one(name).is_empty() && !statements.one(name).contains("--"), "{name}");
            }
            assert!(statements.migration().count() >= 2);
            assert_eq!(statements.0.matches(sections::NAME).count(), 4 + statements.migration().count());
        }
    }

    #[test]
    fn only_our_errors_are_refusals() {
        assert_eq!(reason("ERROR: tenure fence: stale token 5: x has seen 6"), Some(Reason::Stale));
        assert_eq!(reason("tenure fence: other domain: a"), Some(Reason::OtherDomain));
        assert_eq!(reason("relation \"tenure_fence\" does not exist"), None);
        assert_eq!(reason("tenure fence: something"), None);
    }
}
