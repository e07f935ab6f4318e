//! What a line shows, in a form that the model and the scripts can both be put into.

use redis::Value;
use tenure::Previous;
use tenure::core::line::{ClaimRow, LineRow};

use crate::raw::Said;

/// Holders, waiters and the rest of a line, in a form that both sides can be put into.
pub(crate) type Shown = (String, u32, Vec<String>, Vec<String>, u64, Option<String>);

pub(crate) fn shown(row: &LineRow) -> Shown {
    let claim = |c: &ClaimRow| {
        let note = String::from_utf8_lossy(&c.note);
        format!("{:032x} {} {} {} {} {note}", c.id, c.end / 1000, c.since_us, c.weight, c.token)
    };
    let broken =
        row.broken.as_ref().map(|(at, token, why)| format!("{at} {token} {}", String::from_utf8_lossy(why)));
    let waiting = row.waiting.iter().map(claim).collect();
    (
        (row.kind as u8).to_string(),
        row.capacity,
        row.holders.iter().map(claim).collect(),
        waiting,
        row.waiters,
        broken,
    )
}

/// How the scripts call it.
pub(crate) fn letter(previous: Previous) -> &'static str {
    match previous {
        Previous::Released => "r",
        Previous::Expired => "x",
        Previous::Evicted => "e",
        _ => "u",
    }
}

pub(crate) fn read(said: &Value) -> Shown {
    let [_, head, holders, waiting, waiters, eviction] = said.list() else { panic!("{said:?}") };
    let number = |text: &str| text.parse::<u64>().expect("digits");
    let claims = |list: &Value| -> (Vec<String>, Vec<u32>) {
        let mut capacities = Vec::new();
        let all = list.list().chunks(3).map(|c| {
            let record = c[2].text();
            let field = |from: usize, to: usize| number(&record[from..to]);
            capacities.push(u32::try_from(field(13, 23)).expect("a capacity"));
            let (since, weight, token) = (field(45, 61), field(3, 13), field(61, 77));
            format!("{} {} {since} {weight} {token} {}", c[0].text(), number(c[1].text()), &record[93..])
        });
        (all.collect(), capacities)
    };
    let ((holders, named), (waiting, wanted)) = (claims(holders), claims(waiting));
    let capacity = named.into_iter().min().or(wanted.first().copied()).unwrap_or(0);
    let text = eviction.text();
    let broken = (!text.is_empty())
        .then(|| format!("{} {} {}", number(&text[1..17]), number(&text[17..33]), &text[33..]));
    let waiters = u64::try_from(waiters.number()).expect("a count");
    (head.text()[1..2].to_owned(), capacity, holders, waiting, waiters, broken)
}
