//! What Redis's errors mean to the caller.

use crate::backend::net::{Fault, Why};
use crate::error::ErrorKind;

/// A request had no answer.
pub(super) fn of_fault(fault: &Fault) -> Why {
    match fault {
        Fault::Unsent(why) => Why::unsent(why),
        Fault::Lost(why) => Why::lost(why),
        // Asked again alone before anybody hears of it; then this is what the server says.
        Fault::Batch(text) => of_answer(text),
        Fault::Garbage(why) => Why::new(
            ErrorKind::Protocol,
            format!("the server does not speak Redis's protocol as it must: {why}"),
            "check that the address is a Redis server's; the connection was closed",
        ),
    }
}

/// The server answered with an error. Whoever runs a script that fails inside gets the inner error's words somewhere in
/// the text, at different places in different versions.
pub(super) fn of_answer(text: &str) -> Why {
    let why = judged(text);
    // A server that is loading or runs a long script is ready in a moment.
    let soon = ["LOADING", "BUSY", "TRYAGAIN"].iter().any(|word| text.starts_with(word));
    Why { answered: !soon, ..why }
}

fn judged(text: &str) -> Why {
    let word = text.split([' ', ':']).next().unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|w| word == *w || (word == "ERR" && text.contains(w)));
    let shown: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if says(&["NOPERM", "NOAUTH", "WRONGPASS", "no permissions", "invalid password", "without any password"])
    {
        let advice = concat!("check user and password; ", permissions!());
        return Why::new(ErrorKind::Denied, format!("the server refuses: {shown}"), advice);
    }
    if says(&["DB index is out of range"]) {
        let advice = "name a database that the server has: most have 0 to 15";
        return Why::new(ErrorKind::Config, format!("the server has no such database: {shown}"), advice);
    }
    if word == "NOSCRIPT" {
        let what = "the server forgets its scripts as fast as they are loaded";
        let why = Why::new(ErrorKind::Unavailable, what, "find out who runs SCRIPT FLUSH");
        return Why { unprepared: true, ..why };
    }
    if says(&["READONLY"]) {
        let advice = "connect to its master";
        return Why::new(
            ErrorKind::Unavailable,
            format!("the server is a read-only replica now: {shown}"),
            advice,
        );
    }
    if says(&["MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN"]) {
        let advice = "name a server that is not part of a cluster; Redis Cluster is not built yet";
        return Why::new(ErrorKind::Unsupported, format!("the server is part of a cluster: {shown}"), advice);
    }
    if says(&["OOM"]) {
        let what = format!("the server's memory is full, so it takes no new claims: {shown}");
        let advice =
            "free memory on the server, or raise its maxmemory; what is held can be renewed and released";
        return Why::new(ErrorKind::Unavailable, what, advice);
    }
    if says(&["LOADING", "BUSY", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN"])
        || text.contains("max number of clients")
    {
        let advice = "wait, or look at the server's log";
        return Why::new(ErrorKind::Unavailable, format!("the server cannot do it now: {shown}"), advice);
    }
    if says(&["The user executing the script can't"]) {
        let advice = permissions!();
        return Why::new(ErrorKind::Denied, format!("the server refuses part of a script: {shown}"), advice);
    }
    if says(&["unknown command"]) {
        let what = format!("the server lacks a command that is needed: {shown}");
        return Why::new(ErrorKind::Unsupported, what, concat!("do not rename it; ", permissions!()));
    }
    let advice = "check what else writes keys that begin with tenure:";
    Why::new(ErrorKind::Protocol, format!("the server refuses: {shown}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        for (text, kind) in [
            ("NOPERM this user has no permissions to run the 'evalsha' command", ErrorKind::Denied),
            ("ERR Error running script (call to f_1): @user_script:3: NOPERM no", ErrorKind::Denied),
            (
                "ERR The user executing the script can't run this command or subcommand script: 5",
                ErrorKind::Denied,
            ),
            ("NOAUTH Authentication required.", ErrorKind::Denied),
            ("WRONGPASS invalid username-password pair or user is disabled.", ErrorKind::Denied),
            ("ERR DB index is out of range", ErrorKind::Config),
            ("READONLY You can't write against a read only replica.", ErrorKind::Unavailable),
            (
                "OOM command not allowed when used memory > 'maxmemory'. script: 5, on @user_script:3.",
                ErrorKind::Unavailable,
            ),
            ("LOADING Redis is loading the dataset in memory", ErrorKind::Unavailable),
            ("ERR max number of clients reached", ErrorKind::Unavailable),
            ("MOVED 3999 127.0.0.1:6381", ErrorKind::Unsupported),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", ErrorKind::Protocol),
            ("ERR unknown command 'EVALSHA', with args beginning with: 'a' ", ErrorKind::Unsupported),
            // In the middle of a script, which has done the half of its work.
            ("ERR Unknown Redis command called from script script: 5", ErrorKind::Protocol),
            ("", ErrorKind::Protocol),
        ] {
            assert_eq!(of_answer(text).kind, kind, "{text}");
        }
    }
}
