//! The default place of a user's store, for the URL `host:`.
//!
//! All processes of a user must agree on it, so it depends on nothing but the user id and the machine: variables of the
//! environment differ between a terminal, cron and a service. It must also survive the user's logout. When an ordinary
//! user logs out, logind removes everything of theirs in `/dev/shm` (`RemoveIPC=`, on by default) and in `/run/user`. It
//! spares root and system users. So their stores lie in shared memory, and those of ordinary users in `/var/tmp`.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode};

use crate::error::{Error, Result};

/// Where shared memory is mounted.
const SHARED_MEMORY: &str = "/dev/shm";
/// Where files of all users outlive a logout and a reboot.
const KEPT: &str = "/var/tmp";
/// The first id of an ordinary user, as logind has it.
const ORDINARY: u32 = 1000;
/// Exists if logind may run.
const LOGIND: &str = "/run/systemd";
const MOUNTS: &str = "/proc/self/mountinfo";

/// The directory of this user's store.
pub(super) fn directory() -> Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let usable = rustix::fs::access(KEPT, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let parent = parent(uid, usable, Path::new(LOGIND).exists());
    if parent == KEPT && is_private(&std::fs::read_to_string(MOUNTS).unwrap_or_default()) {
        return Err(Error::config(
            format!("{KEPT} is private to this service, so other processes of the user cannot see its locks"),
            "set PrivateTmp=no in the unit, or name a directory: host:///var/lib/myapp/locks",
        ));
    }
    Ok(Path::new(parent).join(format!("tenure-{uid}")))
}

/// Where it lies. Without logind, and only then, shared memory serves ordinary users whose `/var/tmp` is of no use, as
/// in a container with a read-only root.
fn parent(uid: u32, usable: bool, logind: bool) -> &'static str {
    if uid >= ORDINARY && (usable || logind) { KEPT } else { SHARED_MEMORY }
}

/// Whether systemd has mounted a directory of its own over `/var/tmp` for this service (`PrivateTmp=`).
fn is_private(mounts: &str) -> bool {
    // Fields: id, parent, device, root within the file system, mount point ... " - ", type, source, options.
    let over = |line: &&str| line.split(' ').nth(4) == Some(KEPT);
    mounts.lines().rfind(over).is_some_and(|line| {
        let root = line.split(' ').nth(3).unwrap_or_default();
        let tmpfs = line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("tmpfs "));
        root.contains("/systemd-private-") || (tmpfs && root != "/")
    })
}

/// The parent of the default place does not exist.
pub(super) fn missing(path: &Path) -> Error {
    let parent = path.parent().unwrap_or(path).display();
    Error::unavailable(
        format!("this system has no {parent}"),
        "make it, or name a directory: host:///var/lib/myapp/locks",
    )
}

/// Gives the default directory back the access that its owner needs, for example after it was made under an unusual
/// umask. Nothing else may have set its mode.
pub(super) fn repair(path: &Path) {
    let us = rustix::process::geteuid().as_raw();
    let Ok(stat) = rustix::fs::lstat(path) else { return };
    let directory = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if directory && stat.st_uid == us && !mode.contains(Mode::RWXU) {
        let _ = rustix::fs::chmod(path, mode | Mode::RWXU);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_of_ordinary_users_are_not_where_a_logout_removes_them() {
        for uid in [1000, 1001, 60_000, 65_534, u32::MAX - 1] {
            assert_eq!(parent(uid, true, true), "/var/tmp");
            assert_eq!(parent(uid, true, false), "/var/tmp");
            assert_eq!(parent(uid, false, true), "/var/tmp", "an error, and no second store");
            assert_eq!(parent(uid, false, false), "/dev/shm");
        }
        for uid in [0, 1, 33, 999] {
            assert_eq!(parent(uid, true, true), "/dev/shm");
        }
    }

    #[test]
    fn a_private_directory_is_told_from_a_mounted_one() {
        let line = |root: &str, kind: &str| {
            format!(
                "22 1 0:21 / / rw - ext4 /dev/sda1 rw\n90 22 8:1 {root} /var/tmp rw,relatime shared:1 - {kind} none rw\n"
            )
        };
        assert!(is_private(&line("/var/tmp/systemd-private-0a1b-web.service-Xy/tmp", "ext4")));
        assert!(is_private(&line("/var-tmp", "tmpfs")));
        for (root, kind) in [("/", "tmpfs"), ("/", "ext4"), ("/@var/tmp", "btrfs")] {
            assert!(!is_private(&line(root, kind)), "{root} {kind}");
        }
        assert!(!is_private("22 1 0:21 / / rw - ext4 /dev/sda1 rw\n"));
    }
}
