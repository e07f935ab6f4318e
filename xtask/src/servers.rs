//! The servers that tests start for themselves, and how Debian calls their packages.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::Stop;
use crate::args::Args;
use crate::process::{command, find, stdout, succeeds};

/// A server that some tests need.
struct Server {
    /// What people call it.
    name: &'static str,
    /// Debian's package.
    package: &'static str,
    /// The program that tests start.
    binary: &'static str,
    /// Prints its version.
    version: &'static [&'static str],
    /// Which backends or suites need it; one that none needs is not installed unless it is named.
    needed_by: &'static [&'static str],
}

/// The only list of servers. The lab skips, and counts, what needs a server that is not here.
const SERVERS: &[Server] = &[
    Server {
        name: "redis",
        package: "redis-server",
        binary: "redis-server",
        version: &["--version"],
        needed_by: &["redis", "fence"],
    },
    Server {
        name: "postgres",
        package: "postgresql",
        binary: "postgres",
        version: &["--version"],
        needed_by: &["fence"],
    },
    Server {
        name: "mariadb",
        package: "mariadb-server",
        binary: "mariadbd",
        version: &["--version"],
        needed_by: &["fence"],
    },
    Server {
        name: "sqlite",
        package: "sqlite3",
        binary: "sqlite3",
        version: &["--version"],
        needed_by: &["fence"],
    },
];

/// Debian asks this program whether a service may be started after its installation.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// `cargo xtask servers`.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    let args = Args::parse(args, &["--install"], &[])?;
    if !args.has("--install") {
        args.no_words()?;
        SERVERS.iter().for_each(|s| println!("{}", describe(s)));
        return Ok(true);
    }
    let wanted = if args.words.is_empty() { needed() } else { named(&args.words)? };
    let missing = absent(&wanted);
    if missing.is_empty() {
        println!("nothing to install");
        return Ok(true);
    }
    install(&missing)?;
    SERVERS.iter().for_each(|s| println!("{}", describe(s)));
    Ok(absent(&wanted).is_empty())
}

/// Installs what the tests need and lack, saying so first; what cannot be had stays missing, and is told.
pub(crate) fn prepare(no_install: bool) -> Result<(), Stop> {
    let missing = absent(&needed());
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|s| s.name).collect();
    if no_install {
        println!("not installed, and left so: {}; what needs them is skipped", names.join(", "));
        return Ok(());
    }
    if let Err(Stop::Broken(why)) = install(&missing) {
        println!("{why}; what needs {} is skipped", names.join(", "));
    }
    Ok(())
}

fn needed() -> Vec<&'static Server> {
    SERVERS.iter().filter(|s| !s.needed_by.is_empty()).collect()
}

fn named(names: &[String]) -> Result<Vec<&'static Server>, Stop> {
    let known = || SERVERS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = SERVERS.iter().find(|s| s.name == name || s.package == name);
        found.ok_or_else(|| Stop::Usage(format!("no server is called {name:?}; there are: {}", known())))
    };
    names.iter().map(find).collect()
}

fn absent(servers: &[&'static Server]) -> Vec<&'static Server> {
    servers.iter().filter(|s| find(s.binary).is_none()).copied().collect()
}

fn describe(server: &Server) -> String {
    let here = match find(server.binary) {
        None => "not installed".to_owned(),
        Some(path) => {
            let said = stdout(&mut command(&path.to_string_lossy(), server.version)).unwrap_or_default();
            said.lines().next().unwrap_or("installed, but does not tell its version").to_owned()
        }
    };
    let needed = match server.needed_by {
        [] => "nothing yet".to_owned(),
        some => some.join(", "),
    };
    format!("{} (package {}; needed by {needed}): {here}", server.name, server.package)
}

/// Installs packages without starting the services that they bring.
fn install(servers: &[&Server]) -> Result<(), Stop> {
    let packages: Vec<&str> = servers.iter().map(|s| s.package).collect();
    println!("installing {} with apt-get, without starting services", packages.join(", "));
    if find("apt-get").is_none() {
        return Err(Stop::Broken("there is no apt-get here".into()));
    }
    if stdout(&mut command("id", &["-u"]))?.trim() != "0" {
        return Err(Stop::Broken("only root can install packages".into()));
    }
    let _quiet = Quiet::start()?;
    let apt = |args: &[&str]| succeeds(command("apt-get", args).env("DEBIAN_FRONTEND", "noninteractive"));
    let install = [&["install", "-y", "-q", "--no-install-recommends"], &packages[..]].concat();
    // The lists may be missing or old; only then is the update worth its time.
    if apt(&install)? || (apt(&["update", "-q"])? && apt(&install)?) {
        return Ok(());
    }
    Err(Stop::Broken(format!("apt-get could not install {}", packages.join(", "))))
}

/// While it lives, packages start no services. Another policy that is already there stays as it is.
struct Quiet {
    ours: bool,
}

impl Quiet {
    fn start() -> Result<Quiet, Stop> {
        if Path::new(POLICY).exists() {
            return Ok(Quiet { ours: false });
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY)?;
        file.write_all(b"#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(POLICY, Permissions::from_mode(0o755))?; // whatever the umask
        Ok(Quiet { ours: true })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("cannot remove {POLICY}: {error}; services will not start until it is gone");
        }
    }
}
