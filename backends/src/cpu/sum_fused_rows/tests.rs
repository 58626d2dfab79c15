use mprec_representations::Tensor;
use proptest::prelude::*;

use super::*;

/// A table, rows inside it and a weight for each. Widths straddle every vector width.
fn table_and_rows() -> impl Strategy<Value = (FusedRows, Vec<(u64, f32)>)> {
    (1..35_usize, 1..40_usize, prop::sample::select(vec![4_u32, 8])).prop_flat_map(
        |(half, rows, bits)| {
            // Four-bit rows are of even width.
            let dim = if bits == 4 { 2 * half } else { half };
            let values = prop::collection::vec(-1e3_f32..1e3, dim * rows);
            (
                values.prop_map(move |values| {
                    FusedRows::quantise(&Tensor::new(&[rows, dim], values), bits)
                }),
                prop::collection::vec((0..rows as u64, -2.0_f32..2.0), 0..50),
            )
        },
    )
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn every_kernel_matches_scalar_bit_for_bit((table, picks) in table_and_rows(), weighted: bool) {
        let (rows, weights): (Vec<u64>, Vec<f32>) = picks.into_iter().unzip();
        let weights = weighted.then_some(&weights[..]);
        let dim = table.dim();
        let mut sum = vec![0.25; dim];
        scalar::sum(&table, &rows, weights, &mut sum);
        let stride = dim + 3;
        let mut gathered = vec![7.0; rows.len() * stride];
        scalar::gather(&table, &rows, MatrixMut::new(&mut gathered, rows.len(), dim, stride));

        for kernel in available() {
            let mut got = vec![0.25; dim];
            (kernel.sum)(&table, &rows, weights, &mut got);
            prop_assert_eq!(bits(&got), bits(&sum), "sum {}", kernel.level);
            let mut got = vec![7.0; rows.len() * stride];
            (kernel.gather)(&table, &rows, MatrixMut::new(&mut got, rows.len(), dim, stride));
            prop_assert_eq!(bits(&got), bits(&gathered), "gather {}", kernel.level);
        }
    }
}

#[test]
#[should_panic(expected = "out of range")]
fn a_row_outside_the_table_is_caught() {
    let table = FusedRows::quantise(&Tensor::new(&[1, 2], vec![1.0, 2.0]), 8);
    (available()[0].gather)(&table, &[1], MatrixMut::new(&mut [0.0; 2], 1, 2, 2));
}
