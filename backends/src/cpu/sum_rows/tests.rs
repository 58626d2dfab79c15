use proptest::prelude::*;

use super::*;

/// A table, its width, rows inside it and a weight for each. Widths straddle every vector width.
fn table_and_rows() -> impl Strategy<Value = (Vec<f32>, usize, Vec<(u64, f32)>)> {
    (1..70_usize, 1..40_usize).prop_flat_map(|(dim, rows)| {
        (
            prop::collection::vec(prop_oneof![-1e3_f32..1e3, Just(-0.0)], dim * rows),
            Just(dim),
            prop::collection::vec((0..rows as u64, -2.0_f32..2.0), 0..50),
        )
    })
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn every_kernel_matches_scalar_bit_for_bit((table, dim, picks) in table_and_rows(), weighted: bool) {
        let (rows, weights): (Vec<u64>, Vec<f32>) = picks.into_iter().unzip();
        let weights = weighted.then_some(&weights[..]);
        let mut sum = vec![0.25; dim];
        scalar::sum(&table, &rows, weights, &mut sum);
        let stride = dim + 3;
        let mut gathered = vec![7.0; rows.len() * stride];
        scalar::gather(&table, &rows, MatrixMut::new(&mut gathered, rows.len(), dim, stride));

        for kernel in available() {
            prefetch(&table, dim, &rows);
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
fn one_gathered_row_is_the_sum_of_one_row() {
    let table = [1.0, -0.0, f32::INFINITY, f32::MIN_POSITIVE / 2.0];
    for kernel in available() {
        let (mut sum, mut gathered) = ([0.0; 4], [9.0; 4]);
        (kernel.sum)(&table, &[0], None, &mut sum);
        (kernel.gather)(&table, &[0], MatrixMut::new(&mut gathered, 1, 4, 4));
        assert_eq!(bits(&sum), bits(&gathered), "kernel {}", kernel.level);
    }
}

#[test]
fn an_empty_bag_adds_nothing() {
    for kernel in available() {
        let mut sum = [7.0, 8.0];
        (kernel.sum)(&[1.0, 2.0], &[], None, &mut sum);
        assert_eq!(sum, [7.0, 8.0], "kernel {}", kernel.level);
    }
}

#[test]
#[should_panic(expected = "out of range")]
fn a_row_outside_the_table_is_caught() {
    (available()[0].gather)(&[1.0, 2.0], &[1], MatrixMut::new(&mut [0.0; 2], 1, 2, 2));
}
