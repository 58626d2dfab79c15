use proptest::prelude::*;

use super::*;

/// Runs one kernel on vectors with gaps of NaN between samples, which nothing may read or write.
fn run(kernel: &Kernel, pairs: Pairs, samples: &[Vec<f32>]) -> Vec<f32> {
    let (from, to) = (pairs.width() + 5, pairs.output_width() + 3);
    let mut vectors = vec![f32::NAN; samples.len() * from];
    for (row, sample) in samples.iter().enumerate() {
        vectors[row * from..][..pairs.width()].copy_from_slice(sample);
    }
    let mut out = vec![f32::NAN; samples.len() * to];
    let mut scratch = vec![f32::NAN; pairs.scratch()];
    (kernel.dot)(
        Matrix::new(&vectors, samples.len(), pairs.width(), from),
        pairs,
        &mut scratch,
        MatrixMut::new(&mut out, samples.len(), pairs.output_width(), to),
    );
    for row in out.chunks(to) {
        let gap = &row[pairs.output_width()..];
        assert!(gap.iter().all(|x| x.is_nan()), "{}: wrote a gap", kernel.level);
    }
    out.chunks(to).flat_map(|row| row[..pairs.output_width()].to_vec()).collect()
}

/// Two orders of a sum of `dim` products differ by at most `dim` roundings each of the sum of the
/// products' magnitudes (Higham, *Accuracy and Stability of Numerical Algorithms*, §3.1), and half
/// of `f32::EPSILON` is one rounding.
fn compare(pairs: Pairs, samples: &[Vec<f32>]) -> Result<(), TestCaseError> {
    let kernels = available();
    let expected = run(kernels.last().unwrap(), pairs, samples);
    let absolute: Vec<Vec<f32>> =
        samples.iter().map(|sample| sample.iter().map(|x| x.abs()).collect()).collect();
    let magnitudes = run(kernels.last().unwrap(), pairs, &absolute);
    for kernel in &kernels {
        let got = run(kernel, pairs, samples);
        for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let tolerance = f32::EPSILON * pairs.dim as f32 * magnitudes[at];
            let close = (got - expected).abs() <= tolerance;
            prop_assert!(close, "{} {pairs:?} at {at}: {got} {expected}", kernel.level);
        }
    }
    Ok(())
}

fn pairs_and_samples() -> impl Strategy<Value = (Pairs, Vec<Vec<f32>>)> {
    let pairs = (1..60_usize, prop_oneof![1..40_usize, Just(16), Just(64)], any::<bool>())
        .prop_map(|(count, dim, itself)| Pairs { count, dim, itself });
    pairs.prop_flat_map(|pairs| {
        let sample = prop::collection::vec(-1.0_f32..1.0, pairs.width());
        (Just(pairs), prop::collection::vec(sample, 0..3))
    })
}

proptest! {
    #[test]
    fn every_kernel_is_within_tolerance_of_scalar((pairs, samples) in pairs_and_samples()) {
        compare(pairs, &samples)?;
    }
}

#[test]
fn the_shapes_of_the_published_models_are_within_tolerance() {
    for (count, dim) in [(27, 16), (53, 16), (27, 64), (53, 64)] {
        for itself in [false, true] {
            let pairs = Pairs { count, dim, itself };
            let sample: Vec<f32> =
                (0..pairs.width()).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect();
            compare(pairs, &[sample.clone(), sample]).unwrap();
        }
    }
}
