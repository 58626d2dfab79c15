//! Bundles whose every score is a function of the version, and repositories over them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use mprec_representations::{Batch, BatchShape, bundle::Bundle};
use mprec_router::PolicyName;

use super::super::*;
use crate::{
    config::{Budgets, Declared, ProfileConfig, QueueLimits, Serving},
    endpoint::{Changed, Control, ControlError, ExpectedConfig, IndexEntry, ModelState},
    profiler::Progress,
    service::{Answer, Model, Outcome, Refusal, ScoreRequest, Service},
};

/// Far longer than anything here takes, also on a busy machine.
pub(super) const LONG: Duration = Duration::from_secs(60);

#[path = "../../../../tests/src/versioned.rs"]
mod versioned;

pub(super) use versioned::{accuracy, code, tensors_of, write, write_shaped};

/// Rows of zeros, and what was asked of them.
#[derive(Debug, Default)]
pub(super) struct Zeros {
    /// Paths that were measured.
    pub(super) measured: AtomicUsize,
    pub(super) panics: AtomicBool,
}

impl Rows for Zeros {
    fn inputs(&self, bundle: &Bundle) -> Result<Inputs, RowsError> {
        assert!(!self.panics.load(SeqCst), "as it was told to");
        let shape = BatchShape::new(&bundle.manifest().schema);
        Ok(Box::new(move |samples| batch(&shape, samples)))
    }

    fn measuring(&self, progress: Progress<'_>) {
        self.measured.fetch_add(usize::from(progress.batch == 1), SeqCst);
    }
}

fn batch(shape: &BatchShape, samples: usize) -> Batch {
    let dense = vec![0.0; samples * shape.dense_width()];
    shape.from_rows(dense, &vec![1; samples * shape.features()]).unwrap()
}

pub(super) fn recipe(folder: &Path) -> Recipe {
    Recipe {
        name: Some("ctr".into()),
        folder: folder.to_owned(),
        policy: PolicyName::MultiPath,
        sla: LONG,
        min_quality: None,
        max_samples: 1_000,
        serving: Serving {
            paths: vec!["table@cpu".into()],
            workers: Some(1),
            operation_threads: 1,
            pin_workers: false,
            worker_nice: 0,
            resident_tables: false,
            max_batch: None,
            max_parts: None,
            linger: Duration::ZERO,
            cache_bytes: 0,
        },
        queue: QueueLimits { queries: 1_000, samples: 100_000, bytes: 1 << 24 },
        profile: ProfileConfig { file: None, budget: Duration::from_millis(30) },
        declared: Declared::default(),
        record: None,
    }
}

pub(super) struct Setup {
    pub(super) root: tempfile::TempDir,
    pub(super) options: RepositoryOptions,
    pub(super) rows: Arc<Zeros>,
}

impl Setup {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = RepositoryOptions {
            folder: Some(root.path().to_owned()),
            base: recipe(root.path()),
            budgets: Budgets::new(),
            keep_versions: 0,
            verify: true,
            drain: LONG,
            watch: None,
        };
        Self { root, options, rows: Arc::default() }
    }

    /// The folder of the model `ctr`.
    pub(super) fn folder(&self) -> PathBuf {
        self.root.path().join("ctr")
    }

    /// A repository that serves what lies in [`Setup::folder`].
    pub(super) fn start(&self) -> Repository {
        let rows = Box::new(Arc::clone(&self.rows));
        let repository = Repository::new(self.options.clone(), rows).unwrap();
        repository.start(recipe(&self.folder())).unwrap();
        repository
    }
}

pub(super) fn request(model: &Model) -> ScoreRequest {
    let arrival = Instant::now();
    ScoreRequest {
        batch: batch(&model.shape, 3).into(),
        arrival,
        deadline: arrival + LONG,
        min_quality: None,
        priority: 0,
    }
}

/// What comes of a query that was parsed for `model`.
pub(super) fn ask(repository: &Repository, model: &Arc<Model>) -> Outcome {
    let receiver = repository.submit(model, request(model))?;
    receiver.blocking_recv().unwrap_or(Err(Refusal::Unavailable { reason: "it was dropped" }))
}

/// Whether scores, version and quality of an answer are those of one version.
pub(super) fn check(answer: &Answer) -> u64 {
    let version: u64 = answer.version.parse().unwrap();
    for &score in &answer.scores {
        assert!((f64::from(score) - code(version)).abs() < 1e-5, "{score} is not of {version}");
    }
    assert_eq!(answer.scores.len(), 3);
    assert!((answer.quality - accuracy(version)).abs() < 1e-9, "{version}: {}", answer.quality);
    version
}

/// The version that answers now.
pub(super) fn served(repository: &Repository) -> u64 {
    let model = repository.model("ctr").unwrap();
    let answer = ask(repository, &model).unwrap();
    assert_eq!(*answer.version, model.version);
    check(&answer)
}

fn wait(change: Result<crate::endpoint::Change, ControlError>) -> Result<Changed, ControlError> {
    change?.blocking_recv().unwrap_or(Err(ControlError::Stopping))
}

pub(super) fn load(repository: &Repository) -> Result<Changed, ControlError> {
    wait(Control::load(repository, "ctr", None))
}

/// Loads it if it has this configuration.
pub(super) fn load_expecting(
    repository: &Repository,
    config: &str,
) -> Result<Changed, ControlError> {
    wait(Control::load(repository, "ctr", Some(ExpectedConfig::parse(config).unwrap())))
}

pub(super) fn unload(repository: &Repository) -> Result<Changed, ControlError> {
    wait(repository.unload("ctr"))
}

pub(super) fn rollback(repository: &Repository) -> Result<Changed, ControlError> {
    wait(repository.rollback("ctr"))
}

/// The lines of the index, without reasons.
pub(super) fn index(repository: &Repository) -> Vec<(String, String, ModelState)> {
    let line = |IndexEntry { name, version, state, .. }| (name, version, state);
    repository.index().into_iter().map(line).collect()
}

/// Waits until it holds.
pub(super) fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < limit, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
