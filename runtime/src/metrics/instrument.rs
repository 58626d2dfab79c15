//! Counters, gauges and histograms of atomics, and the Prometheus text they render to.
//!
//! Nothing here takes a lock: recording is one or two relaxed atomic additions, and a scrape reads
//! whatever the counters hold at that moment.

use std::{
    fmt::Write as _,
    marker::PhantomData,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Makes the count at least `total`, which was counted elsewhere.
    pub fn reach(&self, total: u64) {
        self.0.fetch_max(total, Relaxed);
    }

    /// The count now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A count that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down; 0 at first.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// Replaces the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// A sum of fractions, kept in millionths so that adding to it is one atomic addition.
#[derive(Debug, Default)]
pub struct Sum(AtomicU64);

impl Sum {
    /// Adds `amount`; a negative or non-finite one adds nothing.
    pub fn add(&self, amount: f64) {
        // A float-to-integer cast saturates, and NaN becomes 0.
        self.0.fetch_add((amount * 1e6).round() as u64, Relaxed);
    }

    /// The sum now.
    pub fn get(&self) -> f64 {
        self.0.load(Relaxed) as f64 / 1e6
    }
}

/// A closed set of label values, known when the program is built.
pub trait Label: Copy + 'static {
    /// All values, in the order of [`Label::index`].
    const NAMES: &'static [&'static str];

    /// The place of this value in [`Label::NAMES`].
    fn index(self) -> usize;
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct CounterBy<L> {
    counters: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for CounterBy<L> {
    fn default() -> Self {
        Self { counters: L::NAMES.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> CounterBy<L> {
    /// The counter of `value`.
    pub fn of(&self, value: L) -> &Counter {
        &self.counters[value.index()]
    }

    /// Sum over all values.
    pub fn total(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

/// Observations counted into buckets with fixed upper edges.
///
/// Histograms, unlike summaries, can be added up over replicas.
#[derive(Debug)]
pub struct Histogram {
    edges: Box<[f64]>,
    /// One more than edges: the last takes what is above all of them. Not cumulative.
    buckets: Box<[AtomicU64]>,
    sum: Sum,
}

impl Histogram {
    /// Buckets with these upper edges (inclusive), sorted and without repeats here.
    pub fn new(edges: &[f64]) -> Self {
        let mut edges = edges.to_vec();
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        Self {
            buckets: (0..=edges.len()).map(|_| AtomicU64::new(0)).collect(),
            edges: edges.into(),
            sum: Sum::default(),
        }
    }

    /// Counts one observation.
    pub fn observe(&self, value: f64) {
        let bucket = self.edges.partition_point(|&edge| edge < value);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.add(value);
    }

    /// Counts one duration, in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// Sum of the observations, to a millionth.
    pub fn sum(&self) -> f64 {
        self.sum.get()
    }
}

/// Prometheus text (exposition format 0.0.4) being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Starts a metric: every line that follows, up to the next start, is of it.
    pub(super) fn start(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl ToString) {
        self.0.push_str(name);
        self.labels(labels, None);
        let _ = writeln!(self.0, " {}", value.to_string());
    }

    pub(super) fn counter_by<L: Label>(
        &mut self,
        name: &str,
        label: &str,
        counters: &CounterBy<L>,
    ) {
        for (value, counter) in L::NAMES.iter().zip(&counters.counters) {
            self.value(name, &[(label, value)], counter.get());
        }
    }

    pub(super) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], from: &Histogram) {
        let mut total = 0;
        let edges = from.edges.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (edge, bucket) in edges.zip(&from.buckets) {
            total += bucket.load(Relaxed);
            let _ = write!(self.0, "{name}_bucket");
            self.labels(labels, Some(&edge));
            let _ = writeln!(self.0, " {total}");
        }
        self.value(&format!("{name}_sum"), labels, from.sum());
        // The count must equal the last bucket even while others record.
        self.value(&format!("{name}_count"), labels, total);
    }

    fn labels(&mut self, labels: &[(&str, &str)], edge: Option<&str>) {
        let pairs = labels.iter().copied().chain(edge.map(|edge| ("le", edge)));
        for (at, (label, value)) in pairs.clone().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if pairs.count() > 0 {
            self.0.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_on_an_edge_belongs_below_it() {
        let histogram = Histogram::new(&[0.02, 0.01, 0.02]);
        for value in [0.01, 0.010_001, 0.02, 0.5] {
            histogram.observe(value);
        }
        let mut page = Page::default();
        page.histogram("x", &[("path", "a\"b")], &histogram);
        let text = page.finish();
        for line in [
            "x_bucket{path=\"a\\\"b\",le=\"0.01\"} 1",
            "x_bucket{path=\"a\\\"b\",le=\"0.02\"} 3",
            "x_bucket{path=\"a\\\"b\",le=\"+Inf\"} 4",
            "x_sum{path=\"a\\\"b\"} 0.540001",
            "x_count{path=\"a\\\"b\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_sum_ignores_what_is_not_an_amount() {
        let sum = Sum::default();
        for amount in [0.25, f64::NAN, -3.0, 0.5] {
            sum.add(amount);
        }
        assert_eq!(sum.get(), 0.75);
    }
}
