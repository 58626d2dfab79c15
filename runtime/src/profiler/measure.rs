//! The measurement.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Barrier,
    time::{Duration, Instant},
};

use mprec_backends::{BackendError, Executable};
use mprec_representations::Batch;
use mprec_router::{PathProfile, Profiles, ServiceCurve, ServicePoint};

use super::ProfilerError;
use crate::paths::ResidentPath;

/// The batch sizes measured, as far as a path is quick enough for the large ones.
pub const SIZES: [u32; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048];

/// Different rows that inputs are made of. With 26 features they touch more cache lines than the
/// last-level cache of a small server holds.
const POOL: usize = 16_384;
/// Most batches of one size made from them.
const MAX_INPUTS: usize = 4_096;
/// Runs per worker without which a size is not measured, but for the smallest.
const MIN_RUNS: usize = 8;
/// Runs per worker after which more would not sharpen the 99th percentile.
const MAX_RUNS: usize = 20_000;

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct ProfileOptions {
    /// How long it may take over all paths. Kept to within the length of a few batches.
    pub budget: Duration,
    /// Most samples in a batch of several queries, for all paths; `None` lets each curve say.
    pub max_batch: Option<u32>,
}

/// How far a measurement is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The path about to be measured.
    pub path: &'a str,
    /// The batch size about to be measured.
    pub batch: u32,
    /// Cells (a path at a size) done.
    pub done: usize,
    /// Cells at most.
    pub of: usize,
    /// Time left at most.
    pub left: Duration,
}

/// Measures every path under as many concurrent runners as its device has workers.
///
/// `lanes` says how many workers a device has; `inputs` gives a batch of so many samples (at most
/// 2,048) whenever it is called, each time of other rows; `progress` is told before every cell.
///
/// # Errors
///
/// [`ProfilerError`] when a path fails, or the inputs are not what was asked for.
pub fn measure(
    resident: &[ResidentPath],
    lanes: impl Fn(&str) -> u32,
    options: ProfileOptions,
    inputs: &mut dyn FnMut(usize) -> Batch,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Profiles, ProfilerError> {
    let until = Instant::now() + options.budget;
    let of = resident.len() * SIZES.len();
    let pool = pool(inputs)?;
    let mut profiles: Vec<PathProfile> = Vec::with_capacity(resident.len());
    for (at, path) in resident.iter().enumerate() {
        let name = path.path.to_string();
        let lanes = lanes(&path.device).max(1);
        let fail = |batch: u32| {
            let path = name.clone();
            move |source: Fault| source.named(path, batch)
        };
        let mut runners = (0..lanes)
            .map(|_| path.executable.another().map_err(Fault::Failed))
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail(0))?;
        let share = until.saturating_duration_since(Instant::now()) / (resident.len() - at) as u32;
        warm_up(&mut runners, &pool, share / 4).map_err(fail(WARM_UP))?;

        let mut points: Vec<ServicePoint> = Vec::new();
        for (cell, size) in SIZES.into_iter().enumerate() {
            let done = at * SIZES.len() + cell;
            let left = until.saturating_duration_since(Instant::now());
            let slot = left / (of - done) as u32;
            if too_slow(&points, slot) {
                break;
            }
            progress(Progress { path: &name, batch: size, done, of, left });
            let batches = cut(&pool, size as usize);
            let mut times = run_all(&mut runners, &batches, slot).map_err(fail(size))?;
            points.push(point(size, &mut times));
        }
        warn_of_noise(&name, &points);
        let curve = ServiceCurve::new(points)
            .map_err(|source| ProfilerError::Curve { path: name, source })?;
        profiles.push(path.profile(lanes, options.max_batch, curve));
    }
    Ok(Profiles::new(profiles)?)
}

/// Says so if most sizes have a tail that a path alone on its machine does not have.
fn warn_of_noise(path: &str, points: &[ServicePoint]) {
    let noisy = points.iter().filter(|point| point.p95_us > 3.0 * point.p50_us).count();
    if 2 * noisy > points.len() {
        tracing::warn!(
            path,
            "one run in twenty takes three times the median; something else seems to run on this machine, measure again without it"
        );
    }
}

/// The batch size of the warm-up.
const WARM_UP: u32 = 256;

/// Why a runner stopped.
#[derive(Debug)]
enum Fault {
    Failed(BackendError),
    Panicked,
}

impl Fault {
    fn named(self, path: String, batch: u32) -> ProfilerError {
        match self {
            Self::Failed(source) => ProfilerError::Run { path, batch, source },
            Self::Panicked => ProfilerError::Panicked { path, batch },
        }
    }
}

/// Rows to measure with, in a few large batches.
fn pool(inputs: &mut dyn FnMut(usize) -> Batch) -> Result<Vec<Batch>, ProfilerError> {
    let asked = SIZES[SIZES.len() - 1] as usize;
    (0..POOL / asked)
        .map(|_| {
            let batch = inputs(asked);
            let got = batch.samples();
            if got == asked { Ok(batch) } else { Err(ProfilerError::Inputs { asked, got }) }
        })
        .collect()
}

/// Different batches of one size.
fn cut(pool: &[Batch], size: usize) -> Vec<Batch> {
    let parts = pool.iter().flat_map(|batch| {
        (0..batch.samples() / size).map(move |part| batch.slice(part * size..(part + 1) * size))
    });
    parts.take(MAX_INPUTS).collect()
}

/// Whether a size would take far more than its share of the time, if it grows over the size before
/// it as that one did over its own.
fn too_slow(points: &[ServicePoint], slot: Duration) -> bool {
    let (last, growth) = match points {
        [] => return false,
        [only] => (only, 1.0),
        [.., before, last] => (last, (last.p50_us / before.p50_us).clamp(1.0, 2.0)),
    };
    last.p50_us * growth * MIN_RUNS as f64 > 2.0 * slot.as_secs_f64() * 1e6
}

/// Runs over all rows, as far as `limit` allows: pages of mapped tables come in, scratch memory grows.
fn warm_up(
    runners: &mut [Box<dyn Executable>],
    pool: &[Batch],
    limit: Duration,
) -> Result<(), Fault> {
    let batches = cut(pool, WARM_UP as usize);
    let until = Instant::now() + limit;
    let mut scores = [0.0; WARM_UP as usize];
    for runner in runners {
        for batch in &batches {
            run_one(runner.as_mut(), batch, &mut scores)?;
            if Instant::now() > until {
                break;
            }
        }
    }
    Ok(())
}

/// Every runner on a thread of its own, for `slot`. Returns the times of all runs, nanoseconds.
fn run_all(
    runners: &mut [Box<dyn Executable>],
    batches: &[Batch],
    slot: Duration,
) -> Result<Vec<u64>, Fault> {
    let barrier = Barrier::new(runners.len());
    let lanes = runners.len();
    std::thread::scope(|scope| {
        let threads: Vec<_> = runners
            .iter_mut()
            .enumerate()
            .map(|(lane, runner)| {
                let barrier = &barrier;
                let first = lane * batches.len() / lanes;
                scope.spawn(move || {
                    let mut scores = vec![0.0; batches[0].samples()];
                    let mut inputs = batches.iter().cycle().skip(first);
                    let mut run = || match inputs.next() {
                        Some(batch) => run_one(runner.as_mut(), batch, &mut scores),
                        None => unreachable!("a cycle over batches, of which there is one or more"),
                    };
                    // A runner that fails here must still reach the barrier, or the others hang.
                    let warm = run().and_then(|_| run());
                    barrier.wait();
                    warm?;
                    let mut times = Vec::new();
                    let until = Instant::now() + slot;
                    while times.len() < MAX_RUNS
                        && (times.len() < MIN_RUNS || Instant::now() < until)
                    {
                        times.push(run()?);
                    }
                    Ok(times)
                })
            })
            .collect();
        let mut times = Vec::new();
        for thread in threads {
            times.append(&mut thread.join().unwrap_or(Err(Fault::Panicked))?);
        }
        Ok(times)
    })
}

/// The time of one run, nanoseconds.
fn run_one(runner: &mut dyn Executable, batch: &Batch, scores: &mut [f32]) -> Result<u64, Fault> {
    let started = Instant::now();
    match catch_unwind(AssertUnwindSafe(|| runner.run(batch, scores))) {
        Ok(Ok(())) => Ok(started.elapsed().as_nanos() as u64),
        Ok(Err(error)) => Err(Fault::Failed(error)),
        Err(_) => Err(Fault::Panicked),
    }
}

fn point(batch: u32, times: &mut [u64]) -> ServicePoint {
    times.sort_unstable();
    // The nearest rank; at least a nanosecond, because a curve has no zeros.
    let quantile = |share: f64| {
        let rank = (share * times.len() as f64).ceil() as usize;
        times[rank.clamp(1, times.len()) - 1].max(1) as f64 / 1e3
    };
    ServicePoint { batch, p50_us: quantile(0.5), p95_us: quantile(0.95), p99_us: quantile(0.99) }
}
