//! The README's table of what each store can do: made of the capabilities.

use tenure::backend::table;
use tenure::{Capabilities, Order, TokenStrength, Visibility, Wakeup};

use super::{read, root};

const BEGIN: &str =
    "<!-- features: made of the capabilities; REWRITE=1 cargo test -p tenure --all-features features -->";
const END: &str = "<!-- end of features -->";

/// What it is, how it is called in programs and in shells, and what a store says to it.
type Row = (&'static str, &'static str, &'static str, fn(&Capabilities) -> &'static str);

const ROWS: &[Row] = &[
    ("mutex", "mutex", "run", mutex),
    ("read-write lock", "rwlock", "run --shared, --exclusive", |c| yes(c.modes.rw)),
    ("semaphore, rate limit", "semaphore", "run --permits K --of N", |c| yes(c.modes.semaphore)),
    ("many locks, all or none", "multi", "run NAME NAME", mutex),
    ("one hot name in stripes", "striped", "", mutex),
    ("re-entry", "owner", "run --reentrant", mutex),
    ("hand-over to another process", "adopt", "acquire, renew, release", mutex),
    ("job, once per slot", "once", "once", |c| yes(c.modes.mutex && c.visibility >= Visibility::Holders)),
    ("election", "election", "elect", |c| match c.visibility >= Visibility::Holders {
        _ if !c.modes.mutex => "no",
        true => "yes",
        false => "yes, unseen",
    }),
    ("token for a fence", "domain", "fence", |c| match c.token {
        TokenStrength::None => "no",
        TokenStrength::Volatile => "while the store runs",
        _ => "yes",
    }),
    ("waiters are granted", "", "", |c| match c.order {
        Order::Fifo => "first come, first served",
        _ => "in any order",
    }),
    ("waiters learn it", "", "", |c| match c.wakeup {
        Wakeup::Push => "by push",
        _ => "by asking again",
    }),
    ("to be seen", "watch", "ls, show, watch", |c| match c.visibility {
        Visibility::Full => "holders and waiters",
        Visibility::Holders => "holders",
        Visibility::Counts => "how many",
        _ => "nothing",
    }),
];

fn yes(so: bool) -> &'static str {
    if so { "yes" } else { "no" }
}

fn mutex(c: &Capabilities) -> &'static str {
    yes(c.modes.mutex)
}

fn features() -> String {
    let stores: Vec<Capabilities> = table().map(|entry| entry.capabilities).collect();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let first = ["", "`Locks::`", "`tenure`"].map(str::to_owned);
    let mut out = line(first.into_iter().chain(stores.iter().map(|c| format!("`{}:`", c.backend))).collect());
    out += &line(vec!["---".into(); stores.len() + 3]);
    for (what, call, verb, says) in ROWS {
        let first = [(*what).to_owned(), code(call), code(verb)];
        out += &line(first.into_iter().chain(stores.iter().map(|c| says(c).to_owned())).collect());
    }
    out
}

#[test]
fn the_readme_s_features_equal_the_capabilities() {
    let readme = read("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("README.md: where the features begin");
    let (now, after) = rest.split_once(END).expect("README.md: where the features end");
    let features = features();
    if std::env::var_os("REWRITE").is_some() {
        let text = format!("{before}{BEGIN}\n{features}{END}{after}");
        // Other tests read it at the same time.
        let new = root().join("target/README.new");
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(new, root().join("README.md")))
            .expect("rewritten");
        return;
    }
    assert_eq!(now.trim_start(), features, "README.md: rewrite it as its comment says");
    // Whatever is named there is there.
    let faces: String = super::sources("crates/tenure/src", "rs").into_iter().map(|s| s.text).collect();
    for (what, call, ..) in ROWS.iter().filter(|row| !row.1.is_empty()) {
        let there = ["pub fn", "pub async fn"].iter().any(|begin| faces.contains(&format!("{begin} {call}")));
        assert!(there, "{what}: there is no {call}");
    }
}
