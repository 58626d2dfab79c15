//! The seam between a protocol and what answers it.
//!
//! A protocol (HTTP now, gRPC later) turns bytes into a [`ScoreRequest`], hands it to a [`Service`]
//! and renders the [`Answer`] or the [`Refusal`]. The engine is one service; a service that does
//! no work is how the cost of the protocol itself is measured.

mod work;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mprec_datasets::Preprocessor;
use mprec_representations::{BatchShape, GroupedBatch, Schema};
use tokio::sync::oneshot;

pub use self::work::{BatchWork, Memory, MemoryKind, ModelWork, PathWork, Spent, Stages};
use crate::metrics::Metrics;

/// A model as clients see it: one name and version, behind which any path may answer.
#[derive(Debug)]
pub struct Model {
    /// Its name in URLs.
    pub name: String,
    /// Its version, as the bundle states it.
    pub version: String,
    /// Its features.
    pub schema: Schema,
    /// What requests are parsed into.
    pub shape: BatchShape,
    /// Most samples in one request.
    pub max_samples: usize,
    /// Deadline of a query that names none, counted from its arrival.
    pub sla: Duration,
    /// The paths that may answer, with their expected accuracy.
    pub paths: BTreeMap<String, f64>,
    /// Turns raw values into features, if the bundle carries what that takes.
    pub preprocessor: Option<Arc<Preprocessor>>,
}

/// Samples to score together, by a deadline.
#[derive(Debug)]
pub struct ScoreRequest {
    /// The samples, in one group if its client sent what they share once.
    pub batch: GroupedBatch,
    /// When the request arrived, before it was parsed.
    pub arrival: Instant,
    /// When the answer must be there.
    pub deadline: Instant,
    /// Lowest acceptable expected accuracy of the path that answers, in `[0, 1]`.
    pub min_quality: Option<f64>,
    /// 0 is the default, 1 the most important (Triton's meaning); see [`PRIORITY_LEVELS`].
    pub priority: u32,
}

/// Priorities that are told apart: this and all numbers beyond are the least important.
pub const PRIORITY_LEVELS: u32 = 3;

/// The priority that 0 stands for.
pub const DEFAULT_PRIORITY: u32 = 2;

/// Scores, and how they came about.
#[derive(Debug, Clone)]
pub struct Answer {
    /// One probability per sample.
    pub scores: Vec<f32>,
    /// The path that answered: `table@cpu`.
    pub path: Arc<str>,
    /// Its variant: `table`.
    pub variant: Arc<str>,
    /// The model version.
    pub version: Arc<str>,
    /// Expected accuracy of that path: the fraction of predictions that are correct.
    pub quality: f64,
    /// Whether a better path was passed over because it would have been late.
    pub downgraded: bool,
    /// From arrival to the finish that was expected when the path was chosen.
    pub predicted: Duration,
    /// From arrival to the start of the batch.
    pub queue: Duration,
    /// The batch's time on its worker.
    pub compute: Duration,
    /// Samples of the batch in which the query was run.
    pub batch_samples: usize,
}

/// How busy the paths of a model are, at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Share of the workers that are busy, plus what waits as time of all workers over the SLA. Up to 1 what
    /// arrives can run at once; at 2 it waits as long as it may.
    pub utilization: f64,
    /// Queries that wait.
    pub queued_queries: usize,
    /// Samples that wait.
    pub queued_samples: usize,
    /// Workers that run something.
    pub busy_workers: u32,
    /// All workers.
    pub workers: u32,
    /// Paths that can be given work.
    pub paths_up: u32,
}

/// Why a query was not answered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No path can answer in time, now.
    #[error("overloaded: {reason}; try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// What stands in the way.
        reason: &'static str,
        /// When a retry may succeed.
        retry_after: Duration,
    },
    /// No path that is up reaches the asked quality.
    // Rounded down, so that what it says can be asked for.
    #[error("no path reaches min_quality {min_quality}; the best has {}", (best * 1e6).floor() / 1e6)]
    Quality {
        /// What was asked.
        min_quality: f64,
        /// The best expected accuracy at hand.
        best: f64,
    },
    /// Its ids have weights, and no path that the policy may choose takes any.
    #[error("no path that may answer takes weights of ids; send the query without them")]
    Weighted,
    /// The deadline passed before the query was run.
    #[error("the deadline passed {} µs before the query could run", late.as_micros())]
    DeadlinePassed {
        /// By how much.
        late: Duration,
    },
    /// The server is stopping, or has no path that is up.
    #[error("not available: {reason}")]
    Unavailable {
        /// Why.
        reason: &'static str,
    },
    /// The device failed while running the query.
    #[error("path `{path}` failed: {message}")]
    Failed {
        /// The path.
        path: Arc<str>,
        /// The cause, as text.
        message: Arc<str>,
    },
}

/// What is sent back for every query that was taken.
pub type Outcome = Result<Answer, Refusal>;

/// Answers queries for models.
pub trait Service: Send + Sync + 'static {
    /// All models, by name.
    fn models(&self) -> Vec<Arc<Model>>;

    /// The model of this name.
    fn model(&self, name: &str) -> Option<Arc<Model>>;

    /// The model of this name and version. Not only the version that [`Service::model`] gives may be there.
    fn version(&self, name: &str, version: &str) -> Option<Arc<Model>> {
        self.model(name).filter(|model| model.version == version)
    }

    /// Why there is no model of this name, if it will be there soon.
    fn why_absent(&self, name: &str) -> Option<Refusal> {
        let _ = name;
        None
    }

    /// Whether queries can be answered now.
    fn is_ready(&self) -> bool;

    /// Whether queries for this model can be answered now.
    fn is_model_ready(&self, model: &Arc<Model>) -> bool {
        let _ = model;
        self.is_ready()
    }

    /// Reports what only the service knows, such as queues, before metrics are rendered.
    fn observe(&self, metrics: &Metrics) {
        let _ = metrics;
    }

    /// How busy it is now; `None` if the service cannot tell.
    fn load(&self, model: &Model) -> Option<Load> {
        let _ = model;
        None
    }

    /// What was done for a model since it began to be served; all zero if the service does not count.
    fn work(&self, model: &Model) -> ModelWork {
        let _ = model;
        ModelWork::default()
    }

    /// Takes a query without blocking. Exactly one outcome follows for every query taken.
    ///
    /// `model` is the one that [`Service::model`] or [`Service::version`] gave, and for which the query was parsed: that
    /// version answers, also if another has taken its place meanwhile.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when it is clear at once that the query cannot be answered.
    fn submit(
        &self,
        model: &Arc<Model>,
        request: ScoreRequest,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal>;
}
