//! Processes of several pid namespaces on one store: a pid means nothing there, and nobody is asked by one.

use std::path::Path;

use tenure::backend::Standing;
use tenure::backend::host::faults;
use tenure_servers::skip::ignored;

use crate::kit::{Dir, Role, open, token};

const FLAGS: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// What puts a program into a pid namespace of its own; `None`: that is not allowed here.
fn flags() -> Option<Vec<&'static str>> {
    let user = if rustix::process::geteuid().is_root() { &[][..] } else { &["--user", "--map-current-user"] };
    let flags = [user, &FLAGS].concat();
    let tried = std::process::Command::new("unshare").args(&flags).arg("true").output();
    let works = tried.is_ok_and(|out| out.status.success());
    if !works {
        ignored("no pid namespace can be had here");
    }
    works.then_some(flags)
}

fn apart(flags: &[&str], role: &str, dir: &Path, args: &[&str]) -> Role {
    Role::start_by("unshare", flags, role, dir, args)
}

#[test]
fn a_holder_in_another_pid_namespace_is_alive_until_it_is_dead() {
    let Some(flags) = flags() else { return };
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let (x, y) = (client.claim("x"), client.claim("y"));
    // Both are process 1, each in a namespace of its own.
    let mut first = apart(&flags, "hold", &dir.0, &["x"]);
    first.hears("held");
    let mut second = apart(&flags, "hold", &dir.0, &["y"]);
    second.hears("held");
    for claim in [&x, &y] {
        assert!(matches!(client.attempt(claim).expect("asked").standing, Standing::Waiting { .. }));
    }
    // One by one they judge each other and us, and are judged.
    apart(&flags, "refused-lock", &dir.0, &["x"]).ends();
    Role::start("refused-lock", &dir.0, &["y"]).ends();
    first.kill();
    client.wait(&x, None);
    assert!(token(client.attempt(&y).expect("asked").standing).is_none(), "the other one lives");
    apart(&flags, "refused-lock", &dir.0, &["x"]).ends();
    second.kill();
    client.wait(&y, None);
}

#[test]
fn a_waiter_in_another_pid_namespace_learns_of_a_death_here() {
    let Some(flags) = flags() else { return };
    let dir = Dir::new();
    let mut holder = Role::start("hold", &dir.0, &["x"]);
    holder.hears("held");
    let mut waiter = apart(&flags, "hold", &dir.0, &["x"]);
    waiter.hears("waiting");
    holder.kill();
    waiter.hears("held");
}

#[test]
fn processes_of_many_pid_namespaces_exclude_each_other() {
    let Some(flags) = flags() else { return };
    let dir = Dir::new();
    let mut roles: Vec<Role> = (0..6)
        .map(|n| {
            let args = ["x", "2000"];
            if n % 2 == 0 {
                apart(&flags, "hammer", &dir.0, &args)
            } else {
                Role::start("hammer", &dir.0, &args)
            }
        })
        .collect();
    // One is killed somewhere in the middle; the others go on.
    std::thread::sleep(std::time::Duration::from_millis(50));
    roles.swap_remove(0).kill();
    roles.into_iter().for_each(Role::ends);
    faults::check(&dir.0).expect("whole");
}
