//! How unevenly work arrives over times as long as a time budget.
//!
//! Gaps and sizes alone say nothing about bursts that last: a process that is calm for a second and
//! then three times as fast has nearly the gaps of a steady one. What a queue feels is the variance of the
//! work that arrives while it drains: the index of dispersion for work at the time scale of
//! interest (Fendick & Whitt 1989).

use crate::Time;

/// Spans that it needs to say anything, and that it looks back on.
const SPANS: (u32, u32) = (16, 512);

/// Variance and mean of the work that arrives within spans as long as a time budget.
#[derive(Debug, Clone, Default)]
pub(super) struct Dispersion {
    start: Time,
    span_ns: f64,
    work_ns: f64,
    spans: u32,
    /// Work per time over a span, and its square.
    rate: f64,
    square: f64,
}

impl Dispersion {
    /// Counts an arrival that brings `work_ns`; 0 if another device took it.
    pub(super) fn arrived(&mut self, now: Time, work_ns: f64, budget_ns: f64) {
        let elapsed = now.nanos_from(self.start);
        if self.spans == 0 && self.span_ns == 0.0 {
            (self.start, self.span_ns) = (now, budget_ns.max(1.0));
        } else if elapsed >= self.span_ns {
            self.push(self.work_ns / self.span_ns);
            let over = (elapsed / self.span_ns).floor();
            // So many that nothing else is remembered count as just so many.
            for _ in 0..((over - 1.0) as u32).min(SPANS.1) {
                self.push(0.0);
            }
            self.start = self.start.plus_nanos(over * self.span_ns);
            (self.span_ns, self.work_ns) = (budget_ns.max(1.0), 0.0);
        }
        self.work_ns += work_ns;
    }

    fn push(&mut self, rate: f64) {
        self.spans = (self.spans + 1).min(SPANS.1);
        let weight = 1.0 / f64::from(self.spans);
        self.rate += weight * (rate - self.rate);
        self.square += weight * (rate * rate - self.square);
    }

    /// Variance over mean of the work in a span, in units of `typical_ns`; `None` while unknown.
    pub(super) fn of(&self, typical_ns: f64) -> Option<f64> {
        let variance = (self.square - self.rate * self.rate) * self.span_ns;
        (self.spans >= SPANS.0 && self.rate > 0.0).then(|| variance / (self.rate * typical_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dispersion_of_poisson_work_is_one_and_that_of_bursts_more() {
        let mut random = 1u64;
        let mut uniform = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((random >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let mut measure = |rate: &dyn Fn(u64) -> f64| {
            let (mut dispersion, mut now) = (Dispersion::default(), 0.0);
            for at in 0..40_000 {
                now += -f64::ln(uniform()) * 1e6 / rate(at);
                dispersion.arrived(Time::from_nanos(now as u64), 500.0, 2e7);
            }
            dispersion.of(500.0).unwrap()
        };
        let steady = measure(&|_| 1.0);
        assert!((0.75..1.25).contains(&steady), "{steady}");
        let bursts = measure(&|at| if at % 400 < 200 { 3.0 } else { 0.6 });
        assert!(bursts > 4.0, "{bursts}");
    }
}
