//! `files:///dir`: a backend of Tenure in a crate of its own. One file for each lock, in a directory of this machine.
//!
//! - [`BACKEND`]: what `Locks::builder(url).backend(&BACKEND)` takes.
//! - `record`: what the file of a lock says; the contract is kept there. - this file: capabilities, reading and
//!   writing, and the verbs.
//!
//! It is as small as a complete backend can be: mutexes only, and waiters poll. A verb locks the directory with flock(2),
//! reads the lock's file, changes it and renames a new one into its place. A process that is killed at any point leaves the
//! old file or the new one. One that is stopped in the middle of a verb blocks all others until it continues or dies.

mod record;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenure::backend::{
    Answer, Backend, BoxFuture, Call, Claim, Entry, Leave, News, Opened, Opening, Page, Part, Query, Sink,
    Standing, Watched,
};
use tenure::runtime::Runtime;
use tenure::{
    After, Capabilities, Domain, Error, Evict, Fact, Key, Knows, Line, Modes, Order, Released, Result, Scope,
    Survives, Token, TokenStrength, Transfer, Turns, Visibility, Wakeup,
};

use record::{Now, Record};

/// The backend.
pub static BACKEND: Entry = Entry {
    schemes: &["files"],
    feature: "",
    capabilities: capabilities(),
    open: |opening| Box::pin(open(opening)),
};

/// Every word here is a promise, which the suite checks, or a trial that the suite leaves out.
const fn capabilities() -> Capabilities {
    let mut can = Capabilities::strongest("files");
    can.scope = Scope::Host;
    can.token = TokenStrength::Hybrid;
    can.order = Order::None;
    can.modes = Modes::MUTEX;
    can.wakeup = Wakeup::Poll;
    can.visibility = Visibility::Holders;
    can.turns = Turns::Each;
    can.after = After::No;
    can.transfer = Transfer::No;
    can.evict = Evict::No;
    can.previous = Knows::No;
    can.survives = Survives::NOTHING;
    can.survives.restart = Fact::Yes; // there is no server that could restart
    can
}

/// For how long a verb waits for another process to finish its own.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often watchers look.
const WATCH: Duration = Duration::from_millis(200);
/// The file of a lock that is not in use goes after this time. Its tokens rest on the clock from then on.
const KEPT: Duration = Duration::from_secs(600);

struct Files {
    dir: PathBuf,
    runtime: Arc<dyn Runtime>,
    sink: Arc<dyn Sink>,
    /// There while somebody watches.
    watched: Mutex<Option<Arc<()>>>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("dir", &self.dir).finish_non_exhaustive()
    }
}

async fn open(opening: Opening) -> Opened {
    let Opening { url, sink, runtime, .. } = opening;
    url.finish(&[])?;
    if !url.hosts.is_empty() || url.user.is_some() || url.password.is_some() || url.path.len() < 2 {
        return Err(Error::config("files: takes a directory only", "write it like files:///var/lib/locks"));
    }
    // Ids of claims are secrets, so nobody else may read the files.
    let private = DirBuilder::new().recursive(true).mode(0o700).create(&url.path);
    private.map_err(|e| failed(&e))?;
    let files = Files { dir: url.path.into(), runtime, sink, watched: Mutex::default() };
    files.locked(|| files.sweep()).await.map_err(|e| failed(&e))?;
    Ok(Arc::new(files))
}

/// What went wrong, surely without an effect: a new file is in its place, or it is not.
fn failed(error: &io::Error) -> Error {
    let what = format!("the directory of the store cannot be used: {error}");
    let error = match error.kind() {
        ErrorKind::PermissionDenied => Error::denied(what, "allow this user to write there"),
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Error::protocol(what, "remove the file"),
        ErrorKind::InvalidFilename => Error::config(what, "use a shorter name"),
        ErrorKind::TimedOut => Error::unavailable(what, "see whether a process that uses it is stopped"),
        _ => Error::unavailable(what, "check the directory and its disk"),
    };
    error.unsent()
}

/// One verb at a time in this process, so that its clients wait for other processes only.
static TURN: Mutex<()> = Mutex::new(());

/// The lock on the directory. Unlocked when dropped, also where a fork of this process has the file open.
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock(); // closing it does the same
    }
}

impl Files {
    /// Runs a verb with the directory locked. Never blocks for long: a process that is stopped may hold the lock.
    async fn locked<T>(&self, mut verb: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let give_up = self.runtime.now() + PATIENCE;
        loop {
            if let Some(done) = self.try_locked(&mut verb)? {
                return Ok(done);
            }
            if self.runtime.now() >= give_up {
                return Err(ErrorKind::TimedOut.into());
            }
            self.runtime.sleep_until(self.runtime.now() + Duration::from_millis(1)).await;
        }
    }

    fn try_locked<T>(&self, verb: &mut impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = Locked(File::open(&self.dir)?);
        match dir.0.try_lock() {
            Ok(()) => verb().map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn now(&self) -> Now {
        Now { ns: self.runtime.now().nanos(), wall_us: self.runtime.wall_us() }
    }

    /// No name has a control character, so two locks never share a file.
    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(key.full().replace('/', "\u{1}"))
    }

    /// The record of a lock as it is now, and what its file says.
    fn read(&self, key: &Key, now: &Now) -> io::Result<(Record, Vec<u8>)> {
        let bytes = match fs::read(self.path(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => serde_json::to_vec(&Record::default())?,
            read => read?,
        };
        let mut record: Record = serde_json::from_slice(&bytes)?;
        record.settle(now);
        Ok((record, bytes))
    }

    /// Runs a verb on a record, with the directory locked. A new file takes the old one's place if anything changed.
    fn change<T>(&self, key: &Key, now: &Now, verb: impl FnOnce(&mut Record) -> T) -> io::Result<T> {
        let (mut record, before) = self.read(key, now)?;
        let answer = verb(&mut record);
        let after = serde_json::to_vec(&record)?;
        if after != before {
            let new = self.dir.join("\u{1}new");
            fs::write(&new, after)?;
            fs::rename(&new, self.path(key))?;
        }
        Ok(answer)
    }

    /// Locks the directory once for all claims. Each is judged by itself.
    async fn each(
        &self,
        claims: &[Claim],
        verb: fn(&mut Record, &Claim, &Now) -> Result<Standing>,
    ) -> Vec<Result<Answer>> {
        let one = |claim: &Claim, now: &Now| {
            let standing = self.change(&claim.key, now, |record| verb(record, claim, now));
            Ok(Answer { standing: standing.map_err(|e| failed(&e).of(&claim.key))??, at: Some(now.ns) })
        };
        let all = || {
            let now = self.now();
            Ok(claims.iter().map(|claim| one(claim, &now)).collect())
        };
        self.locked(all).await.unwrap_or_else(|e| claims.iter().map(|_| Err(failed(&e))).collect())
    }

    /// Looking needs no lock: a file is replaced in one step.
    fn look(&self, key: Key) -> io::Result<Option<Line>> {
        let now = self.now();
        Ok(self.read(&key, &now)?.0.line(key, &now))
    }

    fn keys(&self) -> io::Result<Vec<Key>> {
        let files = fs::read_dir(&self.dir)?.collect::<io::Result<Vec<_>>>()?;
        let key =
            |file: &fs::DirEntry| Key::from_full(&file.file_name().to_str()?.replace('\u{1}', "/")).ok();
        Ok(files.iter().filter_map(key).collect())
    }

    /// Removes the files of locks that nobody has used for a while.
    fn sweep(&self) -> io::Result<()> {
        for key in self.keys()? {
            let path = self.path(&key);
            let old = fs::metadata(&path)?.modified()?.elapsed().is_ok_and(|age| age > KEPT);
            if old && self.read(&key, &self.now()).is_ok_and(|(record, _)| record.is_idle()) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

impl Backend for Files {
    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    /// Tokens grow with the clock of this machine, so their order lasts as long as the directory.
    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        let named = fs::metadata(&self.dir).map(|dir| format!("files:{}-{}", dir.dev(), dir.ino()));
        Box::pin(std::future::ready(named.map_err(|e| failed(&e)).and_then(|name| Domain::new(&name))))
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(self.each(claims, Record::attempt))
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], _: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(self.each(claims, Record::renew))
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, _: Call) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move {
            let done = self.locked(|| {
                let now = self.now();
                self.change(&claim.key, &now, |record| record.release(claim, leave, &now))
            });
            done.await.map_err(|e| failed(&e).of(&claim.key))?
        })
    }

    fn transfer<'a>(&'a self, _: &'a Claim, _: &'a Claim, _: Call) -> BoxFuture<'a, Result<Answer>> {
        let no = Error::unsupported("files: cannot continue a hold under another claim", "use another store");
        Box::pin(std::future::ready(Err(no)))
    }

    fn evict<'a>(
        &'a self,
        _: &'a Key,
        _: Option<Token>,
        _: &'a str,
        _: Call,
    ) -> BoxFuture<'a, Result<Released>> {
        let no = Error::unsupported("files: cannot take a lock away", "use another store");
        Box::pin(std::future::ready(Err(no)))
    }

    fn inspect<'a>(&'a self, query: &'a Query, _: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(async move {
            let (space, below) = (&query.namespace, format!("{}/", query.prefix));
            let mut keys = match &query.name {
                Some(name) => vec![Key::new(space, name)?],
                None => self.keys().map_err(|e| failed(&e))?,
            };
            keys.retain(|key| space.is_empty() || key.namespace() == space);
            keys.retain(|key| query.prefix.is_empty() || format!("{}/", key.name()).starts_with(&below));
            let lines: io::Result<Vec<Line>> =
                keys.into_iter().filter_map(|key| self.look(key).transpose()).collect();
            Ok(Page { lines: lines.map_err(|e| failed(&e))?, next: None })
        })
    }

    /// Nothing here tells of changes, so watchers look at intervals.
    fn watch(&self, what: &Watched) {
        let watched = (*what != Watched::Nothing).then(Arc::default);
        if let Some(mark) = &watched {
            let (mark, runtime, sink) = (Arc::downgrade(mark), self.runtime.clone(), self.sink.clone());
            self.runtime.spawn(Box::pin(async move {
                while mark.strong_count() > 0 {
                    sink.news(News::Changed);
                    runtime.sleep_until(runtime.now() + WATCH).await;
                }
            }));
        }
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.watch(&Watched::Nothing);
        Box::pin(std::future::ready(()))
    }
}
