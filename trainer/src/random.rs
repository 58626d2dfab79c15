//! Random streams. Every use draws from a stream of its own, found from the seed and what it is
//! for, so that no state needs saving and nothing depends on the order of uses.

use rand::{SeedableRng, rngs::StdRng};

/// What a stream is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Dense = 1,
    Rows = 2,
    Hashes = 3,
    Blocks = 4,
    Window = 5,
}

/// The stream of `seed` for `purpose` and, within it, `at`.
pub(crate) fn stream(seed: u64, purpose: Purpose, at: &[u64]) -> StdRng {
    let mut mixed = mix(seed ^ mix(purpose as u64));
    for &part in at {
        mixed = mix(mixed ^ part.wrapping_add(0x9e37_79b9_7f4a_7c15));
    }
    StdRng::seed_from_u64(mixed)
}

/// The finaliser of SplitMix64 (Steele et al. 2014): close inputs give unrelated outputs.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
