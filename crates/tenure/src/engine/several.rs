//! Trying several locks at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::Instrument;

use super::Engine;
use super::acquire::{Begun, PATIENCE, Patience, drive};
use super::asker::{Asker, First};
use super::claim::{Request, Turn};
use crate::backend::{Answer, Call, Claim, Part};
use crate::error::Result;
use crate::runtime::{join_all, race};

/// Tries several locks at once: the first attempts of all leave in one request for each part of the store, and whatever
/// has to be asked again is asked alone. None of them stands in line.
///
/// Cancel safe at every await: each claim is withdrawn by the [`Turn`] that owns it.
pub(crate) async fn try_all(engine: &Arc<Engine>, requests: &[&Request]) -> Vec<Result<Option<Turn>>> {
    let core = &engine.core;
    let sent = core.runtime.now();
    let mut parts: BTreeMap<Part, Vec<usize>> = BTreeMap::new();
    let mut turns: Vec<Option<Result<Turn>>> = Vec::with_capacity(requests.len());
    for (i, request) in requests.iter().enumerate() {
        let turn = engine.usable().and_then(|()| Turn::new(engine, request, false, 1, sent));
        if turn.as_ref().is_ok_and(|turn| turn.hold.sends()) {
            parts.entry(core.backend.part(&request.key)).or_default().push(i);
        }
        turns.push(Some(turn));
    }
    let asked = parts.into_values().map(|members| {
        let claim =
            |i: &usize| turns[*i].as_ref().and_then(|turn| turn.as_ref().ok()).map(|t| t.hold.claim.clone());
        let claims: Vec<Claim> = members.iter().filter_map(claim).collect();
        async move {
            let until = sent + PATIENCE;
            let answers = core.backend.attempt(&claims, Call::awaited(until));
            let answers = race(&*core.runtime, until, answers).await;
            let mut answers = answers.map(Vec::into_iter);
            let mut next = move || answers.as_mut().and_then(Iterator::next);
            members.into_iter().map(|i| (i, next())).collect::<Vec<_>>()
        }
    });
    let mut first: Vec<Option<Result<Answer>>> = requests.iter().map(|_| None).collect();
    for (i, answer) in join_all(asked).await.into_iter().flatten() {
        first[i] = answer;
    }
    join_all(requests.iter().zip(&mut turns).zip(first).map(|((request, turn), answer)| {
        let turn = turn.take();
        async move {
            let turn = turn.ok_or_else(super::closed)??;
            let mut asker = Asker::begun(turn, First { sent, answer });
            let begun = Begun::now(engine, request, Patience::None).await?;
            let work = drive(engine, request, Patience::None, &mut asker, begun.at);
            let result = work.instrument(begun.span.clone()).await;
            begun.ended(result)
        }
    }))
    .await
}
