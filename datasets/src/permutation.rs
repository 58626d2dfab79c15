//! An order of rows that needs no memory, so that shuffling costs the same for any number of them.

use crate::token::mix;

/// Rounds of the network; four make a pseudo-random permutation of a good round function.
const ROUNDS: u64 = 4;

/// A permutation of `0..len` drawn by a seed: a balanced Feistel network on the next even power of
/// two, walked until it falls into the range (less than four steps on average).
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    len: usize,
    half: u32,
    seed: u64,
}

impl Permutation {
    /// The permutation of `0..len` that belongs to `seed`.
    pub fn new(len: usize, seed: u64) -> Self {
        let bits = usize::BITS - len.saturating_sub(1).leading_zeros();
        Self { len, half: bits.div_ceil(2), seed }
    }

    /// What stands at `place`.
    ///
    /// # Panics
    ///
    /// If `place` is not below `len`.
    pub fn at(&self, place: usize) -> usize {
        assert!(place < self.len, "place {place} of {}", self.len);
        let mut value = place as u64;
        // A cycle that starts within the range comes back to it, at the latest at its start.
        loop {
            value = self.network(value);
            if value < self.len as u64 {
                return value as usize;
            }
        }
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1_u64 << self.half) - 1;
        let (mut left, mut right) = (value >> self.half, value & mask);
        for round in 0..ROUNDS {
            let drawn = mix(right ^ mix(self.seed ^ round << 56)) & mask;
            (left, right) = (right, left ^ drawn);
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_row_of_its_own() {
        for len in [1, 2, 3, 5, 16, 17, 1000, 4097] {
            let order = Permutation::new(len, 7);
            let mut seen = vec![false; len];
            for place in 0..len {
                assert!(!std::mem::replace(&mut seen[order.at(place)], true), "{place} of {len}");
            }
        }
    }

    #[test]
    fn seeds_make_different_and_scattered_orders() {
        let len = 10_000;
        let orders = [1, 2].map(|seed| {
            let order = Permutation::new(len, seed);
            (0..len).map(|place| order.at(place)).collect::<Vec<_>>()
        });
        let same = orders[0].iter().zip(&orders[1]).filter(|(a, b)| a == b).count();
        assert!(same < 10, "{same} places agree");
        for order in &orders {
            // The mean distance of neighbours in a random order is a third of the length.
            let far: usize = order.windows(2).map(|pair| pair[0].abs_diff(pair[1])).sum();
            let mean = far as f64 / (len - 1) as f64;
            assert!((mean / len as f64 - 1.0 / 3.0).abs() < 0.02, "{mean}");
        }
    }
}
