//! The inner loop of matrix products with AVX-512: some rows times one or two vectors of outputs.
//!
//! In assembly, written by the build script for every block size, because what makes it fast is beyond what
//! the compiler promises: that two dozen sums stay in registers, that twelve rows are addressed by four pointers
//! and a stride, that products are issued in the order of their loads. Written with intrinsics, full blocks spilled
//! registers or computed addresses anew for every input.
//!
//! One loop serves floats, halves and bytes. An input is 4 bytes, a float, two halves or four codes, and is broadcast; a vector of
//! weights is 64 bytes; one instruction multiplies and adds. For an input of twelve rows these are 24
//! products and 14 loads. With few rows there are up to four sums for an output, because a product takes
//! four or five cycles and two can begin in each.
//!
//! Without products of halves (AVX512-BF16) pairs of weights are widened in registers and meet pairs of floats, 8 bytes:
//! the arithmetic is that of floats, but half as many bytes of weights are read.

use std::{arch::asm, mem::MaybeUninit};

/// Most rows of a block.
const ROWS: usize = 12;
/// Most vectors of outputs.
const VECTORS: usize = 2;
/// 32-bit values in a vector.
pub(crate) const LANES: usize = 16;

/// Sums of a block: `[rows, vectors, LANES]`, of 32 bits each.
#[repr(C, align(64))]
pub(crate) struct Sums([MaybeUninit<u32>; ROWS * VECTORS * LANES]);

/// Rows, and the weights of some outputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// The first row's first input.
    pub(crate) from: *const u8,
    /// Bytes from row to row.
    pub(crate) stride: usize,
    /// `[inputs, vectors, 64 bytes]`
    pub(crate) weights: *const u8,
    /// Inputs of 4 bytes, or of 8 where weights are widened.
    pub(crate) inputs: usize,
}

/// Multiplies some rows with some vectors of weights, and writes the sums.
///
/// # Safety
///
/// The block's rows and weights must be there, and the machine must have the instructions.
pub(crate) type Multiply = unsafe fn(block: Block, sums: &mut Sums);

include!(concat!(env!("OUT_DIR"), "/products.rs"));

impl Sums {
    pub(crate) fn new() -> Self {
        Self([MaybeUninit::uninit(); ROWS * VECTORS * LANES])
    }

    /// Where the sums of `row` begin in a block of `vectors` vectors.
    #[inline]
    pub(crate) fn row(&self, row: usize, vectors: usize) -> *const u32 {
        debug_assert!(row < ROWS && vectors <= VECTORS);
        self.0.as_ptr().wrapping_add(row * vectors * LANES).cast()
    }
}

/// Cuts `rows` into blocks that there are loops for: first row, number of rows, position in [`SIZES`].
pub(crate) fn row_blocks(rows: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let at = SIZES.iter().position(|&size| size <= rows - next)?;
        let first = next;
        next += SIZES[at];
        Some((first, SIZES[at], at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_once() {
        for rows in 0..100 {
            let mut next = 0;
            for (first, size, _) in row_blocks(rows) {
                assert_eq!(first, next);
                next += size;
            }
            assert_eq!(next, rows);
        }
    }
}
