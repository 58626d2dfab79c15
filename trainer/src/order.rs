//! The rows of one epoch, batch by batch.

use std::ops::Range;

use rand::seq::SliceRandom;

use crate::{
    options::Order,
    random::{Purpose, stream},
};

/// Consecutive rows that stay together until their window is shuffled: 0.7 MB in the Criteo shape,
/// enough for a disk to read in one go.
const BLOCK: usize = 4096;

/// Hands out the rows of one epoch. Its position is the number of rows handed out, and nothing
/// else, so that any epoch can be entered anywhere.
#[derive(Debug)]
pub(crate) struct EpochOrder {
    rows: Range<usize>,
    order: Order,
    seed: u64,
    epoch: u64,
    /// Blocks in the order of their visit.
    blocks: Vec<u32>,
    /// Blocks of `blocks` already drawn into windows.
    drawn: usize,
    windows: u64,
    window: Vec<usize>,
    at: usize,
}

impl EpochOrder {
    /// The order of `epoch`, after its first `skip` rows.
    pub(crate) fn new(
        rows: Range<usize>,
        order: Order,
        seed: u64,
        epoch: u32,
        skip: usize,
    ) -> Self {
        let epoch = u64::from(epoch);
        let mut blocks: Vec<u32> = (0..rows.len().div_ceil(BLOCK) as u32).collect();
        if order != Order::Time {
            blocks.shuffle(&mut stream(seed, Purpose::Blocks, &[epoch]));
        }
        let mut this = Self {
            rows,
            order,
            seed,
            epoch,
            blocks,
            drawn: 0,
            windows: 0,
            window: Vec::new(),
            at: 0,
        };
        let mut left = skip;
        while left > 0 && this.fill() {
            let skipped = left.min(this.window.len());
            this.at = skipped;
            left -= skipped;
        }
        this
    }

    /// Puts the next `count` rows into `batch`, fewer at the epoch's end, none after it.
    pub(crate) fn next(&mut self, count: usize, batch: &mut Vec<usize>) {
        batch.clear();
        while batch.len() < count && (self.at < self.window.len() || self.fill()) {
            let end = self.window.len().min(self.at + count - batch.len());
            batch.extend_from_slice(&self.window[self.at..end]);
            self.at = end;
        }
    }

    fn fill(&mut self) -> bool {
        let blocks = match self.order {
            Order::Time => 1,
            Order::Shuffled { window } => window.div_ceil(BLOCK),
        };
        let end = self.blocks.len().min(self.drawn + blocks);
        self.window.clear();
        self.at = 0;
        for &block in &self.blocks[self.drawn..end] {
            let start = self.rows.start + block as usize * BLOCK;
            self.window.extend(start..self.rows.end.min(start + BLOCK));
        }
        self.drawn = end;
        if self.order != Order::Time {
            let at = [self.epoch, self.windows];
            self.window.shuffle(&mut stream(self.seed, Purpose::Window, &at));
        }
        self.windows += 1;
        !self.window.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut order: EpochOrder, batch: usize) -> Vec<usize> {
        let (mut rows, mut part) = (Vec::new(), Vec::new());
        loop {
            order.next(batch, &mut part);
            if part.is_empty() {
                return rows;
            }
            rows.extend_from_slice(&part);
        }
    }

    #[test]
    fn time_order_is_the_rows_themselves() {
        let order = EpochOrder::new(5..9_000, Order::Time, 1, 0, 0);
        assert_eq!(all(order, 256), (5..9_000).collect::<Vec<_>>());
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own() {
        let order =
            |seed, epoch| all(EpochOrder::new(0..500, Order::default(), seed, epoch, 0), 64);
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    proptest! {
        #[test]
        fn every_row_comes_once_and_any_position_can_be_entered(
            start in 0_usize..100, length in 0_usize..20_000, window in 1_usize..12_000,
            batch in 1_usize..700, skip in 0_usize..20_000,
        ) {
            let skip = skip.min(length);
            let order = Order::Shuffled { window };
            let rows = all(EpochOrder::new(start..start + length, order, 3, 2, 0), batch);
            let rest = all(EpochOrder::new(start..start + length, order, 3, 2, skip), batch);
            prop_assert_eq!(&rest, &rows[skip..]);
            let mut sorted = rows;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (start..start + length).collect::<Vec<_>>());
        }
    }
}
