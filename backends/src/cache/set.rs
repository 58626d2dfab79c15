//! Eight places for vectors, and who may have them.
//!
//! Every set decides for itself, by frequency (as W-TinyLFU does for a whole cache):
//!
//! 1. Who is held has a counter of hits. Who is not is counted in a small count-min sketch.
//! 2. On a miss the least frequent of the eight makes room if the newcomer was asked for more often.
//! 3. After [`PERIOD`] lookups all counters are halved, so that yesterday's favourites leave.
//!
//! An id asked for once thus never displaces one asked for twice, which is what least-recently-used
//! does all day with the long tail of a Zipf law. A lookup touches two cache lines beside the vector.

/// Places in a set.
pub(super) const WAYS: usize = 8;
/// Rows of the sketch.
const ROWS: usize = 3;
/// Counters in a row of the sketch.
const COLUMNS: usize = 16;
/// Lookups of a set after which its counters are halved: thirty for each place. Ten, as W-TinyLFU has it, held up
/// to three in a hundred ids less on real accesses, and more than thirty hardly more.
const PERIOD: u8 = 240;
/// The key of a free place: no id, because keys are below the sum of all cardinalities.
const FREE: u64 = u64::MAX;

/// Two cache lines.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(super) struct Set {
    keys: [u64; WAYS],
    /// Hits of what is held, aged.
    hits: [u8; WAYS],
    /// Lookups of what is not held, aged. One row after the other.
    sketch: [u8; ROWS * COLUMNS],
    /// Lookups since the last halving.
    lookups: u8,
}

impl Set {
    pub(super) const EMPTY: Self =
        Self { keys: [FREE; WAYS], hits: [0; WAYS], sketch: [0; ROWS * COLUMNS], lookups: 0 };

    /// The place of `key`, if it is held. Counts the lookup.
    #[inline]
    pub(super) fn find(&mut self, key: u64) -> Option<usize> {
        self.lookups += 1;
        if self.lookups == PERIOD {
            self.age();
        }
        let way = self.way(key)?;
        self.hits[way] = self.hits[way].saturating_add(1);
        Some(way)
    }

    /// After a miss: a place for `key`, which is held from now on, or nothing if all that is held is
    /// asked for as often. `mix` is a hash of the key.
    pub(super) fn admit(&mut self, key: u64, mix: u64) -> Option<usize> {
        let seen = self.count(mix);
        if let Some(free) = self.way(FREE) {
            self.place(free, key, seen);
            return Some(free);
        }
        let victim = (0..WAYS).min_by_key(|&way| self.hits[way])?;
        if seen <= self.hits[victim] {
            return None;
        }
        self.place(victim, key, seen);
        Some(victim)
    }

    /// A free place for `key`, which counts as looked up so often; nothing if it is held already.
    pub(super) fn fill(&mut self, key: u64, hits: u8) -> Option<usize> {
        if self.way(key).is_some() {
            return None;
        }
        let free = self.way(FREE)?;
        self.place(free, key, hits);
        Some(free)
    }

    fn way(&self, key: u64) -> Option<usize> {
        // Without an early exit this is two comparisons of vectors.
        let mut found = 0_u8;
        for (way, &held) in self.keys.iter().enumerate() {
            found |= u8::from(held == key) << way;
        }
        (found != 0).then_some(found.trailing_zeros() as usize)
    }

    fn place(&mut self, way: usize, key: u64, hits: u8) {
        self.keys[way] = key;
        self.hits[way] = hits;
    }

    /// Counts a lookup of what is not held, and says how many there were.
    fn count(&mut self, mix: u64) -> u8 {
        let at = |row: usize| row * COLUMNS + (mix >> (4 * row)) as usize % COLUMNS;
        let least = (0..ROWS).map(|row| self.sketch[at(row)]).min().unwrap_or(0);
        let now = least.saturating_add(1);
        for row in 0..ROWS {
            // Only the counters that say the least: the others hold someone else's lookups too.
            let counter = &mut self.sketch[at(row)];
            *counter = (*counter).max(now);
        }
        now
    }

    fn age(&mut self) {
        self.lookups = 0;
        for counter in self.hits.iter_mut().chain(&mut self.sketch) {
            *counter /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_two_cache_lines() {
        assert_eq!(size_of::<Set>(), 128);
    }

    #[test]
    fn what_is_asked_for_once_displaces_nothing_that_was_asked_for_twice() {
        let mut set = Set::EMPTY;
        for key in 0..WAYS as u64 {
            assert_eq!(set.find(key), None);
            assert_eq!(set.admit(key, key), Some(key as usize));
            assert_eq!(set.find(key), Some(key as usize));
        }
        for key in 100..110 {
            assert_eq!((set.find(key), set.admit(key, key)), (None, None));
        }
        // The third lookup is more than the two of those held.
        let mut admitted = None;
        for _ in 0..3 {
            assert_eq!((set.find(1000), admitted), (None, None));
            admitted = set.admit(1000, 0xfff);
        }
        assert_eq!((admitted, set.find(1000)), (Some(0), Some(0)));
        assert_eq!(set.find(0), None);
    }

    #[test]
    fn yesterdays_favourites_leave() {
        let mut set = Set::EMPTY;
        for _ in 0..100 {
            for key in 0..WAYS as u64 {
                if set.find(key).is_none() {
                    set.admit(key, key);
                }
            }
        }
        let mut lookups = 0;
        while set.find(77).is_none() {
            set.admit(77, 77);
            lookups += 1;
            assert!(lookups < 2 * usize::from(PERIOD), "a new favourite is never held");
        }
        assert!(lookups > 1, "no newcomer is trusted at once");
    }
}
