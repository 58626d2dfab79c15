use mprec_representations::{Rows, Tensor};
use proptest::prelude::*;

use super::*;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A table's values, its width, rows inside it and a weight for each. Widths straddle every vector width.
fn table_and_rows() -> impl Strategy<Value = (Vec<f32>, usize, Vec<(u64, f32)>)> {
    (1..70_usize, 1..40_usize).prop_flat_map(|(dim, rows)| {
        (
            prop::collection::vec(prop_oneof![-1e3_f32..1e3, Just(-0.0), Just(3e-8)], dim * rows),
            Just(dim),
            prop::collection::vec((0..rows as u64, -2.0_f32..2.0), 0..50),
        )
    })
}

proptest! {
    #[test]
    fn every_kernel_gives_the_bits_of_the_definition(
        (table, dim, picks) in table_and_rows(), weighted: bool,
    ) {
        let (rows, weights): (Vec<u64>, Vec<f32>) = picks.into_iter().unzip();
        let weights = weighted.then_some(&weights[..]);
        let table = Tensor::new(&[table.len() / dim, dim], table);
        let (ieee, upper) = (table.map(f16::from_f32), table.map(bf16::from_f32));
        let both = [
            (Halves::F16(ieee.as_slice()), Rows::F16(ieee.clone())),
            (Halves::BF16(upper.as_slice()), Rows::BF16(upper.clone())),
        ];
        for (table, definition) in both {
            let mut sum = vec![0.25; dim];
            let stride = dim + 3;
            let mut gathered = vec![7.0; rows.len() * stride];
            for (at, &row) in rows.iter().enumerate() {
                let weight = weights.map_or(1.0, |weights| weights[at]);
                definition.add_to(row as usize, weight, &mut sum);
                let out = &mut gathered[at * stride..][..dim];
                out.fill(0.0);
                definition.add_to(row as usize, 1.0, out);
            }
            for kernel in available() {
                let mut got = vec![0.25; dim];
                (kernel.sum)(table, &rows, weights, &mut got);
                prop_assert_eq!(bits(&got), bits(&sum), "sum {}", kernel.level);
                let mut got = vec![7.0; rows.len() * stride];
                (kernel.gather)(table, &rows, MatrixMut::new(&mut got, rows.len(), dim, stride));
                prop_assert_eq!(bits(&got), bits(&gathered), "gather {}", kernel.level);
            }
        }
    }
}

#[test]
#[should_panic(expected = "out of range")]
fn a_row_outside_the_table_is_caught() {
    let table = [f16::ONE; 2];
    (available()[0].gather)(Halves::F16(&table), &[1], MatrixMut::new(&mut [0.0; 2], 1, 2, 2));
}
