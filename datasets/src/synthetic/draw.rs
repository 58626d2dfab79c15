//! Random numbers that belong to a row, whoever asks and when.

use crate::token::mix;

/// SplitMix64 started at a state that the seed, a stream and a row make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64, stream: u64, row: u64) -> Self {
        Self(mix(seed ^ mix(stream ^ mix(row))))
    }

    fn next(&mut self) -> u64 {
        let drawn = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        drawn
    }

    /// Uniform in `[0, 1)`.
    pub(super) fn uniform(&mut self) -> f64 {
        unit(self.next())
    }

    /// Standard normal, by Box and Muller.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// The upper 53 bits as a number in `[0, 1)`.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number of mean 0 and variance 1 that belongs to a key: the sum of four uniform ones, which
/// is bell-shaped and, unlike a normal, never beyond 3.5.
pub(super) fn bell(key: u64) -> f64 {
    let bits = mix(key);
    let sum: f64 = (0..4).map(|part| f64::from((bits >> (16 * part)) as u16) + 0.5).sum();
    (sum / 65_536.0 - 2.0) * 3.0_f64.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
        let values: Vec<_> = values.collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        (mean, square / values.len() as f64)
    }

    #[test]
    fn both_distributions_are_standard() {
        let mut draw = Draw::new(1, 2, 3);
        let normal = moments((0..100_000).map(|_| draw.normal()));
        let bell = moments((0..100_000).map(bell));
        for (mean, variance) in [normal, bell] {
            assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        }
    }

    #[test]
    fn rows_and_streams_draw_differently() {
        let first = |seed, stream, row| Draw::new(seed, stream, row).uniform().to_bits();
        assert_eq!(first(1, 2, 3), first(1, 2, 3));
        let all = [first(1, 2, 3), first(1, 2, 4), first(1, 3, 3), first(2, 2, 3)];
        assert!((0..4).all(|a| (0..a).all(|b| all[a] != all[b])));
    }
}
