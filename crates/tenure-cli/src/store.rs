//! Which store, and with which credentials.

use std::env;
use std::path::Path;

use tenure::{Key, Locks, Warning};

use crate::args::Globals;
use crate::exit::{CONFIG, Failure, USAGE};

/// The store that the options and the environment name.
pub(crate) struct Store {
    /// Its URL, which may hold a password: never shown.
    url: String,
    /// The namespace.
    pub(crate) namespace: String,
    /// A password from elsewhere than the URL.
    password: Option<String>,
}

impl Store {
    /// From the options, then the environment, then the defaults. Opens nothing.
    ///
    /// # Errors
    /// A store that other processes cannot share, a bad namespace, passwords from two places, variables that are not
    /// UTF-8.
    pub(crate) fn new(globals: &Globals) -> Result<Store, Failure> {
        let store = Store::named(globals)?;
        if store.url.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("memory")) {
            return Err(Failure::new(
                CONFIG,
                "memory: is private to one process, so its locks would exclude no other process",
                "use host: for this machine, or the URL of a server",
            ));
        }
        Ok(store)
    }

    /// What the lab needs to know. It may also have locks of its own in memory.
    ///
    /// # Errors
    /// As [`new`](Store::new).
    pub(crate) fn lab(globals: &Globals) -> Result<tenure_lab::cli::Globals, Failure> {
        let Store { url, namespace, password } = Store::named(globals)?;
        // Its workers are told the store by its URL, through a pipe of their own.
        let url = match password {
            Some(password) if !embedded(&url) => tenure_lab::cli::with_password(&url, &password)
                .map_err(|e| Failure::from_library(&e, CONFIG))?,
            _ => url,
        };
        let Globals { json, quiet, verbose, .. } = *globals;
        Ok(tenure_lab::cli::Globals { url, namespace, json, quiet, verbose })
    }

    fn named(globals: &Globals) -> Result<Store, Failure> {
        let or = |flag: &Option<String>, name, default: &str| match flag {
            Some(value) => Ok(value.clone()),
            None => Ok(variable(name)?.unwrap_or_else(|| default.to_owned())),
        };
        let url = or(&globals.url, "TENURE_URL", "host:")?;
        let namespace = or(&globals.namespace, "TENURE_NAMESPACE", "default")?;
        let store = Store { url, namespace, password: password()? };
        store.key("any")?; // a bad namespace is wrong usage, whatever the store says
        Ok(store)
    }

    /// Opens it.
    ///
    /// # Errors
    /// Whatever the store answers.
    pub(crate) fn open(&self) -> Result<Locks, Failure> {
        self.builder().blocking_connect().map_err(|e| Failure::from_library(&e, CONFIG))
    }

    /// How to open it.
    pub(crate) fn builder(&self) -> tenure::Builder {
        let builder = Locks::builder(&self.url).namespace(&self.namespace);
        match &self.password {
            Some(password) if !embedded(&self.url) => builder.password(password),
            _ => builder,
        }
    }

    /// The key of a lock.
    ///
    /// # Errors
    /// A refused name or namespace.
    pub(crate) fn key(&self, name: &str) -> Result<Key, Failure> {
        Key::new(&self.namespace, name).map_err(|e| Failure::from_library(&e, USAGE))
    }
}

/// What people should know about a store before they rely on its locks, a line each.
pub(crate) fn warnings(locks: &Locks) -> String {
    let line = |warning: &Warning| {
        let failure = Failure::new(0, format!("warning: {warning}"), warning.advice());
        failure.text(false)
    };
    locks.capabilities().warnings.iter().map(line).collect()
}

/// Whether a store is no server: a password in the environment is for stores that have one.
fn embedded(url: &str) -> bool {
    let scheme = url.split(':').next().unwrap_or_default();
    ["host", "memory"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// A variable of the environment; an empty one counts as not set.
pub(crate) fn variable(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Failure::new(CONFIG, format!("the variable {name} is not UTF-8"), "correct or unset it"))
        }
    }
}

/// The password that the environment gives.
fn password() -> Result<Option<String>, Failure> {
    let (plain, file) =
        (variable("TENURE_PASSWORD")?, env::var_os("TENURE_PASSWORD_FILE").filter(|v| !v.is_empty()));
    match (plain, file) {
        (Some(_), Some(_)) => Err(Failure::new(
            CONFIG,
            "two passwords are given, by TENURE_PASSWORD and by TENURE_PASSWORD_FILE",
            "unset one of them",
        )),
        (plain, None) => Ok(plain),
        (None, Some(path)) => read_password(Path::new(&path)).map(Some),
    }
}

/// The first line of a password file.
fn read_password(path: &Path) -> Result<String, Failure> {
    let advice = "set TENURE_PASSWORD_FILE to a readable file that contains only the password";
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(CONFIG, format!("the password file {} cannot be read", path.display()), advice)
            .because(&error)
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains('\n') {
        return Err(Failure::new(
            CONFIG,
            format!("the password file {} does not have exactly one line", path.display()),
            advice,
        ));
    }
    Ok(line.to_owned())
}
