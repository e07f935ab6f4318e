//! What a process finds around it: the variables that the command reads too, and who it is itself.

use std::env::{self, VarError};
use std::fs;

use crate::backend::Owner;
use crate::error::{Error, Result};
use crate::locks::{Builder, Locks};
use crate::options::shortened;

/// A value of the environment.
type Look<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

impl Locks {
    /// Connects to the store that the environment names, by the variables that the command `tenure` reads:
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `TENURE_URL` | the store | `host:` |
    /// | `TENURE_NAMESPACE` | the namespace of all names | `default` |
    /// | `TENURE_PASSWORD` | the password, if the URL has none | |
    /// | `TENURE_PASSWORD_FILE` | a file that holds it | |
    ///
    /// An empty variable counts as not set.
    ///
    /// # Errors
    /// `Config` for two passwords, a file that cannot be read, and a variable that is not UTF-8. Otherwise those of
    /// [`connect`](Locks::connect).
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    ///
    /// # On drop
    /// See [`Locks`].
    ///
    /// # When the answer is lost
    /// Connecting takes no lock. Try again.
    pub async fn from_env() -> Result<Locks> {
        Builder::from_env()?.connect().await
    }

    /// [`from_env`](Locks::from_env) for code without async.
    ///
    /// # Errors
    /// Those of [`from_env`](Locks::from_env).
    pub fn blocking_from_env() -> Result<Locks> {
        Builder::from_env()?.blocking_connect()
    }
}

impl Builder {
    /// A builder with what the environment says; see [`Locks::from_env`]. Settings made afterwards override it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::Builder;
    ///
    /// # fn main() -> tenure::Result<()> {
    /// let builder = Builder::from_env()?.ttl(Duration::from_secs(10)).retry_for(Duration::from_secs(30));
    /// # drop(builder);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Config` for two passwords, a file that cannot be read, and a variable that is not UTF-8.
    pub fn from_env() -> Result<Builder> {
        read(&|name| env::var(name))
    }
}

fn read(look: Look<'_>) -> Result<Builder> {
    let url = variable(look, "TENURE_URL")?.unwrap_or_else(|| "host:".to_owned());
    let mut builder = Locks::builder(&url);
    if let Some(namespace) = variable(look, "TENURE_NAMESPACE")? {
        builder = builder.namespace(&namespace);
    }
    // A password in the environment is for stores that have one.
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    if ["host", "memory"].contains(&scheme.as_str()) {
        return Ok(builder);
    }
    let password = match (variable(look, "TENURE_PASSWORD")?, variable(look, "TENURE_PASSWORD_FILE")?) {
        (Some(_), Some(_)) => {
            let what = "there are two passwords, in TENURE_PASSWORD and in TENURE_PASSWORD_FILE";
            return Err(Error::config(what, "unset one of them"));
        }
        (Some(password), None) => Some(password),
        (None, Some(file)) => {
            let text = fs::read_to_string(&file).map_err(|error| {
                let what = format!("the password file {file} cannot be read");
                Error::config(what, "check TENURE_PASSWORD_FILE and the file's permissions").because(error)
            })?;
            // As people write files: with a line end behind it.
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        (None, None) => None,
    };
    Ok(match password {
        Some(password) => builder.password(&password),
        None => builder,
    })
}

fn variable(look: Look<'_>, name: &str) -> Result<Option<String>> {
    match look(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(Error::config(format!("the variable {name} is not UTF-8"), "correct or unset it"))
        }
    }
}

impl Owner {
    /// This process: user, host, pid and program.
    #[must_use]
    pub fn this_process() -> Owner {
        let uid = rustix::process::geteuid().as_raw();
        let user = user_name(uid).unwrap_or_else(|| format!("uid {uid}"));
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let program = std::env::current_exe()
            .ok()
            .and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "unknown".into());
        Owner {
            user: shortened(user),
            host: shortened(host),
            pid: std::process::id(),
            program: shortened(program),
        }
    }
}

/// The user's name: from the local list of users, or else from the environment, which says who logged in.
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    listed.or_else(|| std::env::var("USER").ok()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Builder> {
        read(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        })
    }

    #[cfg(feature = "memory")]
    #[test]
    fn the_environment_names_the_store_and_the_namespace() {
        let locks =
            with(&[("TENURE_URL", "memory:"), ("TENURE_NAMESPACE", "shop"), ("TENURE_PASSWORD", "x")])
                .and_then(Builder::blocking_connect)
                .expect("a password is no matter for a store without one");
        assert_eq!((locks.url(), locks.namespace()), ("memory:", "shop"));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let two = [("TENURE_URL", "redis://h"), ("TENURE_PASSWORD", "a"), ("TENURE_PASSWORD_FILE", "b")];
        assert!(with(&two).expect_err("two passwords").to_string().contains("two passwords"));
        let lost = [("TENURE_URL", "redis://h"), ("TENURE_PASSWORD_FILE", "/nowhere/at/all")];
        assert!(with(&lost).expect_err("no file").to_string().contains("/nowhere/at/all"));
        assert!(with(&[("TENURE_URL", ""), ("TENURE_NAMESPACE", "")]).is_ok(), "empty is not set");
    }
}
