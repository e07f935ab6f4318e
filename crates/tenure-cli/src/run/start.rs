//! Starting the command, and what it is told of its locks.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use tenure::{Domain, Key, Locks};

use super::env::{self, Held};
use super::guardian::Guardian;
use super::hold::Hold;
use super::sys;
use super::wire::Message;
use crate::exit::{Failure, NOT_EXECUTABLE, NOT_FOUND};

impl Guardian {
    /// Every lock that the command line names, in its order, with the token of our hold or of the parent's.
    pub(super) fn tokens(&self, locks: &Locks, hold: &Hold) -> Vec<(Key, Option<i64>)> {
        let ours = hold.tokens();
        if hold.slot().is_some() {
            return ours.into_iter().map(|(key, token)| (key, token.map(|t| t.get()))).collect();
        }
        let token = |key: &Key| match ours.iter().find(|(k, _)| k == key) {
            Some((_, token)) => token.map(|t| t.get()),
            None => env::find(&self.plan.held, &env::line(locks.url(), key)).and_then(|held| held.token),
        };
        self.plan.keys.iter().map(|key| (key.clone(), token(key))).collect()
    }

    /// Starts the command: in the process group of `tenure run`, with its signals, its descriptors, its environment.
    pub(super) fn start(
        &mut self,
        locks: &Locks,
        hold: &Hold,
        tokens: &[(Key, Option<i64>)],
        domain: Option<&Domain>,
    ) -> Result<i32, Failure> {
        let plan = &self.plan;
        let Some((program, arguments)) = plan.command.split_first() else {
            return Err(Failure::usage("there is no command to run", "name it behind --"));
        };
        let mut command = Command::new(program);
        command.args(arguments);
        self.tell(&mut command, locks, hold, tokens);
        match domain {
            Some(domain) => command.env("TENURE_DOMAIN", domain.as_str()),
            None => command.env_remove("TENURE_DOMAIN"), // that of another lock, which a parent holds
        };
        if let Some(group) = self.group {
            command.process_group(group);
        }
        self.inherited.restore_in(&mut command);
        let spawned = command.spawn();
        drop(command);
        match spawned {
            Ok(child) => {
                Self::let_go();
                // Never waited for as a `Child`: the supervision waits for everybody.
                let pid = i32::try_from(child.id()).unwrap_or(0);
                self.link.send(&Message::Started(pid));
                Ok(pid)
            }
            Err(error) => {
                let shown = program.to_string_lossy();
                Err(if error.kind() == io::ErrorKind::NotFound {
                    Failure::new(
                        NOT_FOUND,
                        format!("there is no command {shown:?}"),
                        "check its name and PATH",
                    )
                } else {
                    let advice = "check that it is a program and that you may execute it";
                    Failure::new(
                        NOT_EXECUTABLE,
                        format!("the command {shown:?} cannot be executed: {error}"),
                        advice,
                    )
                }
                .because(&error))
            }
        }
    }

    /// What the command is told of its locks. What a parent's were is not left standing.
    fn tell(&self, command: &mut Command, locks: &Locks, hold: &Hold, tokens: &[(Key, Option<i64>)]) {
        let plan = &self.plan;
        let names: Vec<&str> = tokens.iter().map(|(key, _)| key.name()).collect();
        command.env("TENURE_LOCK", names.join("\n"));
        let numbered = |n: &str| n.strip_prefix("TENURE_TOKEN_").is_some_and(|n| n.parse::<u32>().is_ok());
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_str().is_some_and(numbered)) {
            command.env_remove(name);
        }
        let digits: Vec<String> =
            tokens.iter().map(|(_, token)| token.map(|t| t.to_string()).unwrap_or_default()).collect();
        match digits.iter().any(|d| !d.is_empty()) {
            true => command.env("TENURE_TOKEN", digits.join("\n")),
            false => command.env_remove("TENURE_TOKEN"), // permits have none
        };
        for (at, digits) in digits.iter().enumerate().filter(|_| tokens.len() > 1) {
            command.env(format!("TENURE_TOKEN_{}", at + 1), digits);
        }
        command.env("TENURE_URL", locks.url());
        command.env("TENURE_NAMESPACE", &plan.store.namespace);
        if let Some(slot) = hold.slot() {
            command.env("TENURE_SLOT", slot);
        }
        let (mut held, claim) = (plan.held.clone(), hold.claim());
        let guardian = i32::try_from(std::process::id()).ok();
        held.extend(hold.tokens().into_iter().map(|(key, token)| Held {
            line: env::line(locks.url(), &key),
            token: token.map(|t| t.get()),
            way: plan.ask.word(),
            claim: claim.clone(),
            guardian,
        }));
        let (lines, ways) = env::write(&held);
        command.env("TENURE_HELD", lines).env("TENURE_HELD_AS", ways);
    }

    /// Lets go of the command's files, so that a reader of its output sees the end when the command ends.
    fn let_go() {
        if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(&null);
        }
        let _ = sys::close_inherited();
    }
}
