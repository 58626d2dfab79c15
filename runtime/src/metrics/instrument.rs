//! Counters, gauges and histograms of atomics.
//!
//! Nothing here takes a lock: recording is one or two relaxed atomic additions, and who reads gets
//! whatever the counters hold at that moment.

use std::{
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

    /// Every value of the label with its counter.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        L::NAMES.iter().copied().zip(&self.counters)
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

    /// Every upper edge, the last infinite, with the number of observations up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let edges = self.edges.iter().copied().chain([f64::INFINITY]);
        edges.zip(&self.buckets).scan(0, |total, (edge, bucket)| {
            *total += bucket.load(Relaxed);
            Some((edge, *total))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_ignores_what_is_not_an_amount() {
        let sum = Sum::default();
        for amount in [0.25, f64::NAN, -3.0, 0.5] {
            sum.add(amount);
        }
        assert_eq!(sum.get(), 0.75);
    }
}
