//! Directories and files that are refused, with a reason; and bad days: no room, no permission, no slot.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use tenure::backend::Standing;
use tenure::backend::host::faults;
use tenure::{Capabilities, ErrorKind, Fact, HoldEnd, Scope, TokenStrength};
use tenure_servers::skip::ignored;

use crate::kit::{Dir, Role, open, refused};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory with a store that was used.
fn used() -> Dir {
    let dir = Dir::new();
    // Nobody else is in it, so nothing is left.
    let client = open(&dir.0).expect("opens");
    let claim = client.claim("x");
    client.take(&claim);
    client.release(&claim).expect("release");
    dir
}

#[test]
fn a_missing_directory_is_made_private() {
    let dir = Dir::new();
    let inner = dir.file("locks");
    crate::roles::used(&inner).expect("made");
    let stat = fs::metadata(&inner).expect("there");
    assert_eq!(stat.permissions().mode() & 0o777, 0o700);
    for file in ["store", "live"] {
        assert_eq!(
            fs::metadata(inner.join(file)).expect("there").permissions().mode() & 0o777,
            0o600,
            "{file}"
        );
    }
    refused(open(&dir.file("a/b")), ErrorKind::Config, "No such file");
}

#[test]
fn a_directory_that_others_can_change_is_refused() {
    let dir = Dir::new();
    for wide in [0o777, 0o770, 0o1777, 0o702] {
        mode(&dir.0, wide);
        refused(open(&dir.0), ErrorKind::Denied, "lets others in");
    }
    mode(&dir.0, 0o755);
    open(&dir.0).expect("others may look at the directory");
    if root() {
        std::os::unix::fs::chown(&dir.0, Some(12_345), None).expect("root may");
        refused(crate::roles::used(&dir.0), ErrorKind::Denied, "belongs to user 12345");
    } else {
        refused(open("/usr".as_ref()), ErrorKind::Denied, "belongs to user 0");
    }
}

#[test]
fn a_link_is_refused_wherever_it_points() {
    let (dir, other) = (Dir::new(), used());
    symlink(&other.0, dir.file("linked")).expect("a link");
    refused(open(&dir.file("linked")), ErrorKind::Denied, "is a symbolic link");
    for file in ["store", "live"] {
        let dir = Dir::new();
        symlink(other.file(file), dir.file(file)).expect("a link");
        refused(open(&dir.0), ErrorKind::Denied, "is a symbolic link");
        let dir = Dir::new();
        symlink("/nowhere/at/all", dir.file(file)).expect("a dangling link");
        refused(open(&dir.0), ErrorKind::Denied, "is a symbolic link");
    }
}

#[test]
fn what_is_no_plain_file_is_refused_without_a_hang() {
    for file in ["store", "live"] {
        let dir = Dir::new();
        fs::create_dir(dir.file(file)).expect("a directory");
        refused(open(&dir.0), ErrorKind::Denied, "is not a plain file");
        let dir = Dir::new();
        let fifo = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, dir.file(file), rustix::fs::FileType::Fifo, fifo, 0)
            .expect("a fifo");
        refused(open(&dir.0), ErrorKind::Denied, "is not a plain file");
        let dir = Dir::new();
        std::os::unix::net::UnixListener::bind(dir.file(file)).expect("a socket");
        refused(open(&dir.0), ErrorKind::Denied, "is not a plain file");
    }
    let dir = Dir::new();
    fs::write(dir.file("file"), "").expect("a file");
    refused(open(&dir.file("file")), ErrorKind::Config, "is not a directory");
    refused(open("/dev/null".as_ref()), ErrorKind::Config, "is not a directory");
}

#[test]
fn files_that_others_can_change_are_refused() {
    for file in ["store", "live"] {
        let dir = used();
        mode(&dir.file(file), 0o666);
        refused(open(&dir.0), ErrorKind::Denied, "lets others in");
        mode(&dir.file(file), 0o600);
        if root() {
            std::os::unix::fs::chown(dir.file(file), Some(12_345), None).expect("root may");
            refused(crate::roles::used(&dir.0), ErrorKind::Denied, "belongs to user 12345");
        }
    }
}

#[test]
fn a_damaged_or_foreign_store_is_refused_and_named() {
    let header = |at: u64, with: &[u8]| {
        let dir = used();
        let file = fs::File::options().write(true).open(dir.file("store")).expect("the store");
        file.write_all_at(with, at).expect("written");
        dir
    };
    let cases: [(Dir, &str); 5] = [
        (header(0, b"SQLite format 3\0"), "is not a store of Tenure"),
        (header(0, &[0; 4096]), "is not a store of Tenure"),
        (header(8, &77u64.to_ne_bytes()), "has layout 77, and this program knows layout 4"),
        (header(16, &[0xFF]), "has a damaged header"),
        (header(40, &128u64.to_ne_bytes()), "has a damaged header"),
    ];
    for (dir, words) in cases {
        refused(open(&dir.0), ErrorKind::Protocol, words);
        refused(open(&dir.0), ErrorKind::Protocol, dir.file("store").to_str().expect("UTF-8"));
        fs::remove_file(dir.file("store")).expect("the advice");
        open(&dir.0).expect("opens after what the error advised");
    }
    for len in [0, 1, 95, 4096, 1 << 20] {
        let dir = used();
        let file = fs::File::options().write(true).open(dir.file("store")).expect("the store");
        file.set_len(len).expect("cut off");
        refused(open(&dir.0), ErrorKind::Protocol, "is cut off");
    }
}

#[test]
fn damaged_cells_are_an_error_and_no_crash() {
    // The cells of the first shard come after the header, 1,024 slots of 512 bytes, and 128 heads of 5 pages.
    let cells = |shard: u64| 4096 + 1024 * 512 + 128 * 5 * 4096 + shard * 4 * 4096;
    for seed in 1..60u64 {
        let dir = Dir::new();
        let client = open(&dir.0).expect("opens");
        let claims: Vec<_> = (0..64).map(|n| client.claim(&format!("lock/{n}"))).collect();
        for claim in &claims {
            client.take(claim);
        }
        let file = fs::File::options().write(true).open(dir.file("store")).expect("the store");
        let mut dice = seed;
        for shard in 0..64 {
            for _ in 0..seed {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                file.write_all_at(
                    &(dice >> (dice % 60)).to_ne_bytes(),
                    cells(shard) + (dice >> 20) % 2048 / 8 * 8,
                )
                .expect("written");
            }
        }
        let mut damaged = 0;
        for claim in &claims {
            let results = [
                client.attempt(claim).map(drop),
                client.renew(std::slice::from_ref(claim)).remove(0).map(drop),
                client.release(claim).map(drop),
            ];
            for error in results.into_iter().filter_map(Result::err) {
                assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unavailable), "{error:?}");
                damaged += 1;
            }
        }
        assert!(seed < 20 || damaged > 0, "nobody noticed the damage of seed {seed}");
    }
}

#[test]
fn a_store_that_is_removed_while_it_is_used_is_noticed() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    let claim = client.claim("x");
    client.take(&claim);
    fs::remove_file(dir.file("store")).expect("removed");
    // Another process must not make a new store while this one believes that it holds.
    let child = Role::start("refused", &dir.0, &["Unavailable", "was removed while process"]);
    child.ends();
    std::thread::sleep(std::time::Duration::from_millis(1100)); // it looks once a second
    let answer = client.renew(std::slice::from_ref(&claim)).remove(0).expect("answered");
    assert_eq!(answer.standing, tenure::backend::Standing::Removed);
    refused(client.attempt(&client.claim("y")), ErrorKind::Unavailable, "was removed");
    drop(client);
    open(&dir.0).expect("a new store, once nobody uses the old one");
}

#[test]
fn every_slot_taken_is_an_error_that_says_so() {
    let dir = used();
    let mut squatter = Role::start("squat", &dir.0, &[]);
    squatter.hears("ready");
    refused(open(&dir.0), ErrorKind::Unavailable, "1023 processes use this store already");
    squatter.kill();
    open(&dir.0).expect("there is room again");
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
    let dir = Dir::new();
    Role::start("limited", &dir.0, &["1048576"]).ends();
    assert!(!dir.file("store").exists() && !dir.file("store.new").exists());
    faults::check(&dir.0).expect("made without the limit");
    // An existing store can be used under the limit, and does not grow beyond it.
    Role::start("limited-user", &dir.0, &["1048576"]).ends();
    faults::check(&dir.0).expect("whole");
}

#[test]
fn a_store_is_small_and_grows_with_what_is_in_it() {
    let dir = Dir::new();
    faults::check(&dir.0).expect("made");
    let client = open(&dir.0).expect("opens");
    let size = || fs::metadata(dir.file("store")).expect("there").len();
    assert!(size() < 5 << 20, "a new store has {} bytes", size());
    let claims: Vec<_> = (0..4000).map(|n| client.claim(&format!("many/{n}"))).collect();
    for claim in &claims {
        client.take(claim);
    }
    let grown = size();
    assert!((5 << 20..9 << 20).contains(&grown), "4,000 locks take {grown} bytes");
    // What was given back is used again.
    for claim in &claims {
        client.release(claim).expect("release");
    }
    for n in 0..4000 {
        client.take(&client.claim(&format!("other/{n}")));
    }
    assert!(size() < grown + (3 << 20), "{grown} bytes became {}", size());
    faults::check(&dir.0).expect("whole");
}

#[test]
fn a_limit_on_address_space_is_an_error_and_others_go_on() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    // Enough for the store as it is, and not for what it grows to.
    Role::start("starved", &dir.0, &[]).ends();
    for n in 0..200 {
        client.attempt(&client.claim("line")).expect("room");
        client.take(&client.claim(&format!("lock/{n}")));
    }
    faults::check(&dir.0).expect("whole");
}

/// A table that leads beyond the end of the file, to the front, or across a border of windows.
#[test]
fn a_damaged_table_of_chunks_is_an_error_and_no_crash() {
    let table = |shard: u64| 4096 + 1024 * 512 + shard * 5 * 4096 + 192 + 16 * 1024;
    for at in [8, 4096, 5 << 20 | 4096, 1 << 40, u64::MAX - 4095] {
        let dir = Dir::new();
        let many = |client: &crate::kit::Client| -> usize {
            (0..6000).filter(|n| client.attempt(&client.claim(&format!("lock/{n}"))).is_err()).count()
        };
        faults::check(&dir.0).expect("made");
        let file = fs::File::options().write(true).open(dir.file("store")).expect("the store");
        for shard in 0..64 {
            // The second chunk of a shard, which has only one yet.
            file.write_all_at(&u64::to_ne_bytes(at), table(shard) + 8).expect("written");
        }
        assert!(many(&open(&dir.0).expect("opens")) > 0, "nobody noticed {at}");
    }
}

/// In a mount namespace of its own, with a small file system on the directory.
fn mounted(options: &str, role: &str, args: &[&str]) {
    let script =
        format!("mount -t tmpfs -o {options},mode=700 none \"$TENURE_TEST_DIR\" && exec \"$0\" \"$@\"");
    in_a_mount_namespace(&Dir::new(), &script, role, args);
}

fn in_a_mount_namespace(dir: &Dir, script: &str, role: &str, args: &[&str]) {
    let user = if root() { "" } else { "--user --map-root-user " };
    let flags: Vec<&str> = user.split_whitespace().chain(["--mount", "sh", "-c", script]).collect();
    let works = std::process::Command::new("unshare")
        .args(&flags)
        .arg("true")
        .env("TENURE_TEST_DIR", &dir.0)
        .output()
        .is_ok_and(|out| out.status.success());
    if works {
        Role::start_by("unshare", &flags, role, &dir.0, args).ends();
    } else {
        ignored("no mount namespace can be had here");
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_half_done() {
    mounted("size=2m", "refused", &["Unavailable", "make room there"]);
    mounted("size=6m", "fill", &[]);
}

#[test]
fn a_read_only_directory_is_refused() {
    mounted("ro,size=8m", "refused", &["Denied", "read-only"]);
    if !root() {
        let dir = Dir::new();
        mode(&dir.0, 0o500);
        refused(open(&dir.0), ErrorKind::Denied, "Permission denied");
        mode(&dir.0, 0o700);
    }
}

#[test]
fn looking_makes_nothing_and_changes_nothing() {
    let dir = Dir::new();
    let typo = dir.file("typo");
    for path in [&typo, &dir.0] {
        let client = open(path).expect("opens");
        assert!(client.lines().is_empty());
        let claim = client.claim("x");
        let answer = client.renew(std::slice::from_ref(&claim)).remove(0).expect("answered").standing;
        assert!(matches!(answer, Standing::Gone { .. }), "{answer:?}");
        assert_eq!(client.release(&claim).expect("answered"), tenure::Released::Gone);
        assert_eq!(client.evict("x", "by hand"), tenure::Released::Gone);
        client.backend.watch(&tenure::backend::Watched::Everything);
        assert!(!typo.exists() && fs::read_dir(&dir.0).expect("there").next().is_none());
        // Once another client has made the store it is seen, and the first claim takes part.
        if path == &typo {
            continue;
        }
        let other = open(path).expect("opens");
        other.take(&other.claim("y"));
        assert_eq!(client.lines().len(), 1);
        client.take(&claim);
        assert_eq!(other.lines().len(), 2);
    }
    let dir = used();
    faults::reboot(&dir.0).expect("rebooted");
    let before = fs::read(dir.file("store")).expect("there");
    assert!(open(&dir.0).expect("opens").lines().is_empty(), "an earlier boot's holders are dead");
    assert!(fs::read(dir.file("store")).expect("there") == before, "looking replaced the store");
    refused(open(&dir.file("no/such")), ErrorKind::Config, "No such file");
}

#[test]
fn a_store_on_a_read_only_mount_can_be_looked_at() {
    let dir = Dir::new();
    let client = open(&dir.0).expect("opens");
    client.take(&client.claim("a"));
    for _ in 0..300 {
        client.attempt(&client.claim("a")).expect("waits"); // several chunks of cells
    }
    client.take(&client.claim("b"));
    let script = "mount --bind \"$TENURE_TEST_DIR\" \"$TENURE_TEST_DIR\" && mount -o remount,bind,ro \
                  \"$TENURE_TEST_DIR\" && exec \"$0\" \"$@\"";
    in_a_mount_namespace(&dir, script, "looks", &["a", "b"]);
    client.take(&client.claim("c"));
}

#[test]
fn root_may_look_at_the_store_of_a_user_and_leaves_it_theirs() {
    if !root() {
        return ignored("only root may do this");
    }
    let dir = used();
    // As that user would have made it.
    let claim = {
        let client = open(&dir.0).expect("opens");
        let mut claim = client.claim("theirs");
        claim.anchor = tenure::backend::Anchor::Time;
        client.take(&claim);
        claim
    };
    for file in ["", "store", "live", "floor"] {
        std::os::unix::fs::chown(dir.file(file), Some(12_345), Some(12_345)).expect("root may");
    }
    Role::start("looks", &dir.0, &[claim.key.name()]).ends();
    for file in ["", "store", "live", "floor"] {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(dir.file(file)).expect("there").uid(), 12_345, "{file}");
    }
    assert_eq!(fs::read_dir(&dir.0).expect("there").count(), 3, "looking left something behind");
}

#[test]
fn a_umask_does_not_decide_whether_a_store_can_be_used() {
    let dir = Dir::new();
    if !root() {
        return Role::start("narrow", &dir.0, &[]).ends();
    }
    // Root may do anything whatever the mode, so the modes themselves have to tell.
    Role::start("narrow", &dir.0, &[]).ends();
    let mode = |name: &str| fs::metadata(dir.file(name)).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode("inner"), 0o700);
    for name in ["inner/store", "inner/live", "inner/floor"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

#[test]
fn shared_memory_promises_less_than_a_directory() {
    let dir = Dir::new();
    let directory = open(&dir.0).expect("opens").backend.capabilities();
    assert_eq!(directory.token, TokenStrength::Durable);
    assert_eq!((directory.survives.restart, directory.survives.power_loss), (Fact::Yes, Fact::Yes));
    // There is no other server that could take over, so nothing is promised of one.
    let failover = tenure::Needs::new().survives_failover();
    assert_eq!(failover.check(&directory).expect_err("refused").kind(), ErrorKind::Unsupported);
    let best: Capabilities = tenure::backend::find("host").expect("compiled in").capabilities;
    assert_eq!(directory, best);
    assert_eq!((best.scope, best.hold_end), (Scope::Host, HoldEnd::LeaseOrProcess));
    let shared = crate::kit::open_url("host:").expect("opens").backend.capabilities();
    assert_eq!(shared.token, TokenStrength::Hybrid);
    assert_eq!((shared.survives.restart, shared.survives.power_loss), (Fact::Yes, Fact::No));
    faults::check(&dir.0).expect("whole");
}
