//! Trials on somebody else's Redis server: nothing of theirs is touched, and nothing of ours stays.

use std::io::Write;
use std::process::ExitCode;

use tenure::StoreUrl;

use crate::cli::{ConformArgs, Globals};
use crate::conform;
use crate::failure::{Doing, Failure, Outcome};
use crate::plain::{self, Plain, Said};
use crate::sale::reachable;

/// How many keys the server looks at in one step.
const STEP: &str = "1000";
/// What keys of Tenure begin with.
const OURS: &str = "tenure:";

/// Runs `tenure lab conform`, as a guest where the store is a server.
pub(crate) fn conform(args: &ConformArgs, globals: &Globals) -> Outcome<ExitCode> {
    let run = || conform::run(Some(&globals.url), &globals.namespace, globals.json, args.filter());
    if !StoreUrl::parse(&globals.url).is_ok_and(|url| url.scheme.starts_with("redis")) {
        return Ok(run());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "start a runtime".into())?;
    let spaces = format!("{}-{}-", globals.namespace, std::process::id());
    reachable(globals)?; // the library tells what is wrong with a URL, a password or a server
    runtime.block_on(enter(args, globals, &spaces))?;
    let status = run();
    if let Err(failure) = runtime.block_on(leave(globals, &spaces)) {
        let _ = writeln!(
            std::io::stderr(),
            "tenure: what the trials left goes within ten minutes by itself: {failure}"
        );
    }
    Ok(status)
}

/// Refuses a database that others use, unless they agree; says where the trials work.
async fn enter(args: &ConformArgs, globals: &Globals, spaces: &str) -> Outcome<()> {
    let parsed = StoreUrl::parse(&globals.url)?;
    if parsed.options.iter().any(|(key, _)| key == "prefix") {
        return Err(Failure::usage("the trials have prefixes of their own", "leave ?prefix= out of the URL"));
    }
    let (shown, advice) = (
        parsed.redacted(),
        "name a database of its own, like redis://127.0.0.1/15, or say --yes: the trials touch no key but theirs, and \
         keep the server busy",
    );
    if !plain::reaches(&globals.url) {
        return if args.yes {
            Ok(())
        } else {
            Err(Failure::usage(format!("whether others use {shown} cannot be seen over TLS"), advice))
        };
    }
    let mut server = Plain::connect(&globals.url).await?;
    let keys = match server.ask(&["DBSIZE"]).await? {
        Said::Number(keys) => keys,
        _ => 0,
    };
    if !args.yes && keys > 0 && anybody(&mut server).await? {
        let them = if keys == 1 { "a key".to_owned() } else { format!("{keys} keys") };
        return Err(Failure::usage(format!("{shown} holds {them}, and not only Tenure's"), advice));
    }
    if !globals.quiet {
        let _ = writeln!(
            std::io::stderr(),
            "tenure: the trials work in the namespaces {spaces}*, among {keys} keys, and remove what they leave."
        );
    }
    Ok(())
}

/// Whether there is a key that is not Tenure's.
async fn anybody(server: &mut Plain) -> Outcome<bool> {
    let mut cursor = "0".to_owned();
    loop {
        let found = scan(server, &mut cursor, "*").await?;
        if found.iter().any(|key| !key.starts_with(OURS)) {
            return Ok(true);
        }
        if cursor == "0" {
            return Ok(false);
        }
    }
}

/// Removes what is left in the trials' namespaces: the short records that keep last tokens, and marks.
async fn leave(globals: &Globals, spaces: &str) -> Outcome<()> {
    if !plain::reaches(&globals.url) {
        return Ok(());
    }
    let mut server = Plain::connect(&globals.url).await?;
    // A namespace is one level of a name, so nothing in it but these characters is written in another way in a key.
    let escaped = spaces.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
    let beginnings = [format!("{OURS}{{{escaped}"), spaces.to_owned()];
    for begin in &beginnings {
        let pattern: String = begin
            .chars()
            .flat_map(|c| "*?[]\\^-".contains(c).then_some('\\').into_iter().chain([c]))
            .chain(['*'])
            .collect();
        let mut cursor = "0".to_owned();
        loop {
            for key in scan(&mut server, &mut cursor, &pattern).await? {
                if key.starts_with(begin.as_str()) {
                    server.delete(&key).await?;
                }
            }
            if cursor == "0" {
                break;
            }
        }
    }
    Ok(())
}

/// One step of a walk over the keys.
async fn scan(server: &mut Plain, cursor: &mut String, pattern: &str) -> Outcome<Vec<String>> {
    let said = server.ask(&["SCAN", cursor, "MATCH", pattern, "COUNT", STEP]).await?;
    let strange = || Failure::run("the server answers SCAN with something else", "check that it is Redis");
    let Said::List(parts) = said else { return Err(strange()) };
    let [Said::Text(next), Said::List(found)] = &parts[..] else { return Err(strange()) };
    next.clone_into(cursor);
    let text = |said: &Said| if let Said::Text(text) = said { Some(text.clone()) } else { None };
    Ok(found.iter().filter_map(text).collect())
}
