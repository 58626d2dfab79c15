//! Picking rows: the quotient or remainder of many ids by one divisor, without dividing.
//!
//! With `M = ⌊2^64 / d⌋ + 1`, the high half of `n · M` is `⌊n / d⌋` whenever `n · d < 2^64`
//! (Granlund and Montgomery 1994): `M · d` exceeds `2^64` by at most `d`, so `n · M / 2^64` exceeds
//! `n / d` by at most `n / 2^64 < 1 / d`, too little to reach the next integer.

use mprec_representations::RowIndex;

/// A [`RowIndex`] for ids below a known bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowPicker {
    /// The id itself.
    Id,
    /// `id mod divisor`
    Remainder(Divisor),
    /// `id div divisor`
    Quotient(Divisor),
}

/// A divisor with its reciprocal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Divisor {
    divisor: u64,
    /// `M`, or zero where the product would not be exact.
    reciprocal: u64,
}

impl RowPicker {
    /// What `index` does to ids below `bound`.
    pub(crate) fn new(index: RowIndex, bound: u64) -> Self {
        match index {
            RowIndex::Id | RowIndex::Quotient { divisor: 1 } => Self::Id,
            RowIndex::Remainder { divisor } if divisor >= bound => Self::Id,
            RowIndex::Remainder { divisor } => Self::Remainder(Divisor::new(divisor, bound)),
            RowIndex::Quotient { divisor } => Self::Quotient(Divisor::new(divisor, bound)),
        }
    }

    /// The rows of `ids`.
    ///
    /// # Panics
    ///
    /// If `rows` is shorter than `ids`.
    pub(crate) fn pick(self, ids: &[u64], rows: &mut [u64]) {
        let rows = &mut rows[..ids.len()];
        match self {
            Self::Id => rows.copy_from_slice(ids),
            Self::Remainder(divisor) => {
                for (row, &id) in rows.iter_mut().zip(ids) {
                    *row = id - divisor.quotient(id) * divisor.divisor;
                }
            }
            Self::Quotient(divisor) => {
                for (row, &id) in rows.iter_mut().zip(ids) {
                    *row = divisor.quotient(id);
                }
            }
        }
    }
}

impl Divisor {
    fn new(divisor: u64, bound: u64) -> Self {
        let exact = divisor > 1 && divisor.checked_mul(bound).is_some();
        let reciprocal = if exact { ((1_u128 << 64) / u128::from(divisor)) as u64 + 1 } else { 0 };
        Self { divisor, reciprocal }
    }

    #[inline]
    fn quotient(self, id: u64) -> u64 {
        if self.reciprocal == 0 {
            return id / self.divisor;
        }
        ((u128::from(id) * u128::from(self.reciprocal)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn picks_what_the_definition_picks(
            (bound, id) in prop_oneof![1..100_u64, 1..=1_u64 << 40].prop_flat_map(|bound| (Just(bound), 0..bound)),
            divisor in prop_oneof![1..50_u64, 1..1_u64 << 42, Just(1 << 20)],
        ) {
            // Multiples of the divisor and their neighbours are where an inexact quotient shows.
            let multiple = id / divisor * divisor;
            let ids: Vec<u64> = [0, id, multiple, multiple.saturating_sub(1), bound - 1]
                .into_iter().filter(|&id| id < bound).collect();
            for index in
                [RowIndex::Id, RowIndex::Remainder { divisor }, RowIndex::Quotient { divisor }]
            {
                let mut rows = vec![u64::MAX; ids.len()];
                RowPicker::new(index, bound).pick(&ids, &mut rows);
                let expected: Vec<u64> = ids.iter().map(|&id| index.row(id)).collect();
                prop_assert_eq!(rows, expected, "{:?}", index);
            }
        }
    }
}
