//! Errors of backends.

use std::path::PathBuf;

use mprec_representations::ProgramError;

use crate::path::BackendKind;

/// Why a backend could not be opened, or could not prepare or run a program.
///
/// One type for all backends: what is particular to a device is boxed in
/// [`Device`](Self::Device), so that callers match on what they can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The binary was built without this backend.
    #[error(
        "backend `{backend}` is not compiled in; this build has {}",
        crate::registry::compiled_names()
    )]
    NotCompiled {
        /// The backend asked for.
        backend: BackendKind,
    },

    /// Compiled in, but this machine lacks what it needs.
    #[error("backend `{backend}` cannot be used here: {reason}; {remedy}")]
    Unavailable {
        /// The backend asked for.
        backend: BackendKind,
        /// What is missing.
        reason: String,
        /// What would help.
        remedy: &'static str,
    },

    /// The program needs something this backend lacks. Another path may serve it.
    #[error("backend `{backend}` cannot run `{what}`; choose another backend for this variant")]
    Unsupported {
        /// The backend asked.
        backend: BackendKind,
        /// The missing operation or row format.
        what: &'static str,
    },

    /// Scratch memory or packed parameters do not fit.
    #[error("backend `{backend}` could not get {bytes} bytes of memory for this program")]
    Memory {
        /// The backend that prepared.
        backend: BackendKind,
        /// What it asked for.
        bytes: usize,
    },

    /// The byte budget holds no cache worth having.
    #[error(
        "a cache of {bytes} bytes is too small for this program's vectors; give it {least} or none"
    )]
    CacheTooSmall {
        /// The budget.
        bytes: usize,
        /// The smallest that does.
        least: usize,
    },

    /// The batch is not one of the program's.
    #[error(transparent)]
    Program(#[from] ProgramError),

    /// A model that another tool wrote is not what can be served.
    #[error("`{}` cannot be served: {reason}", file.display())]
    File {
        /// The model's file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The batch has weighted ids, which a model that another tool wrote has no input for.
    #[error("`{}` takes no weights of ids; send such a query to a path of the bundle", file.display())]
    Weighted {
        /// The model's file.
        file: PathBuf,
    },

    /// A batch can be run in parts, but one of its samples does not fit the device by itself. Says nothing about the path.
    #[error(
        "sample {sample} of the batch takes {bytes} bytes, and backend `{backend}` can bind {limit}; \
         give it fewer ids, or choose another backend"
    )]
    Sample {
        /// The backend that was to run it.
        backend: BackendKind,
        /// Which sample, from 0.
        sample: usize,
        /// What its ids and values take.
        bytes: usize,
        /// Most bytes that the device reads as one.
        limit: u64,
    },

    /// What the kernels of a batch took is not known here.
    #[error("kernels cannot be timed: {reason}")]
    NoKernelTimes {
        /// What is missing.
        reason: &'static str,
    },

    /// Nowhere to put the scores, or places too many.
    #[error("room for {got} scores given for a batch of {samples} samples")]
    Scores {
        /// Length of the slice given.
        got: usize,
        /// Samples in the batch.
        samples: usize,
    },

    /// The device failed. The path is unhealthy until it is prepared anew.
    #[error("device of backend `{backend}` failed")]
    Device {
        /// The backend whose device failed.
        backend: BackendKind,
        /// What the device's own library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
