//! What can go wrong with profiles.

use std::path::PathBuf;

use mprec_backends::BackendError;
use mprec_router::{CurveError, ProfileError};

use super::PROFILE_FORMAT;

/// Why paths could not be profiled, or a profile could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfilerError {
    /// A path failed while it was measured.
    #[error("path `{path}` failed at batch {batch}")]
    Run {
        /// The path.
        path: String,
        /// Samples in the batch.
        batch: u32,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// A path panicked while it was measured.
    #[error("path `{path}` panicked at batch {batch}; this is a bug of its backend")]
    Panicked {
        /// The path.
        path: String,
        /// Samples in the batch.
        batch: u32,
    },
    /// The source of rows gave fewer than asked for.
    #[error("the source of inputs gave {got} samples where {asked} were asked for")]
    Inputs {
        /// Samples asked for.
        asked: usize,
        /// Samples given.
        got: usize,
    },
    /// Measured times that make no curve.
    #[error("the times measured for `{path}` are unusable")]
    Curve {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: CurveError,
    },
    /// Profiles that contradict each other.
    #[error("the profiles are unusable")]
    Profiles(#[from] ProfileError),
    /// The file system refused.
    #[error("cannot access profile `{}`", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Larger than any real profile.
    #[error("profile `{}` has more than {limit} bytes", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Not a profile.
    #[error("`{}` is not a valid profile; write one with `mprec profile`", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Written by another version.
    #[error(
        "profile format {found} is not supported; run `mprec profile` again to write format {}",
        PROFILE_FORMAT
    )]
    Format {
        /// What the file says.
        found: u32,
    },
    /// The profile is of something else.
    #[error(
        "the profile is of model `{found}`, not `{expected}`; run `mprec profile` on this bundle"
    )]
    Model {
        /// The file's model.
        found: String,
        /// The bundle's model.
        expected: String,
    },
    /// A path that the file does not have.
    #[error("the profile has no path `{path}`, only {}; run `mprec profile` with all paths", known.join(", "))]
    NoPath {
        /// The path.
        path: String,
        /// The paths there are.
        known: Vec<String>,
    },
    /// Measured under another load than it will be served under.
    #[error(
        "path `{path}` was profiled with {found} workers, not {expected}; run `mprec profile` again or set `serving.workers` to {found}"
    )]
    Lanes {
        /// The path.
        path: String,
        /// Workers when it was profiled.
        found: u32,
        /// Workers now.
        expected: u32,
    },
}
