//! Candidates that another matches in everything, for searches too large to try them all.

use crate::{Quantile, ServiceCurve};

use super::{
    Candidate,
    instance::{Instance, Limits},
};

/// Candidates that need not be tried, each with one that is as good: on the same device, of another
/// path, with at least its accuracy, at most its bytes and at most its service time at every size.
pub(super) fn dominated(instance: &Instance<'_>, limits: &Limits) -> Vec<(usize, usize)> {
    let candidates = &instance.problem.candidates;
    let usable: Vec<usize> =
        (0..candidates.len()).filter(|&at| instance.joins(&[], at as u16, limits)).collect();
    let mut dropped: Vec<(usize, usize)> = Vec::new();
    for &at in &usable {
        let by = usable.iter().copied().find(|&by| {
            let (one, other) = (&candidates[at], &candidates[by]);
            // Of two that match each other, the first stays.
            by != at && matches(other, one) && (by < at || !matches(one, other))
        });
        if let Some(by) = by {
            dropped.push((at, by));
        }
    }
    dropped
}

/// Whether `good` can stand in for `other` wherever that is chosen.
fn matches(good: &Candidate, other: &Candidate) -> bool {
    let (one, two) = (&good.profile, &other.profile);
    one.name != two.name
        && one.device == two.device
        && one.accuracy >= two.accuracy
        && one.bytes <= two.bytes
        && (good.cache_bytes.is_none() || good.cache_bytes == other.cache_bytes)
        && never_slower(&one.service, &two.service)
}

/// Between the measured sizes of both, both are linear; beyond the last, both grow in proportion.
fn never_slower(one: &ServiceCurve, other: &ServiceCurve) -> bool {
    let measured = one.points().iter().chain(other.points()).map(|point| point.batch);
    let beyond = one.largest_measured().max(other.largest_measured()).saturating_mul(1_024);
    let mut sizes = measured.chain([1, beyond]);
    sizes.all(|size| {
        [Quantile::P50, Quantile::P95, Quantile::P99]
            .into_iter()
            .all(|quantile| one.at(size, quantile) <= other.at(size, quantile))
    })
}
