//! Parameters as the shaders read them: words.

use half::{bf16, f16};
use mprec_representations::{HashFamily, Int8Weights, Rows, Tensor};

/// How `bag_sum` reads a table, by the number in its source, and the bytes of a row.
pub(super) fn format(rows: &Rows) -> Option<(u32, usize)> {
    Some(match rows {
        Rows::F32(table) => (0, 4 * table.width()),
        Rows::F16(table) => (1, 2 * table.width()),
        Rows::BF16(table) => (2, 2 * table.width()),
        Rows::Fused(table) => (if table.bits() == 8 { 3 } else { 4 }, table.bytes().width()),
        _ => return None,
    })
}

/// Bytes of all rows.
pub(super) fn bytes(rows: &Rows) -> &[u8] {
    match rows {
        Rows::F32(table) => bytemuck::cast_slice(table.as_slice()),
        Rows::F16(table) => bytemuck::cast_slice::<f16, u8>(table.as_slice()),
        Rows::BF16(table) => bytemuck::cast_slice::<bf16, u8>(table.as_slice()),
        Rows::Fused(table) => table.bytes().as_slice(),
        _ => &[],
    }
}

/// Cuts a table so that no part has more than `limit` bytes. A part has at least one row.
pub(super) fn split(count: usize, row_bytes: usize, limit: u64) -> Vec<(usize, usize)> {
    let most = (limit as usize / row_bytes.max(1)).max(1);
    (0..count).step_by(most).map(|first| (first, most.min(count - first))).collect()
}

pub(super) fn family(family: &HashFamily) -> Vec<u8> {
    let words = family.parameters().as_slice().iter();
    // At most 2^31 each.
    words.flat_map(|&value| (value as u32).to_le_bytes()).collect()
}

pub(super) fn floats(values: &[&Tensor<f32>]) -> Vec<u8> {
    values.iter().flat_map(|values| bytemuck::cast_slice(values.as_slice()).to_vec()).collect()
}

pub(super) fn codes(weight: &Int8Weights) -> Vec<u8> {
    bytemuck::cast_slice(weight.codes().as_slice()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_table_and_keep_to_the_limit() {
        for (count, row_bytes, limit) in
            [(10, 16, 64), (10, 16, 63), (1, 16, 4), (0, 16, 64), (7, 3, 1000)]
        {
            let parts = split(count, row_bytes, limit);
            let mut next = 0;
            for (first, rows) in parts {
                assert!(first == next && rows > 0);
                assert!(rows == 1 || rows * row_bytes <= limit as usize);
                next += rows;
            }
            assert_eq!(next, count);
        }
    }
}
