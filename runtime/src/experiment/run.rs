//! Simulates every load, on several threads.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    ExperimentError,
    outcome::{Point, simulate_cell},
    plan::Plan,
    setting::Setting,
};

/// Simulates the plan on these settings and returns its points in the plan's order; `progress` is told after every
/// point how many are done, of how many.
///
/// The result does not depend on the number of threads: a point shares nothing with another.
///
/// # Errors
///
/// The first [`ExperimentError`] that a point ends in; no further points are begun then.
pub fn run(
    plan: &Plan,
    settings: &[Setting],
    threads: usize,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Vec<Point>, ExperimentError> {
    let cells = plan.cells(settings);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failure = Mutex::new(None);
    let work = || {
        let mut points = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(cell) = cells.get(at) else { return points };
            match simulate_cell(&settings[cell.setting], cell, plan.seed) {
                Ok(point) => points.push((at, point)),
                Err(error) => {
                    next.store(cells.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return points;
                }
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, cells.len());
        }
    };
    let mut points: Vec<(usize, Point)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.flat_map(|points| points.expect("a panic of a worker is a bug")).collect()
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    points.sort_unstable_by_key(|(at, _)| *at);
    Ok(points.into_iter().map(|(_, point)| point).collect())
}
