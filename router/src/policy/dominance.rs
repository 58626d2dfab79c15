//! Paths that nobody should take.
//!
//! A path is *dominated* if another on the same device is at least as accurate and takes no more
//! time at any size: on average, at the 99th percentile, and per sample in a full batch. Whatever
//! the load, the other path then answers at least as well, at least as soon, and leaves at least as much
//! time to others. Of two paths that dominate each other (equal profiles), the first is kept.
//!
//! Profiles say so, not corrections: a path that is never taken teaches nothing, so that its
//! correction would be compared with one that was learnt. What slows a path in service is taken to slow
//! its device. The exception is a dominator that takes over twice what its profile says, while another
//! path of the device does not, or none is known: then it may be the path that is ill, and the dominated one is
//! tried. Where a host pauses, all are late alike, and a slow path is the last thing to try.

use crate::{Health, PathId, PathProfile, Profiles, Query, RouterState};

/// A dominator whose correction is so many times that of the device's other paths is not relied on.
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
                && !is_ill(id, path, query, state)
            {
                return true;
            }
            set &= set - 1;
        }
        false
    }
}

/// Whether a dominator of `path` is slower than its profile says, and its device's other paths are not.
fn is_ill(dominator: PathId, path: PathId, query: &Query, state: &RouterState) -> bool {
    let factor = |id: PathId| state.path(id).correction.factor(query.samples());
    if factor(dominator) <= ILL {
        return false;
    }
    let device = state.profiles().device_of(path);
    let paths = state.profiles().devices()[usize::from(device.0)].paths.iter().copied();
    let known = paths.filter(|&other| {
        other != dominator && other != path && state.path(other).correction.observations() > 0
    });
    let least = known.map(factor).fold(f64::INFINITY, f64::min);
    let usual = if least.is_finite() { least.max(1.0) } else { 1.0 };
    factor(dominator) > ILL * usual
}

/// Whether `one` is at least as good as `other` in everything.
fn covers(one: &PathProfile, other: &PathProfile) -> bool {
    let full = |path: &PathProfile| {
        let batch = path.batch_limit();
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
        Admission, Batch, Next, QueryId, Reason, RouterConfig, Time,
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

    /// Runs a batch of 64 samples on a path, in so many times what its profile says.
    fn run(state: &mut RouterState, path: PathId, times: f64) {
        let query = Query::new(QueryId(0), 64, Time::ZERO, Duration::from_secs(9)).unwrap();
        let prediction = state.predict(path, &query, Time::ZERO);
        let admission = Admission {
            path,
            parts: 1,
            predicted_finish: prediction.finish(Time::ZERO),
            upper_finish: prediction.upper_finish(Time::ZERO),
            downgraded: false,
            reason: Reason::Only,
        };
        let device = state.admit(&query, &admission, Time::ZERO);
        let mut batch = Batch::default();
        assert_eq!(state.next_batch(device, Time::ZERO, &mut batch), Next::Run);
        let service = state.profiles().path(path).service.mean(64).mul_f64(times);
        state.completed(&mut batch, service, Time::ZERO);
    }

    #[test]
    fn a_path_is_not_ill_where_the_whole_device_is_slow() {
        let paths = [("slow", 1.2), ("table", 1.0), ("copy", 1.0)];
        let paths = paths.map(|(name, scale)| cpu_path(name, 0.79, scale));
        let profiles = Profiles::new(paths.to_vec()).unwrap();
        let dominance = Dominance::new(&profiles);
        let query = Query::new(QueryId(1), 64, Time::ZERO, Duration::from_secs(1)).unwrap();
        let query = query.with_paths([PathId(0), PathId(1)].into_iter().collect());
        let state = RouterState::new(profiles, RouterConfig::default()).unwrap();
        let after = |table: f64, copy: f64| {
            let mut state = state.clone();
            for _ in 0..60 {
                run(&mut state, PathId(1), table);
                run(&mut state, PathId(2), copy);
            }
            dominance.holds(PathId(0), &query, &state)
        };
        assert!(after(1.0, 1.0));
        assert!(!after(4.0, 1.0), "the table alone is slow: the dominated path is tried");
        assert!(after(4.0, 4.0), "everything is slow: it would be slower still");
    }
}
