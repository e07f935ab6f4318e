//! When the store put a claim in line: who judges an order has to know who stood there before whom came.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure::Result;
use tenure::backend::{Answer, Backend, BoxFuture, Call, Claim, ClaimId, Standing};

use crate::num::boot_ns;

tokio::task_local! {
    static ASKING: Arc<Asking>;
}

/// One acquire, as the store sees it: the claim that it makes at last (one whose grant ended before anybody heard of it is
/// followed by another, at the end of the line), and when that was known to be in line.
#[derive(Debug, Default)]
struct Asking(Mutex<Seen>);

type Seen = (Option<ClaimId>, Option<u64>);

impl Asking {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asks(&self, id: ClaimId) {
        let mut seen = self.seen();
        if seen.0 != Some(id) {
            *seen = (Some(id), None);
        }
    }

    fn waits(&self, id: ClaimId) {
        let mut seen = self.seen();
        if seen.0 == Some(id) {
            seen.1.get_or_insert_with(boot_ns);
        }
    }
}

/// Acquires, and tells with the outcome when the claim that came of it was known to be in line, if it was.
pub(super) async fn noted<F: Future>(acquire: F) -> (F::Output, Option<u64>) {
    let asking = Arc::new(Asking::default());
    let outcome = ASKING.scope(asking.clone(), acquire).await;
    let queued = asking.seen().1;
    (outcome, queued)
}

/// A store that tells whose acquire a claim is of.
#[derive(Debug)]
pub(super) struct Noting(pub(super) Arc<dyn Backend>);

impl Backend for Noting {
    tenure::pass_on!(0: capabilities, domain, part, renew, release, transfer, evict, inspect, watch, close);

    fn attempt<'a>(&'a self, claims: &'a [Claim], call: Call) -> BoxFuture<'a, Vec<Result<Answer>>> {
        let asking = ASKING.try_with(Arc::clone).ok();
        for (asking, claim) in asking.iter().zip(claims) {
            asking.asks(claim.id);
        }
        Box::pin(async move {
            let answers = self.0.attempt(claims, call).await;
            for (asking, (claim, answer)) in asking.iter().zip(claims.iter().zip(&answers)) {
                if let Ok(Answer { standing: Standing::Waiting { place: Some(_), .. }, .. }) = answer {
                    asking.waits(claim.id);
                }
            }
            answers
        })
    }
}
