//! Codes of the ids of a batch, computed once for each distinct id.

use std::{ops::Range, sync::Arc};

use mprec_representations::{self as model, Batch, HashFamily, Transform};

use crate::ops::pool::Use;

/// The Mersenne prime 2^31 - 1, modulo which a remainder takes shifts and additions only.
const MERSENNE: i64 = (1 << 31) - 1;

/// The encoder of one feature's DHE.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    family: HashFamily,
    transform: Transform,
    fast: Option<Fast>,
}

/// A family whose prime is [`MERSENNE`] and whose members share their range: no division at all.
#[derive(Debug, Clone)]
struct Fast {
    a: Vec<u32>,
    b: Vec<u32>,
    range: u32,
    /// `⌈2^shift / range⌉`, by which `x div range = x · reciprocal >> shift` for x below 2^31:
    /// the rounding up adds less than `x · range / 2^shift < 1/range` to the quotient, as
    /// `2^shift ≥ 2^31 · range`.
    reciprocal: u32,
    shift: u32,
}

impl Fast {
    fn new(family: &HashFamily) -> Option<Self> {
        let parameters = family.parameters();
        let range = u32::try_from(parameters.row(0)[3]).ok()?;
        let rows = (0..family.len()).map(|at| parameters.row(at));
        if rows.clone().any(|row| row[2] != MERSENNE || row[3] != i64::from(range)) {
            return None;
        }
        let shift = 31 + u32::BITS - (range - 1).leading_zeros();
        Some(Self {
            a: rows.clone().map(|row| row[0] as u32).collect(),
            b: rows.map(|row| row[1] as u32).collect(),
            range,
            reciprocal: u32::try_from((1_u64 << shift).div_ceil(u64::from(range))).ok()?,
            shift,
        })
    }

    /// The uniform codes of `ids`, bit for bit as [`HashFamily::encode`] gives them.
    fn encode(&self, ids: &[u64], codes: &mut [f32]) {
        const P: u64 = MERSENNE as u64;
        let (range, reciprocal, shift) =
            (u64::from(self.range), u64::from(self.reciprocal), self.shift);
        let scale = (self.range - 1) as f32;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (&id, codes) in ids.iter().zip(codes.chunks_exact_mut(self.a.len())) {
                    let id = id % P;
                    for ((code, &a), &b) in codes.iter_mut().zip(&self.a).zip(&self.b) {
                        // Below 2^62; the first fold leaves less than 2^32, the second at most P.
                        let sum = u64::from(a) * id + u64::from(b);
                        let sum = (sum & P) + (sum >> 31);
                        let sum = (sum & P) + (sum >> 31);
                        let sum = if sum == P { 0 } else { sum };
                        let hash = sum - ((sum * reciprocal) >> shift) * range;
                        *code = hash as u32 as i32 as f32 / scale * 2.0 - 1.0;
                    }
                }
            },
        );
    }
}

impl Encoder {
    pub(crate) fn new(family: HashFamily, transform: Transform) -> Self {
        let fast = if transform == Transform::Uniform { Fast::new(&family) } else { None };
        Self { family, transform, fast }
    }

    /// The family's parameters, `[k, 4]`.
    pub(crate) fn parameters(&self) -> &model::Tensor<i64> {
        self.family.parameters()
    }

    fn encode(&self, ids: &[u64], codes: &mut [f32]) {
        match &self.fast {
            Some(fast) => fast.encode(ids, codes),
            None => {
                for (&id, codes) in ids.iter().zip(codes.chunks_exact_mut(self.family.len())) {
                    self.family.encode(id, self.transform, codes);
                }
            }
        }
    }
}

/// The codes of some features' ids in some samples of a batch.
#[derive(Debug)]
pub(crate) struct Codes {
    /// `[distinct ids, k]`, feature by feature.
    pub(crate) values: Vec<f32>,
    /// Where each feature's distinct ids start, and one final end.
    pub(crate) starts: Arc<[usize]>,
    /// Which id is in which bag; bags are numbered sample by sample.
    pub(crate) uses: Arc<[Use]>,
}

impl Codes {
    /// Encodes the ids that `features` have in `samples` of `batch`; one encoder for each feature,
    /// all of `hashes` hashes.
    pub(crate) fn new(
        batch: &Batch,
        samples: Range<usize>,
        features: &[usize],
        encoders: &[Encoder],
        hashes: usize,
    ) -> Self {
        let mut starts = vec![0];
        let mut uses = Vec::new();
        let mut distinct: Vec<u64> = Vec::new();
        let mut found: Vec<(u64, u32)> = Vec::new();
        for (slot, &feature) in features.iter().enumerate() {
            let bags = batch.bags(feature);
            found.clear();
            let first_use = uses.len();
            for (sample, bag) in samples.clone().enumerate() {
                for at in bags.range(bag) {
                    found.push((bags.ids()[at], (uses.len() - first_use) as u32));
                    uses.push(Use {
                        bag: (sample * features.len() + slot) as u32,
                        vector: 0,
                        weight: bags.weights().map_or(1.0, |weights| weights[at]),
                    });
                }
            }
            found.sort_unstable();
            let mut last = None;
            for &(id, at) in &found {
                if last != Some(id) {
                    distinct.push(id);
                    last = Some(id);
                }
                uses[first_use + at as usize].vector = (distinct.len() - 1) as u32;
            }
            starts.push(distinct.len());
        }
        let mut values = vec![0.0; distinct.len() * hashes];
        for (encoder, range) in encoders.iter().zip(starts.windows(2)) {
            let codes = &mut values[range[0] * hashes..range[1] * hashes];
            encoder.encode(&distinct[range[0]..range[1]], codes);
        }
        Self { values, starts: starts.into(), uses: uses.into() }
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::{BatchShape, Jagged, Schema, SparseFeature};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_fast_encoder_matches_the_definition_bit_for_bit(
            hashes in prop::collection::vec((1..MERSENNE, 0..MERSENNE), 1..40),
            range in prop_oneof![2_i64..=1 << 24, Just(1_000_000), Just(1 << 20), Just(2)],
            ids in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..100, Just(MERSENNE as u64)], 1..6),
        ) {
            let parameters =
                hashes.iter().flat_map(|&(a, b)| [a, b, MERSENNE, range]).collect::<Vec<_>>();
            let family = HashFamily::new(model::Tensor::new(&[hashes.len(), 4], parameters)).unwrap();
            let encoder = Encoder::new(family.clone(), Transform::Uniform);
            prop_assert!(encoder.fast.is_some());
            let mut fast = vec![0.0; ids.len() * hashes.len()];
            encoder.encode(&ids, &mut fast);
            let mut slow = fast.clone();
            for (&id, codes) in ids.iter().zip(slow.chunks_exact_mut(hashes.len())) {
                family.encode(id, Transform::Uniform, codes);
            }
            let bits = |codes: &[f32]| codes.iter().map(|code| code.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&fast), bits(&slow));
        }
    }

    #[test]
    fn the_largest_sums_are_reduced_exactly() {
        let p = MERSENNE;
        let rows = vec![p - 1, p - 1, p, 2, 1, p - 1, p, 2];
        let family = HashFamily::new(model::Tensor::new(&[2, 4], rows)).unwrap();
        let encoder = Encoder::new(family.clone(), Transform::Uniform);
        for id in [0, 1, p as u64 - 1, p as u64, u64::MAX] {
            let (mut fast, mut slow) = ([0.0; 2], [0.0; 2]);
            encoder.encode(&[id], &mut fast);
            family.encode(id, Transform::Uniform, &mut slow);
            assert_eq!(fast, slow, "id {id}");
        }
    }

    #[test]
    fn each_distinct_id_is_encoded_once() {
        let sparse = ["a", "b"].map(|name| SparseFeature { name: name.into(), cardinality: 9 });
        let schema = Schema::new(vec!["x".into()], sparse.into(), Default::default()).unwrap();
        let jagged =
            Jagged { ids: vec![1, 4, 4, 1, 2, 2], lengths: vec![1, 2, 1, 0, 1, 1], weights: None };
        let batch = BatchShape::new(&schema).from_jagged(vec![0.0; 3], &jagged).unwrap();
        let family =
            HashFamily::new(model::Tensor::new(&[1, 4], vec![5, 3, MERSENNE, 1000])).unwrap();
        let encoders = vec![Encoder::new(family, Transform::Uniform); 2];
        let codes = Codes::new(&batch, 0..3, &[0, 1], &encoders, 1);
        assert_eq!(*codes.starts, [0, 2, 3]);
        let uses: Vec<_> = codes.uses.iter().map(|one| (one.bag, one.vector)).collect();
        assert_eq!(uses, [(0, 0), (2, 1), (2, 1), (4, 0), (3, 2), (5, 2)]);
        let last = Codes::new(&batch, 2..3, &[1], &encoders[..1], 1);
        assert_eq!((last.values.len(), last.uses.len()), (1, 1));
    }
}
