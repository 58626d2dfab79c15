//! The seam between a model and a machine.

use std::{fmt, time::Duration};

use mprec_representations::{Batch, GroupedBatch, Program};

use crate::{
    cache::{CacheStatistics, HotId},
    error::BackendError,
    path::BackendKind,
};

/// A device that can be taught programs.
///
/// A backend is a factory: [`prepare`](Self::prepare) does everything that is slow, fallible or
/// decided once (packing weights, uploads, shader compilation, choice of kernels), so that
/// [`Executable::run`] does nothing but run.
pub trait Backend: fmt::Debug + Send + Sync {
    /// Which backend this is, for paths, logs and metric labels.
    fn kind(&self) -> BackendKind;

    /// Readies `program` for this device. The executable stands alone: it keeps what it needs of
    /// the program's parameters and outlives both the program and the backend.
    ///
    /// # Errors
    ///
    /// [`BackendError::Unsupported`] if the program needs an operation or a row format that this
    /// backend lacks; [`BackendError::Memory`] if its buffers do not fit. Both are reported here
    /// and never from [`Executable::run`]: a path that came up can be routed to.
    fn prepare(&self, program: &Program) -> Result<Box<dyn Executable>, BackendError>;
}

/// A program readied on a device.
///
/// `&mut self` because scratch memory is reused between calls: each worker thread owns one
/// executable, and a run takes no lock.
pub trait Executable: fmt::Debug + Send {
    /// Writes one score per sample to `scores` and returns once they are in host memory.
    ///
    /// Asynchronous devices synchronise before they return: the latency a caller measures around
    /// this call is the latency a query sees. A batch of no samples is fine.
    ///
    /// # Errors
    ///
    /// [`BackendError::Program`] if the batch has other features than the program,
    /// [`BackendError::Scores`] if `scores` is not one per sample: nothing has run then, and
    /// `scores` is untouched. [`BackendError::Device`] if the device failed: `scores` is
    /// unspecified, and the path is unhealthy until it is prepared anew.
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError>;

    /// As [`run`](Self::run), of samples in groups. An executable that does not know those, as this one, runs the plain
    /// form, which is what they mean: scores are the same, but that sums of floats may be taken in another order.
    ///
    /// # Errors
    ///
    /// As there.
    fn run_grouped(
        &mut self,
        batch: &GroupedBatch,
        scores: &mut [f32],
    ) -> Result<(), BackendError> {
        self.run(&batch.expanded(), scores)
    }

    /// The same program for another worker thread: parameters are shared, scratch memory is not. A cache
    /// is copied with what it holds.
    ///
    /// # Errors
    ///
    /// [`BackendError::Memory`] if its scratch memory does not fit.
    fn another(&self) -> Result<Box<dyn Executable>, BackendError>;

    /// Bytes that this executable keeps resident on its device: parameters, counted fully however
    /// many executables share them, and its own scratch memory. A mapped table counts as if it
    /// were all in memory, which it is once every row has been asked for.
    fn bytes(&self) -> usize;

    /// Whether batches with weighted ids can be run. Where not, such a batch is
    /// [`BackendError::Weighted`].
    fn takes_weights(&self) -> bool {
        true
    }

    /// Runs a batch like [`run`](Self::run) and tells what each kind of kernel took of it by the device's own clock, the longest
    /// first. It takes longer than `run`: for benchmarks.
    ///
    /// # Errors
    ///
    /// As `run`, and [`BackendError::NoKernelTimes`] where there is no such clock: nothing has run then.
    fn run_timed(
        &mut self,
        _batch: &Batch,
        _scores: &mut [f32],
    ) -> Result<Vec<KernelTime>, BackendError> {
        Err(BackendError::NoKernelTimes {
            reason: "of the backends only `wgpu` has a clock for them",
        })
    }

    /// What its cache did so far, if it has one. Costs nothing to ask.
    fn cache(&self) -> Option<CacheStatistics> {
        None
    }

    /// Computes the vectors of `hot`, those first that come first, and holds them while there is room.
    /// Tells how many it holds of them. To be called before the first run; ids that are not the program's, or that no
    /// cache serves, are passed over.
    fn remember(&mut self, _hot: &[HotId]) -> usize {
        0
    }
}

/// What the kernels of one kind took of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelTime {
    /// The kernel.
    pub kernel: &'static str,
    /// How often it was called.
    pub calls: usize,
    /// Time on the device, over all calls.
    pub time: Duration,
}

/// What every `run` checks first.
pub(crate) fn check(program: &Program, batch: &Batch, scores: &[f32]) -> Result<(), BackendError> {
    program.check(batch)?;
    if scores.len() != batch.samples() {
        return Err(BackendError::Scores { got: scores.len(), samples: batch.samples() });
    }
    Ok(())
}

/// What every `run_grouped` checks first.
pub(crate) fn check_grouped(
    program: &Program,
    batch: &GroupedBatch,
    scores: &[f32],
) -> Result<(), BackendError> {
    program.check_grouped(batch)?;
    if scores.len() != batch.samples() {
        return Err(BackendError::Scores { got: scores.len(), samples: batch.samples() });
    }
    Ok(())
}
