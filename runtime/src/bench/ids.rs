//! Made-up batches: one id a bag, few ids asked for often, or all alike.

use mprec_representations::{Batch, BatchShape, Schema};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// How ids are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// A Zipf law with exponent 1.05, as clicks have.
    Zipf,
    /// Every id is as likely: no cache helps.
    Uniform,
}

/// Exponent of the Zipf law.
const EXPONENT: f64 = 1.05;

/// `count` batches of `samples` samples with dense values in 0..1. The same arguments give the same batches.
///
/// # Panics
///
/// Never: ids are below their cardinalities.
pub fn batches(
    schema: &Schema,
    distribution: Distribution,
    samples: usize,
    count: usize,
) -> Vec<Batch> {
    let shape = BatchShape::new(schema);
    let mut random = SmallRng::seed_from_u64(2);
    (0..count)
        .map(|_| {
            let dense = (0..samples * schema.dense().len()).map(|_| random.random()).collect();
            let mut ids = Vec::with_capacity(samples * schema.sparse().len());
            for feature in schema.sparse() {
                ids.extend((0..samples).map(|_| match distribution {
                    Distribution::Zipf => zipf(&mut random, feature.cardinality) as i64,
                    Distribution::Uniform => random.random_range(0..feature.cardinality) as i64,
                }));
            }
            shape.from_columns(dense, &ids).expect("ids are below their cardinalities")
        })
        .collect()
}

/// An id whose rank follows a truncated Zipf law, by inverting the continuous law's distribution.
/// Ranks are scattered over the ids, so that hot rows are no neighbours.
fn zipf(random: &mut SmallRng, cardinality: u64) -> u64 {
    let power = 1.0 - EXPONENT;
    let most = 1.0 - (cardinality as f64 + 1.0).powf(power);
    let rank = (1.0 - random.random::<f64>() * most).powf(1.0 / power) as u64;
    (rank.clamp(1, cardinality) - 1).wrapping_mul(2_654_435_761) % cardinality
}
