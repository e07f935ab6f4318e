//! Trials on somebody else's server: nothing of theirs is touched, and nothing of ours stays.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::ConformArgs;
use crate::conform;
use crate::failure::{Doing, Failure, Outcome};
use crate::globals::Globals;
use crate::sale::reachable;
use crate::servers::{self, Guest, Visit, path};

/// Runs `tenure lab conform`, as a guest if the store is a server.
pub(crate) fn conform(args: &ConformArgs, globals: &Globals) -> Outcome<ExitCode> {
    let run = || conform::run(Some(&globals.url), &globals.namespace, globals.json, args.filter());
    let Some(guest) = servers::of(&globals.url).ok().and_then(|kind| kind.guest()) else { return Ok(run()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "start a runtime".into())?;
    let namespaces = format!("{}-{}-", globals.namespace, std::process::id());
    reachable(globals)?; // the library tells what is wrong with a URL, a password or a server
    enter(guest, runtime.block_on(guest.visit(&globals.url))?, args, globals, &namespaces)?;
    let status = run();
    if let Err(failure) = runtime.block_on(guest.leave(&globals.url, &namespaces)) {
        let _ = writeln!(
            std::io::stderr(),
            "tenure: what the trials left expires within ten minutes by itself: {failure}"
        );
    }
    Ok(status)
}

/// Refuses a database that others use, unless they agree; says where the trials work.
fn enter(
    guest: &dyn Guest,
    visit: Visit,
    args: &ConformArgs,
    globals: &Globals,
    namespaces: &str,
) -> Outcome<()> {
    let shown = path::shown(&globals.url);
    let keys = match visit {
        Visit::Unseen if args.yes => return Ok(()),
        Visit::Unseen => {
            let what = format!("whether others use {shown} cannot be seen over TLS");
            return Err(Failure::usage(what, guest.advice()));
        }
        Visit::Others(keys) if !args.yes => {
            let them = if keys == 1 { "a key".to_owned() } else { format!("{keys} keys") };
            return Err(Failure::usage(
                format!("{shown} holds {them}, and not only Tenure's"),
                guest.advice(),
            ));
        }
        Visit::Others(keys) | Visit::Ours(keys) => keys,
    };
    if !globals.quiet {
        let _ = writeln!(
            std::io::stderr(),
            "tenure: the trials work in the namespaces {namespaces}*, among {keys} keys, and remove what they leave."
        );
    }
    Ok(())
}
