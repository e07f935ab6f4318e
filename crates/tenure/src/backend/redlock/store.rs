//! A client of several servers as a backend.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fan::{Fan, Heard};
use super::format::{hex, number};
use super::known::Known;
use super::troubles::{Away, too_few};
use super::url::Voters;
use super::{MOST, domain, list};
use crate::backend::net::Why;
use crate::backend::redis::member::{Member, Script};
use crate::backend::{
    Answer, Backend, BoxFuture, Call, Claim, ClaimId, Errand, Leave, Opened, Opening, Page, Part, Query,
    Released, Watched,
};
use crate::capability::Capabilities;
use crate::core::moment::Moment;
use crate::core::quorum::Quorum;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::runtime::{Runtime, join_all};
use crate::token::Token;
use crate::ttl::Ttl;

/// How long the first connections may take.
const CONNECT: Duration = Duration::from_secs(4);
/// How long a client waits for the last servers, once a majority is there.
const REST: Duration = Duration::from_millis(100);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(2);

/// How long a server that is asked before the others may take.
pub(super) const FIRST: Duration = Duration::from_millis(50);
/// For how long servers are heard after a majority decided.
const REST_HEARD: Duration = Duration::from_secs(30);

/// What one server said.
pub(super) type Said = std::result::Result<Vec<String>, Why>;

/// A client of a set of servers.
#[derive(Debug)]
struct Client(Arc<Redlock>);

/// What its requests share.
#[derive(Debug)]
pub(super) struct Redlock {
    pub(super) members: Arc<[Member]>,
    pub(super) quorum: Quorum,
    pub(super) runtime: Arc<dyn Runtime>,
    /// The longest lease.
    pub(super) longest: Duration,
    known: Mutex<Known>,
}

/// Connects to a majority at least, and makes sure that they are different servers.
pub(super) async fn open(opening: Opening) -> Opened {
    let voters = Voters::new(opening.url)?;
    let quorum = Quorum::majority(voters.hosts.len())
        .ok_or_else(|| Error::config("the store URL names no server", "write it like redlock://a,b,c"))?;
    let (runtime, sink) = (opening.runtime, opening.sink);
    let members = voters.hosts.into_iter().map(|host| Member::open(&voters.url, host, &runtime, &sink));
    let store = Redlock {
        members: members.collect::<Result<_>>()?,
        quorum,
        runtime,
        longest: voters.longest,
        known: Mutex::default(),
    };
    store.connect().await?;
    store.check_different()?;
    Ok(Arc::new(Client(Arc::new(store))))
}

impl Redlock {
    async fn connect(&self) -> Result<()> {
        let began = self.runtime.now();
        let mut enough = None;
        loop {
            let now = self.runtime.now();
            let away: Vec<Away> =
                self.members.iter().filter_map(|m| m.reachable().err().map(|why| (m.shown(), why))).collect();
            let here = self.members.len() - away.len();
            if here >= self.quorum.needed() {
                let since = *enough.get_or_insert(now);
                if away.is_empty() || now >= since + REST {
                    return Ok(());
                }
            }
            // What a server says of itself will not change by waiting, and the others are no different.
            let wrong = |why: &Why| {
                matches!(why.kind, ErrorKind::Denied | ErrorKind::Config | ErrorKind::Unsupported)
            };
            if now >= began + CONNECT || away.iter().any(|(_, why)| wrong(why)) {
                return Err(too_few(self.quorum, here, &away));
            }
            self.runtime.sleep_until(now + LOOK).await;
        }
    }

    /// The same server under two names would have two votes.
    fn check_different(&self) -> Result<()> {
        match (0..self.members.len()).find_map(|server| Some((server, self.twin(server)?))) {
            None => Ok(()),
            Some((one, other)) => Err(Error::config(
                format!("{} and {} are the same server", self.shown(other), self.shown(one)),
                "name each server once: one server with two votes would make a majority that is none",
            )),
        }
    }

    /// Another name of this server that comes first in the URL.
    fn twin(&self, server: usize) -> Option<usize> {
        let run = self.members.get(server)?.born()?.run;
        (0..server).find(|other| self.members[*other].born().is_some_and(|born| born.run == run))
    }

    /// The address of a server.
    pub(super) fn shown(&self, server: usize) -> String {
        self.members.get(server).map(Member::shown).unwrap_or_default()
    }

    /// Asks all servers of which `which` is so.
    pub(super) fn ask(
        &self,
        errand: Errand,
        script: Script,
        key: &Key,
        words: impl Fn(&Member) -> Vec<String>,
        which: impl Fn(usize) -> bool,
    ) -> Fan<Said> {
        let asked = self.members.iter().enumerate().filter(|(n, _)| which(*n));
        Fan::new(asked.map(|(n, member)| {
            let (members, key, words) = (self.members.clone(), key.clone(), words(member));
            let answer: BoxFuture<'static, Said> =
                Box::pin(async move { members[n].ask(errand, script, &key, words).await });
            (n, answer)
        }))
    }

    /// Goes on hearing servers after a round of a claim was decided, or given up. A request may still be on its way to them,
    /// and a release, over the other connection, may overtake it. A vote that comes so late that the claim does not hold any
    /// more is given back. A server that did not accept the token of a grant is told of it.
    pub(super) fn hear_rest(
        self: &Arc<Redlock>,
        rest: Fan<Said>,
        claim: &Claim,
        round: u64,
        granted: Option<Token>,
    ) {
        if rest.is_empty() {
            return;
        }
        let (store, key, id) = (self.clone(), claim.key.clone(), claim.id);
        let errand = Errand::Background;
        self.runtime.spawn(Box::pin(async move {
            let mut rest = rest;
            let until = store.runtime.now() + REST_HEARD;
            while let Heard::Answer(server, said) = rest.next(&*store.runtime, until).await {
                let letter = said.as_ref().ok().and_then(|words| words.get(1)).map(String::as_str);
                let voted = matches!(letter, None | Some("A" | "L" | "Y"));
                if voted && store.known().token(id).is_none() {
                    store.tell(errand, Script::VoteRelease, &key, returned(id, round), |n| n == server);
                } else if let (Some("L" | "D"), Some(token)) = (letter, granted) {
                    let words = vec![hex(id), super::format::token(Some(token))];
                    store.tell(errand, Script::VoteFloor, &key, words, |n| n == server);
                }
            }
        }));
    }

    /// Tells all servers of which `which` is so, in the background: nobody waits for it. With the errand of an earlier
    /// request it takes the same connection, and does not overtake that.
    pub(super) fn tell(
        &self,
        errand: Errand,
        script: Script,
        key: &Key,
        words: Vec<String>,
        which: impl Fn(usize) -> bool,
    ) {
        let chosen: Vec<usize> = (0..self.members.len()).filter(|n| which(*n)).collect();
        if chosen.is_empty() {
            return;
        }
        let (members, key) = (self.members.clone(), key.clone());
        self.runtime.spawn(Box::pin(async move {
            let all = chosen.iter().filter_map(|n| members.get(*n));
            let told = all.map(|member| Box::pin(member.ask(errand, script, &key, words.clone())));
            for why in join_all(told).await.into_iter().filter_map(std::result::Result::err) {
                tracing::debug!(why.what, "a server was not told");
            }
        }));
    }

    /// Whether the vote of a server counts now.
    pub(super) fn votes(&self, server: usize, now: Moment) -> bool {
        let born = self.members.get(server).and_then(Member::born);
        born.is_some_and(|born| !born.evicts && born.silent(now, self.longest).is_none())
            && self.twin(server).is_none()
    }

    /// Why the vote of a server does not count.
    pub(super) fn silent(&self, server: usize, now: Moment) -> Away {
        let twin = self.twin(server).map(|other| {
            let what = format!("it is {} under another name", self.shown(other));
            Why::new(ErrorKind::Config, what, "name each server once")
        });
        let Some(member) = self.members.get(server) else { return (String::new(), Why::unsent("")) };
        let evicts = member.born().filter(|born| born.evicts).map(|_| {
            let what = "it evicts keys when its memory is full, and votes are keys";
            Why::new(ErrorKind::Config, what, "set its maxmemory-policy to noeviction")
        });
        let why = twin.or_else(|| member.reachable().err()).or(evicts).unwrap_or_else(|| {
            let left = member.born().and_then(|born| born.silent(now, self.longest)).unwrap_or_default();
            let what =
                format!("it may have lost its memory when it started, and votes in {} s", left.as_secs() + 1);
            let advice =
                "wait, or give the servers `appendonly yes` and `appendfsync always`: then they vote at once";
            Why::new(ErrorKind::Unavailable, what, advice)
        });
        (member.shown(), why)
    }

    /// The servers that vote and can be reached, in an order that all clients share, whatever their URLs.
    pub(super) fn in_order(&self, now: Moment) -> Vec<usize> {
        let able = |server: &usize| self.votes(*server, now) && self.members[*server].reachable().is_ok();
        let mut order: Vec<usize> = (0..self.members.len()).filter(able).collect();
        order.sort_by_cached_key(|server| self.members[*server].born().map(|born| born.run));
        order
    }

    /// What this client knows of its claims.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server is told that is to forget its vote in the rounds of a claim up to this one.
pub(super) fn returned(id: ClaimId, round: u64) -> Vec<String> {
    vec![hex(id), number(round), number(0), "0".into(), number(0)]
}

impl Backend for Client {
    fn capabilities(&self) -> Capabilities {
        let Ttl::PerClaim { min, grain, .. } = MOST.ttl else { return MOST };
        Capabilities { ttl: Ttl::PerClaim { min, max: self.0.longest, grain }, ..MOST }
    }

    fn domain(&self) -> BoxFuture<'_, Result<Domain>> {
        Box::pin(async { domain::domain(&self.0) })
    }

    fn part(&self, _: &Key) -> Part {
        Part::WHOLE
    }

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(join_all(claims.iter().map(move |claim| Box::pin(self.0.ask_attempt(claim, call)))))
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        Box::pin(join_all(claims.iter().map(move |claim| Box::pin(self.0.ask_extend(claim, call)))))
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>> {
        Box::pin(self.0.ask_release(claim, leave, call))
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(self.0.ask_transfer(from, to, call))
    }

    fn evict<'a>(
        &'a self,
        key: &'a Key,
        token: Option<Token>,
        why: &'a str,
        call: Call,
    ) -> BoxFuture<'a, Result<Released>> {
        Box::pin(self.0.ask_evict(key, token, why, call))
    }

    fn inspect<'a>(&'a self, query: &'a Query, _: Call) -> BoxFuture<'a, Result<Page>> {
        Box::pin(list::inspect(&self.0, query))
    }

    fn watch(&self, what: &Watched) {
        self.0.members.iter().for_each(|member| member.watch(what));
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.0.members.iter().for_each(Member::close) })
    }
}
