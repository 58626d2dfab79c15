//! Zipf's law on 1..=n: rank r with probability proportional to r^-s.
//!
//! Drawn by rejection-inversion (W. Hörmann and G. Derflinger, "Rejection-inversion to generate
//! variates from monotone discrete distributions", 1996): invert the integral of the continuous
//! density, round, and reject the little that rounding adds. No table, whatever n is.

use super::draw::Draw;

#[derive(Debug, Clone, Copy)]
pub(super) struct Zipf {
    ranks: f64,
    exponent: f64,
    /// Integral of the density up to 3/2, less the mass of rank 1.
    first: f64,
    /// Integral up to n + 1/2.
    last: f64,
    /// Roundings down by no more than this are always within the mass.
    safe: f64,
}

impl Zipf {
    /// The law on `1..=ranks`; `exponent` is above 0.
    pub(super) fn new(ranks: u64, exponent: f64) -> Self {
        let mut law = Self { ranks: ranks as f64, exponent, first: 0.0, last: 0.0, safe: 0.0 };
        law.first = law.integral(1.5) - 1.0;
        law.last = law.integral(law.ranks + 0.5);
        law.safe = 2.0 - law.inverse(law.integral(2.5) - law.mass(2.0));
        law
    }

    /// A rank.
    pub(super) fn draw(&self, draw: &mut Draw) -> u64 {
        loop {
            let area = self.last + draw.uniform() * (self.first - self.last);
            let at = self.inverse(area);
            let rank = at.round().clamp(1.0, self.ranks);
            if rank - at <= self.safe || area >= self.integral(rank + 0.5) - self.mass(rank) {
                return rank as u64;
            }
        }
    }

    fn mass(&self, rank: f64) -> f64 {
        (-self.exponent * rank.ln()).exp()
    }

    /// Integral of x^-s from 1 to `x`: (x^(1-s) - 1) / (1 - s), and ln x where s is 1.
    fn integral(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        let log = x.ln();
        if power.abs() < 1e-9 { log } else { (power * log).exp_m1() / power }
    }

    fn inverse(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { area.exp() } else { ((area * power).ln_1p() / power).exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_as_often_as_the_law_says() {
        for (ranks, exponent) in [(1, 1.1), (3, 1.05), (50, 1.0), (1000, 1.2), (40, 0.5)] {
            let law = Zipf::new(ranks, exponent);
            let draws = 200_000;
            let mut counts = vec![0_u32; ranks as usize + 1];
            for row in 0..draws {
                counts[law.draw(&mut Draw::new(5, 0, row)) as usize] += 1;
            }
            assert_eq!(counts[0], 0);
            let total: f64 = (1..=ranks).map(|rank| (rank as f64).powf(-exponent)).sum();
            for rank in 1..=ranks.min(50) {
                let share = (rank as f64).powf(-exponent) / total;
                let expected = share * draws as f64;
                let difference = (f64::from(counts[rank as usize]) - expected).abs();
                // Five standard deviations of a binomial count.
                let allowed = 5.0 * (expected * (1.0 - share)).sqrt() + 1e-9;
                assert!(difference <= allowed, "rank {rank} of {ranks}: {difference} > {allowed}");
            }
        }
    }

    #[test]
    fn ten_million_ranks_stay_in_range() {
        let law = Zipf::new(10_131_227, 1.1);
        for row in 0..100_000 {
            assert!((1..=10_131_227).contains(&law.draw(&mut Draw::new(0, 0, row))));
        }
    }
}
