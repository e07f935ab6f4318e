//! A client of one store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{
    self, Backend, Call, Entry, Kind, Line, Opening, Owner, Query, Released, Sink, Watched as All,
};
use crate::capability::{Capabilities, Needs, Turns};
use crate::connect;
use crate::core::lease::TTL_DEFAULT;
use crate::domain::Domain;
use crate::engine::{Engine, Hub, Request, telling};
use crate::error::{Error, Result};
use crate::key::{Key, check_namespace, check_prefix};
use crate::mutex::Mutex;
use crate::options::{check_owner, check_reason, check_ttl};
use crate::runtime::Runtime;
use crate::runtime::thread::ThreadRuntime;
use crate::token::Token;
use crate::url::{Secret, StoreUrl};
use crate::watch::{Watch, Watched};

/// The namespace of names, unless asked otherwise.
const NAMESPACE: &str = "default";
/// How many waiting claims of one line are fetched.
const WAITING_SHOWN: usize = 1000;

/// A client of one store. Connect once, at start, and keep it. Cheap to clone: all clones share the connections and the renewal
/// of leases.
///
/// The client ends with its last handle: this value, a lock made from it, or a guard. Dropping the last one waits up to 100 ms for
/// releases under way. [`close`](Locks::close) is the reliable way.
///
/// ```
/// # fn main() -> Result<(), tenure::Error> {
/// let locks = tenure::Locks::memory();
/// let guard = locks.mutex("orders/42")?.blocking_lock()?;
/// println!("fencing token {}", guard.token());
/// guard.blocking_release()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Locks {
    pub(crate) engine: Arc<Engine>,
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    namespace: String,
    ttl: Duration,
    fair: bool,
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks")
            .field("url", &self.shared.url)
            .field("namespace", &self.shared.namespace)
            .finish()
    }
}

impl Locks {
    /// Connects to the store at `url`. `host:` is this machine, `host:///dir` a directory on it, `memory:` this value alone. With the
    /// cargo feature `redis` there are also `redis://[user:password@]host[:port][/database]`, `rediss://` (TLS) and `redis+setnx://`;
    /// with `redlock`, `redlock://a,b,c`: a majority of several servers.
    /// See [backends](crate::manual::backends).
    ///
    /// # Errors
    /// `Config` for a bad URL, listing the schemes of this build; `Unavailable` after 5 s; `Denied`; `Protocol` for a
    /// store of another format.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    ///
    /// # On drop
    /// See [`Locks`].
    ///
    /// # When the answer is lost
    /// Connecting takes no lock. Try again.
    pub async fn connect(url: &str) -> Result<Locks> {
        Locks::builder(url).connect().await
    }

    /// [`connect`](Locks::connect) for code without async.
    ///
    /// # Errors
    /// Those of [`connect`](Locks::connect).
    pub fn blocking_connect(url: &str) -> Result<Locks> {
        Locks::builder(url).blocking_connect()
    }

    /// Connects with options.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// Locks in this process's memory, private to this value and its clones. For tests, and for programs that may later run as
    /// several processes.
    #[cfg(feature = "memory")]
    #[must_use]
    pub fn memory() -> Locks {
        pollster::block_on(Locks::connect("memory:")).expect("memory: needs nothing that can be missing")
    }

    /// A mutex of this name.
    ///
    /// # Errors
    /// `Config` for a bad name, saying which rule; `Unsupported` if this store cannot carry a mutex.
    pub fn mutex(&self, name: impl AsRef<str>) -> Result<Mutex> {
        let key = self.key(name.as_ref())?;
        self.carries(&key, "mutex", |modes| modes.mutex)?;
        self.fences(&key)?;
        Ok(self.mutex_of(key))
    }

    /// What a face asks for, with the client's defaults.
    pub(crate) fn request(&self, key: Key, kind: Kind, weight: u32, capacity: u32) -> Request {
        let (ttl, owner) = (self.shared.ttl, self.engine.owner.clone());
        let fair = self.shared.fair || self.capabilities().turns == Turns::Each;
        Request { key, kind, weight, capacity, ttl, owner, reason: Arc::from(""), fair }
    }

    /// A mutex of a name that was checked, on a store that carries one.
    pub(crate) fn mutex_of(&self, key: Key) -> Mutex {
        Mutex::new(self.engine.clone(), self.request(key, Kind::Mutex, 1, 1))
    }

    /// What this store promises, as probed at connect.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.engine.core.backend.capabilities()
    }

    /// The domain in which this store's tokens are comparable. A fenced resource stores it beside the highest token. Ask once, at
    /// start. The first caller gives a directory of `host:` its name; nothing else is written.
    ///
    /// # Errors
    /// `Unavailable`, `Denied`, `Uncertain`; `Protocol` if the record is damaged.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing; the name may have been given.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// Ask again: the answer stays the same.
    pub async fn domain(&self) -> Result<Domain> {
        self.engine.usable()?;
        self.engine.core.backend.domain().await
    }

    /// [`domain`](Locks::domain) for code without async.
    ///
    /// # Errors
    /// Those of [`domain`](Locks::domain).
    pub fn blocking_domain(&self) -> Result<Domain> {
        pollster::block_on(self.domain())
    }

    /// Refuses a store that is weaker than the program needs. Call it at start.
    ///
    /// # Errors
    /// `Unsupported`, naming the need that is not met and the backends that meet it.
    pub fn require(&self, needs: Needs) -> Result<()> {
        needs.check(&self.capabilities())
    }

    /// The store's URL, without its password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The namespace of all names.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.shared.namespace
    }

    /// The number of this client's claims, held and waiting.
    #[must_use]
    pub fn live(&self) -> usize {
        self.engine.live()
    }

    pub(crate) fn key(&self, name: &str) -> Result<Key> {
        Key::new(&self.shared.namespace, name)
    }

    /// Who holds the lock and who waits, in order. `None` means nobody. Looking changes nothing.
    ///
    /// # Errors
    /// `Config` for a bad name; `Unavailable`, `Denied`, `Protocol`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// # On drop
    /// Nothing happens.
    ///
    /// # When the answer is lost
    /// Ask again.
    pub async fn inspect(&self, name: &str) -> Result<Option<Line>> {
        let key = self.key(name)?;
        let query = Query { name: Some(key.name().to_owned()), ..self.query() };
        Ok(self.look(query).await?.into_iter().next())
    }

    /// The locks below `prefix` that are held or waited for, sorted by name. A prefix is whole levels; the empty one means all.
    ///
    /// # Errors
    /// Those of [`inspect`](Locks::inspect).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// # On drop
    /// Nothing happens.
    ///
    /// # When the answer is lost
    /// Ask again.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Line>> {
        check_prefix(prefix)?;
        let mut lines = self.look(Query { prefix: prefix.to_owned(), ..self.query() }).await?;
        lines.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(lines)
    }

    /// [`list`](Locks::list) for all namespaces of the store, by namespace and name.
    ///
    /// # Errors
    /// As [`inspect`](Locks::inspect).
    ///
    /// # Cancel safety
    /// As [`inspect`](Locks::inspect).
    ///
    /// # On drop
    /// As [`inspect`](Locks::inspect).
    ///
    /// # When the answer is lost
    /// As [`inspect`](Locks::inspect).
    pub async fn list_all(&self, prefix: &str) -> Result<Vec<Line>> {
        check_prefix(prefix)?;
        let everywhere = Query { namespace: String::new(), ..self.query() };
        let mut lines = self.look(Query { prefix: prefix.to_owned(), ..everywhere }).await?;
        lines.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(lines)
    }

    fn query(&self) -> Query {
        Query { namespace: self.shared.namespace.clone(), waiting_max: WAITING_SHOWN, ..Query::default() }
    }

    async fn look(&self, mut query: Query) -> Result<Vec<Line>> {
        self.engine.usable()?;
        let mut lines = Vec::new();
        loop {
            let page = self.engine.core.backend.inspect(&query, Call::PATIENT).await?;
            lines.extend(page.lines);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(lines),
            }
        }
    }

    /// Takes the lock away from the grant with this token, or, without a token, from its holder. The next in line is granted, with a
    /// greater token. The evicted holder learns it by push or at its next renewal. Until then it may still act, unless the resource
    /// checks tokens. `why`, at most 256 bytes, is kept with this user's name while the line exists, and told to the evicted holder.
    ///
    /// # Errors
    /// Those of [`inspect`](Locks::inspect); `Config` for a reason that is too long.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not evict.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// `Uncertain`. Repeat it with the token, which cannot hit the next holder.
    pub async fn evict(&self, name: &str, token: Option<Token>, why: &str) -> Result<Released> {
        let key = self.key(name)?;
        self.engine.usable()?;
        self.require(Needs::new().evict()).map_err(|e| e.of(&key))?;
        let owner = &self.engine.owner;
        check_reason(why)?;
        let why: String = why.chars().filter(|c| !c.is_control()).collect();
        let colon = if why.is_empty() { "" } else { ": " };
        let by = format!("{}@{}{colon}{why}", owner.user, owner.host);
        tracing::info!(target: "tenure", lock = %key, token = token.map(Token::get), by, "evict");
        self.engine.core.backend.evict(&key, token, &by, Call::PATIENT).await.map_err(|e| e.of(&key))
    }

    /// Watches the locks below `prefix`: the current lines first, then the lines after each change.
    ///
    /// # Errors
    /// `Config` for a bad prefix.
    pub fn watch(&self, prefix: &str) -> Result<Watch> {
        check_prefix(prefix)?;
        self.engine.usable()?;
        Ok(self.watching(prefix, Watched::Below, All::Namespace(self.shared.namespace.clone())))
    }

    /// [`watch`](Locks::watch) for all namespaces of the store.
    ///
    /// # Errors
    /// `Config` for a bad prefix.
    pub fn watch_all(&self, prefix: &str) -> Result<Watch> {
        check_prefix(prefix)?;
        self.engine.usable()?;
        Ok(self.watching(prefix, Watched::Everywhere, All::Everything))
    }

    /// Follows one lock alone; the name was checked.
    pub(crate) fn watch_one(&self, name: &str) -> Result<Watch> {
        self.engine.usable()?;
        let key = self.key(name)?;
        Ok(self.watching(name, Watched::Alone, All::Names(vec![key])))
    }

    fn watching(&self, prefix: &str, watched: Watched, told: All) -> Watch {
        let changes = self.engine.hub.watch(told);
        Watch::new(self.clone(), prefix.to_owned(), watched, changes)
    }

    /// What [`inspect`](Locks::inspect) says, of a lock of any namespace.
    pub(crate) async fn line(&self, key: &Key) -> Result<Option<Line>> {
        let (namespace, name) = (key.namespace().to_owned(), Some(key.name().to_owned()));
        Ok(self.look(Query { namespace, name, ..self.query() }).await?.into_iter().next())
    }

    /// Releases everything that this client holds or waits for, and ends the connections. Guards that are still alive are lost.
    /// Later calls on this client fail.
    ///
    /// # Errors
    /// `Uncertain` if the store did not confirm every release within 5 s.
    ///
    /// # Cancel safety
    /// Dropping the future continues releasing in the background.
    ///
    /// # On drop
    /// The same.
    ///
    /// # When the answer is lost
    /// Releases are repeated for 5 s. What is left ends with its lease.
    pub async fn close(self) -> Result<()> {
        self.engine.close().await
    }

    /// [`inspect`](Locks::inspect) for code without async.
    ///
    /// # Errors
    /// Those of [`inspect`](Locks::inspect).
    pub fn blocking_inspect(&self, name: &str) -> Result<Option<Line>> {
        pollster::block_on(self.inspect(name))
    }

    /// [`list`](Locks::list) for code without async.
    ///
    /// # Errors
    /// Those of [`list`](Locks::list).
    pub fn blocking_list(&self, prefix: &str) -> Result<Vec<Line>> {
        pollster::block_on(self.list(prefix))
    }

    /// [`list_all`](Locks::list_all) for code without async.
    ///
    /// # Errors
    /// As [`list_all`](Locks::list_all).
    pub fn blocking_list_all(&self, prefix: &str) -> Result<Vec<Line>> {
        pollster::block_on(self.list_all(prefix))
    }

    /// [`evict`](Locks::evict) for code without async.
    ///
    /// # Errors
    /// Those of [`evict`](Locks::evict).
    pub fn blocking_evict(&self, name: &str, token: Option<Token>, why: &str) -> Result<Released> {
        pollster::block_on(self.evict(name, token, why))
    }

    /// [`close`](Locks::close) for code without async.
    ///
    /// # Errors
    /// Those of [`close`](Locks::close).
    pub fn blocking_close(self) -> Result<()> {
        pollster::block_on(self.close())
    }
}

type Wrap = Box<dyn FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend> + Send>;
type WrapSink = Box<dyn FnOnce(Arc<dyn Sink>) -> Arc<dyn Sink> + Send>;

/// How to connect; made by [`Locks::builder`]. These settings override the URL.
#[must_use = "call connect"]
pub struct Builder {
    url: String,
    namespace: String,
    ttl: Duration,
    fair: bool,
    retry_for: Duration,
    user: Option<String>,
    password: Option<Secret>,
    owner: Option<Owner>,
    runtime: Option<Arc<dyn Runtime>>,
    backends: Vec<&'static Entry>,
    wrap: Option<Wrap>,
    wrap_sink: Option<WrapSink>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("namespace", &self.namespace)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl Builder {
    fn new(url: &str) -> Builder {
        Builder {
            url: url.to_owned(),
            namespace: NAMESPACE.to_owned(),
            ttl: TTL_DEFAULT,
            fair: false,
            retry_for: Duration::ZERO,
            user: None,
            password: None,
            owner: None,
            runtime: None,
            backends: Vec::new(),
            wrap: None,
            wrap_sink: None,
        }
    }

    /// The namespace of all names: one level, with the rules of a name. The default is `default`.
    pub fn namespace(mut self, namespace: &str) -> Builder {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// The default lease of this client's locks: 100 ms to 24 h, 30 s if not set.
    pub fn ttl(mut self, ttl: Duration) -> Builder {
        self.ttl = ttl;
        self
    }

    /// Gives every task that waits for a mutex its own place in the store's line, for all locks of this client. See
    /// [`LockOptions::fair`](crate::LockOptions::fair).
    pub fn fair(mut self) -> Builder {
        self.fair = true;
        self
    }

    /// How long to retry the first connect while the store cannot be reached, for example because it starts at the same time as
    /// this program. The pauses grow from 20 ms to 1 s. The default is not to retry. After the first connect the client always
    /// reconnects by itself.
    pub fn retry_for(mut self, patience: Duration) -> Builder {
        self.retry_for = patience;
        self
    }

    /// The user to authenticate as.
    pub fn user(mut self, user: &str) -> Builder {
        self.user = Some(user.to_owned());
        self
    }

    /// The password. An error if the URL has one too.
    pub fn password(mut self, password: &str) -> Builder {
        self.password = Some(Secret::new(password.to_owned()));
        self
    }

    /// The identity shown in listings instead of this process; never used for decisions.
    pub fn owner(mut self, owner: Owner) -> Builder {
        self.owner = Some(owner);
        self
    }

    /// Runs the engine on another clock and executor.
    #[cfg(feature = "unstable")]
    pub fn runtime(mut self, runtime: Arc<dyn Runtime>) -> Builder {
        self.runtime = Some(runtime);
        self
    }

    /// Also knows a backend of another crate: a URL with one of its schemes opens its store. It comes before a backend of this
    /// crate with the same scheme. [Writing a backend](crate::manual::writing_a_backend) says what it must do.
    #[cfg(feature = "unstable")]
    pub fn backend(mut self, backend: &'static Entry) -> Builder {
        self.backends.push(backend);
        self
    }

    /// Puts a wrapper around the backend: fault injection, recording.
    #[cfg(feature = "unstable")]
    pub fn wrap(
        mut self,
        wrap: impl FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend> + Send + 'static,
    ) -> Builder {
        self.wrap = Some(Box::new(wrap));
        self
    }

    /// Puts a wrapper around the sink of pushes.
    #[cfg(feature = "unstable")]
    pub fn wrap_sink(
        mut self,
        wrap: impl FnOnce(Arc<dyn Sink>) -> Arc<dyn Sink> + Send + 'static,
    ) -> Builder {
        self.wrap_sink = Some(Box::new(wrap));
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// Those of [`Locks::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    ///
    /// # On drop
    /// See [`Locks`].
    ///
    /// # When the answer is lost
    /// Connecting takes no lock. Try again.
    pub async fn connect(self) -> Result<Locks> {
        check_namespace(&self.namespace)?;
        check_ttl(self.ttl)?;
        let mut url = StoreUrl::parse(&self.url)?;
        let entry = backend::find_among(&self.backends, &url.scheme)?;
        if let Some(password) = self.password {
            if url.password.is_some() {
                return Err(Error::config(
                    "two passwords are given",
                    "leave it out of the URL or give no other",
                ));
            }
            url.password = Some(password);
        }
        if let Some(user) = self.user {
            url.user = Some(user);
        }
        let owner = match self.owner {
            Some(owner) => {
                check_owner(&owner)?;
                owner
            }
            None => Owner::this_process(),
        };
        let shown = url.redacted();
        let owner = Arc::new(owner);
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => Arc::new(ThreadRuntime::started().map_err(|(what, error)| {
                let advice = "allow more threads (ulimit -u, pids.max), or clone3, futex and getrandom in the seccomp profile";
                Error::unavailable(what, advice).because(error)
            })?),
        };
        let hub = Hub::new();
        let sink: Arc<dyn Sink> = match self.wrap_sink {
            Some(wrap) => wrap(hub.clone()),
            None => hub.clone(),
        };
        let opening = || Opening {
            url: url.clone(),
            sink: sink.clone(),
            runtime: runtime.clone(),
            owner: owner.clone(),
        };
        let backend = connect::open(entry, opening, &shown, &runtime, self.retry_for).await?;
        let backend = match self.wrap {
            Some(wrap) => wrap(backend),
            None => backend,
        };
        telling::describe();
        let engine = Engine::new(backend, runtime, hub, owner);
        let shared = Shared { url: shown, namespace: self.namespace, ttl: self.ttl, fair: self.fair };
        Ok(Locks { engine, shared: Arc::new(shared) })
    }

    /// [`connect`](Builder::connect) for code without async. Called in an async runtime, it blocks the calling thread, and the
    /// client's connections live on a thread of its own, since that runtime cannot serve them meanwhile.
    ///
    /// # Errors
    /// Those of [`connect`](Builder::connect).
    pub fn blocking_connect(self) -> Result<Locks> {
        connect::blocking(self.connect())
    }
}
