//! The repository as its owner, the protocols and the operators see it.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use mprec_representations::bundle::is_name;
use tokio::sync::oneshot;

use super::{
    LoadError, Recipe, Rows, loader,
    loader::{Job, Jobs},
    observe,
    state::{Entry, State},
    version::Table,
    watch,
};
use crate::{
    config::Budgets,
    endpoint::{Change, Control, ControlError, ExpectedConfig, IndexEntry, ModelState},
    metrics::Metrics,
    service::{Load, Model, ModelWork, Outcome, Refusal, ScoreRequest, Service},
};

/// Most models of the repository's folder that the index lists.
const MAX_LISTED: usize = 10_000;

/// What holds for all models.
#[derive(Debug, Clone)]
pub struct RepositoryOptions {
    /// The folder of models that may be loaded by name; `None` allows those that were started with only.
    pub folder: Option<PathBuf>,
    /// How a model of that folder is served; its name and folder are filled in.
    pub base: Recipe,
    /// Most bytes of all versions of all models on a device.
    pub budgets: Budgets,
    /// Earlier versions of each model that stay resident, to go back to at once and to be asked for by number.
    pub keep_versions: usize,
    /// Whether every byte of a bundle is checked before it replaces what is served.
    pub verify: bool,
    /// How long queries of a version that goes may still run.
    pub drain: Duration,
    /// How often the bundles of the models that are served are looked at, to load those that changed; `None` is never.
    pub watch: Option<Duration>,
}

/// Several models, each with a version that is served and others that come and go. See the [module](super).
#[derive(Debug)]
pub struct Repository {
    pub(super) shared: Arc<Shared>,
}

/// What the repository's threads share.
pub(super) struct Shared {
    /// What is served: all that a query needs.
    pub(super) table: ArcSwap<Table>,
    state: Mutex<State>,
    /// Told whenever a version has been freed.
    pub(super) freed: Condvar,
    /// Held while a version is made.
    pub(super) making: Mutex<()>,
    pub(super) options: RepositoryOptions,
    pub(super) rows: Box<dyn Rows>,
    pub(super) jobs: Jobs,
    pub(super) stopping: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Makes the state what queries see.
    pub(super) fn publish(&self, state: &mut State) {
        let old = self.table.swap(Arc::new(state.table()));
        state.tables.retain(|table| table.strong_count() > 0);
        state.tables.push(Arc::downgrade(&old));
    }
}

impl Repository {
    /// A repository that serves nothing yet, with threads that wait for changes.
    ///
    /// # Errors
    ///
    /// [`LoadError::Internal`] when the system has no thread to give.
    pub fn new(options: RepositoryOptions, rows: Box<dyn Rows>) -> Result<Self, LoadError> {
        let (jobs, queue) = Jobs::new();
        let shared = Arc::new(Shared {
            table: ArcSwap::default(),
            state: Mutex::default(),
            freed: Condvar::new(),
            making: Mutex::default(),
            options,
            rows,
            jobs,
            stopping: AtomicBool::new(false),
        });
        loader::spawn(Arc::clone(&shared), queue)?;
        if let Some(every) = shared.options.watch {
            watch::spawn(Arc::clone(&shared), every)?;
        }
        Ok(Self { shared })
    }

    /// Loads a model and serves it. Blocks until that is done.
    ///
    /// Its bytes are not checked against their digests, as those of later versions are: a start should not read tables of
    /// gigabytes that are mapped.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; then the repository serves what it served before.
    pub fn start(&self, recipe: Recipe) -> Result<Arc<Model>, LoadError> {
        loader::start(&self.shared, recipe)
    }

    /// Serves models by these recipes from now on: loads those that are new or changed, unloads those that were started or
    /// configured before and are not among them any more. Returns at once.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when too many changes wait.
    pub fn reconcile(&self, recipes: Vec<Recipe>) -> Result<(), ControlError> {
        self.shared.jobs.send(Job::Reconcile(recipes))
    }

    /// Makes no more changes, and shuts the engines of all versions down within `limit`.
    pub fn shutdown(&self, limit: Duration) {
        self.shared.stopping.store(true, Relaxed);
        self.shared.jobs.close();
        self.shared.freed.notify_all();
        let table = self.shared.table.load_full();
        let versions = table.models.values().flat_map(|versions| {
            versions.current.iter().chain(&versions.kept).chain(&versions.retiring)
        });
        std::thread::scope(|scope| {
            for version in versions {
                let drain = move || version.engine.shutdown(limit);
                if std::thread::Builder::new().spawn_scoped(scope, drain).is_err() {
                    drain();
                }
            }
        });
    }

    fn change(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<crate::endpoint::Changed, ControlError>>) -> Job,
    ) -> Result<Change, ControlError> {
        let (sender, receiver) = oneshot::channel();
        self.shared.jobs.send(job(sender))?;
        Ok(receiver)
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

impl Service for Repository {
    fn models(&self) -> Vec<Arc<Model>> {
        let table = self.shared.table.load();
        let current = table.models.values().filter_map(|versions| versions.current.as_ref());
        let mut models: Vec<_> = current.map(|version| Arc::clone(&version.model)).collect();
        models.sort_by(|one, other| one.name.cmp(&other.name));
        models
    }

    fn model(&self, name: &str) -> Option<Arc<Model>> {
        let table = self.shared.table.load();
        Some(Arc::clone(&table.models.get(name)?.current.as_ref()?.model))
    }

    fn version(&self, name: &str, version: &str) -> Option<Arc<Model>> {
        let table = self.shared.table.load();
        Some(Arc::clone(&table.models.get(name)?.numbered(version)?.model))
    }

    fn why_absent(&self, name: &str) -> Option<Refusal> {
        let state = self.shared.state();
        let entry = state.entries.get(name)?;
        let is_coming = entry.current.is_none() && entry.loading > 0;
        is_coming.then_some(Refusal::Unavailable { reason: "the model is being loaded" })
    }

    fn is_ready(&self) -> bool {
        let table = self.shared.table.load();
        let mut current = table.models.values().filter_map(|versions| versions.current.as_ref());
        current.all(|version| version.engine.is_ready())
    }

    fn is_model_ready(&self, model: &Arc<Model>) -> bool {
        let table = self.shared.table.load();
        let version = table.models.get(&model.name).and_then(|versions| versions.of(model));
        version.is_some_and(|version| version.engine.is_ready())
    }

    fn load(&self, model: &Model) -> Option<Load> {
        let table = self.shared.table.load();
        let version = table.models.get(&model.name)?.numbered(&model.version)?;
        version.engine.load(model)
    }

    fn work(&self, model: &Model) -> ModelWork {
        let table = self.shared.table.load();
        let versions = table.models.get(&model.name);
        let version = versions.and_then(|versions| versions.numbered(&model.version));
        version.map(|version| version.engine.work(model)).unwrap_or_default()
    }

    fn observe(&self, metrics: &Metrics) {
        observe::observe(&self.shared.state(), metrics);
    }

    fn submit(
        &self,
        model: &Arc<Model>,
        request: ScoreRequest,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let table = self.shared.table.load();
        let version = table.models.get(&model.name).and_then(|versions| versions.of(model));
        // Whoever holds on to a model keeps its version; only one that is too slow finds it gone.
        let gone = Refusal::Unavailable { reason: "this version of the model has been unloaded" };
        version.ok_or(gone)?.engine.submit(model, request)
    }
}

impl Control for Repository {
    fn index(&self) -> Vec<IndexEntry> {
        let listed = self.listed();
        let state = self.shared.state();
        let known = state.entries.iter().map(|(name, entry)| (name.clone(), entry.index(name)));
        let mut lines: BTreeMap<String, Vec<IndexEntry>> = known.collect();
        for name in listed {
            let line = IndexEntry {
                name: name.clone(),
                version: String::new(),
                state: ModelState::Unavailable,
                reason: "not loaded".to_owned(),
            };
            lines.entry(name).or_insert_with(|| vec![line]);
        }
        lines.into_values().flatten().collect()
    }

    fn load(&self, name: &str, expected: Option<ExpectedConfig>) -> Result<Change, ControlError> {
        let unknown = || ControlError::Unknown { name: name.to_owned() };
        // Names come from URLs: one that is a plain name is a folder within the repository's, or none.
        if !is_name(name) || name.starts_with('.') {
            return Err(unknown());
        }
        // Outside the lock: disks may take their time.
        let folder = self.shared.options.folder.as_ref().map(|folder| folder.join(name));
        let folder = folder.filter(|folder| folder.is_dir());
        let recipe = || {
            let base = self.shared.options.base.clone();
            let folder = folder.clone()?;
            Some(Recipe { name: Some(name.to_owned()), folder, record: None, ..base })
        };
        let mut state = self.shared.state();
        match state.entries.get_mut(name) {
            Some(entry) if entry.is_configured => {}
            // The configuration may have named it before, and led elsewhere.
            Some(entry) => entry.recipe = recipe().ok_or_else(unknown)?,
            None => {
                let entry = Entry::new(recipe().ok_or_else(unknown)?, false);
                state.entries.insert(name.to_owned(), entry);
            }
        }
        drop(state);
        loader::announce(&self.shared, name);
        let name_of = name.to_owned();
        let job = |done| Job::Load { name: name_of, done: Some(done), force: false, expected };
        self.change(job).inspect_err(|_| loader::retract(&self.shared, name))
    }

    fn unload(&self, name: &str) -> Result<Change, ControlError> {
        let state = self.shared.state();
        let is_there = state
            .entries
            .get(name)
            .is_some_and(|entry| entry.current.is_some() || entry.loading > 0);
        drop(state);
        if !is_there {
            return Err(ControlError::NotLoaded { name: name.to_owned() });
        }
        self.change(|done| Job::Unload { name: name.to_owned(), done: Some(done) })
    }

    fn rollback(&self, name: &str) -> Result<Change, ControlError> {
        let state = self.shared.state();
        let entry = state.entries.get(name).filter(|entry| entry.current.is_some());
        let Some(entry) = entry else {
            return Err(ControlError::NotLoaded { name: name.to_owned() });
        };
        let has_history = !entry.history.is_empty() || entry.loading > 0;
        drop(state);
        if !has_history {
            return Err(ControlError::NoPrevious { name: name.to_owned() });
        }
        self.change(|done| Job::Rollback { name: name.to_owned(), done })
    }
}

impl Repository {
    /// The names of what could be loaded from the folder.
    fn listed(&self) -> Vec<String> {
        let Some(folder) = &self.shared.options.folder else { return Vec::new() };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "the repository cannot be read");
                return Vec::new();
            }
        };
        let folders = entries.take(MAX_LISTED).flatten().filter(|entry| entry.path().is_dir());
        let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| is_name(name) && !name.starts_with('.')).collect()
    }
}
