//! A resource that is a row of a table, with the fence beside it: what the databases share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenure::fence::sql::{self, Statements};
use tenure::fence::{Domain, Stamp};

use crate::session::Session;
use crate::trials::{Refused, Resource, Side, Slow};

/// How one database is spoken to.
#[derive(Clone, Copy)]
pub(crate) struct Dialect {
    pub(crate) statements: Statements,
    pub(crate) session: fn() -> Session,
    /// Runs a statement with parameters: prepared, and bound by the database.
    pub(crate) bound: fn(statement: &str, parameters: &[String]) -> String,
    pub(crate) begin: &'static str,
    pub(crate) names_both: bool,
    /// The check that sides run: [`Statements::check`], unless it is one that is known to be wrong.
    pub(crate) check: Check,
    pub(crate) grace: Duration,
}

/// How a side checks.
#[derive(Clone, Copy)]
pub(crate) enum Check {
    /// In the transaction of the access.
    Proper,
    /// Never when it only reads.
    NotOnReads,
    /// In a transaction of its own, before that of the access.
    Before,
    /// As if all tokens were of one store.
    AnyDomain,
}

/// A row of its own.
pub(crate) struct Row {
    dialect: Dialect,
    name: String,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Row {
    pub(crate) fn new(dialect: Dialect) -> Row {
        let name = format!("stock/{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let row = Row { dialect, name };
        let mut session = (dialect.session)();
        let made = session.ask(&format!("INSERT INTO stock (id, n) VALUES ('{}', 100);", row.name));
        assert_eq!(made, "", "{made}");
        row
    }

    fn access(&self) -> Access {
        Access {
            session: (self.dialect.session)(),
            dialect: self.dialect,
            name: self.name.clone(),
            open: false,
        }
    }

    fn run(&self, statement: &str, stamp: &Stamp) {
        let mut access = self.access();
        let said = access.session.ask(&(self.dialect.bound)(statement, &access.parameters(stamp)));
        assert!(!said.to_lowercase().contains("error"), "{said}");
    }
}

impl Resource for Row {
    fn side(&self) -> Box<dyn Side> {
        Box::new(self.access())
    }

    fn slow(&self) -> Option<Box<dyn Slow>> {
        Some(Box::new(self.access()))
    }

    fn raise(&self, to: &Stamp) {
        self.run(self.dialect.statements.raise(), to);
    }

    fn reset(&self, to: &Stamp) {
        self.run(self.dialect.statements.reset(), to);
    }

    fn kept(&self) -> Option<Stamp> {
        let name = format!("'{}'", self.name);
        let said =
            (self.dialect.session)().ask(&(self.dialect.bound)(self.dialect.statements.show(), &[name]));
        let (domain, token) = said.split_once(['|', '\t'])?;
        Some(Stamp::new(Domain::new(domain).expect("a domain"), token.parse().expect("a token")))
    }

    fn names_both(&self) -> bool {
        self.dialect.names_both
    }

    fn grace(&self) -> Duration {
        self.dialect.grace
    }
}

/// Names that some collation, padding or normalisation takes for equal: each has a fence of its own.
pub(crate) fn names_apart(dialect: Dialect) {
    let mut session = (dialect.session)();
    let names = [
        "apart", "apart ", "apart  ", " apart", "Apart", "APART", "\u{e4}", "a\u{308}", "a", "\u{c4}", "ss",
        "\u{df}", "\u{fb01}", "fi",
    ];
    for (number, name) in names.iter().enumerate() {
        // Each with a lower token than all before it: refused if it shares a fence with one of them.
        let parameters = [format!("'{name}'"), "'redis:a'".to_owned(), (99 - number).to_string()];
        let said = session.ask(&(dialect.bound)(dialect.statements.check(), &parameters));
        assert_eq!(said, "", "{name:?} shares a fence with another name");
    }
    for (number, name) in names.iter().enumerate() {
        let said = session.ask(&(dialect.bound)(dialect.statements.show(), &[format!("'{name}'")]));
        assert_eq!(
            said.split(['|', '\t']).nth(1),
            Some((99 - number).to_string().as_str()),
            "{name:?}: {said}"
        );
        let parameters = [format!("'{name}'"), "'redis:a'".to_owned(), (number + 1).to_string()];
        let said = session.ask(&(dialect.bound)(dialect.statements.reset(), &parameters));
        assert!(!said.to_lowercase().contains("error"), "{said}");
        let said = session.ask(&(dialect.bound)(dialect.statements.show(), &[format!("'{name}'")]));
        assert_eq!(
            said.split(['|', '\t']).nth(1),
            Some((number + 1).to_string().as_str()),
            "{name:?}: {said}"
        );
    }
}

struct Access {
    session: Session,
    dialect: Dialect,
    name: String,
    open: bool,
}

impl Access {
    fn parameters(&self, stamp: &Stamp) -> Vec<String> {
        let domain = match self.dialect.check {
            Check::AnyDomain => "any",
            _ => stamp.domain().as_str(),
        };
        vec![format!("'{}'", self.name), format!("'{domain}'"), stamp.token().to_string()]
    }

    fn check(&mut self, stamp: &Stamp) -> Result<(), Refused> {
        let parameters = self.parameters(stamp);
        let said = self.session.ask(&(self.dialect.bound)(self.dialect.statements.check(), &parameters));
        match sql::reason(&said) {
            Some(reason) => {
                self.session.ask("ROLLBACK;");
                self.open = false;
                // SQLite has no SQLSTATE.
                let state = [sql::STALE, sql::OTHER_DOMAIN].iter().any(|s| said.contains(s));
                assert!(state || !self.dialect.names_both, "{said}");
                Err(Refused { reason, text: said })
            }
            None => {
                assert_eq!(said, "", "the check says nothing");
                Ok(())
            }
        }
    }

    fn begin(&mut self) {
        assert_eq!(self.session.ask(self.dialect.begin), "");
        self.open = true;
    }
}

impl Side for Access {
    fn read(&mut self, stamp: &Stamp) -> Result<i64, Refused> {
        if matches!(self.dialect.check, Check::NotOnReads) {
            return Ok(self.get());
        }
        self.enter(stamp)?;
        let value = self.get();
        self.leave();
        Ok(value)
    }

    fn write(&mut self, stamp: &Stamp, value: i64) -> Result<(), Refused> {
        self.enter(stamp)?;
        self.put(value);
        self.leave();
        Ok(())
    }
}

impl Slow for Access {
    fn enter(&mut self, stamp: &Stamp) -> Result<(), Refused> {
        if matches!(self.dialect.check, Check::Before) {
            return self.check(stamp);
        }
        self.begin();
        self.check(stamp)
    }

    fn get(&mut self) -> i64 {
        let said = self.session.ask(&format!("SELECT n FROM stock WHERE id = '{}';", self.name));
        said.parse().unwrap_or_else(|_| panic!("{said}"))
    }

    fn put(&mut self, value: i64) {
        let said = self.session.ask(&format!("UPDATE stock SET n = {value} WHERE id = '{}';", self.name));
        assert_eq!(said, "");
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.open) {
            assert_eq!(self.session.ask("COMMIT;"), "");
        }
    }
}
