//! The outputs of a reply: all scores in the samples' order, or the best of them and which samples those are.

use std::num::NonZeroUsize;

use super::{error::ApiError, inputs::SCORES, parameters::RequestParameters};

/// Name of the output that says which samples the best scores are of.
pub(crate) const INDICES: &str = "indices";

/// The outputs that a reply holds, each with whether it is sent in binary.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outputs {
    pub(crate) scores: Option<bool>,
    pub(crate) indices: Option<bool>,
    top_k: Option<NonZeroUsize>,
}

/// The best scores of a query, the best first.
#[derive(Debug, PartialEq)]
pub(crate) struct Best {
    /// The scores.
    pub(crate) scores: Vec<f32>,
    /// The sample of each.
    pub(crate) indices: Vec<i64>,
}

impl Outputs {
    /// The outputs that a request names with their form, or all that there are.
    pub(crate) fn of<'a>(
        parameters: &RequestParameters,
        named: impl Iterator<Item = (&'a str, bool)>,
    ) -> Result<Self, ApiError> {
        let mut outputs = Self { top_k: parameters.top_k, ..Self::default() };
        for (name, binary) in named {
            let bad = |problem| Err(ApiError::BadOutput { name: name.to_owned(), problem });
            let output = match name {
                SCORES => &mut outputs.scores,
                INDICES if outputs.top_k.is_none() => return bad("is there with `top_k` only"),
                INDICES => &mut outputs.indices,
                _ => {
                    return bad("does not exist; there is `scores`, and `indices` with `top_k`");
                }
            };
            if output.replace(binary).is_some() {
                return bad("is asked for twice");
            }
        }
        if outputs.scores.is_none() && outputs.indices.is_none() {
            outputs.scores = Some(parameters.binary_output);
            outputs.indices = outputs.top_k.map(|_| parameters.binary_output);
        }
        Ok(outputs)
    }

    /// The best of `scores`, if the best were asked for. Of equal scores the first sample's is better. Scores are
    /// finite.
    pub(crate) fn best(&self, scores: &[f32]) -> Option<Best> {
        let count = self.top_k?.get();
        // Both cannot be compared only if one is NaN.
        let order = |&one: &usize, &other: &usize| {
            let scores = scores[other].partial_cmp(&scores[one]);
            scores.unwrap_or(std::cmp::Ordering::Equal).then(one.cmp(&other))
        };
        let mut samples: Vec<usize> = (0..scores.len()).collect();
        if count < samples.len() {
            samples.select_nth_unstable_by(count, order);
            samples.truncate(count);
        }
        samples.sort_unstable_by(order);
        Some(Best {
            scores: samples.iter().map(|&sample| scores[sample]).collect(),
            indices: samples.iter().map(|&sample| sample as i64).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn top(count: usize) -> RequestParameters {
        RequestParameters { top_k: NonZeroUsize::new(count), ..RequestParameters::default() }
    }

    proptest! {
        #[test]
        fn the_best_are_the_first_of_all_in_order(
            scores in prop::collection::vec((0_u8..6).prop_map(f32::from), 0..40),
            count in 1_usize..50,
        ) {
            let best = Outputs::of(&top(count), std::iter::empty()).unwrap().best(&scores).unwrap();
            // A stable sort keeps equal scores in the samples' order.
            let mut all: Vec<usize> = (0..scores.len()).collect();
            all.sort_by(|&one, &other| scores[other].total_cmp(&scores[one]));
            all.truncate(count);
            let expected: Vec<i64> = all.iter().map(|&sample| sample as i64).collect();
            prop_assert_eq!(best.indices, expected);
            let expected: Vec<f32> = all.iter().map(|&sample| scores[sample]).collect();
            prop_assert_eq!(best.scores, expected);
        }
    }

    #[test]
    fn outputs_are_those_that_are_named_or_all() {
        let of = |parameters, named: &[(&'static str, bool)]| {
            Outputs::of(&parameters, named.iter().copied())
                .map(|outputs| (outputs.scores, outputs.indices))
        };
        let all = RequestParameters::default();
        assert_eq!(of(all, &[]).unwrap(), (Some(false), None));
        assert_eq!(of(top(3), &[]).unwrap(), (Some(false), Some(false)));
        let binary = RequestParameters { binary_output: true, ..top(3) };
        assert_eq!(of(binary, &[]).unwrap(), (Some(true), Some(true)));
        assert_eq!(of(top(3), &[(INDICES, true)]).unwrap(), (None, Some(true)));
        let named = [(INDICES, true), (SCORES, false)];
        assert_eq!(of(top(3), &named).unwrap(), (Some(false), Some(true)));
        for (parameters, named, word) in [
            (top(3), &[(SCORES, true), (SCORES, true)][..], "twice"),
            (RequestParameters::default(), &[(INDICES, true)], "`top_k`"),
            (top(3), &[("score", true)], "`scores`"),
        ] {
            let message = of(parameters, named).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
