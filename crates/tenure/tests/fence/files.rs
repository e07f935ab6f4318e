//! A file with a fence beside it, used by processes of their own.

use std::fs;
use std::io::{BufRead, Write};
use std::os::unix::fs::symlink;
use std::process::{Command, ExitCode};
use std::time::Duration;

use libtest_mimic::Trial;
use rustix::process::{Signal, kill_process};
use tenure::ErrorKind;
use tenure::fence::{CheckError, Entry, FenceFile, Reason, Stamp};

use crate::programs::{Dir, find};
use crate::session::Session;
use crate::trials::{self, Refused, Resource, Side, Slow, stamp};
use crate::{Suite, trial};

pub(crate) const SUITE: Suite = Suite { name: "files", needs: &[], trials: all };

/// Set for a child: the directory that it works in.
const CHILD: &str = "TENURE_FENCE_TEST_DIR";

fn all() -> Vec<Trial> {
    let mut all = trials::of("files", || Box::new(Files::new()));
    let own: [(&str, fn()); 9] = [
        ("a_token_whose_sync_failed_or_was_cut_short_is_synced_before_it_counts", never_synced),
        ("a_record_without_its_mark_is_not_relied_on", unmarked),
        ("a_fence_with_used_up_serial_numbers_is_refused_until_it_is_reset", used_up),
        ("a_process_stopped_inside_keeps_the_next_out_until_it_is_killed", stopped_inside),
        ("a_killed_writer_leaves_the_last_record_whole", killed_writers),
        ("what_is_no_fence_is_refused_and_says_what_to_do", no_fence),
        ("a_damaged_fence_is_refused_until_it_is_reset", damaged),
        ("a_torn_write_leaves_the_record_before", torn),
        ("reading_makes_no_file_and_raising_needs_a_domain", reading),
    ];
    all.extend(own.into_iter().map(|(name, body)| trial(format!("files::{name}"), body)));
    all
}

struct Files(Dir);

impl Files {
    fn new() -> Files {
        let dir = Dir::new();
        fs::write(dir.file("n"), "100").expect("written");
        Files(dir)
    }

    fn fence(&self) -> FenceFile {
        FenceFile::new(self.0.file("n.fence"))
    }

    fn process(&self) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(CHILD, &self.0.0);
        Process(Session::start(&mut command, |mark| format!("echo {mark}")))
    }
}

impl Resource for Files {
    fn side(&self) -> Box<dyn Side> {
        Box::new(Box::new(self.process()) as Box<dyn Slow>)
    }

    fn slow(&self) -> Option<Box<dyn Slow>> {
        Some(Box::new(self.process()))
    }

    fn raise(&self, to: &Stamp) {
        self.fence().raise(Some(to.domain()), Some(to.token())).expect("raised");
    }

    fn reset(&self, to: &Stamp) {
        self.fence().reset(to).expect("reset");
    }

    fn kept(&self) -> Option<Stamp> {
        self.fence().read().expect("whole")
    }
}

/// A process that enters and leaves.
struct Process(Session);

impl Process {
    fn says(&mut self, words: &str) -> Result<String, Refused> {
        let said = self.0.ask(words);
        let reason = match said.split(' ').next() {
            Some("Stale") => Reason::Stale,
            Some("OtherDomain") => Reason::OtherDomain,
            _ => return Ok(said),
        };
        Err(Refused { reason, text: said })
    }
}

impl Slow for Process {
    fn enter(&mut self, stamp: &Stamp) -> Result<(), Refused> {
        let said = self.says(&format!("enter {} {}", stamp.domain(), stamp.token()))?;
        assert_eq!(said, "inside");
        Ok(())
    }

    fn get(&mut self) -> i64 {
        self.says("get").expect("a number").parse().expect("a number")
    }

    fn put(&mut self, value: i64) {
        assert_eq!(self.says(&format!("put {value}")).expect("done"), "");
    }

    fn leave(&mut self) {
        assert_eq!(self.says("leave").expect("done"), "");
    }
}

/// What a child does: one order a line.
pub(crate) fn child() -> Option<ExitCode> {
    let dir = std::path::PathBuf::from(std::env::var_os(CHILD)?);
    let (fence, file) =
        (FenceFile::new(dir.join("n.fence")).patience(Duration::from_secs(60)), dir.join("n"));
    let mut inside: Option<Entry> = None;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line.ok()?;
        let words: Vec<&str> = line.split(' ').collect();
        let said = match words[..] {
            ["echo", mark] => format!("{mark}\n"),
            ["enter", domain, token] => match fence.enter(&stamp(domain, token.parse().ok()?)) {
                Ok(entry) => {
                    inside = Some(entry);
                    "inside\n".to_owned()
                }
                Err(CheckError::Refused(why)) => format!("{:?} {why}\n", why.reason()),
                Err(CheckError::Failed(error)) => format!("{error:?}\n"),
            },
            ["get"] => format!("{}\n", fs::read_to_string(&file).ok()?),
            ["put", value] => {
                fs::write(&file, value).ok()?;
                String::new()
            }
            ["leave"] => {
                inside = None;
                String::new()
            }
            // Registers one token after the other until it is killed.
            ["run", domain] => {
                for token in 1.. {
                    fence.check(&stamp(domain, token)).ok()?;
                    writeln!(out, "{token}").and_then(|()| out.flush()).ok()?;
                }
                String::new()
            }
            _ => return Some(ExitCode::FAILURE),
        };
        out.write_all(said.as_bytes()).and_then(|()| out.flush()).ok()?;
    }
    drop(inside);
    Some(ExitCode::SUCCESS)
}

fn failed<T: std::fmt::Debug>(result: Result<T, CheckError>) -> tenure::Error {
    match result {
        Err(CheckError::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn stopped_inside() {
    let files = Files::new();
    let mut asleep = files.process();
    assert_eq!(asleep.enter(&stamp("host:a", 7)), Ok(()));
    kill_process(asleep.0.pid(), Signal::STOP).expect("stopped");
    let next = stamp("host:a", 8);
    let short = files.fence().patience(Duration::from_millis(30));
    let error = failed(short.check(&next));
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // The same token is not kept out, and neither is anybody who looks.
    files.fence().check(&stamp("host:a", 7)).expect("the same holder");
    assert_eq!(files.kept(), Some(stamp("host:a", 7)));
    kill_process(asleep.0.pid(), Signal::KILL).expect("killed");
    files.fence().check(&next).expect("its end ends its access");
    assert_eq!(files.kept(), Some(next));
}

fn killed_writers() {
    for round in 0..20 {
        let files = Files::new();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .env(CHILD, &files.0.0)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("a child");
        writeln!(child.stdin.as_mut().expect("a pipe"), "run host:a").expect("it reads");
        let mut said = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        for _ in 0..=round {
            line.clear();
            said.read_line(&mut line).expect("it registers");
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        while said
            .read_line({
                line.clear();
                &mut line
            })
            .expect("the rest")
            > 0
        {}
        let kept = files.kept().expect("registered").token().get();
        assert!(kept > round, "{kept}: what was told is on disk");
        files.fence().check(&stamp("host:a", kept + 1)).expect("goes on");
    }
}

fn no_fence() {
    let dir = Dir::new();
    let at = |name: &str| FenceFile::new(dir.file(name));
    let seven = stamp("host:a", 7);
    fs::create_dir(dir.file("dir")).expect("a directory");
    symlink(dir.file("elsewhere"), dir.file("link")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.file("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("a pipe");
    for (name, kind) in [
        ("dir", ErrorKind::Config),
        ("link", ErrorKind::Denied),
        ("fifo", ErrorKind::Denied),
        ("missing/fence", ErrorKind::Config),
        (&"n".repeat(300), ErrorKind::Config),
    ] {
        let error = failed(at(name).check(&seven));
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(!error.advice().is_empty());
    }
    assert!(!fs::exists(dir.file("elsewhere")).expect("looked"), "no link is followed");
}

fn damaged() {
    let files = Files::new();
    let (seven, eight) = (stamp("host:a", 7), stamp("host:a", 8));
    let path = files.0.file("n.fence");
    for damage in ["tenure-fence 2 0 9 host:a 0123456789abcdef\n", "a text", "\n"] {
        fs::write(&path, damage).expect("written");
        let error = failed(files.fence().check(&seven));
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.advice().contains("reset"), "{error}");
        assert_eq!(files.fence().read().expect_err("damaged").kind(), ErrorKind::Protocol);
        assert_eq!(failed(files.fence().raise(None, None)).kind(), ErrorKind::Protocol);
        files.fence().reset(&eight).expect("reset");
        assert_eq!(files.kept(), Some(eight.clone()));
        assert!(matches!(files.fence().check(&seven), Err(CheckError::Refused(_))));
    }
    // What was made and never written: a crash before the first record was on disk.
    for empty in [&[0u8; 0][..], &[0; 512]] {
        fs::write(&path, empty).expect("written");
        assert_eq!(files.kept(), None);
        files.fence().check(&seven).expect("as new");
    }
}

/// A place of a fence file, as its writer leaves it.
fn place(serial: u64, token: &str, mark: &str) -> Vec<u8> {
    let text = format!("tenure-fence 1 {serial} {token} host:a");
    let sum = text
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    format!("{:<510}{mark}\n", format!("{text} {sum:016x}")).into_bytes()
}

/// The kernel fails the sync, or kills the process in it; then it counts the syncs of the next access with that token.
fn never_synced() {
    if find("strace").is_none() {
        return; // the trial of the mark covers the rest
    }
    let files = Files::new();
    files.fence().check(&stamp("host:a", 5)).expect("the first");
    let traced = |inject: &[&str], token: i64| {
        let log = files.0.file("log");
        let mut command = Command::new(find("strace").expect("installed"));
        command.args(["-f", "-q", "-o", &log, "-e", "trace=fdatasync,fsync"]).args(inject);
        command.arg(std::env::current_exe().expect("this program")).env(CHILD, &files.0.0);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("strace runs");
        let _ = writeln!(child.stdin.take().expect("a pipe"), "enter host:a {token}");
        let output = child.wait_with_output().expect("it ends");
        let calls = fs::read_to_string(&log).unwrap_or_default();
        let syncs = calls.lines().filter(|line| line.contains("sync(") && line.contains("= 0")).count();
        (String::from_utf8_lossy(&output.stdout).trim().to_owned(), syncs)
    };
    if traced(&[], 5).0 != "inside" {
        return; // tracing is not allowed here
    }
    for (inject, token) in [("inject=fdatasync:error=EIO", 11), ("inject=fdatasync:signal=KILL", 17)] {
        let (said, _) = traced(&["-e", inject], token);
        assert!(!said.contains("inside"), "{inject}: {said}");
        let (said, syncs) = traced(&["-e", "inject=fsync:error=EIO"], token);
        assert!(!said.contains("inside") && syncs == 0, "{inject}: admitted without a sync: {said}");
        let (said, syncs) = traced(&[], token);
        assert!(said == "inside" && syncs >= 1, "{inject}: {said} after {syncs} syncs");
        let (said, syncs) = traced(&[], token);
        assert!(said == "inside" && syncs == 0, "{inject}: {said}, and synced once more");
        assert!(matches!(files.fence().check(&stamp("host:a", token - 1)), Err(CheckError::Refused(_))));
    }
}

fn unmarked() {
    let files = Files::new();
    let path = files.0.file("n.fence");
    fs::write(&path, [place(4, "8", "."), place(5, "9", " ")].concat()).expect("written");
    assert_eq!(files.kept(), Some(stamp("host:a", 9)), "it refuses lower tokens all the same");
    assert!(matches!(files.fence().check(&stamp("host:a", 8)), Err(CheckError::Refused(_))));
    files.fence().check(&stamp("host:a", 9)).expect("the token of the record");
    assert_eq!(fs::read(&path).expect("read"), [place(4, "8", "."), place(5, "9", ".")].concat());
    // Whatever else is written there, and every other spelling, is damage: the older record counts.
    for newest in [place(5, "9", "x"), place(5, "09", "."), place(5, "+9", ".")] {
        fs::write(&path, [place(4, "8", "."), newest].concat()).expect("written");
        assert_eq!(files.kept(), Some(stamp("host:a", 8)));
    }
    // Two records of one number, or each in the other's place: the next one does not overwrite the newest.
    for (first, second) in
        [(place(5, "8", "."), place(5, "9", ".")), (place(7, "9", "."), place(6, "8", "."))]
    {
        fs::write(&path, [first, second].concat()).expect("written");
        files.fence().check(&stamp("host:a", 10)).expect("in order");
        assert!(matches!(files.fence().check(&stamp("host:a", 9)), Err(CheckError::Refused(_))));
        assert!(String::from_utf8_lossy(&fs::read(&path).expect("read")).contains(" 9 host:a"));
    }
}

fn used_up() {
    let files = Files::new();
    let path = files.0.file("n.fence");
    let (six, seven) = (stamp("host:a", 6), stamp("host:a", 7));
    fs::write(&path, [place(u64::MAX - 1, "5", "."), place(u64::MAX, "6", ".")].concat()).expect("written");
    files.fence().check(&six).expect("the token of the record");
    let error = failed(files.fence().check(&seven));
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.advice().contains("reset"), "{error}");
    assert_eq!(failed(files.fence().raise(None, None)).kind(), ErrorKind::Protocol);
    files.fence().reset(&seven).expect("reset");
    files.fence().check(&seven).expect("as new");
    assert!(matches!(files.fence().check(&six), Err(CheckError::Refused(_))));
}

fn torn() {
    let files = Files::new();
    let path = files.0.file("n.fence");
    for token in 1..=5 {
        files.fence().check(&stamp("host:a", token)).expect("in order");
    }
    let whole = fs::read(&path).expect("read");
    assert_eq!(whole.len(), 1024);
    // The fifth record is in the first place, the fourth in the second.
    for end in 0..512 {
        let mut torn = whole.clone();
        torn[end..512].fill(b'x');
        fs::write(&path, &torn).expect("written");
        let kept = files.kept().expect("one of both").token().get();
        assert!(kept == 4 || kept == 5 && torn[..512] == whole[..512], "{end}: {kept}");
    }
}

fn reading() {
    let files = Files::new();
    assert_eq!(files.fence().read().expect("nothing"), None);
    assert!(!fs::exists(files.0.file("n.fence")).expect("looked"));
    assert_eq!(failed(files.fence().raise(None, None)).kind(), ErrorKind::Config);
    let seven = stamp("host:a", 7);
    let raised = files.fence().raise(Some(seven.domain()), Some(seven.token())).expect("raised");
    assert_eq!(raised, seven);
    let eight = files.fence().raise(None, None).expect("raised");
    assert_eq!(eight, stamp("host:a", 8), "whoever came last is shut out");
    let other = stamp("host:b", 9);
    let refused = files.fence().raise(Some(other.domain()), Some(other.token()));
    assert!(matches!(refused, Err(CheckError::Refused(why)) if why.reason() == Reason::OtherDomain));
}
