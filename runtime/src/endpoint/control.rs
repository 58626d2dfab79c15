//! Changing which models are served, as protocols see it: the model repository of Triton's extension.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::model_config::ExpectedConfig;

/// How far a version of a model is in its life, in Triton's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModelState {
    /// It is being loaded, or waits for that.
    Loading,
    /// It answers queries.
    Ready,
    /// It finishes the queries that it took.
    Unloading,
    /// It answers no query; the reason is stated.
    Unavailable,
}

impl ModelState {
    /// The word that protocols send.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loading => "LOADING",
            Self::Ready => "READY",
            Self::Unloading => "UNLOADING",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// One line of the index: a version of a model, or a model of which no version is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The model.
    pub name: String,
    /// Its version; empty while it is not known.
    pub version: String,
    /// How far it is.
    pub state: ModelState,
    /// Why it is not ready, or what is worth knowing of one that is; often empty.
    pub reason: String,
}

/// What is served of a model after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The model.
    pub name: String,
    /// The version that answers from now on; `None` after it was unloaded.
    pub version: Option<String>,
}

/// Why a change was not made. What is served is as it was.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Neither configured nor in the repository's folder, or not a name.
    #[error("there is no model `{name}` to load; put its bundle into the folder of the repository")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// Nothing of it is served.
    #[error("model `{name}` is not loaded")]
    NotLoaded {
        /// The model.
        name: String,
    },
    /// No earlier version is known.
    #[error("model `{name}` has no earlier version to go back to")]
    NoPrevious {
        /// The model.
        name: String,
    },
    /// The new version cannot be served.
    #[error("model `{name}` cannot be loaded: {reason}")]
    Load {
        /// The model.
        name: String,
        /// The chain of causes.
        reason: Arc<str>,
    },
    /// Too many changes wait.
    #[error("{limit} changes of models wait already; try again when they are done")]
    Busy {
        /// Changes that may wait.
        limit: usize,
    },
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
}

/// Completes when the change was made, or was found impossible.
pub type Change = oneshot::Receiver<Result<Changed, ControlError>>;

/// Loads and unloads models while others are served.
///
/// Every call returns at once; a change is made elsewhere, in the order of the calls, and is made also if nobody waits for
/// it any more.
pub trait Control: fmt::Debug + Send + Sync + 'static {
    /// Every model that is configured or lies in the repository's folder, with its versions.
    fn index(&self) -> Vec<IndexEntry>;

    /// Has the newest version of a model loaded, which replaces the one that is served when it is ready, unless it has
    /// another configuration than is `expected`.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when it is clear at once that nothing can be loaded.
    fn load(&self, name: &str, expected: Option<ExpectedConfig>) -> Result<Change, ControlError>;

    /// Has every version of a model finish its queries and end.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when nothing of it is served.
    fn unload(&self, name: &str) -> Result<Change, ControlError>;

    /// Has the version before the one that is served take its place.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when there is none.
    fn rollback(&self, name: &str) -> Result<Change, ControlError>;
}
