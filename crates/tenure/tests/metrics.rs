//! What a recorder of metrics hears. A process of its own, since it hears everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tenure::Locks;

/// How long something may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(3);

/// The values of each histogram, with its labels.
type Heard = Arc<Mutex<BTreeMap<String, Vec<f64>>>>;

struct Ear(Heard);

struct Values(Heard, String);

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.0.lock().expect("no panic").entry(self.1.clone()).or_default().push(value);
    }
}

impl Recorder for Ear {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        let name = format!("{}{}", key.name(), labels.collect::<String>());
        Histogram::from_arc(Arc::new(Values(self.0.clone(), name)))
    }
}

#[test]
fn renewals_tell_their_round_trip_and_what_was_left() {
    let heard = Heard::default();
    assert!(metrics::set_global_recorder(Ear(heard.clone())).is_ok(), "the only one");
    let locks = Locks::builder("memory:").ttl(TTL).blocking_connect().expect("opens");
    let guard = locks.mutex("a").expect("a name").blocking_lock().expect("free");
    let end = Instant::now() + LONG;
    let [took, left] = ["tenure_renewal_seconds", "tenure_renewal_left_seconds"].map(|name| {
        let name = format!("{name} backend=memory");
        loop {
            if let Some(values) = heard.lock().expect("no panic").get(&name) {
                return values[0];
            }
            assert!(Instant::now() < end, "{name} is not told: {heard:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert!((0.0..TTL.as_secs_f64()).contains(&took), "{took}");
    assert!((0.0..TTL.as_secs_f64()).contains(&left), "{left}");
    drop(guard);
}
