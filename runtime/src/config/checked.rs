//! A configuration whose values were proved.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use mprec_router::PolicyName;

use super::{AdminConfig, ByteSize, ModelConfig, RepositoryConfig, SecurityConfig};
use crate::{endpoint::Statuses, http::ListenOn, record::RecordOptions};

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(super) models: Vec<ModelConfig>,
    pub(super) repository: RepositoryConfig,
    pub(super) admin: AdminConfig,
    pub(super) server: ServerConfig,
    pub(super) security: SecurityConfig,
    pub(super) policy: PolicyName,
    pub(super) constraints: Constraints,
    pub(super) serving: Serving,
    pub(super) budgets: Budgets,
    pub(super) queue: QueueLimits,
    pub(super) profile: ProfileConfig,
    pub(super) declared: Declared,
    pub(super) record: Option<RecordOptions>,
    pub(super) drain: Duration,
    pub(super) log_filter: Option<String>,
}

/// Where and what the endpoint accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where HTTP listens; never empty, no two alike.
    pub listen: Vec<ListenOn>,
    /// Whose statuses errors get.
    pub errors: Statuses,
    /// Address and port of gRPC; `None` where it is off.
    pub grpc: Option<SocketAddr>,
    /// Address and port of a listener for metrics, the status page and health alone; `None` has none.
    pub metrics: Option<SocketAddr>,
    /// Whether there is a status page.
    pub status_page: bool,
    /// Largest request body, or message of gRPC.
    pub max_body_bytes: usize,
    /// Most samples in one request.
    pub max_samples: usize,
}

/// What an answer must keep to.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraints {
    /// Deadline of a query that names none, counted from its arrival.
    pub sla: Duration,
    /// Lowest accuracy of the path that answers a query that names none.
    pub min_quality: Option<f64>,
}

/// What is kept resident and how it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The paths, `variant@backend`, no two alike. None stand for every variant with a quality, on `cpu`.
    pub paths: Vec<String>,
    /// Worker threads of the CPU; `None` is one per core.
    pub workers: Option<u32>,
    /// Threads of one operation on a CPU, where a backend's library has threads of its own.
    pub operation_threads: u16,
    /// Whether each worker keeps to one core.
    pub pin_workers: bool,
    /// Nice value of the CPU's workers.
    pub worker_nice: u8,
    /// Whether tables are copied to memory of their own, in large pages where the system grants them.
    pub resident_tables: bool,
    /// Most samples in a batch of several queries; `None` lets the profile say where batching stops
    /// paying.
    pub max_batch: Option<u32>,
    /// How long a batch that is not full waits for more while a worker is idle.
    pub linger: Duration,
    /// The most parts that a query is split into; `None` is as many as its device has workers, 1 is never.
    pub max_parts: Option<u32>,
    /// Bytes of each worker's cache for each path that computes vectors per id; 0 is none.
    pub cache_bytes: usize,
}

/// Most bytes of all paths on a device, by the device's name; a device that is not there has no limit.
pub type Budgets = BTreeMap<String, ByteSize>;

/// What may wait. Whatever exceeds a limit is refused as overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Queries.
    pub queries: usize,
    /// Samples of all queries.
    pub samples: usize,
    /// Bytes of ids, weights and dense values of all queries.
    pub bytes: usize,
}

/// Where service times come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileConfig {
    /// A file that `mprec profile` wrote; `None` measures when the server starts.
    pub file: Option<PathBuf>,
    /// How long measuring may take, over all paths.
    pub budget: Duration,
}

/// An accuracy that was not measured on the bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredQuality {
    /// Fraction of predictions that are correct, in `[0, 1]`.
    pub accuracy: f64,
    /// Where the figure comes from; shown wherever the accuracy is.
    pub source: String,
}

/// What is said of variants beside what their bundle says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declared {
    /// Accuracies, by a path's name or a variant's.
    pub quality: BTreeMap<String, DeclaredQuality>,
    /// Variants that the bundle does not have: ONNX files for batches of its schema.
    pub files: BTreeMap<String, PathBuf>,
}

impl Config {
    /// What is served from the start; may be empty where models can be loaded.
    pub fn models(&self) -> &[ModelConfig] {
        &self.models
    }

    /// How versions come and go.
    pub fn repository(&self) -> &RepositoryConfig {
        &self.repository
    }

    /// Where models may be loaded and unloaded.
    pub fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    /// The endpoint.
    pub fn server(&self) -> &ServerConfig {
        &self.server
    }

    /// Certificates and keys.
    pub fn security(&self) -> &SecurityConfig {
        &self.security
    }

    /// How a path is chosen.
    pub fn policy(&self) -> &PolicyName {
        &self.policy
    }

    /// Deadline and quality floor.
    pub fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// Paths and workers.
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Most bytes of all paths on a device.
    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// What may wait.
    pub fn queue(&self) -> &QueueLimits {
        &self.queue
    }

    /// Where service times come from.
    pub fn profile(&self) -> &ProfileConfig {
        &self.profile
    }

    /// Accuracies and files of variants beside what the bundle says.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Where decisions are recorded to; `None` records nothing.
    pub fn record(&self) -> Option<&RecordOptions> {
        self.record.as_ref()
    }

    /// How long queries that were taken may still run after a signal to stop.
    pub fn drain(&self) -> Duration {
        self.drain
    }

    /// Which events are logged, as `tracing-subscriber` reads it; `None` leaves that as it is.
    pub fn log_filter(&self) -> Option<&str> {
        self.log_filter.as_deref()
    }
}
