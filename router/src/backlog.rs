//! What a device's workers are busy with, and when the next of them is free.
//!
//! A device has some number of *lanes* (worker threads), shared by every path on it. Each runs one
//! batch at a time; what is queued waits for the first lane to be free.
//!
//! While few batches wait, the start of new work is found by putting each on the lane that is free
//! first. Where there are many, it is found by water filling: lanes are busy until the work
//! ahead is done, so if lane `i` is free at `eᵢ` and `w` nanoseconds of lane time are ahead, the new
//! work starts no later than the level `t` with `Σ max(0, t - eᵢ) = w`. That bound is at most one
//! batch above the truth.

use std::time::Duration;

use crate::{PathId, Time, time::nanos};

/// Up to this many lanes, the start of new work is found exactly.
const FEW_LANES: usize = 16;

/// A lane of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

/// A batch on a lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Running {
    pub(crate) path: PathId,
    pub(crate) samples: u32,
    pub(crate) started: Time,
    pub(crate) expected_ns: f64,
    pub(crate) upper_ns: f64,
}

impl Running {
    /// Nanoseconds until it is expected to be done.
    fn residual(&self, now: Time) -> f64 {
        let elapsed = now.nanos_from(self.started);
        if elapsed < self.expected_ns {
            self.expected_ns - elapsed
        } else {
            // Overdue: halfway to its upper bound, and later a tenth of its length at all times.
            (0.5 * (self.upper_ns - elapsed)).max(0.1 * self.expected_ns)
        }
    }

    fn expected_end(&self) -> u64 {
        self.started.plus_nanos(self.expected_ns).as_nanos()
    }
}

/// When each of a few lanes is free, in nanoseconds from now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Free {
    ends: [f64; FEW_LANES],
    count: usize,
}

impl Free {
    fn earliest(&self) -> usize {
        let ends = &self.ends[..self.count];
        let mut first = 0;
        for lane in 1..ends.len() {
            if ends[lane] < ends[first] {
                first = lane;
            }
        }
        first
    }

    /// When the first is.
    pub(crate) fn first(&self) -> f64 {
        self.ends[self.earliest()]
    }

    /// The same lanes, the one that is free first in front.
    pub(crate) fn sorted(mut self) -> Self {
        for at in 1..self.count {
            let mut here = at;
            while here > 0 && self.ends[here] < self.ends[here - 1] {
                self.ends.swap(here, here - 1);
                here -= 1;
            }
        }
        self
    }

    /// When the first of [sorted](Self::sorted) lanes is free again after `more` batches (fewer than [`FEW_LANES`])
    /// of one length, each on the lane that is free first.
    pub(crate) fn first_after(&self, more: usize, batch_ns: f64) -> f64 {
        // Batches end in the order in which they begin, so that the lanes that run them are sorted as well.
        let mut again = [0.0; FEW_LANES];
        let (mut fresh, mut used) = (0, 0);
        let mut first = self.ends[0];
        for turn in 0..=more {
            let is_fresh = fresh < self.count && (used == turn || self.ends[fresh] <= again[used]);
            if is_fresh {
                first = self.ends[fresh];
                fresh += 1;
            } else {
                first = again[used];
                used += 1;
            }
            if turn < more {
                again[turn] = first + batch_ns;
            }
        }
        first
    }
}

/// The lanes of one device.
#[derive(Debug, Clone)]
pub struct Lanes {
    lanes: Vec<Option<Running>>,
    /// Busy lanes, the one expected to be free first in front.
    busy: Vec<u16>,
    mean_batch_ns: f64,
    busy_ns: f64,
}

impl Lanes {
    pub(crate) fn new(lanes: u32) -> Self {
        let busy = Vec::with_capacity(lanes as usize);
        Self { lanes: vec![None; lanes as usize], busy, mean_batch_ns: 0.0, busy_ns: 0.0 }
    }

    /// How many lanes there are.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// How many run nothing.
    pub fn idle(&self) -> usize {
        self.lanes.len() - self.busy.len()
    }

    /// Lane time spent on completed batches, over all lanes.
    pub fn busy_time(&self) -> Duration {
        Duration::from_nanos(self.busy_ns as u64)
    }

    /// Expected length of a batch here, from recent ones; 0 before the first.
    pub(crate) fn mean_batch_ns(&self) -> f64 {
        self.mean_batch_ns
    }

    /// Nanoseconds from `now` until work that is behind `ahead_ns` of lane time starts, at the latest.
    pub(crate) fn start_after(&self, ahead_ns: f64, now: Time) -> f64 {
        let mut count = self.idle();
        if count > 0 && ahead_ns <= 0.0 {
            return 0.0;
        }
        let mut filled = ahead_ns.max(0.0);
        for &lane in &self.busy {
            let Some(running) = &self.lanes[usize::from(lane)] else { continue };
            let free = running.residual(now);
            if count > 0 && filled <= free * count as f64 {
                break;
            }
            filled += free;
            count += 1;
        }
        filled / count.max(1) as f64
    }

    /// Lane time left in running batches, over all lanes, nanoseconds.
    pub(crate) fn residual_ns(&self, now: Time) -> f64 {
        self.lanes.iter().flatten().map(|running| running.residual(now)).sum()
    }

    /// Whether [`start_behind`](Self::start_behind) can be asked.
    pub(crate) fn are_few(&self) -> bool {
        self.lanes.len() <= FEW_LANES
    }

    /// Nanoseconds from `now` until the first lane is free, once it has run these batches; each
    /// goes to the lane that is free first. For devices with few lanes.
    pub(crate) fn start_behind(&self, batches: impl Iterator<Item = f64>, now: Time) -> f64 {
        self.free_behind(batches, now).first()
    }

    /// The same of every lane.
    pub(crate) fn free_behind(&self, batches: impl Iterator<Item = f64>, now: Time) -> Free {
        let count = self.lanes.len().min(FEW_LANES);
        let mut free = Free { ends: [0.0; FEW_LANES], count };
        for (end, lane) in free.ends.iter_mut().zip(&self.lanes) {
            *end = lane.as_ref().map_or(0.0, |running| running.residual(now));
        }
        for batch_ns in batches {
            let first = free.earliest();
            free.ends[first] += batch_ns;
        }
        free
    }

    /// Puts a batch on an idle lane, or returns `None` if there is none.
    pub(crate) fn start(&mut self, running: Running) -> Option<LaneId> {
        let lane = self.lanes.iter().position(Option::is_none)?;
        let end = running.expected_end();
        let at = self.busy.partition_point(|&other| {
            self.lanes[usize::from(other)].is_some_and(|other| other.expected_end() <= end)
        });
        self.busy.insert(at, lane as u16);
        self.mean_batch_ns = if self.mean_batch_ns == 0.0 {
            running.expected_ns
        } else {
            self.mean_batch_ns + (running.expected_ns - self.mean_batch_ns) / 16.0
        };
        self.lanes[lane] = Some(running);
        Some(LaneId(lane as u16))
    }

    /// Frees a lane; returns what it ran.
    pub(crate) fn finish(&mut self, lane: LaneId, observed: Option<Duration>) -> Option<Running> {
        let running = self.lanes.get_mut(usize::from(lane.0))?.take()?;
        self.busy.retain(|&other| other != lane.0);
        self.busy_ns += observed.map_or(0.0, |observed| nanos(observed) as f64);
        Some(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(expected_ns: f64) -> Running {
        Running {
            path: PathId(0),
            samples: 1,
            started: Time::ZERO,
            expected_ns,
            upper_ns: 1.2 * expected_ns,
        }
    }

    #[test]
    fn work_ahead_fills_the_lanes_level() {
        let mut lanes = Lanes::new(3);
        assert_eq!(lanes.start_after(0.0, Time::ZERO), 0.0);
        lanes.start(running(100.0)).unwrap();
        lanes.start(running(40.0)).unwrap();
        assert_eq!(lanes.start_after(0.0, Time::ZERO), 0.0, "one lane is idle");
        assert_eq!(lanes.start_after(30.0, Time::ZERO), 30.0);
        assert_eq!(lanes.start_after(60.0, Time::ZERO), 50.0, "(60 + 40) / 2");
        assert_eq!(lanes.start_after(160.0, Time::ZERO), 100.0, "(160 + 40 + 100) / 3");
        let last = lanes.start(running(10.0)).unwrap();
        assert_eq!(lanes.start_after(0.0, Time::ZERO), 10.0);
        assert_eq!(lanes.start_after(0.0, Time::from_nanos(4)), 6.0);
        assert!(lanes.start(running(1.0)).is_none(), "every lane is busy");
        lanes.finish(last, None).unwrap();
        assert_eq!(lanes.idle(), 1);
        assert!(lanes.finish(last, None).is_none(), "freed once");
    }

    #[test]
    fn an_overdue_batch_is_expected_to_end_soon_but_not_now() {
        let batch = running(100.0);
        assert_eq!(batch.residual(Time::from_nanos(60)), 40.0);
        assert_eq!(batch.residual(Time::from_nanos(110)), 10.0);
        assert_eq!(batch.residual(Time::from_nanos(500)), 10.0);
    }

    #[test]
    fn a_list_scheduler_never_starts_later_than_the_bound() {
        // Deterministic pseudo-random jobs, scheduled greedily on three lanes.
        let mut state = 12_345u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % 1_000 + 1
        };
        for _ in 0..200 {
            let mut lanes = Lanes::new(3);
            let mut free: Vec<f64> = (0..3).map(|_| draw() as f64).collect();
            for &end in &free {
                lanes.start(running(end)).unwrap();
            }
            let jobs: Vec<f64> = (0..draw() % 10).map(|_| draw() as f64).collect();
            for job in &jobs {
                free.sort_by(f64::total_cmp);
                free[0] += job;
            }
            let starts = free.iter().copied().fold(f64::INFINITY, f64::min);
            let bound = lanes.start_after(jobs.iter().sum(), Time::ZERO);
            assert!(starts <= bound + 1e-9, "{starts} > {bound}");
            let exact = lanes.start_behind(jobs.iter().copied(), Time::ZERO);
            assert!((starts - exact).abs() < 1e-9, "{starts} != {exact}");
            let (free, more) =
                (lanes.free_behind(jobs.iter().copied(), Time::ZERO), draw() as usize % 8);
            let equal = std::iter::repeat_n(50.0, more);
            let all = jobs.iter().copied().chain(equal);
            let after = free.sorted().first_after(more, 50.0);
            assert_eq!(after, lanes.start_behind(all, Time::ZERO), "bit for bit");
        }
    }
}
