//! Starting the command, and what it is told of its locks.

use std::io;

use rustix::process::WaitStatus;
use tenure::{Domain, Key, Locks, Lost};

use super::env::{self, Held};
use super::guardian::{Guardian, Step, Stop};
use super::hold::Hold;
use super::launcher::{Launcher, Order};
use super::wire::Message;
use super::{descendants, notify, sys};
use crate::exit::{CONFIG, Failure, LOST, NOT_EXECUTABLE, NOT_FOUND};

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

    /// Lets the launcher become the command: in the session and process group of `tenure run`, with its signals, its
    /// descriptors, its environment.
    pub(super) fn start(
        &mut self,
        locks: &Locks,
        hold: &Hold,
        tokens: &[(Key, Option<i64>)],
        domain: Option<&Domain>,
    ) -> Result<i32, Stop> {
        let mut order = Order::default();
        self.tell(&mut order, locks, hold, tokens);
        match domain {
            Some(domain) => order.env("TENURE_DOMAIN", domain.as_str()),
            None => order.env_remove("TENURE_DOMAIN"), // that of another lock, which a parent holds
        }
        let Some(launcher) = &self.launcher else { return Err(self.launcher_ended()) };
        if let Err(error) = descendants::try_to_signal(launcher.pid()) {
            let what =
                "no process can be killed here, so nothing could stop the command when the lock is lost";
            let advice =
                "allow kill(2), or pidfd_send_signal(2), in the sandbox (a seccomp profile denies it)";
            return Err(Failure::new(CONFIG, what, advice).because(&error).into());
        }
        if launcher.order(&order).is_err() {
            return Err(self.launcher_ended());
        }
        let answered = self.answered(hold);
        let Some(mut launcher) = self.launcher.take() else { return Err(self.launcher_ended()) };
        let result = if answered { launcher.answer() } else { Ok(launcher.let_go()) };
        match result {
            Ok(pid) => {
                sys::let_go();
                self.link.send(&Message::Started(pid));
                Ok(pid)
            }
            Err(error) => {
                let program = self.plan.command.first().map(|program| program.to_string_lossy());
                let shown = program.unwrap_or_default();
                Err(match error.kind() {
                    io::ErrorKind::NotFound => Failure::new(
                        NOT_FOUND,
                        format!("there is no command {shown:?}"),
                        "check its name and PATH",
                    ),
                    _ => Failure::new(
                        NOT_EXECUTABLE,
                        format!("the command {shown:?} cannot be executed: {error}"),
                        "check that it is a program and that you may execute it",
                    ),
                }
                .because(&error)
                .into())
            }
        }
    }

    /// Waits until the launcher has become the command, or says why it cannot. It takes its time if it is stopped
    /// together with the rest of its group. If the lock or `tenure run` goes meanwhile, nobody knows how far it is: the
    /// supervision stops it as it stops a command.
    fn answered(&self, hold: &Hold) -> bool {
        let mut lost = hold.lost();
        loop {
            match self.until(lost.as_mut(), None) {
                Step::Launcher => return true,
                Step::Ready(_) | Step::Orphaned => return false,
                // It is the command's, and whatever it does to the launcher it would do to the command.
                Step::Message(Message::Signal(signal)) => {
                    if let Some(launcher) = &self.launcher {
                        signal.forward(launcher.pid());
                    }
                }
                Step::Time | Step::Message(_) => {}
            }
        }
    }

    /// The launcher was killed before there was anything to execute, as the command could be.
    pub(super) fn launcher_ended(&self) -> Stop {
        let status = self.launcher.as_ref().and_then(Launcher::ended);
        let signal = status.and_then(WaitStatus::terminating_signal).unwrap_or(libc::SIGKILL);
        let what = format!("signal {signal} ended the command before it was started");
        Failure::new(u8::try_from(128 + signal).unwrap_or(u8::MAX), what, "").into()
    }

    /// What the command is told of its locks. What a parent's were is not left standing.
    fn tell(&self, command: &mut Order, locks: &Locks, hold: &Hold, tokens: &[(Key, Option<i64>)]) {
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
        }
        for (at, digits) in digits.iter().enumerate().filter(|_| tokens.len() > 1) {
            command.env(format!("TENURE_TOKEN_{}", at + 1), digits);
        }
        // What a parent was told of the locks that it holds stays, unless some are ours.
        let previous: Vec<_> = tokens.iter().map(|(key, _)| hold.previous(key)).collect();
        if previous.iter().any(Option::is_some) {
            let words = previous.into_iter().map(|how| how.unwrap_or_default().as_str());
            command.env("TENURE_PREVIOUS", words.collect::<Vec<_>>().join("\n"));
        }
        command.env("TENURE_URL", locks.url());
        command.env("TENURE_NAMESPACE", &plan.store.namespace);
        if let Some(socket) = &plan.notify {
            command.env(notify::VARIABLE, socket);
        }
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
        command.env("TENURE_HELD", lines);
        command.env("TENURE_HELD_AS", ways);
    }
}

/// The lock went before the command came.
pub(super) fn lost_too_early(lost: &Lost) -> Stop {
    Failure::new(LOST, format!("{lost}, before the command was started"), "try again").into()
}
