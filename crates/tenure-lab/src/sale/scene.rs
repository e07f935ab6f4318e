//! Where and how a sale ran: the machine, the version, and the command that repeats it.

use std::fs;
use std::thread::available_parallelism;

use super::{DEFAULTS, Plan};
use crate::duration;

/// The processor, its cores and the kernel.
pub(super) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|l| l.split(':').next().is_some_and(|field| field.trim() == name));
        line.and_then(|l| l.split_once(':')).map(|(_, text)| text.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = available_parallelism().map_or(1, usize::from);
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    format!("{model}, {cores} cores, {} {}", text(system.sysname()), text(system.release()))
}

/// Tenure's own version.
pub(super) fn version() -> String {
    format!("tenure {}", env!("CARGO_PKG_VERSION"))
}

/// The command that repeats this run; what is left out is a default.
pub(super) fn repeat(plan: &Plan) -> String {
    let mut words = vec!["tenure".to_owned()];
    if plan.shown_url != DEFAULTS.url {
        words.push(format!("--url {}", quoted(&plan.shown_url)));
    }
    if plan.namespace != DEFAULTS.namespace {
        words.push(format!("--namespace {}", quoted(&plan.namespace)));
    }
    words.push("lab flash-sale".into());
    let mut number = |flag: &str, value: u32, default: u32| {
        if value != default {
            words.push(format!("--{flag} {value}"));
        }
    };
    number("clients", plan.clients, DEFAULTS.clients);
    number("processes", plan.processes, DEFAULTS.processes);
    number("stock", plan.stock, DEFAULTS.stock);
    if plan.work != DEFAULTS.work {
        words.push(format!("--work {}", duration::show(plan.work)));
    }
    if plan.strategies != super::Strategy::ALL {
        let names: Vec<&str> = plan.strategies.iter().map(|s| s.name()).collect();
        words.push(format!("--strategies {}", names.join(",")));
    }
    if plan.faults {
        words.push("--faults".into());
    }
    words.push(format!("--seed {}", plan.seed));
    if let Some(file) = &plan.report {
        words.push(format!("--report {}", quoted(&file.display().to_string())));
    }
    words.join(" ")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What took part, in one line.
pub(super) fn summary(plan: &Plan) -> String {
    format!(
        "{} clients in {} processes, {} items, a pause of {} on average while holding{}; {}",
        plan.clients,
        plan.processes,
        plan.stock,
        duration::show(plan.work),
        if plan.faults { ", with faults" } else { "" },
        plan.shown_url,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_survives_the_shell() {
        assert_eq!(quoted("redis://h:1/2"), "redis://h:1/2");
        assert_eq!(quoted("my file's.html"), "'my file'\\''s.html'");
    }

    #[test]
    fn the_machine_is_named() {
        let text = machine();
        assert!(text.contains("cores") && text.len() > 12, "{text}");
    }
}
