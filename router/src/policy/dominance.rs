//! Paths that nobody should take.
//!
//! A path is *dominated* if another on the same device is at least as accurate and takes no more
//! time at any size: on average, at the 99th percentile, and per sample in a full batch. Whatever
//! the load, the other path then answers at least as well, at least as soon, and leaves at least as much
//! time to others. Of two paths that dominate each other (equal profiles), the first is kept.
//!
//! Profiles say so, not corrections: a path that is never taken teaches nothing, so that its
//! correction would be compared with one that was learnt. What slows a path in service is taken to slow
//! its device. The exception is a dominator that takes over twice what its profile says: then it may
//! be the path that is ill, and the dominated one is tried.

use crate::{Health, PathId, PathProfile, Profiles, Query, RouterState, state::BATCHING_GAIN};

/// A dominator whose correction is above this is not relied on.
const ILL: f64 = 2.0;

/// Which paths dominate each path.
#[derive(Debug, Clone)]
pub(super) struct Dominance {
    /// By path: a set of paths, one bit each.
    dominators: Vec<u64>,
}

// A set of paths is one word.
const _: () = assert!(crate::path::MAX_PATHS <= 64);

impl Dominance {
    pub(super) fn new(profiles: &Profiles) -> Self {
        let of = |path: PathId| {
            let others = profiles.ids().filter(|&other| {
                let (here, there) = (profiles.path(path), profiles.path(other));
                other != path
                    && profiles.device_of(path) == profiles.device_of(other)
                    && covers(there, here)
                    && (other < path || !covers(here, there))
            });
            others.fold(0, |set, other| set | 1 << other.0)
        };
        Self { dominators: profiles.ids().map(of).collect() }
    }

    /// Whether a query should not go to `path`, because a better one that can run it is up.
    pub(super) fn holds(&self, path: PathId, query: &Query, state: &RouterState) -> bool {
        let mut set = self.dominators[usize::from(path.0)];
        while set != 0 {
            let id = PathId(set.trailing_zeros() as u16);
            let other = state.path(id);
            if other.health == Health::Up
                && query.paths().contains(id)
                && other.correction.factor(query.samples()) <= ILL
            {
                return true;
            }
            set &= set - 1;
        }
        false
    }
}

/// Whether `one` is at least as good as `other` in everything.
fn covers(one: &PathProfile, other: &PathProfile) -> bool {
    let full = |path: &PathProfile| {
        let batch = path.max_batch.unwrap_or_else(|| path.service.efficient_batch(BATCHING_GAIN));
        path.service.mean_ns(batch) / f64::from(batch)
    };
    one.accuracy >= other.accuracy
        && full(one) <= full(other)
        && one.service.no_slower_than(&other.service)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        QueryId, RouterConfig, Time,
        testing::{cpu_path, path},
    };

    fn query() -> Query {
        Query::new(QueryId(0), 100, Time::ZERO, Duration::from_secs(1)).unwrap()
    }

    fn dominated(paths: Vec<PathProfile>) -> Vec<bool> {
        let profiles = Profiles::new(paths).unwrap();
        let dominance = Dominance::new(&profiles);
        let state = RouterState::new(profiles.clone(), RouterConfig::default()).unwrap();
        profiles.ids().map(|path| dominance.holds(path, &query(), &state)).collect()
    }

    #[test]
    fn a_path_that_is_slower_and_no_better_is_dominated_on_its_own_device_only() {
        let table = || cpu_path("table", 0.79, 1.0);
        let slow = || cpu_path("slow", 0.79, 1.2);
        assert_eq!(dominated(vec![slow(), table()]), [true, false]);
        assert_eq!(dominated(vec![cpu_path("dhe", 0.791, 1.2), table()]), [false, false]);
        let elsewhere = path("slow@gpu", 0.79, 1, &[(1, 10_000.0)]);
        assert_eq!(dominated(vec![elsewhere, table()]), [false, false]);
        assert_eq!(dominated(vec![table(), cpu_path("copy", 0.79, 1.0)]), [false, true]);
    }

    #[test]
    fn a_path_that_is_faster_at_one_size_is_not_dominated() {
        let flat = path("flat@cpu", 0.79, 1, &[(1, 100.0), (512, 200.0)]);
        let steep = path("steep@cpu", 0.78, 1, &[(1, 90.0), (512, 900.0)]);
        assert_eq!(dominated(vec![flat.clone(), steep]), [false, false]);
        // Beyond the last point counts too.
        let late = path("late@cpu", 0.78, 1, &[(1, 110.0), (256, 180.0)]);
        assert_eq!(dominated(vec![flat, late]), [false, true]);
    }

    #[test]
    fn a_dominated_path_stands_in_for_one_that_is_down_or_ill() {
        let profiles =
            Profiles::new(vec![cpu_path("slow", 0.79, 1.2), cpu_path("table", 0.79, 1.0)]).unwrap();
        let dominance = Dominance::new(&profiles);
        let mut state = RouterState::new(profiles, RouterConfig::default()).unwrap();
        assert!(dominance.holds(PathId(0), &query(), &state));
        let only = query().with_paths([PathId(0)].into_iter().collect());
        assert!(!dominance.holds(PathId(0), &only, &state), "the better one cannot run it");
        state.set_health(PathId(1), Health::Down, Time::ZERO, &mut Vec::new());
        assert!(!dominance.holds(PathId(0), &query(), &state));
    }
}
