//! The real engine and `memory:` with a network between them that delays, loses, repeats and reorders everything, in
//! virtual time. Late requests of claims that were given up long ago still arrive.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, Weak};

use tokio::sync::oneshot;

use super::*;
use crate::backend::{
    self, Anchor, Backend, BoxFuture, Call, Claim, ClaimId, Leave, News, Opening, Query, Released, Sink,
};
use crate::error::Error;
use crate::runtime::{Runtime, race};
use crate::url::StoreUrl;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// The usual longest delay of a message, in ms, and the rare one.
    usual: u64,
    rare: u64,
    /// One message in so many is lost.
    lost: u64,
    /// The shortest lease, in ms.
    ttl: u64,
    /// How long after the last release nothing may be left.
    residue: Duration,
}

#[derive(Debug)]
struct Network {
    rt: Weak<Virtual>,
    weather: Weather,
    /// The other ends of connections over which nothing comes any more.
    silent: Mutex<Vec<Box<dyn std::fmt::Debug + Send>>>,
    /// What the store has withdrawn.
    withdrawn: Mutex<HashSet<ClaimId>>,
}

impl Network {
    fn rt(&self) -> Arc<Virtual> {
        self.rt.upgrade().expect("the test still runs")
    }

    fn withdrawn(&self) -> std::sync::MutexGuard<'_, HashSet<ClaimId>> {
        self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a message; false: it was lost.
    async fn carry(&self) -> bool {
        let rt = self.rt();
        let most = if rt.below(20) == 0 { self.weather.rare } else { self.weather.usual };
        let arrives = rt.now() + Duration::from_micros(rt.below(most * 1000 + 1));
        rt.sleep_until(arrives).await;
        rt.below(self.weather.lost) != 0
    }
}

#[derive(Debug)]
struct Far {
    store: Arc<dyn Backend>,
    network: Arc<Network>,
}

impl Far {
    /// A request goes on its way, whether or not anybody waits for its answer.
    fn send<T: Send + std::fmt::Debug + 'static>(
        &self,
        verb: impl FnOnce(Arc<dyn Backend>) -> BoxFuture<'static, T> + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        let (reply, answer) = oneshot::channel();
        let (store, network) = (self.store.clone(), self.network.clone());
        let broken = network.rt().below(3) == 0;
        network.rt().spawn(Box::pin(async move {
            if network.carry().await {
                let done = verb(store).await;
                if network.carry().await {
                    let _ = reply.send(done);
                    return;
                }
            }
            if !broken {
                // Silence: whoever waits, waits for ever.
                network.silent.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(reply));
            }
        }));
        Box::pin(async move { answer.await.ok() })
    }
}

fn broken<T>(answer: Option<Result<T>>) -> Result<T> {
    answer.unwrap_or_else(|| Err(Error::uncertain("the connection broke", "")))
}

impl Backend for Far {
    crate::pass_on!(store: capabilities, domain, part, evict, inspect, watch, close);

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        let (many, claims, network) = (claims.len(), claims.to_vec(), self.network.clone());
        let sent = self.send(move |s| {
            Box::pin(async move {
                let answers = s.attempt(&claims, call).await;
                for (claim, answer) in claims.iter().zip(&answers) {
                    let taken = matches!(answer,
                        Ok(a) if matches!(a.standing, Standing::Held(_) | Standing::Waiting { .. }));
                    let withdrawn = network.withdrawn().contains(&claim.id);
                    assert!(!(taken && withdrawn), "S9: taken after its withdrawal");
                }
                answers
            })
        });
        Box::pin(async move { sent.await.unwrap_or_else(|| (0..many).map(|_| broken(None)).collect()) })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        let (many, all) = (claims.len(), claims.to_vec());
        let sent = self.send(move |s| Box::pin(async move { s.renew(&all, call).await }));
        Box::pin(async move { sent.await.unwrap_or_else(|| (0..many).map(|_| broken(None)).collect()) })
    }

    fn release<'a>(&'a self, claim: &'a Claim, leave: Leave, call: Call) -> BoxFuture<'a, Result<Released>> {
        let (claim, network) = (claim.clone(), self.network.clone());
        let sent = self.send(move |s| {
            Box::pin(async move {
                let answer = s.release(&claim, leave, call).await;
                if answer.is_ok() && !matches!(leave, Leave::For(_)) {
                    network.withdrawn().insert(claim.id);
                }
                answer
            })
        });
        Box::pin(async move { broken(sent.await) })
    }

    fn transfer<'a>(&'a self, from: &'a Claim, to: &'a Claim, call: Call) -> BoxFuture<'a, Result<Answer>> {
        let (from, to, network) = (from.clone(), to.clone(), self.network.clone());
        let sent = self.send(move |s| {
            Box::pin(async move {
                let answer = s.transfer(&from, &to, call).await;
                let held = matches!(&answer, Ok(a) if matches!(a.standing, Standing::Held(_)));
                assert!(
                    !(held && network.withdrawn().contains(&to.id)),
                    "S9: continued after its withdrawal"
                );
                answer
            })
        });
        Box::pin(async move { broken(sent.await) })
    }
}

struct FarSink {
    hub: Arc<Hub>,
    network: Arc<Network>,
}

impl Sink for FarSink {
    fn news(&self, news: News) {
        for _ in 0..=u32::from(self.network.rt().below(10) == 0) {
            let (hub, network, news) = (self.hub.clone(), self.network.clone(), news.clone());
            self.network.rt().spawn(Box::pin(async move {
                if network.carry().await {
                    hub.news(news);
                }
            }));
        }
    }
}

const NAMES: [&str; 2] = ["a", "b"];

/// What all workers see of one lock.
#[derive(Default)]
struct Seen {
    turns: Mutex<Vec<Arc<Turn>>>,
    token: AtomicI64,
    grants: AtomicU32,
    transfers: AtomicU32,
}

impl Seen {
    fn turns(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Turn>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) {
        let believers = self.turns().iter().filter(|turn| turn.check().is_ok()).count();
        assert!(believers <= 1, "S1: {believers} believe that they hold");
    }

    fn granted(&self, turn: &Arc<Turn>) {
        self.turns().push(turn.clone());
        self.check();
        let token = turn.grant().and_then(|g| g.token).expect("held").get();
        let before = self.token.fetch_max(token, Ordering::Relaxed);
        assert!(token > before, "S2: {token} after {before}");
        self.grants.fetch_add(1, Ordering::Relaxed);
    }
}

async fn work(engine: Arc<Engine>, rt: Arc<Virtual>, seen: Arc<[Seen; 2]>, ttl: u64) {
    for _ in 0..25 {
        let n = usize::from(rt.below(2) == 0);
        let ttl = Duration::from_millis(ttl + rt.below(3000));
        let request = Request { key: Key::new("default", NAMES[n]).expect("a good name"), ..request(ttl) };
        let patience = match rt.below(4) {
            0 => Patience::None,
            1 => Patience::Until(rt.now() + Duration::from_millis(rt.below(3000))),
            _ => Patience::Forever,
        };
        let cut = rt.now() + Duration::from_millis(if rt.below(3) == 0 { rt.below(500) } else { 60_000 });
        let Some(Ok(Some(turn))) = race(&*rt, cut, acquire(&engine, &request, patience)).await else {
            continue;
        };
        let turn = Arc::new(turn);
        seen[n].granted(&turn);
        for _ in 0..rt.below(40) {
            rt.sleep_until(rt.now() + Duration::from_millis(50)).await;
            seen[n].check();
        }
        seen[n].turns().retain(|t| !Arc::ptr_eq(t, &turn));
        let mut turn = Arc::into_inner(turn).expect("nobody else has it");
        if rt.below(3) == 0 {
            let cut = rt.now() + Duration::from_millis(if rt.below(3) == 0 { rt.below(200) } else { 60_000 });
            let token = turn.grant().map(|g| g.token);
            let went_on = race(&*rt, cut, turn.transfer(&request, Anchor::Process)).await;
            let Some(Ok(next)) = went_on else { continue };
            assert!(next.grant().is_none_or(|g| Some(g.token) == token), "S2: another token");
            seen[n].transfers.fetch_add(1, Ordering::Relaxed);
            let next = Arc::new(next);
            seen[n].turns().push(next.clone());
            for _ in 0..rt.below(10) {
                rt.sleep_until(rt.now() + Duration::from_millis(50)).await;
                seen[n].check();
            }
            seen[n].turns().retain(|t| !Arc::ptr_eq(t, &next));
            turn = Arc::into_inner(next).expect("nobody else has it");
        }
        let leave =
            if rt.below(3) == 0 { Leave::For(Duration::from_millis(rt.below(800))) } else { Leave::Nothing };
        let cut = rt.now() + Duration::from_millis(if rt.below(4) == 0 { rt.below(100) } else { 60_000 });
        match rt.below(3) {
            0 => drop(turn),
            _ => drop(race(&*rt, cut, turn.release(leave)).await),
        }
    }
}

/// Runs one; says how many grants and how many transfers there were.
fn storm(seed: u64, weather: Weather) -> (u32, u32) {
    let (rt, hub) = (Virtual::seeded(seed), Hub::new());
    let network = Arc::new(Network {
        rt: Arc::downgrade(&rt),
        weather,
        silent: Mutex::default(),
        withdrawn: Mutex::default(),
    });
    let sink: Arc<dyn Sink> = Arc::new(FarSink { hub: hub.clone(), network: network.clone() });
    let url = StoreUrl::parse("memory:").expect("parses");
    let opening = Opening { url, sink, runtime: rt.clone(), owner: owner(1) };
    let mut opened = rt.go((backend::find("memory").expect("compiled in").open)(opening));
    let store = opened.done().expect("at once").expect("opens");
    let far = Arc::new(Far { store: store.clone(), network });
    let engine = Engine::new(far, rt.clone(), hub, owner(1));
    let seen: Arc<[Seen; 2]> = Arc::default();
    let mut workers: Vec<_> =
        (0..6).map(|_| rt.go(work(engine.clone(), rt.clone(), seen.clone(), weather.ttl))).collect();
    let mut left = workers.len();
    for _ in 0..20_000 {
        rt.step(Duration::from_millis(500));
        if rt.below(200) == 0 {
            rt.stop_for(Duration::from_millis(rt.below(5000)));
        }
        left -= workers.iter_mut().filter_map(Handle::done).count();
        if left == 0 {
            break;
        }
    }
    assert_eq!(left, 0, "seed {seed}: somebody waits for ever");
    // Whatever is on its way arrives, and no lock, place or task is left.
    rt.step(weather.residue);
    assert_eq!(engine.live(), 0, "seed {seed}");
    for name in NAMES {
        let (store, query) = (
            store.clone(),
            Query { namespace: "default".into(), name: Some(name.into()), ..Query::default() },
        );
        let mut page = rt.go(async move { store.inspect(&query, Call::PATIENT).await });
        let lines = page.done().expect("at once").expect("looks").lines;
        assert!(lines.is_empty(), "S6, seed {seed}: {lines:?}");
    }
    assert!(rt.tasks() <= 1, "seed {seed}: {} tasks live on", rt.tasks());
    let sum = |count: fn(&Seen) -> &AtomicU32| seen.iter().map(|s| count(s).load(Ordering::Relaxed)).sum();
    (sum(|s| &s.grants), sum(|s| &s.transfers))
}

#[test]
fn s1_s2_s6_s9_hold_in_any_weather() {
    let fine = Weather { usual: 2, rare: 20, lost: 10_000, ttl: 120_000, residue: Duration::from_secs(30) };
    let rough = Weather { usual: 60, rare: 2_000, lost: 20, ttl: 300, residue: lease::MARK_LIFE * 3 };
    let awful = Weather { usual: 400, rare: 20_000, lost: 5, ttl: 300, residue: lease::MARK_LIFE * 3 };
    for (weather, seeds, least) in [(fine, 0..20, 30), (rough, 100..200, 8), (awful, 500..540, 1)] {
        let (grants, transfers): (Vec<u32>, Vec<u32>) = seeds.map(|seed| storm(seed, weather)).unzip();
        let continued: u32 = transfers.iter().sum();
        assert!(continued > 50, "{weather:?}: transfers a run: {transfers:?}");
        let fewest = grants.iter().min().copied().unwrap_or_default();
        assert!(fewest >= least, "{weather:?}: grants a run: {grants:?}");
    }
}
