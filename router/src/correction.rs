//! Online correction of a path's profile.
//!
//! A profile was measured on an idle machine some time ago. While serving, clocks throttle and
//! neighbours wake up, so each completed batch teaches two things:
//!
//! - **The factor**: observed over profiled mean, as an exponentially weighted average. One
//!   average per path follows what slows everything (a clock), one residual per size bucket what
//!   slows some sizes (a cache that no longer fits). Their product corrects a prediction.
//! - **The margin**: a high quantile of observed over *corrected* prediction among the last 128
//!   batches of a bucket. `prediction × margin` is what a batch is promised to stay under. Until a
//!   bucket has 32 observations, the profile's own p99 over its mean is a floor.
//!
//! # The level of the margin
//!
//! For exchangeable errors, the next one stays below the `r`-th smallest of `n` with probability
//! `r/(n + 1)`, so the margin for a share `1 - α` is the order statistic `(1 - α)(n + 1)`, interpolated,
//! and beyond the largest one continued from the spread of the sample. Errors are not exchangeable
//! while the machine changes. So `α` is adapted after every batch, as in adaptive conformal
//! inference (Gibbs & Candès 2021), with `miss` 1 for a batch above its margin and 0 else:
//!
//! `α ← α + γ·(α* - miss)`
//!
//! where `1 - α*` is the target. Summed over `T` batches this holds the share of misses within
//! `(range of α)/(γT)` of `α*`, whatever the errors do, as long as `α` stays inside its limits.
//!
//! A factor that nothing refreshes drifts back to 1 with a time constant of a second. Without
//! that, a path predicted too slow would get no work, and so would never be seen to recover.

use std::time::Duration;

use crate::{Time, latency::ServiceCurve};

/// Size buckets: 1–3, 4–15, 16–63, 64–255, 256–1023, and 1024 and more samples.
pub(crate) const BUCKETS: usize = 6;
/// Relative errors kept per bucket.
const WINDOW: usize = 128;
/// Below this many observations, the profile's own spread bounds the margin from below.
const TRUSTED: usize = 32;
/// `γ`, the step of the level after a batch; the value of Gibbs & Candès.
const LEVEL_RATE: f64 = 0.005;
/// Limits of the level `α`, as multiples of the target's: below 0 the margin lies beyond every error
/// of the window.
const LEVELS: (f64, f64) = (-4.0, 4.0);
pub(crate) const PATH_RATE: f64 = 1.0 / 24.0;
/// Slower, so that a change that slows all sizes moves the path and not its busiest bucket.
const BUCKET_RATE: f64 = 1.0 / 160.0;
/// One observation counts at most this far from the prediction: a page fault is not a trend.
const CLAMP: f64 = 8.0;
const REST: Duration = Duration::from_secs(1);

/// Which bucket a batch of this size belongs to: powers of four.
pub(crate) fn bucket_of(samples: u32) -> usize {
    ((31 - samples.max(1).leading_zeros()) as usize / 2).min(BUCKETS - 1)
}

/// What completed batches have taught about one path.
#[derive(Debug, Clone)]
pub struct Correction {
    factor: f64,
    buckets: [Bucket; BUCKETS],
    /// The share of batches that may exceed the margin: `α*`.
    misses: f64,
    last: Time,
    observations: u64,
    covered: u64,
    error: f64,
}

#[derive(Debug, Clone)]
struct Bucket {
    residual: f64,
    margin: f64,
    profile_margin: f64,
    /// `α`.
    level: f64,
    errors: RollingQuantile,
}

impl Correction {
    /// Starts from the profile: factor 1, margin p99 over mean. `target` is the share of batches
    /// that the margin shall cover, such as 0.99.
    pub(crate) fn new(curve: &ServiceCurve, target: f64) -> Self {
        let bucket = |at: usize| {
            let sizes = [1u32 << (2 * at), (1 << (2 * at)) * 2, (4 << (2 * at)) - 1];
            let spread = |&size: &u32| curve.p99_ns(size) / curve.mean_ns(size);
            let margin = sizes.iter().map(spread).fold(1.0, f64::max);
            Bucket {
                residual: 1.0,
                margin,
                profile_margin: margin,
                level: 1.0 - target,
                errors: RollingQuantile::default(),
            }
        };
        Self {
            factor: 1.0,
            buckets: std::array::from_fn(bucket),
            misses: 1.0 - target,
            last: Time::ZERO,
            observations: 0,
            covered: 0,
            error: 0.0,
        }
    }

    /// What to multiply the profiled mean of a batch of this size by.
    pub fn factor(&self, samples: u32) -> f64 {
        self.factor * self.buckets[bucket_of(samples)].residual
    }

    /// [Factor](Self::factor) and [margin](Self::margin) of a [bucket](bucket_of).
    pub(crate) fn of_bucket(&self, bucket: usize) -> (f64, f64) {
        let bucket = &self.buckets[bucket];
        (self.factor * bucket.residual, bucket.margin)
    }

    /// What to multiply the corrected prediction by, so that the target share of batches stays
    /// under it. At least 1.
    pub fn margin(&self, samples: u32) -> f64 {
        self.buckets[bucket_of(samples)].margin
    }

    /// Batches observed.
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// The share of observed batches that took no longer than prediction × margin; 1 before the
    /// first.
    pub fn coverage(&self) -> f64 {
        if self.observations == 0 { 1.0 } else { self.covered as f64 / self.observations as f64 }
    }

    /// Mean absolute relative error of the corrected prediction, over recent batches.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Learns from a batch that took `observed_ns` where the profile's mean is `profiled_ns`.
    pub(crate) fn observe(&mut self, samples: u32, profiled_ns: f64, observed_ns: f64, now: Time) {
        let ratio = (observed_ns / profiled_ns).clamp(1.0 / CLAMP, CLAMP);
        let bucket = &mut self.buckets[bucket_of(samples)];
        let relative = ratio / (self.factor * bucket.residual);

        self.observations += 1;
        let miss = relative > bucket.margin;
        self.covered += u64::from(!miss);
        let (least, most) = (LEVELS.0 * self.misses, LEVELS.1 * self.misses);
        let step = LEVEL_RATE * (self.misses - f64::from(u8::from(miss)));
        bucket.level = (bucket.level + step).clamp(least, most);
        // The first observations weigh more, so that a cold start is not remembered as exact.
        let rate = PATH_RATE.max(1.0 / (self.observations as f64 + 4.0));
        self.error += rate * ((relative - 1.0).abs() - self.error);
        self.factor += rate * (ratio / bucket.residual - self.factor);
        bucket.residual += BUCKET_RATE * (ratio / self.factor - bucket.residual);
        bucket.errors.push(relative as f32);
        let seen = bucket.errors.quantile(1.0 - bucket.level);
        let floor = if bucket.errors.len() < TRUSTED { bucket.profile_margin } else { 1.0 };
        bucket.margin = seen.max(floor);
        self.last = now;
    }

    /// Lets a factor that nothing refreshed for a second or more drift back towards 1.
    pub(crate) fn rest(&mut self, now: Time) {
        let idle = now.since(self.last);
        if idle < REST {
            return;
        }
        let keep = (-idle.as_secs_f64() / REST.as_secs_f64()).exp();
        self.factor = 1.0 + (self.factor - 1.0) * keep;
        for bucket in &mut self.buckets {
            bucket.residual = 1.0 + (bucket.residual - 1.0) * keep;
        }
        self.last = now;
    }
}

/// A quantile of the last [`WINDOW`] values.
#[derive(Debug, Clone, Default)]
struct RollingQuantile {
    ring: Vec<f32>,
    sorted: Vec<f32>,
    next: usize,
}

impl RollingQuantile {
    fn len(&self) -> usize {
        self.ring.len()
    }

    fn push(&mut self, value: f32) {
        if self.ring.len() < WINDOW {
            self.ring.push(value);
        } else {
            let oldest = std::mem::replace(&mut self.ring[self.next], value);
            self.next = (self.next + 1) % WINDOW;
            let at = self.sorted.partition_point(|&kept| kept < oldest);
            self.sorted.remove(at);
        }
        let at = self.sorted.partition_point(|&kept| kept < value);
        self.sorted.insert(at, value);
    }

    /// The value that the next one stays below with probability `share`, if it is drawn like those
    /// kept: the order statistic `share · (n + 1)`. A `share` near or above 1 leads beyond the largest.
    fn quantile(&self, share: f64) -> f64 {
        let Some(&largest) = self.sorted.last() else { return 0.0 };
        let count = self.sorted.len();
        let place = (share * (count + 1) as f64 - 1.0).max(0.0);
        let (largest, middle) = (f64::from(largest), f64::from(self.sorted[count / 2]));
        let last = (count - 1) as f64;
        if place >= last {
            // An exponential tail has `ln n` of its scales between the median and the largest of
            // `n`, and expects the next record about one scale further on.
            let scale = (largest - middle) / (0.5 * count as f64).ln().max(1.0);
            return largest + (place - last) * scale;
        }
        let below = place as usize;
        let (from, to) = (f64::from(self.sorted[below]), f64::from(self.sorted[below + 1]));
        from + (to - from) * (place - below as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn curve() -> ServiceCurve {
        ServiceCurve::from_medians(&[(1, 40.0), (128, 1300.0)], 1.1, 1.25).unwrap()
    }

    #[test]
    fn a_slowdown_is_absorbed_within_200_batches() {
        let curve = curve();
        let mut correction = Correction::new(&curve, 0.99);
        let mut random = StdRng::seed_from_u64(1);
        let mut run = |correction: &mut Correction, slowdown: f64, batches: usize| {
            let mut late = 0;
            for _ in 0..batches {
                let samples = random.random_range(1..300);
                let observed = slowdown * curve.draw_ns(samples, random.random());
                let promised = curve.mean_ns(samples)
                    * correction.factor(samples)
                    * correction.margin(samples);
                late += usize::from(observed > promised);
                correction.observe(samples, curve.mean_ns(samples), observed, Time::ZERO);
            }
            late
        };
        run(&mut correction, 1.0, 1_000);
        assert!((correction.factor(100) - 1.0).abs() < 0.03, "{}", correction.factor(100));
        run(&mut correction, 1.5, 200);
        for samples in [2, 10, 40, 100, 280] {
            let factor = correction.factor(samples);
            assert!((factor / 1.5 - 1.0).abs() < 0.05, "{samples} samples: {factor}");
        }
        let late = run(&mut correction, 1.5, 5_000);
        assert!(late < 100, "{late} of 5000 above a 99 % promise");
        assert!(correction.margin(100) < 1.3, "the margin forgot the change");
        assert!(correction.error() < 0.1);
    }

    #[test]
    fn sizes_that_slow_down_alone_are_corrected_alone() {
        let curve = curve();
        let mut correction = Correction::new(&curve, 0.99);
        for turn in 0..2_000u32 {
            let samples = [2, 100][turn as usize % 2];
            let slowdown = if samples == 100 { 1.6 } else { 1.0 };
            let profiled = curve.mean_ns(samples);
            correction.observe(samples, profiled, profiled * slowdown, Time::ZERO);
        }
        assert!((correction.factor(2) - 1.0).abs() < 0.05, "{}", correction.factor(2));
        assert!((correction.factor(100) - 1.6).abs() < 0.05, "{}", correction.factor(100));
    }

    #[test]
    fn a_factor_that_nothing_refreshes_returns_to_one() {
        let curve = curve();
        let mut correction = Correction::new(&curve, 0.99);
        for _ in 0..200 {
            correction.observe(100, 1.0, 4.0, Time::ZERO);
        }
        let learnt = correction.factor(100);
        correction.rest(Time::from_millis(900));
        assert_eq!(correction.factor(100), learnt);
        correction.rest(Time::from_millis(6_000));
        assert!((correction.factor(100) - 1.0).abs() < 0.05, "{}", correction.factor(100));
    }

    #[test]
    fn an_outlier_moves_the_factor_by_a_bounded_amount() {
        let mut correction = Correction::new(&curve(), 0.99);
        for _ in 0..100 {
            correction.observe(100, 1.0, 1.0, Time::ZERO);
        }
        correction.observe(100, 1.0, 1e9, Time::ZERO);
        assert!(correction.factor(100) < 1.5);
    }

    #[test]
    fn buckets_are_powers_of_four() {
        let buckets = [1, 3, 4, 15, 16, 63, 64, 255, 256, 1023, 1024, 1 << 20].map(bucket_of);
        assert_eq!(buckets, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    }

    /// Share of promises kept over `batches`, where `observed` gives the time of each by its place
    /// and its size.
    fn coverage(
        target: f64,
        batches: usize,
        mut observed: impl FnMut(usize, u32, f64) -> f64,
    ) -> (Correction, f64) {
        let curve = curve();
        let mut correction = Correction::new(&curve, target);
        let mut random = StdRng::seed_from_u64(4);
        let mut kept = 0;
        for at in 0..batches {
            let samples = random.random_range(1..300);
            let profiled = curve.mean_ns(samples);
            let observed = observed(at, samples, random.random());
            let promised = profiled * correction.factor(samples) * correction.margin(samples);
            kept += usize::from(observed <= promised);
            correction.observe(samples, profiled, observed, Time::ZERO);
        }
        (correction, kept as f64 / batches as f64)
    }

    #[test]
    fn the_margin_covers_its_target_share_whatever_the_machine_does() {
        let curve = curve();
        let draw = |samples, u| curve.draw_ns(samples, u);
        for target in [0.9, 0.95, 0.99] {
            let check = |what: &str, kept: f64| {
                assert!((kept - target).abs() < 0.2 * (1.0 - target), "{what} {target}: {kept}");
            };
            let steady = coverage(target, 40_000, |_, samples, u| draw(samples, u));
            check("steady", steady.1);
            assert_eq!(steady.0.coverage(), steady.1, "what is exported is what was kept");
            let drift = coverage(target, 40_000, |at, samples, u| {
                (1.0 + at as f64 / 40_000.0) * draw(samples, u)
            });
            check("drift to twice the time", drift.1);
            let slowdown = coverage(target, 40_000, |at, samples, u| {
                if at < 20_000 { draw(samples, u) } else { 1.5 * draw(samples, u) }
            });
            check("a slowdown", slowdown.1);
            let wider = coverage(target, 40_000, |at, samples, u| {
                // The spread around the median doubles, and narrows again.
                let middle = curve.p50_ns(samples);
                let times = if (at / 5_000) % 2 == 1 { 2.0 } else { 1.0 };
                middle + times * (draw(samples, u) - middle)
            });
            check("a changing spread", wider.1);
        }
    }

    proptest! {
        #[test]
        fn the_rolling_quantile_matches_sorting(values in prop::collection::vec(0.0f32..9.0, 1..400)) {
            let mut rolling = RollingQuantile::default();
            for (at, &value) in values.iter().enumerate() {
                rolling.push(value);
                let mut recent = values[(at + 1).saturating_sub(WINDOW)..=at].to_vec();
                recent.sort_by(f32::total_cmp);
                // Where `share · (n + 1)` is whole, no interpolation is needed.
                let rank = recent.len().div_ceil(2);
                let share = rank as f64 / (recent.len() + 1) as f64;
                let expected = f64::from(recent[rank - 1]);
                prop_assert!((rolling.quantile(share) - expected).abs() < 1e-5);
                prop_assert!(rolling.quantile(1.0) >= rolling.quantile(0.5));
            }
        }
    }
}
