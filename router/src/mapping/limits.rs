//! Which batch limits are worth trying.

use std::time::Duration;

use crate::{Quantile, ServiceCurve, latency::largest_size, path::BATCHING_GAIN};

/// Limits closer to one another than this factor are one.
const APART: f64 = 1.3;

/// Batch limits to try for a path, the smallest first:
///
/// - where batching saves less than 25 % of the time per sample, and less than 2 %, which is what
///   holds for a profile that states no limit: a fuller batch makes its members wait for little;
/// - the largest batch whose 99th percentile is half of `sla`, within what was measured: a query
///   may then wait for the batch before its own, and still be in time.
///
/// Those near one another are one, that at 2 % before the others.
pub fn batch_limits(curve: &ServiceCurve, sla: Duration) -> Vec<u32> {
    let usual = curve.efficient_batch(BATCHING_GAIN);
    let mut limits = vec![usual];
    let half = sla / 2;
    // 0 if no size fits.
    let in_half =
        largest_size(0, curve.largest_measured(), |batch| curve.at(batch, Quantile::P99) <= half);
    for limit in [curve.efficient_batch(0.25), in_half] {
        let near = |&other: &u32| f64::from(limit.max(other)) < APART * f64::from(limit.min(other));
        if limit > 0 && !limits.iter().any(near) {
            limits.push(limit);
        }
    }
    limits.sort_unstable();
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(medians: &[(u32, f64)]) -> ServiceCurve {
        ServiceCurve::from_medians(medians, 1.1, 1.25).unwrap()
    }

    #[test]
    fn limits_follow_the_curve_and_the_sla() {
        // 100 µs a batch and 1 µs a sample: 2 % above the best, that at 2,048, at some 1,433 samples, 25 %
        // at 321. Half of 1 ms, 1.25 · (100 + n) µs at n = 300, is too near to be another.
        let line: Vec<(u32, f64)> =
            (0..12).map(|power| (1 << power, 100.0 + f64::from(1 << power))).collect();
        let curve = curve(&line);
        let usual = [curve.efficient_batch(0.25), curve.efficient_batch(BATCHING_GAIN)];
        assert_eq!(batch_limits(&curve, Duration::from_millis(1)), usual);
        // Half of 400 µs is, at n = 60.
        let limits = batch_limits(&curve, Duration::from_micros(400));
        assert_eq!(limits, [60, usual[0], usual[1]]);
    }

    #[test]
    fn a_path_that_batching_does_not_help_has_one_limit_or_two() {
        let curve = curve(&[(1, 10.0), (64, 640.0)]);
        assert_eq!(batch_limits(&curve, Duration::from_micros(1)), [1]);
        let limits = batch_limits(&curve, Duration::from_millis(100));
        assert_eq!(limits, [1, 64]);
    }
}
