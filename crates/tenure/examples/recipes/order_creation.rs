//! Order creation: an order takes several articles, all or none, and a second click makes no second order.
//!
//! `recipes order_creation URL DIR ORDER...` creates orders such as `click-1:lamp=2,chair=4`. `DIR/articles` says what there
//! is (`lamp 10`), `DIR/orders` has a line for each order.

use std::path::Path;
use std::time::Duration;

use tenure::Locks;
use tenure::fence::{Domain, FenceFile, Stamp};

use super::shop::{Result, append, lines, reach, tell};

/// How many of which article.
type Wanted<'a> = Vec<(&'a str, u64)>;

pub(crate) async fn run(locks: &Locks, dir: &Path, orders: &[String]) -> Result<()> {
    let domain = locks.domain().await?;
    for order in orders {
        let (request, wanted) = read(order).ok_or("an order is written REQUEST:ARTICLE=N,ARTICLE=N")?;
        tell(format_args!("{request} {}", create(locks, &domain, dir, request, &wanted).await?));
    }
    Ok(())
}

async fn create(
    locks: &Locks,
    domain: &Domain,
    dir: &Path,
    request: &str,
    wanted: &Wanted<'_>,
) -> Result<&'static str> {
    // The request is one of the names, so that a second click of the same customer waits for the first.
    let mut names = vec![format!("requests/{request}")];
    names.extend(wanted.iter().map(|(article, _)| format!("articles/{article}")));
    let guard = locks.multi(&names)?.lock().await?; // in one order everywhere, so that nobody waits in a circle
    let mut fences = Vec::new();
    for (key, token) in guard.tokens() {
        let fence = FenceFile::new(dir.join(format!("{}.fence", key.name().replace('/', "-"))));
        let stamp = Stamp::new(domain.clone(), token);
        fence.check(&stamp)?;
        fences.push((fence, stamp));
    }
    let orders = lines(&dir.join("orders"))?;
    if orders.iter().any(|line| line.split(':').next() == Some(request)) {
        return Ok("was created before");
    }
    for (article, n) in wanted {
        if left(dir, &orders, article)? < *n {
            return Ok("is not possible: sold out");
        }
    }
    tokio::time::sleep(Duration::from_millis(2)).await; // prices are asked elsewhere
    reach("looked")?;
    let mut inside = Vec::new();
    for (fence, stamp) in &fences {
        inside.push(fence.enter(stamp)?); // one that is refused ends the whole
    }
    append(&dir.join("orders"), format_args!("{request}:{}", text(wanted)))?;
    drop(inside);
    guard.release().await?;
    Ok("is created")
}

/// What is left of an article: what there was, less what was ordered.
fn left(dir: &Path, orders: &[String], article: &str) -> Result<u64> {
    let articles = lines(&dir.join("articles"))?;
    let there = articles.iter().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == article);
    let there: u64 = there.ok_or_else(|| format!("there is no article {article}"))?.1.parse()?;
    let ordered: u64 =
        orders.iter().filter_map(|o| read(o)).flat_map(|o| o.1).filter(|w| w.0 == article).map(|w| w.1).sum();
    Ok(there.saturating_sub(ordered))
}

fn read(order: &str) -> Option<(&str, Wanted<'_>)> {
    let (request, articles) = order.split_once(':')?;
    let wanted: Option<Wanted<'_>> = articles
        .split(',')
        .map(|wanted| wanted.split_once('=').and_then(|(article, n)| Some((article, n.parse().ok()?))))
        .collect();
    Some((request, wanted?))
}

fn text(wanted: &Wanted<'_>) -> String {
    let wanted: Vec<String> = wanted.iter().map(|(article, n)| format!("{article}={n}")).collect();
    wanted.join(",")
}
