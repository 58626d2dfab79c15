//! How good scores are, measured against what happened.
//!
//! All sums are in double precision. Labels are 0 or 1; a logit is the score before the sigmoid.

use serde::{Deserialize, Serialize};

/// Bins of the expected calibration error, of equal width over `[0, 1]`.
pub const CALIBRATION_BINS: usize = 15;

/// Quality of a variant on labelled samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Samples measured.
    pub samples: u64,
    /// Area under the ROC curve: the probability that a click scores above a non-click, ties
    /// counting one half. Exact, by ranks.
    pub auc: f64,
    /// Mean negative log likelihood, in nats.
    pub logloss: f64,
    /// Share of samples whose score, rounded half to even, is the label.
    pub accuracy: f64,
    /// Expected calibration error: `|mean score - mean label|` of each of [`CALIBRATION_BINS`]
    /// bins of equal width, weighted by the bin's share of samples (Naeini et al. 2015).
    pub ece: f64,
    /// Log loss divided by that of always predicting the samples' own click rate (He et al. 2014).
    pub normalised_entropy: f64,
}

/// Scores that cannot be judged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QualityError {
    /// Not as many scores as labels, or none.
    #[error("got {scores} scores for {labels} labels; both must be as many and at least one")]
    Lengths {
        /// Scores given.
        scores: usize,
        /// Labels given.
        labels: usize,
    },
    /// A label that is neither 0 nor 1.
    #[error("label {label} of sample {sample} is neither 0 nor 1")]
    Label {
        /// Which sample.
        sample: usize,
        /// Its label.
        label: f32,
    },
    /// A score that is not a number, or a probability outside `[0, 1]`.
    #[error("score {score} of sample {sample} is not in range")]
    Score {
        /// Which sample.
        sample: usize,
        /// Its score.
        score: f32,
    },
    /// AUC and normalised entropy need both clicks and non-clicks.
    #[error("all {samples} samples have the same label, so there is no ranking to judge")]
    OneClass {
        /// Samples given.
        samples: usize,
    },
}

impl Metrics {
    /// Judges logits. More exact than [`Metrics::from_scores`] where scores are close to 0 or 1.
    ///
    /// # Errors
    ///
    /// [`QualityError`] for lengths that differ, labels other than 0 and 1, logits that are not
    /// numbers, and samples of one class only.
    pub fn from_logits(logits: &[f32], labels: &[f32]) -> Result<Self, QualityError> {
        check(logits, labels, |logit| !logit.is_nan())?;
        let samples = logits.iter().zip(labels).map(|(&logit, &label)| {
            let logit = f64::from(logit);
            // ln(1 + exp(logit)) - label·logit, without overflow for large logits.
            let loss = logit.max(0.0) - logit * f64::from(label) + (-logit.abs()).exp().ln_1p();
            (1.0 / (1.0 + (-logit).exp()), loss, label)
        });
        Self::measure(logits, labels, samples)
    }

    /// Judges scores, which are probabilities. For the log loss they are kept the spacing of
    /// 32-bit floats below 1 (2^-24) away from 0 and 1, since a certain score that is wrong has
    /// infinite loss.
    ///
    /// # Errors
    ///
    /// As [`Metrics::from_logits`], and for scores outside `[0, 1]`.
    pub fn from_scores(scores: &[f32], labels: &[f32]) -> Result<Self, QualityError> {
        check(scores, labels, |score| (0.0..=1.0).contains(&score))?;
        const EDGE: f64 = 1.0 / (1 << 24) as f64;
        let samples = scores.iter().zip(labels).map(|(&score, &label)| {
            let score = f64::from(score);
            let inside = score.clamp(EDGE, 1.0 - EDGE);
            let loss = if label > 0.5 { -inside.ln() } else { -(-inside).ln_1p() };
            (score, loss, label)
        });
        Self::measure(scores, labels, samples)
    }

    fn measure(
        ranked: &[f32],
        labels: &[f32],
        samples: impl Iterator<Item = (f64, f64, f32)>,
    ) -> Result<Self, QualityError> {
        let count = labels.len() as f64;
        let mut bins = [(0.0_f64, 0.0_f64); CALIBRATION_BINS];
        let (mut total, mut correct, mut clicks) = (0.0, 0_u64, 0.0);
        for (score, loss, label) in samples {
            total += loss;
            // Rounding half to even sends 0.5 to 0.
            correct += u64::from((score > 0.5) == (label > 0.5));
            clicks += f64::from(label);
            let bin = ((score * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1);
            bins[bin].0 += score;
            bins[bin].1 += f64::from(label);
        }
        let gaps: f64 = bins.iter().map(|(scores, labels)| (scores - labels).abs()).sum();
        let logloss = total / count;
        Ok(Self {
            samples: labels.len() as u64,
            auc: auc(ranked, labels).ok_or(QualityError::OneClass { samples: labels.len() })?,
            logloss,
            accuracy: correct as f64 / count,
            ece: gaps / count,
            normalised_entropy: logloss / entropy(clicks / count),
        })
    }
}

/// Entropy of a coin that shows heads with probability `rate`, in nats.
fn entropy(rate: f64) -> f64 {
    -(rate * rate.ln() + (1.0 - rate) * (1.0 - rate).ln())
}

fn check(scores: &[f32], labels: &[f32], fits: impl Fn(f32) -> bool) -> Result<(), QualityError> {
    if scores.len() != labels.len() || scores.is_empty() {
        return Err(QualityError::Lengths { scores: scores.len(), labels: labels.len() });
    }
    if let Some(sample) = labels.iter().position(|&label| label != 0.0 && label != 1.0) {
        return Err(QualityError::Label { sample, label: labels[sample] });
    }
    match scores.iter().position(|&score| !fits(score)) {
        Some(sample) => Err(QualityError::Score { sample, score: scores[sample] }),
        None => Ok(()),
    }
}

/// Area under the ROC curve by the rank-sum statistic, ties sharing their mean rank; `None` when
/// all labels agree. Scores may be logits or probabilities: only their order counts.
pub fn auc(scores: &[f32], labels: &[f32]) -> Option<f64> {
    let mut ranked: Vec<(f32, bool)> =
        scores.iter().zip(labels).map(|(&score, &label)| (score, label > 0.5)).collect();
    ranked.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
    let (mut below, mut clicks, mut wins) = (0_u64, 0_u64, 0.0_f64);
    // `==` rather than bits, so that 0 and -0 tie.
    for tie in ranked.chunk_by(|left, right| left.0 == right.0) {
        let positive = tie.iter().filter(|(_, click)| *click).count() as u64;
        let negative = tie.len() as u64 - positive;
        wins += positive as f64 * (below as f64 + negative as f64 / 2.0);
        below += negative;
        clicks += positive;
    }
    (clicks > 0 && below > 0).then(|| wins / (clicks as f64 * below as f64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metrics_match_values_worked_by_hand() {
        let metrics = Metrics::from_scores(&[0.8, 0.5, 0.5, 0.1], &[1.0, 1.0, 0.0, 0.0]).unwrap();
        // Pairs (click, other): 0.8 beats both, 0.5 ties once and beats once: 3.5 of 4.
        assert!((metrics.auc - 0.875).abs() < 1e-12);
        let logloss = -(0.8_f64.ln() + 0.5_f64.ln() + 0.5_f64.ln() + 0.9_f64.ln()) / 4.0;
        assert!((metrics.logloss - logloss).abs() < 1e-7);
        // 0.5 rounds to 0: right for the third sample, wrong for the second.
        assert!((metrics.accuracy - 0.75).abs() < 1e-12);
        // Bins: 0.8 in 12 (gap 0.2), both 0.5 in 7 (gap 0), 0.1 in 1 (gap 0.1).
        assert!((metrics.ece - 0.3 / 4.0).abs() < 1e-7);
        assert!((metrics.normalised_entropy - logloss / 2.0_f64.ln()).abs() < 1e-7);
    }

    #[test]
    fn predicting_the_click_rate_has_a_normalised_entropy_of_one() {
        let metrics = Metrics::from_scores(&[0.25; 4], &[0.0, 1.0, 0.0, 0.0]).unwrap();
        assert!((metrics.normalised_entropy - 1.0).abs() < 1e-12);
        assert!((metrics.auc - 0.5).abs() < 1e-12);
        assert!(metrics.ece < 1e-12);
    }

    #[test]
    fn a_perfect_ranking_has_an_auc_of_one_and_its_reverse_of_zero() {
        let labels = [0.0, 0.0, 1.0, 1.0];
        assert_eq!(auc(&[-2.0, -1.0, 1.0, 2.0], &labels), Some(1.0));
        assert_eq!(auc(&[2.0, 1.0, -1.0, -2.0], &labels), Some(0.0));
        assert_eq!(auc(&[0.0, -0.0, 0.0, -0.0], &labels), Some(0.5));
    }

    #[test]
    fn certain_and_wrong_scores_have_a_finite_loss() {
        let metrics = Metrics::from_scores(&[0.0, 1.0], &[1.0, 0.0]).unwrap();
        assert!(metrics.logloss.is_finite() && metrics.logloss > 16.0);
        let metrics = Metrics::from_logits(&[-200.0, 200.0], &[1.0, 0.0]).unwrap();
        assert!((metrics.logloss - 200.0).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let judge = Metrics::from_scores;
        assert!(matches!(judge(&[], &[]), Err(QualityError::Lengths { .. })));
        assert!(matches!(judge(&[0.5], &[1.0, 0.0]), Err(QualityError::Lengths { .. })));
        assert!(matches!(judge(&[0.5], &[0.3]), Err(QualityError::Label { sample: 0, .. })));
        for score in [f32::NAN, 1.5, -0.1] {
            assert!(matches!(judge(&[score], &[1.0]), Err(QualityError::Score { sample: 0, .. })));
        }
        assert!(matches!(judge(&[0.5; 3], &[1.0; 3]), Err(QualityError::OneClass { samples: 3 })));
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_pairs_in_order(
            samples in prop::collection::vec((-4_i8..4, any::<bool>()), 2..60),
        ) {
            let scores: Vec<f32> = samples.iter().map(|&(score, _)| f32::from(score)).collect();
            let labels: Vec<f32> = samples.iter().map(|&(_, label)| f32::from(u8::from(label))).collect();
            let (mut pairs, mut wins) = (0.0, 0.0);
            for (high, _) in samples.iter().filter(|(_, click)| *click) {
                for (low, _) in samples.iter().filter(|(_, click)| !*click) {
                    pairs += 1.0;
                    wins += match high.cmp(low) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
            match auc(&scores, &labels) {
                Some(area) => prop_assert!((area - wins / pairs).abs() < 1e-12),
                None => prop_assert_eq!(pairs, 0.0),
            }
        }

        #[test]
        fn logits_and_their_scores_are_judged_alike(
            samples in prop::collection::vec((-8.0_f32..8.0, any::<bool>()), 2..60),
        ) {
            let logits: Vec<f32> = samples.iter().map(|&(logit, _)| logit).collect();
            let labels: Vec<f32> = samples.iter().map(|&(_, label)| f32::from(u8::from(label))).collect();
            let scores: Vec<f32> = logits.iter().map(|&logit| 1.0 / (1.0 + (-logit).exp())).collect();
            match (Metrics::from_logits(&logits, &labels), Metrics::from_scores(&scores, &labels)) {
                (Ok(left), Ok(right)) => {
                    prop_assert!((left.logloss - right.logloss).abs() < 1e-3);
                    prop_assert!((left.ece - right.ece).abs() < 1.0 / 15.0);
                }
                (left, right) => prop_assert_eq!(left, right),
            }
        }
    }
}
