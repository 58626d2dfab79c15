//! Vectors by key, in sets.

use super::{
    CacheStatistics,
    set::{Set, WAYS},
};
use crate::{cpu::Buffer, error::BackendError, path::BackendKind};

/// Fewest sets: below this, chance decides which ids share a set.
const LEAST_SETS: usize = 4;

/// Where a vector is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u32);

/// Vectors of one width. All memory is there from the start.
#[derive(Debug)]
pub(crate) struct VectorCache {
    sets: Vec<Set>,
    /// `[slots, width]`
    values: Buffer,
    width: usize,
    hits: u64,
    misses: u64,
}

impl VectorCache {
    /// As many vectors of `width` floats as `bytes` hold.
    ///
    /// # Errors
    ///
    /// [`BackendError::CacheTooSmall`] if those are too few to be of use, [`BackendError::Memory`] if
    /// the memory cannot be had.
    pub(crate) fn new(bytes: usize, width: usize) -> Result<Self, BackendError> {
        let each = set_bytes(width);
        // A slot's number has 32 bits.
        let sets = (bytes / each).min(u32::MAX as usize / WAYS);
        if sets < LEAST_SETS {
            return Err(BackendError::CacheTooSmall { bytes, least: LEAST_SETS * each });
        }
        Self::with_sets(sets, width)
    }

    fn with_sets(count: usize, width: usize) -> Result<Self, BackendError> {
        let mut sets = Vec::new();
        sets.try_reserve_exact(count).map_err(|_| BackendError::Memory {
            backend: BackendKind::Cpu,
            bytes: count * set_bytes(width),
        })?;
        sets.resize(count, Set::EMPTY);
        let values = Buffer::zeroed(count * WAYS * width)?;
        Ok(Self { sets, values, width, hits: 0, misses: 0 })
    }

    /// Another that holds the same, and has done nothing yet.
    ///
    /// # Errors
    ///
    /// [`BackendError::Memory`]
    pub(crate) fn copy(&self) -> Result<Self, BackendError> {
        let mut copy = Self::with_sets(self.sets.len(), self.width)?;
        copy.sets.clone_from_slice(&self.sets);
        copy.values.as_mut_slice().copy_from_slice(self.values.as_slice());
        Ok(copy)
    }

    /// Where the vector of `key` is held. Counts a hit or a miss.
    #[inline]
    pub(crate) fn find(&mut self, key: u64) -> Option<Slot> {
        let set = self.set(mix(key));
        let found = self.sets[set].find(key);
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found.map(|way| slot(set, way))
    }

    /// After a miss: where the vector of `key` is to be written, if it shall be held.
    pub(crate) fn admit(&mut self, key: u64) -> Option<Slot> {
        let mix = mix(key);
        let set = self.set(mix);
        self.sets[set].admit(key, mix).map(|way| slot(set, way))
    }

    /// Where the vector of `key` is to be written, if there is a free place. It counts as asked for
    /// `count` times, as far as counters go.
    pub(crate) fn fill(&mut self, key: u64, count: u64) -> Option<Slot> {
        let set = self.set(mix(key));
        let found = self.sets[set].fill(key, u8::try_from(count).unwrap_or(u8::MAX).min(FILLED));
        found.map(|way| slot(set, way))
    }

    pub(crate) fn vector(&self, slot: Slot) -> &[f32] {
        &self.values.as_slice()[slot.0 as usize * self.width..][..self.width]
    }

    pub(crate) fn vector_mut(&mut self, slot: Slot) -> &mut [f32] {
        &mut self.values.as_mut_slice()[slot.0 as usize * self.width..][..self.width]
    }

    /// What it did.
    pub(crate) fn statistics(&self) -> CacheStatistics {
        let Self { hits, misses, .. } = *self;
        let bytes = size_of_val(&self.sets[..]) + self.values.bytes();
        CacheStatistics { hits, misses, bytes, slots: self.sets.len() * WAYS }
    }

    fn set(&self, mix: u64) -> usize {
        // The high half of the product: a number below the sets, whatever their number.
        ((u128::from(mix) * self.sets.len() as u128) >> 64) as usize
    }
}

/// Most lookups that an id held from the start counts for: enough to outlast the first newcomers, few
/// enough to go if it is not asked for again.
const FILLED: u8 = 8;

fn slot(set: usize, way: usize) -> Slot {
    Slot((set * WAYS + way) as u32)
}

fn set_bytes(width: usize) -> usize {
    size_of::<Set>() + WAYS * width * size_of::<f32>()
}

/// A hash whose every bit depends on every bit of the key (MurmurHash3's finaliser).
fn mix(key: u64) -> u64 {
    let mut mix = key;
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        mix = (mix ^ (mix >> 33)).wrapping_mul(factor);
    }
    mix ^ (mix >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_that_is_held_has_the_vector_that_was_written_for_it(
            keys in prop::collection::vec(prop_oneof![0..40_u64, 0..2_000_u64, Just(u64::MAX - 1)], 1..1500),
            width in 1..20_usize,
        ) {
            let mut cache = VectorCache::new(9_000, width).unwrap();
            prop_assert!(cache.statistics().bytes <= 9_000 + 64);
            for (at, &key) in keys.iter().enumerate() {
                match cache.find(key) {
                    Some(slot) => prop_assert!(cache.vector(slot).iter().all(|&x| x == key as f32)),
                    None => {
                        if let Some(slot) = cache.admit(key) {
                            cache.vector_mut(slot).fill(key as f32);
                        }
                    }
                }
                let CacheStatistics { hits, misses, .. } = cache.statistics();
                prop_assert_eq!(hits + misses, at as u64 + 1);
            }
            let mut copy = cache.copy().unwrap();
            for &key in &keys {
                let (here, there) = (cache.find(key), copy.find(key));
                prop_assert_eq!(here, there);
                if let Some(slot) = there {
                    prop_assert!(copy.vector(slot).iter().all(|&x| x == key as f32));
                }
            }
        }
    }

    #[test]
    fn a_budget_for_less_than_a_few_sets_is_refused() {
        let error = VectorCache::new(1_000, 16).unwrap_err();
        assert!(matches!(error, BackendError::CacheTooSmall { bytes: 1_000, least: 2_560 }));
        assert!(VectorCache::new(2_560, 16).is_ok());
    }
}
