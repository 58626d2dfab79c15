//! The native backend: our own kernels, on the processor that runs the program.
//!
//! `prepare` turns a program into a plan once:
//!
//! 1. All lookups of the program become one pass that asks for rows well before it reads them.
//! 2. Vectors that will meet in an interaction are written side by side where they are made, so
//!    that the interaction reads one contiguous row per sample and `cat` costs nothing.
//! 3. Weights are packed into the order in which the matrix kernel reads them; bias and activation
//!    are applied while a result is still in registers or cache.
//! 4. Everything that exists per id (a DHE's codes and decoder layers) runs in chunks of ids, and
//!    the whole program in blocks of samples: intermediate values stay in the L2 cache, and
//!    scratch memory does not grow with a batch that a client sends.
//! 5. An id that a chunk holds more than once is computed once.
//! 6. Slots whose lives do not overlap share memory.
//! 7. What a group of samples shares ([`GroupedBatch`](mprec_representations::GroupedBatch)) is looked up, encoded and decoded
//!    once per group and block, and so is the bottom net's output where all dense values are shared.
//! 8. With [`CpuBackend::with_cache`], ids whose vectors are held are left out of what is computed per id.
//!
//! A run then allocates nothing, takes no lock and makes no system call; tables are read where they
//! are, mapped or not. (`Level::Portable` is the exception: the `gemm` crate may allocate.)
//!
//! # Exactness
//!
//! Row lookup, bag sums and hash codes agree with the interpreter bit for bit. Products sum in
//! another order, with fused multiply-add: scores agree to 1e-5. The order depends on how many rows are
//! multiplied at once, so the same id in another batch may get a vector that differs in its last bits; a
//! cached vector is one of these. Layers of 8-bit weights and [`Level::Scalar`] give every id the same bits
//! always, cached or not.
//!
//! Samples in groups get the same bits as in plain form, but for these: a bottom net that runs once per group, the
//! vectors of a DHE that sums several ids of a bag, and a cache's vectors are multiplied among other rows, as above.

mod buffer;
mod chain;
mod dense;
mod divide;
mod executable;
mod gather;
pub mod gemm;
pub mod gemm_bf16;
pub mod gemm_int8;
pub mod hash_encode;
mod input;
pub mod interaction;
mod kernels;
mod layout;
mod level;
pub mod matrix;
mod peak;
mod pick_largest;
mod place;
mod plan;
#[cfg(target_arch = "x86_64")]
mod products;
mod recall;
mod schedule;
mod spread;
mod step;
pub mod sum_fused_rows;
pub mod sum_half_rows;
pub mod sum_rows;
mod unique;
mod vectors;

use std::sync::Arc;

use mprec_representations::Program;

pub(crate) use buffer::Buffer;
pub use level::Level;
pub use peak::{Arithmetic, peak_rate, read_bandwidth};
pub use vectors::DheVectors;

use crate::{
    backend::{Backend, Executable},
    error::BackendError,
    path::BackendKind,
};

/// Executes programs on the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuBackend {
    level: Level,
    /// Bytes of an executable's cache; 0 is none.
    cache: usize,
}

impl CpuBackend {
    /// With the fastest kernels that this machine can run.
    pub fn new() -> Self {
        Self { level: Level::detect(), cache: 0 }
    }

    /// With the kernels of `level`, and slower ones where it has none.
    ///
    /// # Errors
    ///
    /// [`BackendError::Unavailable`] if this machine lacks the instructions.
    pub fn with_level(level: Level) -> Result<Self, BackendError> {
        if level.is_available() {
            return Ok(Self { level, cache: 0 });
        }
        Err(BackendError::Unavailable {
            backend: BackendKind::Cpu,
            reason: format!("this processor lacks {level}"),
            remedy: "leave the level open to use what it has",
        })
    }

    /// With a cache of at most `bytes` in every executable whose program computes vectors per id (a DHE);
    /// 0 is none.
    #[must_use]
    pub fn with_cache(self, bytes: usize) -> Self {
        Self { cache: bytes, ..self }
    }

    /// The instructions in use.
    pub fn level(&self) -> Level {
        self.level
    }
}

impl Default for CpuBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for CpuBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Cpu
    }

    fn prepare(&self, program: &Program) -> Result<Box<dyn Executable>, BackendError> {
        let plan = plan::Plan::new(program, self.level)?;
        tracing::debug!(level = %self.level, bytes = plan.bytes(), "prepared a program");
        let recall = recall::Recall::new(&plan, self.cache)?;
        Ok(Box::new(executable::CpuExecutable::new(Arc::new(plan), recall)?))
    }
}
