//! What each recipe must withstand. `together`: many at a time. `a_dead_...`: one is killed in the middle. `a_stalled_...`:
//! one is stopped for longer than its lease, others go on, and then it wakes up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::fleet::{Fleet, Program, words};
use crate::recipes::{quota, stock};

type Run = fn(&mut Fleet);

pub(crate) const ALL: &[(&str, Run)] = &[
    ("order_payment::together", payment_together),
    ("order_payment::a_dead_one_is_followed", payment_dead),
    ("order_payment::a_stalled_one_is_refused", payment_stalled),
    ("order_creation::together", creation_together),
    ("order_creation::a_dead_one_is_followed", creation_dead),
    ("order_creation::a_stalled_one_is_refused", creation_stalled),
    ("stock::together", stock_together),
    ("stock::a_dead_one_is_followed", stock_dead),
    ("stock::a_stalled_one_is_refused", stock_stalled),
    ("nightly_job::together", nightly_together),
    ("nightly_job::by_the_clock", nightly_by_the_clock),
    ("nightly_job::a_dead_one_is_followed", nightly_dead),
    ("nightly_job::a_stalled_one_is_refused", nightly_stalled),
    ("config_reload::together", config_together),
    ("config_reload::a_dead_writer_s_work_is_finished", config_dead),
    ("config_reload::a_stalled_writer_is_refused", config_stalled),
    ("region_sync::together", sync_together),
    ("region_sync::a_dead_one_is_followed", sync_dead),
    ("region_sync::a_stalled_one_is_refused", sync_stalled),
    ("leader::together", leader_together),
    ("leader::a_dead_one_is_followed", leader_dead),
    ("leader::a_stalled_one_is_refused", leader_stalled),
    ("quota::together", quota_together),
    ("quota::the_permits_of_the_dead_come_back", quota_dead),
];

/// The lease of whoever is to lose it; also the time after which a store that hears nothing gives up on somebody.
const SHORT: Duration = Duration::from_secs(3);
/// The lease of everybody else.
const LONG: Duration = Duration::from_secs(60);
/// What a fence says to the late.
const STALE: &str = "is stale";

impl Fleet {
    /// A program that has come to a point, under a short lease.
    fn victim(&mut self, point: &str, recipe: &str, text: &str) -> Program {
        let mut program = self.start(point, SHORT, recipe, &words(text));
        program.until(&format!("at {point}"));
        program
    }

    /// A program that stops nowhere, until its end.
    #[track_caller]
    fn whole(&mut self, recipe: &str, text: &str) -> Vec<String> {
        self.start("nowhere", LONG, recipe, &words(text)).end().well()
    }

    /// One that is stopped at a point sleeps through another one's whole run, and then goes on.
    #[track_caller]
    fn stalled(&mut self, point: &str, recipe: &str, text: &str, others: &str) -> Vec<String> {
        let mut victim = self.victim(point, recipe, text);
        victim.freeze();
        let said = self.whole(recipe, others);
        self.wake(&mut victim);
        victim.end().refused(STALE);
        said
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("written");
    }
}

/// How often each first word stands in a file.
fn counts(lines: &[String], separator: char) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line.split(separator).next().unwrap_or_default()).or_default() += 1;
    }
    counts
}

fn payment_together(fleet: &mut Fleet) {
    let orders: Vec<String> = (0..15).map(|n| format!("{}", 1000 + n)).collect();
    let turned = |n: usize| [&orders[n..], &orders[..n]].concat();
    for ended in fleet.together("order_payment", &[turned(0), turned(0), turned(3), turned(9)]) {
        ended.well();
    }
    let ledger = fleet.lines("ledger");
    let expected: BTreeMap<&str, usize> = orders.iter().map(|order| (order.as_str(), 1)).collect();
    assert_eq!(counts(&ledger, ' '), expected, "each order is paid exactly once");
}

fn payment_dead(fleet: &mut Fleet) {
    fleet.victim("charged", "order_payment", "1 2").kill();
    assert_eq!(fleet.lines("ledger"), Vec::<String>::new());
    assert_eq!(fleet.whole("order_payment", "1 2"), ["1 is paid", "2 is paid"]);
    assert_eq!(fleet.lines("ledger"), ["1 receipt-1", "2 receipt-2"]);
    let charges = std::fs::read_dir(fleet.file("charges")).expect("charges").count();
    assert_eq!(charges, 2, "the provider charged each order once, though one of them was asked for twice");
}

fn payment_stalled(fleet: &mut Fleet) {
    let said = fleet.stalled("charged", "order_payment", "1", "1 1");
    assert_eq!(said, ["1 is paid", "1 was paid before"]);
    assert_eq!(fleet.lines("ledger"), ["1 receipt-1"]);
}

fn creation_together(fleet: &mut Fleet) {
    fleet.write("articles", "lamp 20\nchair 20\ntable 20\n");
    let pairs = [("lamp", "chair"), ("chair", "table"), ("table", "lamp")];
    let clicks = |from: usize| -> Vec<String> {
        let one = |n: usize| {
            let (a, b) = pairs[n % 3];
            format!("click-{n}:{a}=1,{b}=2")
        };
        (from..from + 20).map(one).collect()
    };
    // Two machines get the same clicks.
    for ended in fleet.together("order_creation", &[clicks(0), clicks(0), clicks(20), clicks(40)]) {
        ended.well();
    }
    let orders = fleet.lines("orders");
    assert!(counts(&orders, ':').values().all(|n| *n == 1), "a click made two orders: {orders:?}");
    let mut ordered: BTreeMap<&str, u32> = BTreeMap::new();
    for wanted in orders.iter().flat_map(|line| line.split(':').nth(1).unwrap_or_default().split(',')) {
        let (article, n) = wanted.split_once('=').expect("an order");
        *ordered.entry(article).or_default() += n.parse::<u32>().expect("a number");
    }
    assert!(ordered.values().all(|n| *n <= 20), "oversold: {ordered:?}");
    // Whoever came too late was told so, since too little was left.
    assert!(ordered.values().filter(|n| **n >= 19).count() >= 2, "sold too little: {ordered:?}");
}

fn creation_dead(fleet: &mut Fleet) {
    fleet.write("articles", "lamp 2\nchair 2\n");
    fleet.victim("looked", "order_creation", "a:lamp=2,chair=1").kill();
    let said = fleet.whole("order_creation", "b:chair=2,lamp=2 c:lamp=1 b:chair=2,lamp=2");
    assert_eq!(said, ["b is created", "c is not possible: sold out", "b was created before"]);
    assert_eq!(fleet.lines("orders"), ["b:chair=2,lamp=2"]);
}

fn creation_stalled(fleet: &mut Fleet) {
    fleet.write("articles", "lamp 2\nchair 2\n");
    fleet.stalled("looked", "order_creation", "a:lamp=2,chair=2", "b:chair=1");
    assert_eq!(fleet.lines("orders"), ["b:chair=1"], "all or none");
}

fn sold(fleet: &Fleet) -> Vec<Vec<String>> {
    (0..stock::STRIPES).map(|part| fleet.lines(&format!("lamps-{part}"))).collect()
}

fn stock_together(fleet: &mut Fleet) {
    let all = stock::SHARE * stock::STRIPES as usize;
    let customers = |from: usize| (from..from + 15).map(|n| format!("customer-{n}")).collect::<Vec<_>>();
    let ended = fleet.together("stock", &[customers(0), customers(100), customers(200), customers(300)]);
    let said: Vec<String> = ended.into_iter().flat_map(|ended| ended.well()).collect();
    let lucky = said.iter().filter(|line| line.contains("has a lamp")).count();
    let sold = sold(fleet);
    assert!(sold.iter().all(|part| part.len() == stock::SHARE), "{sold:?}");
    assert_eq!(lucky, all, "60 wanted one");
    let buyers: BTreeSet<&String> = sold.iter().flatten().collect();
    assert_eq!(buyers.len(), all, "nobody has two");
}

fn stock_dead(fleet: &mut Fleet) {
    fleet.victim("looked", "stock", "ann").kill();
    let said = fleet.whole("stock", "ann bob");
    assert!(said.iter().all(|line| line.contains("has a lamp")), "{said:?}");
    let mut buyers = sold(fleet).concat();
    buyers.sort();
    assert_eq!(buyers, ["ann", "bob"]);
}

fn stock_stalled(fleet: &mut Fleet) {
    // The same customer twice, so that both come to the same part.
    fleet.stalled("looked", "stock", "ann", "ann");
    assert_eq!(sold(fleet).concat(), ["ann"]);
}

fn nightly_together(fleet: &mut Fleet) {
    let ended = fleet.together("nightly_job", &vec![words("2026-11-21"); 5]);
    let said: Vec<String> = ended.into_iter().flat_map(|ended| ended.well()).collect();
    assert_eq!(said.iter().filter(|line| *line == "published").count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|line| line.starts_with("done before, by pid ")).count(), 4, "{said:?}");
    assert_eq!(fleet.lines("published").len(), 1);
    // The next slot is another one.
    assert_eq!(fleet.whole("nightly_job", "2026-11-22"), ["published"]);
    let locks = tenure::Locks::blocking_connect(&fleet.url()).expect("the store");
    let runs = locks.blocking_runs("report").expect("runs");
    let runs: Vec<_> = runs.iter().map(|run| (run.slot.as_str(), run.state.is_over())).collect();
    assert_eq!(runs, [("2026-11-21", true), ("2026-11-22", true)]);
}

fn nightly_by_the_clock(fleet: &mut Fleet) {
    for ended in fleet.together("nightly_job", &vec![Vec::new(); 3]) {
        ended.well();
    }
    // Two, should it have become 03:00 UTC meanwhile.
    assert!((1..=2).contains(&fleet.lines("published").len()));
}

fn nightly_dead(fleet: &mut Fleet) {
    let victim = fleet.victim("computed", "nightly_job", "night");
    let second = fleet.start("nowhere", LONG, "nightly_job", &words("night"));
    victim.kill();
    assert_eq!(second.end().well().last().map(String::as_str), Some("published"));
    assert_eq!(fleet.lines("published").len(), 1);
}

fn nightly_stalled(fleet: &mut Fleet) {
    let said = fleet.stalled("computed", "nightly_job", "night", "night");
    assert_eq!(said, ["published"]);
    let (published, report) = (fleet.lines("published"), fleet.lines("report"));
    assert_eq!(published.len(), 1);
    assert_eq!(report, [format!("a report {}", published[0])], "the late one replaced it");
}

fn config_together(fleet: &mut Fleet) {
    let all = ["write 1 15", "write 101 115", "read 60", "read 60", "read 60"].map(words);
    for ended in fleet.together("config_reload", &all) {
        ended.well(); // a reader that sees a mixture fails
    }
    assert_eq!(fleet.lines("routes"), fleet.lines("limits"));
    assert!(!fleet.file("intent").exists());
}

fn config_dead(fleet: &mut Fleet) {
    fleet.whole("config_reload", "write 1 1");
    fleet.victim("routes", "config_reload", "write 2 2").kill();
    assert_eq!((fleet.lines("routes"), fleet.lines("limits")), (words("2"), words("1")), "half done");
    assert_eq!(fleet.whole("config_reload", "read 3"), ["read 2"]);
    assert_eq!(fleet.lines("limits"), ["2"]);
}

fn config_stalled(fleet: &mut Fleet) {
    fleet.whole("config_reload", "write 1 1");
    let mut victim = fleet.victim("routes", "config_reload", "write 2 2");
    victim.freeze();
    assert_eq!(fleet.whole("config_reload", "read 3"), ["read 2"], "a reader finishes what it began");
    fleet.whole("config_reload", "write 3 3");
    fleet.wake(&mut victim);
    victim.end().refused(STALE);
    assert_eq!(fleet.whole("config_reload", "read 1"), ["read 3"]);
}

/// A journal of so many lines.
fn journal(fleet: &Fleet, n: u32) -> Vec<String> {
    let lines: Vec<String> = (0..n).map(|n| format!("{n} something")).collect();
    fleet.write("here", &format!("{}\n", lines.join("\n")));
    lines
}

fn sync_together(fleet: &mut Fleet) {
    let lines = journal(fleet, 500);
    for ended in fleet.together("region_sync", &vec![Vec::new(); 4]) {
        ended.well();
    }
    assert_eq!(fleet.lines("there"), lines);
}

fn sync_dead(fleet: &mut Fleet) {
    let lines = journal(fleet, 100);
    // Dead between two batches, and, as it would be by a death within one, three lines further.
    fleet.victim("batch", "region_sync", "").kill();
    fleet.write("there", &format!("{}\n", lines[..13].join("\n")));
    assert_eq!(fleet.whole("region_sync", ""), ["goes on at 13", "copied"]);
    assert_eq!(fleet.lines("there"), lines);
}

fn sync_stalled(fleet: &mut Fleet) {
    let lines = journal(fleet, 100);
    fleet.stalled("batch", "region_sync", "", "");
    assert_eq!(fleet.lines("there"), lines);
}

/// Token, name and number of each tick.
fn ticks(fleet: &Fleet) -> Vec<(i64, String, u32)> {
    let read = |line: String| {
        let [token, name, tick] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        (token.parse().expect("a token"), name.to_owned(), tick.parse().expect("a number"))
    };
    fleet.lines("ticks").into_iter().map(read).collect()
}

fn leader_together(fleet: &mut Fleet) {
    let names = ["ann", "bob", "cid", "dot"];
    for ended in fleet.together("leader", &names.map(|name| words(&format!("lead {name} 25")))) {
        ended.well();
    }
    let ticks = ticks(fleet);
    assert!(ticks.is_sorted_by_key(|tick| tick.0), "terms overlap: {ticks:?}");
    let terms: Vec<_> = ticks.chunk_by(|a, b| a.1 == b.1).collect();
    assert_eq!(terms.len(), names.len(), "{terms:?}");
    assert!(terms.iter().all(|term| term.iter().map(|tick| tick.2).eq(0..25)), "{terms:?}");
}

fn leader_dead(fleet: &mut Fleet) {
    let mut follower = fleet.start("nowhere", LONG, "leader", &words("follow"));
    follower.until("nobody leads");
    let victim = fleet.victim("tick", "leader", "lead ann 5");
    follower.until("follows ann");
    victim.kill();
    let mut second = fleet.start("tick", LONG, "leader", &words("lead bob 5"));
    second.until("at tick");
    follower.until("follows bob");
    second.go();
    second.end().well();
    follower.until("nobody leads");
    assert_eq!(ticks(fleet).len(), 5);
}

fn leader_stalled(fleet: &mut Fleet) {
    fleet.stalled("tick", "leader", "lead ann 5", "lead bob 5");
    let ticks = ticks(fleet);
    assert!(ticks.len() == 5 && ticks.iter().all(|tick| tick.1 == "bob"), "{ticks:?}");
}

fn quota_together(fleet: &mut Fleet) {
    for ended in fleet.together("quota", &vec![words("4"); 4]) {
        ended.well();
    }
    kept_the_quota(fleet, 16);
}

/// No time of the quota's length has more calls than it allows. That holds on any machine: it is a lower bound.
fn kept_the_quota(fleet: &Fleet, made: usize) {
    let mut calls: Vec<u128> = fleet.lines("calls").iter().map(|us| us.parse().expect("a time")).collect();
    calls.sort_unstable();
    assert_eq!(calls.len(), made);
    let span = quota::SPAN.as_micros();
    for window in calls.windows(quota::CALLS as usize + 1) {
        let took = window[window.len() - 1] - window[0];
        assert!(took >= span, "{} calls in {took} µs", window.len());
    }
}

fn quota_dead(fleet: &mut Fleet) {
    // As many as there are permits, each with one.
    let victims: Vec<Program> = (0..quota::CALLS).map(|_| fleet.victim("called", "quota", "1")).collect();
    victims.into_iter().for_each(Program::kill);
    assert_eq!(fleet.whole("quota", "6"), ["called"]);
    assert_eq!(fleet.lines("calls").len(), quota::CALLS as usize + 6);
}
