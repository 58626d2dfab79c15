//! Why an engine could not start.

use mprec_backends::BackendError;
use mprec_router::RouterError;

use crate::record::RecordError;

/// An engine that cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A path without a profile.
    #[error("path `{path}` has no profile; run `mprec profile` with all paths")]
    NoProfile {
        /// The path.
        path: String,
    },
    /// A profile without a path.
    #[error("there is a profile of `{path}`, which is not resident")]
    NotResident {
        /// The path.
        path: String,
    },
    /// The policy or a limit does not fit the paths.
    #[error("the router cannot be set up")]
    Router(#[from] RouterError),
    /// The log of decisions cannot be begun.
    #[error("decisions cannot be recorded")]
    Record(#[from] RecordError),
    /// A worker's scratch memory does not fit.
    #[error("worker {worker} cannot get its own executable of `{path}`")]
    Executable {
        /// The worker, from 0.
        worker: usize,
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// The system has no thread to give.
    #[error("thread `{name}` cannot be started")]
    Thread {
        /// The thread.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
