//! A store without an engine: claims that a trial makes itself, and what is said to them.

use std::sync::Arc;
use std::time::Duration;

use tenure::backend::{
    Anchor, Answer, Backend, Call, Claim, ClaimId, Cohort, Grant, Kind, Leave, Query, Released, Standing,
};
use tenure::core::lease::TTL_WAITING;
use tenure::runtime::Runtime;
use tenure::{Key, Line, Owner};

use super::faces::Face;
use super::sinks::SinkProbe;
use super::{Failed, Verdict, ensure};

/// An owner for claims that no engine makes.
pub(crate) fn owner(program: &str) -> Owner {
    Owner { user: "lab".into(), host: "here".into(), pid: std::process::id(), program: program.into() }
}

/// A store without an engine.
pub(crate) struct Store {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) probe: Arc<SinkProbe>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(super) namespace: String,
    pub(super) face: Face,
}

impl Store {
    /// A claim of the trial's lock, with a fresh id and leases of 30 s.
    pub(crate) fn claim(&self, name: &str) -> Verdict<Claim> {
        let mut id = [0; 16];
        self.runtime.fill(&mut id);
        let mutex = Claim {
            id: ClaimId(u128::from_le_bytes(id)),
            key: Key::new(&self.namespace, name)?,
            kind: Kind::Mutex,
            weight: 1,
            capacity: 1,
            stand: true,
            ttl: Duration::from_secs(30),
            waiting: TTL_WAITING,
            cohort: Cohort::ALONE,
            birth: self.runtime.now(),
            anchor: Anchor::Process,
            owner: Arc::new(owner("raw")),
            reason: "".into(),
        };
        Ok(self.face.claim(mutex))
    }

    pub(crate) async fn ask(&self, claim: &Claim) -> Verdict<Answer> {
        Ok(self.backend.attempt_one(claim, Call::PATIENT).await?)
    }

    pub(crate) async fn attempt(&self, claim: &Claim) -> Verdict<Standing> {
        Ok(self.ask(claim).await?.standing)
    }

    pub(crate) async fn renew(&self, claim: &Claim) -> Verdict<Standing> {
        let mut answers = self.backend.renew(std::slice::from_ref(claim), Call::PATIENT).await;
        ensure!(answers.len() == 1, "one renewal has {} answers", answers.len());
        Ok(answers.remove(0)?.standing)
    }

    pub(crate) async fn release(&self, claim: &Claim, leave: Leave) -> Verdict<Released> {
        Ok(self.backend.release(claim, leave, Call::PATIENT).await?)
    }

    /// The lock as the store lists it.
    pub(crate) async fn look(&self, name: &str) -> Verdict<Option<Line>> {
        let query = Query {
            namespace: self.namespace.clone(),
            name: Some(name.into()),
            waiting_max: 1000,
            ..Query::default()
        };
        Ok(self.backend.inspect(&query, Call::PATIENT).await?.lines.into_iter().next())
    }

    /// Attempts, and must be granted.
    pub(crate) async fn take(&self, claim: &Claim) -> Verdict<Grant> {
        match self.attempt(claim).await? {
            Standing::Held(grant) => Ok(grant),
            other => {
                Err(Failed::Broken(format!("a free lock must be granted, and the store said {other:?}")))
            }
        }
    }

    /// Attempts, and must be told to wait.
    pub(crate) async fn wait(&self, claim: &Claim) -> Verdict<()> {
        match self.attempt(claim).await? {
            Standing::Waiting { .. } => Ok(()),
            other => Err(Failed::Broken(format!(
                "a lock that is held must be waited for, and the store said {other:?}"
            ))),
        }
    }
}
