//! Which paths a machine keeps: the choice under a byte budget for every device.
//!
//! Exact and small: a path more never lowers the best that a router could do, so only sets count to which nothing can be
//! added.

use mprec_router::{
    Profiles,
    sim::{SimConfig, Trace, oracle},
};

use super::{ExperimentError, candidates::Candidate};

/// The sets of candidates that a machine can hold, under the budget in bytes of each named device, and to which nothing can
/// be added.
///
/// # Errors
///
/// [`ExperimentError`] if the candidates contradict each other.
pub(super) fn sets(
    candidates: &[Candidate],
    budgets: &[(&str, u64)],
) -> Result<Vec<Profiles>, ExperimentError> {
    let mut sets = vec![Vec::new()];
    for &(device, budget) in budgets {
        let here: Vec<usize> =
            (0..candidates.len()).filter(|&at| candidates[at].profile.device == device).collect();
        let fitting = maximal(&here, budget, |at| candidates[at].profile.bytes);
        sets = sets
            .iter()
            .flat_map(|set: &Vec<usize>| fitting.iter().map(|more| [set.as_slice(), more].concat()))
            .collect();
    }
    let filled = sets.into_iter().filter(|set| !set.is_empty());
    let profiles = filled.map(|set| {
        Ok(Profiles::new(set.iter().map(|&at| candidates[at].profile.clone()).collect())?)
    });
    profiles.collect()
}

/// The place of the set with the highest clairvoyant bound over these loads, then the fewest bytes; `None` if there is no
/// set. Every load counts by its correct predictions in time: loads of as many queries count alike.
///
/// # Errors
///
/// [`ExperimentError`] if a load is empty.
pub(super) fn usual(sets: &[Profiles], loads: &[Trace]) -> Result<Option<usize>, ExperimentError> {
    let mut best: Option<(f64, u64, usize)> = None;
    for (at, set) in sets.iter().enumerate() {
        let mut bound = 0.0;
        for load in loads {
            bound += oracle(set, load, &SimConfig::default())?.correct_in_time;
        }
        let bytes = bytes(set);
        // The bound is the end of a search: what is as good to six digits is as good.
        let better = best.as_ref().is_none_or(|(most, fewest, _)| {
            bound > most * (1.0 + 1e-6) || (bound > most * (1.0 - 1e-6) && bytes < *fewest)
        });
        if better {
            best = Some((bound, bytes, at));
        }
    }
    Ok(best.map(|(_, _, at)| at))
}

/// Memory of all paths of a set.
pub(super) fn bytes(set: &Profiles) -> u64 {
    set.paths().iter().map(|path| path.bytes).sum()
}

/// The sets of a device that fit and to which nothing can be added. A device has no more than a few candidates.
fn maximal(here: &[usize], budget: u64, bytes: impl Fn(usize) -> u64) -> Vec<Vec<usize>> {
    let members = |mask: u32| (0..here.len()).filter(move |bit| mask >> bit & 1 == 1);
    let total = |mask: u32| members(mask).map(|bit| bytes(here[bit])).sum::<u64>();
    (0..1u32 << here.len())
        .filter(|&mask| {
            let left = budget.checked_sub(total(mask));
            left.is_some_and(|left| members(!mask).all(|bit| bytes(here[bit]) > left))
        })
        .map(|mask| members(mask).map(|bit| here[bit]).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mprec_router::sim::{Arrivals, Sizes, Until};

    use super::{
        super::{candidates::candidates, hardware::Hardware, quality::Quality},
        *,
    };
    use crate::bench::Arch;

    #[test]
    fn sets_that_could_hold_more_are_left_out() {
        let bytes = [5, 3, 2];
        let sets = maximal(&[0, 1, 2], 6, |at| bytes[at]);
        assert_eq!(sets, [vec![0], vec![1, 2]]);
        assert_eq!(maximal(&[0, 1, 2], 1, |at| bytes[at]), [Vec::<usize>::new()]);
        assert_eq!(maximal(&[0, 1, 2], 10, |at| bytes[at]), [vec![0, 1, 2]]);
    }

    #[test]
    fn the_chosen_set_has_the_highest_bound_of_all_that_fit() {
        let hardware = Hardware::example();
        let quality = Quality::declared(Arch::Kaggle);
        let machine = &hardware.machines[2];
        let (found, _) = candidates(&hardware, machine, Arch::Kaggle, &quality, &[]).unwrap();
        let load = Trace::generate(
            &Arrivals::Poisson { rate: 20_000.0 },
            &Sizes::Fixed(128),
            Until::Queries(200),
            Duration::from_millis(10),
            1,
        )
        .unwrap();
        let budgets = [("cpu", 4_000_000_000), ("ipu", 3_600_000_000)];
        let bound =
            |set: &Profiles| oracle(set, &load, &SimConfig::default()).unwrap().correct_in_time;
        let sets = sets(&found, &budgets).unwrap();
        let chosen = usual(&sets, std::slice::from_ref(&load)).unwrap().unwrap();
        for mask in 1u32..1 << found.len() {
            let set: Vec<usize> = (0..found.len()).filter(|bit| mask >> bit & 1 == 1).collect();
            let fits = budgets.iter().all(|&(device, budget)| {
                let here = set.iter().map(|&at| &found[at].profile);
                let here = here.filter(|path| path.device == device);
                here.map(|path| path.bytes).sum::<u64>() <= budget
            });
            if fits {
                let paths = set.iter().map(|&at| found[at].profile.clone()).collect();
                let other = Profiles::new(paths).unwrap();
                assert!(bound(&sets[chosen]) >= bound(&other) * (1.0 - 1e-5), "{set:?}");
            }
        }
    }
}
