//! The sets that no other is better than in everything.

use super::{Choice, Measures, goal::TIE};

/// Resolutions at which sets are told apart: a goodput that differs by less than the share
/// `coarseness · TIE`, and the like, is equal.
struct Grid {
    goodput: f64,
    accuracy: f64,
    bytes: f64,
    latency: f64,
}

impl Grid {
    fn new(offered_per_s: f64, most_bytes: u64, coarseness: f64) -> Self {
        Self {
            goodput: (offered_per_s * TIE * coarseness).max(f64::MIN_POSITIVE),
            accuracy: 1e-6 * coarseness,
            // At the finest, a byte.
            bytes: (most_bytes as f64 * TIE * (coarseness - 1.0)).max(1.0),
            latency: 1e-3 * coarseness,
        }
    }

    /// Goodput, accuracy, bytes and p99 in steps of which more are better.
    fn point(&self, measures: &Measures) -> [i64; 4] {
        [
            (measures.correct_in_time_per_s / self.goodput).floor() as i64,
            (measures.accuracy / self.accuracy).round() as i64,
            -((measures.bytes as f64 / self.bytes).ceil() as i64),
            -((measures.p99_ms / self.latency).ceil() as i64),
        ]
    }
}

/// Those of the choices that none matches in goodput, accuracy, bytes and 99th percentile and exceeds
/// in one, the highest goodput first. Of those that are equal in all four, the one of fewest paths.
pub(super) fn front(choices: Vec<Choice>, offered_per_s: f64, coarseness: f64) -> Vec<Choice> {
    let most_bytes = choices.iter().map(|choice| choice.measures.bytes).max().unwrap_or(0);
    let grid = Grid::new(offered_per_s, most_bytes, coarseness);
    let mut points: Vec<([i64; 4], Choice)> =
        choices.into_iter().map(|choice| (grid.point(&choice.measures), choice)).collect();
    // A point that dominates another comes before it, so that the kept ones are never taken back.
    points.sort_by(|(a, one), (b, two)| {
        let paths = |choice: &Choice| (choice.candidates.len(), choice.candidates.clone());
        b.cmp(a).then_with(|| paths(one).cmp(&paths(two)))
    });
    let mut kept: Vec<([i64; 4], Choice)> = Vec::new();
    for (point, choice) in points {
        let matched = |(better, _): &([i64; 4], Choice)| {
            better.iter().zip(&point).all(|(better, this)| better >= this)
        };
        if !kept.iter().any(matched) {
            kept.push((point, choice));
        }
    }
    kept.into_iter().map(|(_, choice)| choice).collect()
}

/// At most `rows` of a front that tell most: differences count as ties that become twice as large
/// until so few are left.
pub fn thin(front: &[Choice], offered_per_s: f64, rows: usize) -> Vec<Choice> {
    let mut thinned = front.to_vec();
    let mut coarseness = 1.0;
    // 2^20 steps of a hundred-thousandth are ten times all there is.
    for _ in 0..20 {
        if thinned.len() <= rows {
            break;
        }
        coarseness *= 2.0;
        thinned = self::front(front.to_vec(), offered_per_s, coarseness);
    }
    thinned.truncate(rows);
    thinned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(at: usize, goodput: f64, accuracy: f64, bytes: u64, p99_ms: f64) -> Choice {
        let measures = Measures {
            correct_in_time_per_s: goodput,
            samples_in_time_per_s: 0.0,
            in_time: 1.0,
            accuracy,
            p50_ms: 1.0,
            p99_ms,
            bytes,
        };
        Choice { candidates: vec![at], measures }
    }

    #[test]
    fn a_set_that_another_matches_in_everything_is_not_on_the_front() {
        let choices = vec![
            choice(0, 700.0, 0.78, 10, 5.0),
            choice(1, 700.0, 0.79, 10, 5.0),
            choice(2, 600.0, 0.80, 5, 5.0),
            choice(3, 500.0, 0.70, 5, 6.0),
            choice(4, 500.0, 0.70, 5, 1.0),
            choice(5, 700.0, 0.79, 10, 5.0),
        ];
        let kept: Vec<usize> =
            front(choices, 1_000.0, 1.0).iter().map(|choice| choice.candidates[0]).collect();
        assert_eq!(kept, [1, 2, 4], "0 and 3 are matched, 5 equals 1");
    }

    #[test]
    fn a_front_of_many_is_thinned_and_keeps_what_differs() {
        let many: Vec<Choice> = (0..100)
            .map(|at| choice(at, 700.0 + at as f64 * 0.02, 0.79, 1_000 + at as u64, 5.0))
            .chain([choice(100, 100.0, 0.79, 1, 5.0)])
            .collect();
        let all = front(many.clone(), 1_000.0, 1.0);
        assert_eq!(all.len(), 101);
        let few = thin(&all, 1_000.0, 10);
        assert!((2..=10).contains(&few.len()), "{}", few.len());
        assert_eq!(few[few.len() - 1].candidates, [100]);
    }
}
