//! Latency of one path, beside what the machine could do at most.
//!
//! Each thread is pinned to a core, has an executable of its own and runs batches in rotation, as many different
//! ones as keep rows from staying in cache by repetition. The scores of the first batch are compared with the
//! interpreter's before anything is timed, and the machine's peak is measured before and after.

mod arch;
mod ids;
mod kernels;

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

use mprec_backends::{
    Backend, BackendError, BackendKind, CacheStatistics, Executable,
    cpu::{Arithmetic, peak_rate, read_bandwidth},
};
use mprec_representations::{Batch, LayerWeights, Op, Program};
use serde::Serialize;

pub use arch::{Arch, VARIANTS};
pub use ids::{Distribution, batches};
pub use kernels::{KernelReport, KernelShare, kernel_times};

/// Samples that are compared with the interpreter, which is slow.
const COMPARED: usize = 4;
/// How much time goes to each measurement of the machine.
const LIMIT_TIME: Duration = Duration::from_millis(120);

/// What a path took.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Microseconds per batch.
    pub min_us: f64,
    /// As [`Self::min_us`], median.
    pub p50_us: f64,
    /// As [`Self::min_us`], 99th percentile.
    pub p99_us: f64,
    /// Over all threads.
    pub samples_per_second: f64,
    /// Memory of one executable, tables included.
    pub bytes: usize,
    /// Floating-point (or integer) operations per second over all threads, in units of 10⁹, as the architecture
    /// counts them: an id that is computed once for a whole batch counts for every sample.
    pub gflops: f64,
    /// `gflops` per thread as a fraction of [`Self::peak_gflops`], where that is known.
    pub fraction_of_peak: Option<f64>,
    /// Most operations per second of one core at this precision, measured in the same run, in units of 10⁹.
    pub peak_gflops: Option<f64>,
    /// Bytes per second that one core reads from memory, measured in the same run, in units of 10⁹.
    pub read_gbytes_per_second: f64,
    /// Batches timed.
    pub runs: usize,
    /// Part of the distinct ids of a batch that a cache held while the batches were timed, if there is a cache.
    pub cache_hit_rate: Option<f64>,
}

/// A measurement that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The backend refused the program or failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The interpreter refused the batch.
    #[error(transparent)]
    Program(#[from] mprec_representations::ProgramError),
    /// Fast, but wrong.
    #[error("sample {sample} scores {got}, the definition gives {expected}")]
    Wrong {
        /// Which sample.
        sample: usize,
        /// The path's score.
        got: f32,
        /// The interpreter's.
        expected: f32,
    },
}

/// Measures `program` on `backend` with `threads` threads for about `seconds`.
///
/// # Errors
///
/// [`BenchError`].
///
/// # Panics
///
/// If there are no batches or no threads.
pub fn measure(
    program: &Program,
    backend: &dyn Backend,
    batches: &[Batch],
    threads: usize,
    seconds: f64,
) -> Result<Report, BenchError> {
    let (arithmetic, tolerance) = precision_of(program);
    let mut executable = backend.prepare(program)?;
    compare(program, &mut *executable, &batches[0], tolerance)?;
    let bytes = executable.bytes();
    let is_cpu = backend.kind() == BackendKind::Cpu;
    let peak = || if is_cpu { peak_rate(arithmetic, LIMIT_TIME) } else { None };
    let (before, bandwidth) = (peak(), read_bandwidth(LIMIT_TIME));

    let mut executables = Vec::new();
    for _ in 1..threads {
        executables.push(executable.another()?);
    }
    executables.push(executable);
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let start = Barrier::new(threads);
    let workers = executables.into_iter().enumerate();
    let outcomes: Vec<Result<Timed, BackendError>> = std::thread::scope(|scope| {
        let handles: Vec<_> = workers
            .map(|(at, mut executable)| {
                let (cores, start) = (&cores, &start);
                scope.spawn(move || {
                    if let Some(&core) = cores.get(at) {
                        core_affinity::set_for_current(core);
                    }
                    run(&mut *executable, batches, at, seconds, start)
                })
            })
            .collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, _>| {
            handle.join().expect("a run returns errors and does not panic")
        };
        handles.into_iter().map(join).collect()
    });
    let after = peak();

    let mut times = Vec::new();
    let mut samples_per_second = 0.0;
    let (mut hits, mut lookups) = (0, 0);
    for outcome in outcomes {
        let Timed { times: own, elapsed, cache } = outcome?;
        samples_per_second += (own.len() * batches[0].samples()) as f64 / elapsed.as_secs_f64();
        times.extend(own);
        hits += cache.hits;
        lookups += cache.hits + cache.misses;
    }
    times.sort_unstable();
    let micros =
        |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e6;
    let gflops = program.flops_per_sample() as f64 * samples_per_second / 1e9;
    let peak_gflops = before.into_iter().chain(after).reduce(f64::max).map(|rate| rate / 1e9);
    Ok(Report {
        min_us: micros(0.0),
        p50_us: micros(0.5),
        p99_us: micros(0.99),
        samples_per_second,
        bytes,
        gflops,
        fraction_of_peak: peak_gflops.map(|peak| gflops / threads as f64 / peak),
        peak_gflops,
        read_gbytes_per_second: bandwidth / 1e9,
        runs: times.len(),
        cache_hit_rate: (lookups > 0).then(|| hits as f64 / lookups as f64),
    })
}

/// One thread's part.
struct Timed {
    /// Of all runs after a short warm-up.
    times: Vec<Duration>,
    /// How long they took together.
    elapsed: Duration,
    /// What the cache did meanwhile.
    cache: CacheStatistics,
}

fn run(
    executable: &mut dyn Executable,
    batches: &[Batch],
    first: usize,
    seconds: f64,
    start: &Barrier,
) -> Result<Timed, BackendError> {
    let mut scores = vec![0.0; batches[0].samples()];
    let mut at = first;
    let mut time = |executable: &mut dyn Executable, seconds: f64, least: usize| {
        let mut times = Vec::new();
        let begin = Instant::now();
        while times.len() < least || begin.elapsed().as_secs_f64() < seconds {
            let before = Instant::now();
            executable.run(&batches[at % batches.len()], &mut scores)?;
            times.push(before.elapsed());
            at += 1;
        }
        Ok::<_, BackendError>((times, begin.elapsed()))
    };
    let warm = time(executable, seconds * 0.2, 3);
    // Everybody waits here, whatever happened, or the others would wait for ever.
    start.wait();
    warm?;
    let before = executable.cache().unwrap_or_default();
    let (times, elapsed) = time(executable, seconds, 10)?;
    let mut cache = executable.cache().unwrap_or_default();
    cache.hits -= before.hits;
    cache.misses -= before.misses;
    Ok(Timed { times, elapsed, cache })
}

fn compare(
    program: &Program,
    executable: &mut dyn Executable,
    batch: &Batch,
    tolerance: f32,
) -> Result<(), BenchError> {
    let mut scores = vec![f32::NAN; batch.samples()];
    executable.run(batch, &mut scores)?;
    let part = batch.slice(0..batch.samples().min(COMPARED));
    for (sample, (expected, got)) in program.interpret(&part)?.into_iter().zip(scores).enumerate() {
        if (got - expected).abs() > tolerance || got.is_nan() {
            return Err(BenchError::Wrong { sample, got, expected });
        }
    }
    Ok(())
}

/// The arithmetic of most layers, and how far scores may be from the interpreter's: an input between two codes may
/// become either.
fn precision_of(program: &Program) -> (Arithmetic, f32) {
    let has = |wanted: fn(&LayerWeights) -> bool| {
        program.ops().iter().any(|op| matches!(op, Op::Linear { weight, .. } if wanted(weight)))
    };
    if has(|weight| matches!(weight, LayerWeights::Int8(_))) {
        (Arithmetic::Int8, 2e-2)
    } else if has(|weight| matches!(weight, LayerWeights::BF16(_))) {
        (Arithmetic::BF16, 2e-2)
    } else {
        (Arithmetic::F32, 1e-4)
    }
}
