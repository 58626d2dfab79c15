use mprec_representations::Tensor;
use proptest::prelude::*;

use super::*;

fn family(parameters: &[[i64; 4]]) -> HashFamily {
    HashFamily::new(Tensor::new(&[parameters.len(), 4], parameters.concat())).unwrap()
}

fn run(kernel: &Kernel, encoder: &Encoder, ids: &[u64]) -> Vec<u32> {
    let (width, stride) = (encoder.hashes(), encoder.hashes() + 3);
    let mut codes = vec![7.0; ids.len() * stride];
    (kernel.encode)(encoder, ids, MatrixMut::new(&mut codes, ids.len(), width, stride));
    for row in codes.chunks(stride) {
        assert_eq!(row[width..], [7.0; 3], "{}: wrote a gap", kernel.level);
    }
    codes.iter().map(|code| code.to_bits()).collect()
}

fn compare(encoder: &Encoder, ids: &[u64]) {
    let kernels = available();
    let expected = run(kernels.last().unwrap(), encoder, ids);
    for kernel in &kernels {
        assert_eq!(run(kernel, encoder, ids), expected, "{}", kernel.level);
    }
}

fn transforms() -> impl Strategy<Value = Transform> {
    prop::sample::select(vec![Transform::Uniform, Transform::Gaussian])
}

/// Primes or not: small, the published one, the largest the vector kernels take, and beyond.
fn moduli() -> impl Strategy<Value = i64> {
    prop_oneof![
        2..100_i64,
        Just(1_000_003),
        2..=MAX_SHARED_PRIME,
        Just(MAX_SHARED_PRIME),
        Just(MAX_SHARED_PRIME + 1),
        Just(mprec_representations::dhe::MAX_PRIME),
    ]
}

proptest! {
    #[test]
    fn shared_families_match_scalar_bit_for_bit(
        p in moduli(),
        m in prop_oneof![2..50_i64, Just(1_000_000), 2..=mprec_representations::dhe::MAX_RANGE],
        seeds in prop::collection::vec((any::<u32>(), any::<u32>()), 1..25),
        ids in prop::collection::vec(prop_oneof![0..100_u64, any::<u64>()], 0..5),
        transform in transforms(),
    ) {
        let rows: Vec<[i64; 4]> = seeds
            .iter()
            .flat_map(|&(a, b)| {
                // Both ends of the ranges, where quotients are largest.
                let row = [1 + i64::from(a) % (p - 1), i64::from(b) % p, p, m];
                [row, [p - 1, p - 1, p, m]]
            })
            .collect();
        compare(&Encoder::new(family(&rows), transform), &ids);
        // Residues at both ends.
        compare(&Encoder::new(family(&rows), transform), &[0, p as u64 - 1, p as u64]);
    }

    #[test]
    fn mixed_families_match_scalar_bit_for_bit(
        rows in prop::collection::vec((2..5000_i64, 2..70_i64), 1..10),
        ids in prop::collection::vec(any::<u64>(), 1..4),
    ) {
        let rows: Vec<[i64; 4]> = rows.iter().map(|&(p, m)| [p - 1, p / 2, p, m]).collect();
        compare(&Encoder::new(family(&rows), Transform::Uniform), &ids);
    }
}

#[test]
fn every_residue_of_a_small_prime_matches() {
    let rows: Vec<[i64; 4]> = (0..48).map(|at| [1 + at * 21, at * 7, 1009, 1000]).collect();
    compare(&Encoder::new(family(&rows), Transform::Uniform), &(0..1009).collect::<Vec<_>>());
}

#[test]
fn every_residue_of_the_published_prime_matches() {
    const P: i64 = 1_000_003;
    let rows =
        [[1, 0], [P - 1, P - 1], [2, P - 1], [654_321, 123_456], [500_002, 1], [999_983, 77]];
    let rows = rows.map(|[a, b]| [a, b, P, 1_000_000]);
    let encoder = Encoder::new(family(&rows), Transform::Uniform);
    for start in (0..P as u64).step_by(50_000) {
        let ids: Vec<u64> = (start..(start + 50_000).min(P as u64)).collect();
        compare(&encoder, &ids);
    }
}

#[test]
fn the_largest_shared_prime_is_the_last_whose_square_is_exact() {
    let square = |p: i64| (p as u64) * (p as u64);
    assert!(square(MAX_SHARED_PRIME) < 1 << 53 && square(MAX_SHARED_PRIME + 1) > 1 << 53);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_product_rounds_to_every_quotient() {
    for m in [2, 3, 97, 999_983, 1_000_000, mprec_representations::dhe::MAX_RANGE] {
        let shared = Shared::of(&family(&[[1, 0, MAX_SHARED_PRIME, m]])).unwrap();
        let scale = shared.scale();
        // All of the first and the last million: the closest to the middle between two floats are anywhere.
        let ends = (0..m.min(1 << 20)).chain((m - (1 << 20)).max(0)..m);
        for hash in ends {
            let exact = hash as f32 / (m - 1) as f32;
            let got = (hash as f64 * scale) as f32;
            assert!(got.to_bits() == exact.to_bits(), "{hash} of {m}: {got} {exact}");
        }
    }
}
