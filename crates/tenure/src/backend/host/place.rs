//! The directory of a store and its files: opened so that no other user can interfere, or refused with a reason.
//!
//! A process that can write these files can corrupt them, so the directory is the trust boundary. It must belong to
//! this user, and nobody else may write to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::create::STORE;
use super::url::Place;
use super::usual;
use crate::error::{Error, Result};

/// An open directory that has passed all checks.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) durable: bool,
    /// Device and inode: two paths to one directory are one store.
    pub(super) id: FileId,
    /// The user that it belongs to, and its files with it.
    pub(super) owner: u32,
    /// Its files are opened for reading only.
    look_only: bool,
    /// The directory that this one was found in, if it can be opened.
    parent: Option<OwnedFd>,
}

impl Dir {
    /// Opens the directory, and makes it (mode 0700) if it does not exist.
    pub(super) fn make(place: &Place) -> Result<Dir> {
        let path = &place.path;
        match rustix::fs::mkdir(path, Mode::RWXU) {
            // The umask may have taken away what we need ourselves.
            Ok(()) => {
                let _ = rustix::fs::chmod(path, Mode::RWXU);
            }
            Err(Errno::EXIST) if !place.durable => usual::repair(path),
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) if !place.durable => return Err(usual::missing(path)),
            Err(e) => return Err(refused(e, "the store's directory cannot be made", path)),
        }
        Dir::open(place)
    }

    /// Opens the directory if it exists. If not, says why one could not be made.
    pub(super) fn find(place: &Place) -> Result<Option<Dir>> {
        let path = &place.path;
        match rustix::fs::lstat(path) {
            Err(Errno::NOENT) => {}
            _ => return Dir::open(place).map(Some),
        }
        let parent = path.parent().unwrap_or(path);
        match rustix::fs::access(parent, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Ok(None),
            Err(Errno::NOENT) if !place.durable => Err(usual::missing(path)),
            Err(e) => Err(refused(e, "the store's directory cannot be made", path)),
        }
    }

    /// Whether its store can only be looked at: it belongs to another user, or cannot be written.
    pub(super) fn is_for_looking(&self) -> bool {
        let read = || rustix::fs::accessat(&self.fd, STORE, Access::READ_OK, AtFlags::empty()).is_ok();
        let write = rustix::fs::accessat(&self.fd, STORE, Access::WRITE_OK, AtFlags::empty());
        self.look_only || (matches!(write, Err(Errno::ROFS | Errno::ACCESS | Errno::PERM)) && read())
    }

    /// The same directory, and its files opened for reading only.
    pub(super) fn for_looking(self) -> Dir {
        Dir { look_only: true, ..self }
    }

    /// Why nothing but looking is possible.
    pub(super) fn only_looking(&self) -> Error {
        let us = rustix::process::geteuid().as_raw();
        if self.owner != us {
            return foreign("directory", self.owner, us, &self.path);
        }
        refused(Errno::ROFS, "the store can be looked at but not used", &self.path)
    }

    /// Why a store that does not exist cannot be made here.
    pub(super) fn check_writable(&self) -> Result<()> {
        if self.look_only {
            return Err(self.only_looking());
        }
        rustix::fs::accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
            .map_err(|e| refused(e, "the store cannot be made", &self.path))
    }

    fn open(place: &Place) -> Result<Dir> {
        let path = &place.path;
        let flags =
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| {
            let link = rustix::fs::lstat(path)
                .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink);
            match e {
                Errno::NOTDIR | Errno::LOOP if link => Error::denied(
                    format!("{} is a symbolic link", path.display()),
                    "name the directory itself, so that nobody can point the store elsewhere",
                ),
                Errno::NOTDIR => Error::config(
                    format!("{} is not a directory", path.display()),
                    "name a directory of its own",
                ),
                e => refused(e, "the store's directory cannot be opened", path),
            }
        })?;
        let stat = rustix::fs::fstat(&fd)
            .map_err(|e| refused(e, "the store's directory cannot be looked at", path))?;
        let wider = if place.durable { 0o022 } else { 0o077 };
        // Root may look at the store of any user, and uses none but its own.
        let us = rustix::process::geteuid().as_raw();
        let look_only = us == 0 && stat.st_uid != us;
        check_owner(stat.st_uid, if look_only { stat.st_uid } else { us }, "directory", path)?;
        check_mode(stat.st_mode, wider, "directory", path)?;
        check_file_system(fd.as_fd(), path)?;
        // A cleaner of temporary files passes over a directory that is locked (systemd-tmpfiles). A hint: without it
        // nothing else goes wrong.
        if !look_only {
            let _ = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared);
        }
        let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = path.parent().and_then(|path| rustix::fs::open(path, way, Mode::empty()).ok());
        let id = FileId::from(&stat);
        Ok(Dir { fd, path: path.clone(), durable: place.durable, id, owner: stat.st_uid, look_only, parent })
    }

    /// The path of a file in it, to show.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file for reading and writing; `None` where it does not exist and `create` is not asked for.
    pub(super) fn open_file(&self, name: &str, create: bool) -> Result<Option<OwnedFd>> {
        let path = self.file(name);
        let mut flags = if self.look_only { OFlags::RDONLY } else { OFlags::RDWR };
        flags |= OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        flags.set(OFlags::CREATE, create);
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if !create => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(Error::denied(
                    format!("{} is a symbolic link", path.display()),
                    "remove it: a store's files are plain files",
                ));
            }
            Err(Errno::ISDIR | Errno::NXIO) => return Err(not_plain(&path)),
            Err(e) => return Err(refused(e, "a file of the store cannot be opened", &path)),
        };
        let stat = rustix::fs::fstat(&fd)
            .map_err(|e| refused(e, "a file of the store cannot be looked at", &path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_plain(&path));
        }
        check_owner(stat.st_uid, self.owner, "file", &path)?;
        check_mode(stat.st_mode, 0o022, "file", &path)?;
        if create {
            keep(fd.as_fd());
        }
        Ok(Some(fd))
    }

    /// Whether the directory still is where it was found, and not removed, moved or replaced since. Whoever may not look
    /// any more (the process has less rights now) believes so.
    pub(super) fn is_here(&self) -> bool {
        let (Some(parent), Some(name)) = (&self.parent, self.path.file_name()) else { return true };
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => FileId::from(&there) == self.id,
            Err(Errno::NOENT | Errno::NOTDIR) => false,
            Err(_) => true,
        }
    }

    /// Whether `name` still is this file, and was not removed or replaced. The file must be open: otherwise a new file could
    /// have its number.
    pub(super) fn is_still(&self, name: &str, id: FileId) -> bool {
        let there = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        there.is_ok_and(|there| FileId::from(&there) == id)
    }
}

/// Which file or directory: its device, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId(u64, u64);

impl FileId {
    /// That of an open file.
    pub(super) fn of(fd: BorrowedFd<'_>) -> std::result::Result<FileId, Errno> {
        rustix::fs::fstat(fd).map(|stat| FileId::from(&stat))
    }
}

impl From<&Stat> for FileId {
    fn from(stat: &Stat) -> FileId {
        FileId(stat.st_dev, stat.st_ino)
    }
}

fn not_plain(path: &Path) -> Error {
    Error::denied(
        format!("{} is not a plain file", path.display()),
        "remove it: a store's files are plain files",
    )
}

/// Sets the mode of a new file, whatever the umask says. The sticky bit asks cleaners of temporary files to leave it
/// alone however old it is (systemd-tmpfiles).
pub(super) fn keep(file: BorrowedFd<'_>) {
    let wanted = Mode::RUSR | Mode::WUSR | Mode::SVTX;
    if let Ok(stat) = rustix::fs::fstat(file) {
        let mode = Mode::from_raw_mode(stat.st_mode);
        if !mode.contains(wanted) {
            let _ = rustix::fs::fchmod(file, mode | wanted);
        }
    }
}

fn check_owner(owner: u32, expected: u32, what: &str, path: &Path) -> Result<()> {
    if owner == expected { Ok(()) } else { Err(foreign(what, owner, expected, path)) }
}

fn foreign(what: &str, owner: u32, us: u32, path: &Path) -> Error {
    Error::denied(
        format!("the {what} {} belongs to user {owner}, and this process runs as user {us}", path.display()),
        "use a directory of your own, because the owner of a store's files can corrupt them; root may look at any store",
    )
}

fn check_mode(mode: u32, wider: u32, what: &str, path: &Path) -> Result<()> {
    if mode & wider == 0 {
        return Ok(());
    }
    Err(Error::denied(
        format!("the {what} {} has mode {:03o}, which lets others in", path.display(), mode & 0o777),
        format!("run: chmod {:03o} {}", mode & 0o777 & !wider, path.display()),
    ))
}

/// File systems whose mappings or byte locks are not shared by all who see the file. A list of what is known to be
/// wrong, since a list of what is known to be right would refuse every new local file system.
const REMOTE: &[(u64, &str)] = &[
    (0x6969, "nfs"),
    (0x517B, "smb"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb2"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x00C3_6400, "ceph"),
    (0x5346_414F, "afs"),
    (0x6B41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x564C, "ncp"),
    (0x0BD0_0BD0, "lustre"),
    (0x0116_1970, "gfs2"),
    (0x7461_636F, "ocfs2"),
    (0xAAD7_AAEA, "panfs"),
    (0x4750_4653, "gpfs"),
    (0x786F_4256, "vboxsf"),
    (0xBACB_ACBC, "vmhgfs"),
    (0x5346_544E, "ntfs"),
];

fn check_file_system(dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let stat = rustix::fs::fstatfs(dir)
        .map_err(|e| refused(e, "the store's file system cannot be looked at", path))?;
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, clippy::unnecessary_cast)]
    // 32 bits, however typed
    let magic = u64::from(stat.f_type as u32);
    match remote(magic) {
        None => Ok(()),
        Some(name) => Err(Error::config(
            format!(
                "{} lies on a {name} file system, where processes do not share memory and locks",
                path.display()
            ),
            "use a local file system, or a store made for several machines",
        )),
    }
}

fn remote(magic: u64) -> Option<&'static str> {
    REMOTE.iter().find(|(m, _)| *m == magic).map(|(_, name)| *name)
}

/// A system call that is denied to this process, and that the store cannot do without.
pub(super) fn denied(call: &str, error: Errno) -> Error {
    Error::unavailable(
        format!("the system call {call} is refused to this process: {error}"),
        "host: needs it: allow it in the seccomp profile or sandbox, or use a store on a server",
    )
    .because(std::io::Error::from(error))
}

/// An error of the system, in words that say what to do.
pub(super) fn refused(error: Errno, what: &str, path: &Path) -> Error {
    let what = format!("{what}: {}: {error}", path.display());
    let made = match error {
        Errno::ACCESS | Errno::PERM => {
            Error::denied(what, "give this user access, or name another directory")
        }
        Errno::ROFS => {
            Error::denied(what, "the file system is read-only: name a directory that can be written")
        }
        Errno::NOENT => Error::config(what, "make its parent directory first"),
        Errno::NAMETOOLONG | Errno::INVAL | Errno::NOTDIR | Errno::LOOP => {
            Error::config(what, "name a directory that can exist")
        }
        Errno::NOSPC | Errno::DQUOT => {
            Error::unavailable(what, "make room there: a store needs 4 MiB to begin with")
        }
        Errno::MFILE | Errno::NFILE => {
            Error::unavailable(what, "close files, or raise the limit (ulimit -n)")
        }
        Errno::NOMEM => {
            Error::unavailable(what, "free memory, or lift the limit on address space (ulimit -v)")
        }
        Errno::FBIG => Error::unavailable(what, "lift the limit on file sizes (ulimit -f)"),
        _ => Error::unavailable(what, "try again; if it stays, the file system is in trouble"),
    };
    made.because(std::io::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_magic() {
        assert_eq!(remote(0x6969), Some("nfs"));
        assert_eq!(remote(0xFF53_4D42), Some("cifs"));
        for local in [0xEF53, 0x0102_1994, 0x9123_683E, 0x5846_5342, 0x794C_7630, 0x2FC1_2FC1] {
            assert_eq!(remote(local), None, "ext4, tmpfs, btrfs, xfs, overlayfs, zfs are local");
        }
    }
}
