//! Each id once: clicks follow a Zipf law, so a batch asks for the same few ids again and again.

/// Finds the distinct ids of a chunk. All memory is there from the start.
#[derive(Debug, Default)]
pub(crate) struct Unique {
    /// Open addressing: positions in `ids`, or [`FREE`]. A power of two.
    table: Vec<u16>,
    /// The distinct ids, in the order of their first occurrence.
    ids: Vec<u64>,
    /// For every id of the chunk, its position in `ids`.
    rows: Vec<u16>,
}

const FREE: u16 = u16::MAX;

impl Unique {
    /// For chunks of at most `chunk` ids.
    ///
    /// # Panics
    ///
    /// If `chunk` exceeds a 16-bit position.
    pub(crate) fn new(chunk: usize) -> Self {
        assert!(chunk < usize::from(FREE), "chunks of {chunk} ids");
        let table = (4 * chunk).next_power_of_two().max(2);
        Self {
            table: vec![FREE; table],
            ids: Vec::with_capacity(chunk),
            rows: Vec::with_capacity(chunk),
        }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> usize {
        2 * (self.table.len() + self.rows.capacity()) + 8 * self.ids.capacity()
    }

    /// The distinct ids among `ids`, and for each of these its position among the distinct.
    ///
    /// # Panics
    ///
    /// If there are more ids than a chunk holds.
    pub(crate) fn find(&mut self, ids: &[u64]) -> (&[u64], &[u16]) {
        assert!(ids.len() <= self.ids.capacity(), "more ids than a chunk holds");
        self.table.fill(FREE);
        self.ids.clear();
        self.rows.clear();
        let mask = self.table.len() - 1;
        let shift = 64 - self.table.len().trailing_zeros();
        for &id in ids {
            // Fibonacci hashing: the high bits of the product depend on all bits of the id.
            let mut at = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize;
            let row = loop {
                match self.table[at] {
                    FREE => {
                        let row = self.ids.len() as u16;
                        self.table[at] = row;
                        self.ids.push(id);
                        break row;
                    }
                    row if self.ids[usize::from(row)] == id => break row,
                    _ => at = (at + 1) & mask,
                }
            };
            self.rows.push(row);
        }
        (&self.ids, &self.rows)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_id_is_found_once_and_again(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![0..9_u64, any::<u64>()], 0..60), 1..4),
        ) {
            let mut unique = Unique::new(60);
            for ids in chunks {
                let (distinct, rows) = unique.find(&ids);
                let again: Vec<u64> = rows.iter().map(|&row| distinct[usize::from(row)]).collect();
                prop_assert_eq!(&again, &ids);
                let mut sorted = distinct.to_vec();
                sorted.sort_unstable();
                sorted.dedup();
                prop_assert_eq!(sorted.len(), distinct.len());
            }
        }
    }
}
