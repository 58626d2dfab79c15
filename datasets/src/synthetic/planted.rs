//! The logistic model that draws the labels.
//!
//! The logit of a row is a bias and three sums, each a fixed share of the variance:
//!
//! - half: an effect of every id of every feature, features of few values weighing more;
//! - a fifth: for some pairs of features, the product of two hidden vectors of their ids, which
//!   only a model that sees both ids together can learn;
//! - three tenths: effects of the dense values, linear and (a fifth of it) quadratic.
//!
//! Effects are hashes of feature and id, so no table is held whatever the cardinalities are.

use super::draw::bell;
use crate::token::mix;

/// Shares of the logits' variance.
const SINGLE: f64 = 0.5;
const PAIRS: f64 = 0.2;
const DENSE: f64 = 0.3;
const QUADRATIC: f64 = 0.2;

/// Pairs of features that act together, and the width of their hidden vectors.
const MOST_PAIRS: usize = 4;
const HIDDEN: u64 = 2;

#[derive(Debug, Clone)]
pub(super) struct Planted {
    seed: u64,
    signal: f64,
    pub(super) bias: f64,
    /// Standard deviation of each sparse feature's own effects.
    single: Vec<f64>,
    pairs: Vec<(usize, usize)>,
    /// Linear and quadratic weight of each dense feature.
    dense: Vec<(f64, f64)>,
}

impl Planted {
    pub(super) fn new(seed: u64, signal: f64, cardinalities: &[u64], dense: usize) -> Self {
        let weights: Vec<_> = cardinalities
            .iter()
            .map(|&cardinality| 1.0 / (2.0 + cardinality as f64).ln())
            .collect();
        let total: f64 = weights.iter().sum();
        let single = weights.iter().map(|weight| (SINGLE * weight / total).sqrt()).collect();
        // Features of few values, but not of two or three: their pairs recur often enough to learn.
        let mut order: Vec<usize> = (0..cardinalities.len()).collect();
        order.sort_by_key(|&feature| cardinalities[feature]);
        let start = cardinalities.len() / 4;
        let pairs = order[start..]
            .chunks_exact(2)
            .take(MOST_PAIRS)
            .map(|pair| (pair[0], pair[1]))
            .collect();
        let raw = |stream: u64| -> Vec<f64> {
            let weights: Vec<_> =
                (0..dense as u64).map(|at| bell(mix(seed ^ stream) ^ at)).collect();
            let norm = weights.iter().map(|weight| weight * weight).sum::<f64>().sqrt();
            weights.iter().map(|weight| weight / norm.max(1e-9)).collect()
        };
        let linear = (DENSE * (1.0 - QUADRATIC)).sqrt();
        let quadratic = (DENSE * QUADRATIC).sqrt();
        let dense = raw(11)
            .into_iter()
            .zip(raw(12))
            .map(|(first, second)| (first * linear, second * quadratic))
            .collect();
        Self { seed, signal, bias: 0.0, single, pairs, dense }
    }

    /// The logit of a row: its ids, and the standard normals behind its dense values (none where
    /// the value is missing).
    pub(super) fn logit(&self, ids: &[u64], normals: &[Option<f64>]) -> f64 {
        let key = |stream: u64, feature: usize, id: u64| {
            mix(self.seed ^ mix(stream << 32 | feature as u64)) ^ mix(id)
        };
        let single: f64 = ids
            .iter()
            .zip(&self.single)
            .enumerate()
            .map(|(feature, (&id, deviation))| deviation * bell(key(1, feature, id)))
            .sum();
        let pairs: f64 = self
            .pairs
            .iter()
            .flat_map(|&(first, second)| (0..HIDDEN).map(move |at| (first, second, at)))
            .map(|(first, second, at)| {
                bell(key(2 + at, first, ids[first])) * bell(key(2 + at, second, ids[second]))
            })
            .sum();
        let pair_scale = (PAIRS / (self.pairs.len().max(1) as f64 * HIDDEN as f64)).sqrt();
        let dense: f64 = normals
            .iter()
            .zip(&self.dense)
            .filter_map(|(normal, weights)| Some(((*normal)?, weights)))
            .map(|(z, (linear, quadratic))| {
                linear * z + quadratic * (z * z - 1.0) / std::f64::consts::SQRT_2
            })
            .sum();
        self.bias + self.signal * (single + pair_scale * pairs + dense)
    }
}

/// 1 / (1 + e^-x).
pub(super) fn logistic(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// The bias with which these logits make clicks at `rate`.
pub(super) fn bias_for(logits: &[f64], rate: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        let clicks: f64 = logits.iter().map(|logit| logistic(logit + middle)).sum();
        if clicks < rate * logits.len() as f64 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// AUC and log loss (nats) of probabilities against labels; AUC 0.5 where all labels are alike.
pub(super) fn quality(mut rows: Vec<(f64, bool)>) -> (f64, f64) {
    let count = rows.len() as f64;
    let loss: f64 = rows.iter().map(|&(p, click)| -(if click { p } else { 1.0 - p }).ln()).sum();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let clicks = rows.iter().filter(|row| row.1).count() as f64;
    let (mut seen, mut ranks) = (0.0, 0.0);
    for same in rows.chunk_by(|a, b| a.0 == b.0) {
        // Equal probabilities share the mean of their ranks.
        let mean = seen + (same.len() as f64 + 1.0) / 2.0;
        ranks += mean * same.iter().filter(|row| row.1).count() as f64;
        seen += same.len() as f64;
    }
    let pairs = clicks * (count - clicks);
    let auc = if pairs > 0.0 { (ranks - clicks * (clicks + 1.0) / 2.0) / pairs } else { 0.5 };
    (auc, loss / count.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_is_the_share_of_ordered_pairs() {
        let rows = vec![(0.1, false), (0.4, true), (0.35, false), (0.8, true), (0.4, false)];
        // Of six pairs, five are in order and one is tied.
        let (auc, loss) = quality(rows);
        assert!((auc - 5.5 / 6.0).abs() < 1e-12, "{auc}");
        let expected = -(0.9_f64.ln() + 0.4_f64.ln() + 0.65_f64.ln() + 0.8_f64.ln() + 0.6_f64.ln());
        assert!((loss - expected / 5.0).abs() < 1e-12, "{loss}");
        assert_eq!(quality(vec![(0.3, true)]).0, 0.5);
    }

    #[test]
    fn the_bias_meets_the_click_rate() {
        let logits: Vec<_> = (0..1000).map(bell).collect();
        let bias = bias_for(&logits, 0.25);
        let rate = logits.iter().map(|logit| logistic(logit + bias)).sum::<f64>() / 1000.0;
        assert!((rate - 0.25).abs() < 1e-9, "{rate}");
    }
}
