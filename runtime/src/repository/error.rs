//! Why a version could not be loaded.

use std::path::PathBuf;

use mprec_backends::{BackendError, Path};
use mprec_datasets::DatasetError;
use mprec_representations::bundle::BundleError;

use crate::{config::ByteSize, engine::EngineError, paths::PathsError, profiler::ProfilerError};

/// What a source of rows says when it has none.
pub type RowsError = Box<dyn std::error::Error + Send + Sync>;

/// A version that cannot be served. What was served before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No manifest, and no numbered folder with one.
    #[error(
        "there is no bundle in `{}`: neither a manifest nor a folder of a version such as `1`", folder.display()
    )]
    NoBundle {
        /// The folder.
        folder: PathBuf,
    },
    /// The file system refused.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The bundle is damaged, or is not what it says.
    #[error("bundle `{}` cannot be used", folder.display())]
    Bundle {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: Box<BundleError>,
    },
    /// What the bundle carries to turn raw values into features is damaged, or is not of its features.
    #[error("the preprocessing in bundle `{}` cannot be used", folder.display())]
    Preprocessing {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: Box<DatasetError>,
    },
    /// A bundle of another model than the one that it shall replace.
    #[error("the bundle is of model `{found}`, not `{expected}`; set `name` if that is intended")]
    Model {
        /// The bundle's.
        found: String,
        /// The one that is served.
        expected: String,
    },
    /// A folder of a version holds another one.
    #[error("folder `{}` holds version `{version}`; name the folder so", folder.display())]
    VersionFolder {
        /// The folder.
        folder: PathBuf,
        /// The version of the bundle in it.
        version: String,
    },
    /// An earlier version's bundle is not there any more.
    #[error("version `{version}` is not in `{}` any more, so that there is no way back to it", folder.display())]
    Gone {
        /// The version.
        version: String,
        /// Where it was.
        folder: PathBuf,
    },
    /// Who asked for it expects another configuration.
    #[error(
        "parameter `config` expects another `{key}` than the model has; leave it out, and set in the server's \
         configuration what it shall be"
    )]
    Expected {
        /// The first key that differs.
        key: String,
    },
    /// No variant can be compared by the router.
    #[error("no variant of the bundle has a quality; run `mprec eval`, or name paths and state it")]
    NoPaths,
    /// A path cannot be brought up.
    #[error("its paths cannot be brought up")]
    Paths(#[source] PathsError),
    /// It does not fit beside what is resident.
    #[error(
        "path `{path}` takes {} on `{device}`, where {} of {} are left beside the versions that are resident; raise \
         `budgets.\"{device}\"`, unload a model or keep fewer versions (`repository.keep_versions`)",
        ByteSize(*.bytes), ByteSize(*.left), ByteSize(*.budget)
    )]
    Budget {
        /// The first path that does not fit.
        path: Path,
        /// Its device.
        device: String,
        /// Bytes that it takes.
        bytes: u64,
        /// Bytes that are left.
        left: u64,
        /// Bytes that all paths of the device may take.
        budget: u64,
    },
    /// No rows to measure or to warm up with.
    #[error("there are no rows to measure with")]
    Rows(#[source] RowsError),
    /// Service times are missing or were not measured.
    #[error("its service times are not known")]
    Profile(#[source] ProfilerError),
    /// A path failed on the batches that it was warmed up with.
    #[error("path `{path}` failed when it was warmed up")]
    Warm {
        /// The path.
        path: Path,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// A path answers with what is no probability.
    #[error("path `{path}` scores rows with {score}, which is no probability")]
    Score {
        /// The path.
        path: Path,
        /// What it said.
        score: f32,
    },
    /// The engine cannot start.
    #[error("its engine cannot be started")]
    Engine(#[source] EngineError),
    /// A thread cannot be started, or a bug was hit.
    #[error("loading it failed: {message}")]
    Internal {
        /// What happened.
        message: String,
    },
    /// Two models of one name.
    #[error("there are two models `{name}`; name one of them otherwise")]
    Twice {
        /// The name.
        name: String,
    },
    /// Earlier versions are still at work.
    #[error("{versions} earlier versions still finish their queries; try again when they are done")]
    Retiring {
        /// How many.
        versions: usize,
    },
}
