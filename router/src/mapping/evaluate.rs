//! Simulates sets, each once, over the cores.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    Profiles,
    sim::{Report, SimError, simulate},
};

use super::{MappingError, Measures, instance::Instance};

/// Everything simulated so far.
pub(super) struct Evaluator<'i, 'p> {
    instance: &'i Instance<'p>,
    threads: usize,
    known: HashMap<Box<[u16]>, Measures>,
}

impl<'i, 'p> Evaluator<'i, 'p> {
    pub(super) fn new(instance: &'i Instance<'p>, threads: usize) -> Self {
        Self { instance, threads, known: HashMap::new() }
    }

    /// How many sets were simulated.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    pub(super) fn known(&self, set: &[u16]) -> Option<&Measures> {
        self.known.get(set)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&[u16], &Measures)> {
        self.known.iter().map(|(set, measures)| (&**set, measures))
    }

    /// Simulates those of the sets, none of them empty, that were not yet.
    pub(super) fn evaluate(&mut self, sets: &[Vec<u16>]) -> Result<(), MappingError> {
        let unknown: Vec<&Vec<u16>> =
            sets.iter().filter(|set| !self.known.contains_key(set.as_slice())).collect();
        let instance = self.instance;
        let reports = parallel(&unknown, self.threads, |set| run(instance, set));
        for (set, report) in unknown.into_iter().zip(reports) {
            let measures = Measures::of(&report?, instance.bytes(set));
            self.known.insert(set.clone().into_boxed_slice(), measures);
        }
        Ok(())
    }
}

fn run(instance: &Instance<'_>, set: &[u16]) -> Result<Report, SimError> {
    let problem = instance.problem;
    let profile = |&at: &u16| problem.candidates[usize::from(at)].profile.clone();
    let profiles = Profiles::new(set.iter().map(profile).collect())
        .expect("each candidate was checked, and a set holds no path twice");
    simulate(&profiles, &problem.policy, &problem.trace, &problem.sim)
}

/// `work` on every item, in order, by at most `threads` threads.
pub(super) fn parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = threads.min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some((at, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
        {
            done.push((at, work(item)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
