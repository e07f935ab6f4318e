//! What the tests share: directories of their own, clients that drive the backend's contract, child processes.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tenure::backend::{
    Anchor, Answer, Backend, Call, Claim, ClaimId, Cohort, Kind, Leave, News, Opening, Owner, Query,
    Released, Sink, Standing,
};
use tenure::core::moment::Moment;
use tenure::runtime::Runtime;
use tenure::runtime::thread::ThreadRuntime;
use tenure::{ErrorKind, Key, StoreUrl};

pub(crate) type Result<T> = tenure::Result<T>;

/// Long enough for anything that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that is removed with the value.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    /// Where the floor of tokens has copies: in the pages that are not empty.
    pub(crate) fn copies_of_the_floor(&self) -> Vec<u64> {
        let bytes = std::fs::read(self.file("floor")).expect("the floor");
        let used = bytes.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
        used.map(|(page, _)| page as u64 * 4096).collect()
    }

    /// The floor of tokens that is on disk: a process's copy has it as its third word.
    pub(crate) fn floor(&self) -> i64 {
        let bytes = std::fs::read(self.file("floor")).expect("the floor");
        let floors = bytes.chunks(4096).filter_map(|page| page.get(16..24)?.try_into().ok());
        floors.map(i64::from_le_bytes).max().expect("a copy")
    }

    pub(crate) fn new() -> Dir {
        Dir::below(&std::env::temp_dir())
    }

    /// One where a sync costs nothing, for tests that make very many stores.
    pub(crate) fn in_memory() -> Dir {
        Dir::below("/dev/shm".as_ref())
    }

    fn below(parent: &Path) -> Dir {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Relaxed);
        let path = parent.join(format!("tenure-test-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a directory for the test");
        Dir(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Letters(Mutex<Sender<News>>);

impl Sink for Letters {
    fn news(&self, news: News) {
        let _ = self.0.lock().expect("no one panics here").send(news);
    }
}

/// One client of a store.
pub(crate) struct Client {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) runtime: Arc<ThreadRuntime>,
    pub(crate) news: Receiver<News>,
}

pub(crate) fn open(dir: &Path) -> Result<Client> {
    open_url(&format!("host://{}", dir.display()))
}

pub(crate) fn open_url(url: &str) -> Result<Client> {
    let runtime = Arc::new(ThreadRuntime::new());
    let (sender, news) = channel();
    let owner =
        Owner { user: "tester".into(), host: "here".into(), pid: std::process::id(), program: "test".into() };
    let opening = Opening {
        url: StoreUrl::parse(url)?,
        sink: Arc::new(Letters(Mutex::new(sender))),
        runtime: runtime.clone(),
        owner: Arc::new(owner),
    };
    let backend = pollster::block_on((tenure::backend::find("host")?.open)(opening))?;
    Ok(Client { backend, runtime, news })
}

impl Client {
    /// A claim for a mutex.
    pub(crate) fn claim(&self, name: &str) -> Claim {
        let mut id = [0; 16];
        self.runtime.fill(&mut id);
        Claim {
            id: ClaimId(u128::from_ne_bytes(id)),
            key: Key::new("test", name).expect("a good name"),
            kind: Kind::Mutex,
            weight: 1,
            capacity: 1,
            stand: true,
            ttl: Duration::from_secs(30),
            waiting: Duration::from_secs(10),
            cohort: Cohort::ALONE,
            birth: self.now(),
            anchor: Anchor::Process,
            owner: Arc::new(Owner {
                user: "tester".into(),
                host: "here".into(),
                pid: std::process::id(),
                program: "test".into(),
            }),
            reason: "a test".into(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.runtime.now()
    }

    pub(crate) fn domain(&self) -> Result<tenure::Domain> {
        pollster::block_on(self.backend.domain())
    }

    pub(crate) fn runtime_wall_us(&self) -> u64 {
        self.runtime.wall_us()
    }

    pub(crate) fn attempt(&self, claim: &Claim) -> Result<Answer> {
        pollster::block_on(self.backend.attempt_one(claim, Call::PATIENT))
    }

    pub(crate) fn renew(&self, claims: &[Claim]) -> Vec<Result<Answer>> {
        pollster::block_on(self.backend.renew(claims, Call::PATIENT))
    }

    pub(crate) fn release(&self, claim: &Claim) -> Result<Released> {
        pollster::block_on(self.backend.release(claim, Leave::Nothing, Call::PATIENT))
    }

    /// Takes the lock at once and says its token.
    pub(crate) fn take(&self, claim: &Claim) -> i64 {
        token(self.attempt(claim).expect("attempt").standing).expect("granted at once")
    }

    /// Waits for the push that grants `claim`, and says its token. Looks again by itself each `look`, as the engine
    /// does; `None` leaves everything to the push.
    pub(crate) fn wait(&self, claim: &Claim, look: Option<Duration>) -> i64 {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.news.recv_timeout(look.unwrap_or(PATIENCE)) {
                Ok(News::Granted(id, grant, at)) if id == claim.id => {
                    assert!(at >= claim.birth.nanos() && at <= self.now().nanos());
                    return grant.token.expect("a mutex has tokens").get();
                }
                Ok(News::Look(id)) if id == claim.id => {
                    if let Some(token) = token(self.attempt(claim).expect("look again").standing) {
                        return token;
                    }
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the sink is gone"),
                Err(RecvTimeoutError::Timeout) => {
                    if look.is_some()
                        && let Some(token) = token(self.attempt(claim).expect("look again").standing)
                    {
                        return token;
                    }
                }
            }
        }
        panic!("not granted: {:?}", self.lines());
    }

    /// All lines of the store.
    pub(crate) fn lines(&self) -> Vec<tenure::Line> {
        let mut query = Query { namespace: "test".into(), waiting_max: 1000, ..Query::default() };
        let mut lines = Vec::new();
        loop {
            let page = pollster::block_on(self.backend.inspect(&query, Call::PATIENT)).expect("inspect");
            lines.extend(page.lines);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return lines,
            }
        }
    }

    pub(crate) fn evict(&self, name: &str, why: &str) -> Released {
        let key = Key::new("test", name).expect("a good name");
        pollster::block_on(self.backend.evict(&key, None, why, Call::PATIENT)).expect("evict")
    }
}

pub(crate) fn token(standing: Standing) -> Option<i64> {
    match standing {
        Standing::Held(grant) => Some(grant.token.expect("a mutex has tokens").get()),
        Standing::Waiting { .. } | Standing::Busy => None,
        other => panic!("unexpected: {other:?}"),
    }
}

/// The error of something that must fail, checked for a kind and for saying what to do.
pub(crate) fn refused<T>(result: Result<T>, kind: ErrorKind, words: &str) {
    let Err(error) = result else { panic!("not refused: {words}") };
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(!error.advice().is_empty(), "{error:?}");
    assert!(error.to_string().contains(words), "{error:?} does not say {words:?}");
}

/// A child process: this binary again, in a role. Killed with the value.
pub(crate) struct Role {
    pub(crate) child: Child,
    pub(crate) out: Option<ChildStdout>,
}

impl Role {
    pub(crate) fn start(role: &str, dir: &Path, args: &[&str]) -> Role {
        let binary = std::env::current_exe().expect("this binary");
        Role::run(Command::new(binary), role, dir, args)
    }

    /// The same, by a program that runs it.
    pub(crate) fn start_by(program: &str, flags: &[&str], role: &str, dir: &Path, args: &[&str]) -> Role {
        let mut command = Command::new(program);
        command.args(flags).arg(std::env::current_exe().expect("this binary"));
        Role::run(command, role, dir, args)
    }

    fn run(mut command: Command, role: &str, dir: &Path, args: &[&str]) -> Role {
        let mut child = command
            .args(["--exact", "roles::child", "--nocapture", "--test-threads=1", "--quiet"])
            .env("TENURE_TEST_ROLE", role)
            .env("TENURE_TEST_DIR", dir)
            .env("TENURE_TEST_ARGS", args.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let out = child.stdout.take();
        Role { child, out }
    }

    /// Waits for a line that begins like this, and says how it goes on.
    pub(crate) fn tells(&mut self, prefix: &str) -> String {
        use std::io::Read;
        let out = self.out.as_mut().expect("piped");
        let (mut said, mut byte) = (String::new(), [0]);
        while out.read(&mut byte).expect("the child's words") == 1 {
            if byte[0] != b'\n' {
                said.push(char::from(byte[0]));
            } else if let Some(rest) = std::mem::take(&mut said).strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
        panic!("the child never said {prefix:?}");
    }

    /// Waits until the child has said `word` on a line of its own.
    pub(crate) fn hears(&mut self, word: &str) {
        use std::io::Read;
        let out = self.out.as_mut().expect("piped");
        let (mut said, mut byte) = (String::new(), [0]);
        while out.read(&mut byte).expect("the child's words") == 1 {
            said.push(char::from(byte[0]));
            if said.ends_with('\n') && said.lines().next_back() == Some(word) {
                return;
            }
        }
        panic!("the child ended before it said {word}: {said}");
    }

    /// Says a word to the child.
    pub(crate) fn tell(&mut self, word: &str) {
        use std::io::Write;
        writeln!(self.child.stdin.as_mut().expect("piped"), "{word}").expect("the child listens");
    }

    /// The tokens that the child has told of, by lock.
    pub(crate) fn says(&mut self) -> Vec<(String, i64)> {
        let mut said = String::new();
        std::io::Read::read_to_string(self.out.as_mut().expect("piped"), &mut said)
            .expect("the child's words");
        let tokens = said.lines().filter_map(|line| line.strip_prefix("token "));
        let tokens = tokens.filter_map(|line| line.split_once(' '));
        tokens.map(|(token, name)| (name.to_owned(), token.parse().expect("a number"))).collect()
    }

    /// Waits until it is stopped by a signal.
    pub(crate) fn is_stopped(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        let until = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&stat).expect("it lives").contains(") T ") {
            assert!(Instant::now() < until, "it does not stop");
            std::thread::yield_now();
        }
    }

    /// Whether it stops; false: it ends.
    pub(crate) fn is_stopped_or_gone(&self) -> bool {
        let stat = format!("/proc/{}/stat", self.child.id());
        let until = Instant::now() + PATIENCE;
        loop {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            match stat.rsplit_once(") ").map(|(_, state)| &state[..1]) {
                Some("T") => return true,
                Some("Z" | "X") | None => return false,
                _ => assert!(Instant::now() < until, "it neither stops nor ends"),
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for it to end well.
    pub(crate) fn ends(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("the child ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
    }
}
