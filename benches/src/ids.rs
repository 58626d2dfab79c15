//! Ids as they come in practice: few are asked for often.

use rand::{Rng, rngs::SmallRng};

/// Exponent of the Zipf law.
pub const EXPONENT: f64 = 1.05;

/// An id below `cardinality` whose rank follows a truncated Zipf law, by inverting the continuous
/// law's distribution. Ranks are scattered over the ids, so that hot rows are no neighbours.
pub fn zipf(random: &mut SmallRng, cardinality: u64) -> u64 {
    let power = 1.0 - EXPONENT;
    let most = 1.0 - (cardinality as f64 + 1.0).powf(power);
    let rank = (1.0 - random.random::<f64>() * most).powf(1.0 / power) as u64;
    (rank.clamp(1, cardinality) - 1).wrapping_mul(2_654_435_761) % cardinality
}
