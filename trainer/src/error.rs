//! Why training stops without a variant.

use std::{error::Error, path::PathBuf};

use mprec_representations::ModelError;

/// A variant could not be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The architecture contradicts the schema or itself.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An option is outside its range.
    #[error("option `{option}` must be {expected}, got {got}")]
    Option {
        /// The option.
        option: &'static str,
        /// What would do.
        expected: String,
        /// What it is.
        got: String,
    },
    /// Two ids of a feature would always get the same vector from a DHE.
    #[error(
        "prime {prime} does not exceed the largest id of feature `{feature}`, {largest}, so ids \
         would collide; use a larger prime or set `allow_collisions`"
    )]
    Prime {
        /// The sparse feature.
        feature: String,
        /// The modulus asked for.
        prime: i64,
        /// The feature's largest id.
        largest: u64,
    },
    /// There is nothing to learn from.
    #[error("rows {start}..{end} of a dataset of {rows} rows leave nothing to train on")]
    Rows {
        /// First row asked for.
        start: usize,
        /// One past the last.
        end: usize,
        /// Rows there are.
        rows: usize,
    },
    /// Rows could not be read.
    #[error("cannot read training rows")]
    Examples(#[source] Box<dyn Error + Send + Sync>),
    /// A tensor does not fit into memory.
    #[error("no memory for {bytes} bytes of `{tensor}`; use fewer rows, e.g. a hashed table")]
    Memory {
        /// What was to be held.
        tensor: String,
        /// Its size.
        bytes: u128,
    },
    /// The loss is no longer a number.
    #[error("the loss is not finite at step {step}; lower the learning rates")]
    Diverged {
        /// Steps done.
        step: u64,
    },
    /// The caller asked to stop. The checkpoint, if there is one, holds all that was learned.
    #[error("stopped at step {step} of {steps}")]
    Stopped {
        /// Steps done.
        step: u64,
        /// Steps planned.
        steps: u64,
    },
    /// A checkpoint cannot be read or written.
    #[error("cannot use checkpoint `{path}`")]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A checkpoint belongs to another run.
    #[error(
        "checkpoint `{path}` was made with another {what}; train into another folder, or repeat \
         the options it was made with"
    )]
    CheckpointMismatch {
        /// The folder.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The tensor library failed.
    #[error("tensor arithmetic failed")]
    Tensor(#[from] candle_core::Error),
    /// Worker threads could not be started.
    #[error("cannot start worker threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}
