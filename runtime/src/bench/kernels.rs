//! What each kind of kernel takes of a batch, by the device's own clock.

use std::time::{Duration, Instant};

use mprec_backends::{Backend, BackendError, KernelTime};
use mprec_representations::{Batch, Program};
use serde::Serialize;

/// Batches run before the ones that count, and those.
const WARM: usize = 3;
const COUNTED: usize = 10;

/// Averages over a few batches, each kernel in passes of its own: slower than the batches of a [`Report`](super::Report).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelReport {
    /// Microseconds per batch as its caller sees them.
    pub batch_us: f64,
    /// Every kind of kernel, the longest first.
    pub kernels: Vec<KernelShare>,
}

/// One kind of kernel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelShare {
    /// Its name.
    pub kernel: &'static str,
    /// Calls per batch.
    pub calls: f64,
    /// Microseconds per batch, over all calls.
    pub us: f64,
}

/// Runs a few batches of `program` on `backend`, which has a clock for its kernels.
///
/// # Errors
///
/// [`BackendError::NoKernelTimes`] where it has none.
///
/// # Panics
///
/// If there are no batches.
pub fn kernel_times(
    program: &Program,
    backend: &dyn Backend,
    batches: &[Batch],
) -> Result<KernelReport, BackendError> {
    let mut executable = backend.prepare(program)?;
    let mut scores = vec![0.0; batches[0].samples()];
    let mut batches = batches.iter().cycle();
    let (mut sums, mut wall): (Vec<KernelTime>, _) = (Vec::new(), Duration::ZERO);
    for run in 0..WARM + COUNTED {
        let batch = batches.next().expect("there are batches");
        scores.resize(batch.samples(), 0.0);
        let started = Instant::now();
        let times = executable.run_timed(batch, &mut scores)?;
        if run < WARM {
            continue;
        }
        wall += started.elapsed();
        for time in times {
            match sums.iter_mut().find(|sum| sum.kernel == time.kernel) {
                Some(sum) => {
                    sum.calls += time.calls;
                    sum.time += time.time;
                }
                None => sums.push(time),
            }
        }
    }
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.time));
    let per_batch = |sum: f64| sum / COUNTED as f64;
    let share = |sum: KernelTime| KernelShare {
        kernel: sum.kernel,
        calls: per_batch(sum.calls as f64),
        us: per_batch(sum.time.as_secs_f64() * 1e6),
    };
    Ok(KernelReport {
        batch_us: per_batch(wall.as_secs_f64() * 1e6),
        kernels: sums.into_iter().map(share).collect(),
    })
}

#[cfg(test)]
mod tests {
    use mprec_backends::{BackendKind, Executable, ReferenceBackend};
    use mprec_representations::{
        BatchShape, ProgramBuilder, RowIndex, Rows, Schema, SparseFeature, Tensor,
    };

    use super::*;

    /// Says that its kernels took these times, and far more while it was cold.
    #[derive(Debug)]
    struct Clocked;

    #[derive(Debug)]
    struct Run(usize);

    impl Backend for Clocked {
        fn kind(&self) -> BackendKind {
            BackendKind::Wgpu
        }

        fn prepare(&self, _: &Program) -> Result<Box<dyn Executable>, BackendError> {
            Ok(Box::new(Run(0)))
        }
    }

    impl Executable for Run {
        fn run(&mut self, _: &Batch, _: &mut [f32]) -> Result<(), BackendError> {
            Ok(())
        }

        fn run_timed(
            &mut self,
            batch: &Batch,
            scores: &mut [f32],
        ) -> Result<Vec<KernelTime>, BackendError> {
            assert_eq!(scores.len(), batch.samples());
            self.0 += 1;
            let scale = if self.0 <= WARM { 1000 } else { 1 };
            let time =
                |kernel, calls, us| KernelTime { kernel, calls, time: Duration::from_micros(us) };
            Ok(vec![time("short", 4, 3 * scale), time("long", 2, 7 * scale)])
        }

        fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
            Ok(Box::new(Run(self.0)))
        }

        fn bytes(&self) -> usize {
            0
        }
    }

    fn program() -> (Program, Vec<Batch>) {
        let sparse = vec![SparseFeature { name: "item".into(), cardinality: 3 }];
        let schema = Schema::new(vec!["age".into()], sparse, Default::default()).unwrap();
        let mut program = ProgramBuilder::new(&schema);
        let rows = Rows::F32(Tensor::new(&[3, 1], vec![-1.0, 0.0, 1.0]));
        let logit = program.bag_sum(0, rows, RowIndex::Id).unwrap();
        let shape = BatchShape::new(&schema);
        let batches =
            [1, 2].map(|count| shape.from_rows(vec![0.0; count], &vec![1; count]).unwrap());
        (program.finish(logit).unwrap(), batches.into())
    }

    #[test]
    fn times_are_of_a_batch_on_average_without_the_first_ones() {
        let (program, batches) = program();
        let report = kernel_times(&program, &Clocked, &batches).unwrap();
        let share = |kernel, calls, us: f64| (kernel, calls, us.round());
        let found: Vec<_> =
            report.kernels.iter().map(|of| share(of.kernel, of.calls, of.us)).collect();
        assert_eq!(found, [share("long", 2.0, 7.0), share("short", 4.0, 3.0)]);
    }

    #[test]
    fn a_backend_without_a_clock_says_so() {
        let (program, batches) = program();
        let error = kernel_times(&program, &ReferenceBackend, &batches).unwrap_err();
        assert!(matches!(error, BackendError::NoKernelTimes { .. }), "{error}");
        assert!(error.to_string().contains("`wgpu`"), "{error}");
    }
}
