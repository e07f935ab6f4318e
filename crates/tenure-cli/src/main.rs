//! The command `tenure`: a thin face of the library. Its contract (options, exit codes, JSON fields, variables) is
//! described in its manual, `tenure man`.

mod args;
mod break_;
mod completions;
mod docs;
mod exit;
mod fence;
mod handle;
mod ls;
mod out;
#[cfg(target_os = "linux")]
mod run;
mod runs;
mod show;
mod store;
mod table;
mod text;
mod view;
mod watch;
mod who;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Cli, Command, Parsed};
use exit::Failure;
use store::Store;

fn main() -> ExitCode {
    // The lab starts this executable again for its workers.
    if let Some(code) = tenure_lab::worker_main() {
        return code;
    }
    let argv: Vec<OsString> = std::env::args_os().collect();
    let (result, verbose) = match args::parse(&argv) {
        Ok(Parsed::Run(cli)) => (dispatch(&cli), cli.globals.verbose > 0),
        Ok(Parsed::Text(text)) => (out::print(&text).map(|()| ExitCode::SUCCESS), false),
        Ok(Parsed::Help(text)) => {
            out::note(&text);
            (Ok(ExitCode::from(exit::USAGE)), false)
        }
        Err(failure) => (Err(failure), false),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            out::note(&failure.text(verbose));
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(cli: &Cli) -> Result<ExitCode, Failure> {
    let globals = &cli.globals;
    match &cli.command {
        Command::Run(args) => return under_a_lock(run::Job::Run(args), globals),
        Command::Once(args) => return under_a_lock(run::Job::Once(args), globals),
        Command::Elect(args) => return under_a_lock(run::Job::Elect(args), globals),
        Command::Acquire(args) => handle::acquire(args, globals)?,
        Command::Renew(args) => handle::renew(args, globals)?,
        Command::Release(args) => handle::release(args, globals)?,
        Command::Ls(args) => ls::run(args, globals)?,
        Command::Show(args) => show::run(args, globals)?,
        Command::Watch(args) => watch::run(args, globals)?,
        Command::Break(args) => break_::run(args, globals)?,
        Command::Fence(args) => fence::run(args, globals)?,
        Command::Completions(args) => completions::completions(args)?,
        Command::Man(_) => docs::man()?,
        Command::Lab(args) => return Ok(tenure_lab::cli::run_lab(args.clone(), &Store::lab(globals)?)),
        Command::Bench(args) => return Ok(tenure_lab::cli::run_bench(args.clone(), &Store::lab(globals)?)),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(target_os = "linux")]
fn under_a_lock(job: run::Job<'_>, globals: &args::Globals) -> Result<ExitCode, Failure> {
    run::run(job, globals).map(ExitCode::from)
}

/// The guardian rests on what only Linux has: subreapers, and signals that tell who sent them.
#[cfg(not(target_os = "linux"))]
mod run {
    pub(crate) enum Job<'a> {
        Run(&'a crate::args::RunArgs),
        Once(&'a crate::args::OnceArgs),
        Elect(&'a crate::args::ElectArgs),
    }

    pub(crate) fn is_held_by_a_parent(_: &tenure::Locks, _: &tenure::Key) -> tenure::Result<bool> {
        Ok(false)
    }

    /// Signals end the process at once here; what it leaves ends with its lease.
    pub(crate) struct Endings;

    impl Endings {
        pub(crate) fn block() -> Endings {
            Endings
        }

        pub(crate) fn wait(&self) -> i32 {
            loop {
                std::thread::park();
            }
        }

        pub(crate) fn end_by(&self, signal: i32) -> ! {
            std::process::exit(128 + signal)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn under_a_lock(_: run::Job<'_>, _: &args::Globals) -> Result<ExitCode, Failure> {
    Err(Failure::new(exit::CONFIG, "tenure run needs Linux", "use the library, or a Linux machine"))
}
