//! Cardinalities of the Criteo data sets when every value has an id of its own.

/// Criteo Kaggle, in the order of its columns: 33,762,577 rows in all.
pub const CRITEO_KAGGLE: [u64; 26] = [
    1_460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5_683, 8_351_593, 3_194,
    27, 14_992, 5_461_306, 10, 5_652, 2_173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572,
];

/// Criteo Terabyte with values modulo 10,000,000, in the order of its columns: 49,126,297 rows in
/// all.
pub const CRITEO_TERABYTE: [u64; 26] = [
    9_980_333, 36_084, 17_217, 7_378, 20_134, 3, 7_112, 1_442, 61, 9_758_201, 1_333_352, 313_829,
    10, 2_208, 11_156, 122, 4, 970, 14, 9_994_222, 7_267_859, 9_946_608, 415_421, 12_420, 101, 36,
];

/// Cardinalities up to this are never divided: they cost nothing, and few-valued features should
/// stay so.
const SMALL: u64 = 100;

/// The cardinalities divided by `factor`, rounded up, but none that was above 100 below that.
pub fn scaled_down(cardinalities: &[u64], factor: f64) -> Vec<u64> {
    let factor = factor.max(1.0);
    cardinalities
        .iter()
        .map(|&cardinality| {
            // Exact: cardinalities are far below 2^53.
            let scaled = (cardinality as f64 / factor).ceil() as u64;
            if cardinality <= SMALL { cardinality } else { scaled.max(SMALL) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_those_of_the_full_tables() {
        assert_eq!(CRITEO_KAGGLE.iter().sum::<u64>(), 33_762_577);
        assert_eq!(CRITEO_TERABYTE.iter().sum::<u64>(), 49_126_297);
    }

    #[test]
    fn scaling_leaves_small_features_alone() {
        assert_eq!(
            scaled_down(&[3, 100, 101, 10_000, 1_000_001], 100.0),
            [3, 100, 100, 100, 10_001]
        );
        assert_eq!(scaled_down(&CRITEO_KAGGLE, 1.0), CRITEO_KAGGLE);
    }
}
