//! Makes changes, one after the other, on a thread of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    LoadError, Recipe,
    build::{Order, build},
    reconcile, retire,
    stamp::Stamp,
    state::Entry,
    store::Shared,
    version::Version,
};
use crate::{
    endpoint::{Changed, ControlError, ExpectedConfig, ModelConfig},
    service::Model,
};

/// Changes that may wait.
const MAX_JOBS: usize = 32;

/// Versions of one model that may be on their way out when another is loaded.
const MAX_RETIRING: usize = 2;

/// How long a load waits for that.
pub(super) const RETIRING_LIMIT: Duration = Duration::from_secs(60);

/// Who waits for a change.
pub(super) type Done = oneshot::Sender<Result<Changed, ControlError>>;

/// A change to be made.
#[derive(Debug)]
pub(super) enum Job {
    /// `force` loads it anew even if its bundle has not changed; where its configuration is another than `expected`, it
    /// does not take over.
    Load {
        name: String,
        done: Option<Done>,
        force: bool,
        expected: Option<ExpectedConfig>,
    },
    Unload {
        name: String,
        done: Option<Done>,
    },
    Rollback {
        name: String,
        done: Done,
    },
    Reconcile(Vec<Recipe>),
}

/// Where changes wait.
#[derive(Debug)]
pub(super) struct Jobs(Mutex<Option<SyncSender<Job>>>);

impl Jobs {
    pub(super) fn new() -> (Self, Receiver<Job>) {
        let (sender, receiver) = sync_channel(MAX_JOBS);
        (Self(Mutex::new(Some(sender))), receiver)
    }

    pub(super) fn send(&self, job: Job) -> Result<(), ControlError> {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sender.as_ref().ok_or(ControlError::Stopping)?.try_send(job);
        sent.map_err(|error| match error {
            TrySendError::Full(_) => ControlError::Busy { limit: MAX_JOBS },
            TrySendError::Disconnected(_) => ControlError::Stopping,
        })
    }

    pub(super) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Starts the thread. It ends when the repository stops.
pub(super) fn spawn(shared: Arc<Shared>, jobs: Receiver<Job>) -> Result<(), LoadError> {
    let work = move || {
        while let Ok(job) = jobs.recv() {
            if shared.is_stopping() {
                // Who waits for the job is told by its sender being dropped.
                break;
            }
            run(&shared, job);
        }
    };
    let spawned = std::thread::Builder::new().name("loader".to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| LoadError::Internal { message: error.to_string() })
}

fn run(shared: &Arc<Shared>, job: Job) {
    match job {
        Job::Load { name, done, force, expected } => {
            let result = load(shared, &name, force, expected.as_ref());
            retract(shared, &name);
            reply(done, result.map_err(|error| refused(&name, &error)));
        }
        Job::Unload { name, done } => {
            unload(shared, &name);
            if let Some(entry) = shared.state().entries.get_mut(&name) {
                entry.is_unloaded = true;
            }
            reply(done, Ok(Changed { name, version: None }));
        }
        Job::Rollback { name, done } => {
            let result = rollback(shared, &name);
            reply(Some(done), result);
        }
        Job::Reconcile(recipes) => reconcile::reconcile(shared, recipes),
    }
}

fn reply(done: Option<Done>, result: Result<Changed, ControlError>) {
    if let Some(done) = done {
        // Who asked may have left; the change is made all the same.
        let _ = done.send(result);
    }
}

/// Says that a load of `name` waits.
pub(super) fn announce(shared: &Shared, name: &str) {
    if let Some(entry) = shared.state().entries.get_mut(name) {
        entry.loading += 1;
    }
}

/// Undoes [`announce`].
pub(super) fn retract(shared: &Shared, name: &str) {
    if let Some(entry) = shared.state().entries.get_mut(name) {
        entry.loading = entry.loading.saturating_sub(1);
    }
}

fn refused(name: &str, error: &LoadError) -> ControlError {
    ControlError::Load { name: name.to_owned(), reason: chain(error).into() }
}

/// Loads a model that is not known yet. Blocks.
pub(super) fn start(shared: &Arc<Shared>, recipe: Recipe) -> Result<Arc<Model>, LoadError> {
    let _making = shared.making.lock().unwrap_or_else(PoisonError::into_inner);
    let version = Arc::new(make(shared, recipe.name.as_deref(), &recipe, None, false)?);
    let model = Arc::clone(&version.model);
    let mut state = shared.state();
    if state.entries.contains_key(&model.name) {
        return Err(LoadError::Twice { name: model.name.clone() });
    }
    state.take_bytes(&version);
    let mut entry = Entry::new(recipe, true);
    entry.tried = Some(version.stamp.clone());
    entry.loads = 1;
    entry.adopt(version, shared.options.keep_versions);
    state.entries.insert(model.name.clone(), entry);
    shared.publish(&mut state);
    Ok(model)
}

/// Loads the newest version of a known model and has it take over.
pub(super) fn load(
    shared: &Arc<Shared>,
    name: &str,
    force: bool,
    expected: Option<&ExpectedConfig>,
) -> Result<Changed, LoadError> {
    let result = try_load(shared, name, force, expected);
    let mut state = shared.state();
    let Some(entry) = state.entries.get_mut(name) else { return result };
    match &result {
        Ok(_) => entry.unavailable = None,
        // The bundle is good: watching may load it.
        Err(LoadError::Expected { .. }) => {}
        Err(error) => {
            let reason = chain(error);
            tracing::error!(
                model = name,
                reason,
                "the model cannot be loaded; what is served stays"
            );
            entry.failures += 1;
            entry.unavailable = Some(reason.into());
        }
    }
    result
}

fn try_load(
    shared: &Arc<Shared>,
    name: &str,
    force: bool,
    expected: Option<&ExpectedConfig>,
) -> Result<Changed, LoadError> {
    let _making = shared.making.lock().unwrap_or_else(PoisonError::into_inner);
    let (recipe, current) = {
        let state = shared.state();
        let entry = &state.entries.get(name).ok_or_else(|| absent(name))?;
        (entry.recipe.clone(), entry.current.clone())
    };
    let stamp = Stamp::newest(&recipe.folder)?;
    let mut tried = None;
    if let Some(entry) = shared.state().entries.get_mut(name) {
        tried = entry.tried.replace(stamp.clone());
    }
    if let Some(current) = &current
        && !force
        && current.stamp.is_same(&stamp)
        && current.recipe == recipe
        && current.is_ready()
    {
        check_expected(&current.model, expected)?;
        tracing::info!(model = name, version = current.model.version, "it is served already");
        return Ok(changed(current));
    }
    await_retiring(shared, name)?;
    let order = (Some(name), &recipe, current.as_deref());
    let version = Arc::new(make_of(shared, order, stamp, shared.options.verify)?);
    if let Err(error) = check_expected(&version.model, expected) {
        if let Some(entry) = shared.state().entries.get_mut(name) {
            entry.tried = tried;
        }
        return Err(error);
    }
    // Held no longer than needed: it would keep the old version from going.
    drop(current);
    Ok(take_over(shared, name, version))
}

fn check_expected(model: &Model, expected: Option<&ExpectedConfig>) -> Result<(), LoadError> {
    let difference = expected.and_then(|expected| expected.difference(&ModelConfig::of(model)));
    difference.map_or(Ok(()), |key| Err(LoadError::Expected { key }))
}

/// Waits until few enough earlier versions are still at work.
fn await_retiring(shared: &Shared, name: &str) -> Result<(), LoadError> {
    let until = Instant::now() + RETIRING_LIMIT;
    let mut state = shared.state();
    loop {
        let entry = state.entries.get(name);
        let versions = entry.map_or(0, |entry| entry.retiring.len() + entry.leaving);
        let left = until.saturating_duration_since(Instant::now());
        if versions <= MAX_RETIRING || shared.is_stopping() {
            return Ok(());
        }
        if left.is_zero() {
            return Err(LoadError::Retiring { versions });
        }
        state = shared.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Makes the newest version of a recipe's folder.
fn make(
    shared: &Shared,
    name: Option<&str>,
    recipe: &Recipe,
    current: Option<&Version>,
    verify: bool,
) -> Result<Version, LoadError> {
    make_of(shared, (name, recipe, current), Stamp::newest(&recipe.folder)?, verify)
}

/// Makes a version of a bundle. A panic on the way is a failure to load like any other.
fn make_of(
    shared: &Shared,
    (name, recipe, current): (Option<&str>, &Recipe, Option<&Version>),
    stamp: Stamp,
    verify: bool,
) -> Result<Version, LoadError> {
    let state = shared.state();
    let resident = state.resident.clone();
    let entry = name.and_then(|name| state.entries.get(name));
    let is_first = entry.is_none_or(|entry| entry.loads == 0);
    drop(state);
    let budgets = &shared.options.budgets;
    let order = Order { name, recipe, stamp, current, is_first, verify, budgets, resident };
    let made = catch_unwind(AssertUnwindSafe(|| build(order, &*shared.rows)));
    made.unwrap_or_else(|_| {
        Err(LoadError::Internal { message: "it panicked; the log says where".to_owned() })
    })
}

/// Serves a version from this moment on, and has what it replaces go.
fn take_over(shared: &Arc<Shared>, name: &str, version: Arc<Version>) -> Changed {
    let changed = changed(&version);
    let mut state = shared.state();
    state.take_bytes(&version);
    let keep = shared.options.keep_versions;
    let Some(entry) = state.entries.get_mut(name) else { return changed };
    entry.loads += 1;
    let leaving = entry.adopt(version, keep);
    tracing::info!(model = name, version = changed.version, "the version is served");
    retire::begin(shared, state, name, leaving);
    changed
}

pub(super) fn unload(shared: &Arc<Shared>, name: &str) {
    let mut state = shared.state();
    let Some(entry) = state.entries.get_mut(name) else { return };
    let leaving = entry.take_all();
    entry.unavailable = Some("unloaded".into());
    tracing::info!(model = name, "the model is unloaded");
    retire::begin(shared, state, name, leaving);
}

fn rollback(shared: &Arc<Shared>, name: &str) -> Result<Changed, ControlError> {
    let _making = shared.making.lock().unwrap_or_else(PoisonError::into_inner);
    let mut state = shared.state();
    let not_loaded = || ControlError::NotLoaded { name: name.to_owned() };
    let entry = state.entries.get_mut(name).ok_or_else(not_loaded)?;
    let current = entry.current.clone().ok_or_else(not_loaded)?;
    let version = if let Some(kept) = entry.kept.pop() {
        kept
    } else {
        let Some(earlier) = entry.history.last().cloned() else {
            return Err(ControlError::NoPrevious { name: name.to_owned() });
        };
        drop(state);
        let is_there =
            Stamp::of(&earlier.stamp.folder).is_ok_and(|now| now.is_same(&earlier.stamp));
        let made = if is_there {
            let order = (Some(name), &earlier.recipe, Some(&*current));
            make_of(shared, order, earlier.stamp, shared.options.verify)
        } else {
            let folder = earlier.stamp.folder;
            Err(LoadError::Gone { version: earlier.version, folder })
        };
        let made = made.map_err(|error| {
            tracing::error!(model = name, reason = chain(&error), "there is no way back");
            refused(name, &error)
        })?;
        state = shared.state();
        state.take_bytes(&made);
        Arc::new(made)
    };
    let changed = changed(&version);
    let entry = state.entries.get_mut(name).ok_or_else(not_loaded)?;
    entry.rollbacks += 1;
    let leaving = entry.go_back(version);
    drop(current);
    tracing::warn!(model = name, version = changed.version, "rolled back to an earlier version");
    retire::begin(shared, state, name, leaving);
    Ok(changed)
}

fn changed(version: &Version) -> Changed {
    let model = &version.model;
    Changed { name: model.name.clone(), version: Some(model.version.clone()) }
}

fn absent(name: &str) -> LoadError {
    LoadError::Internal { message: format!("there is no entry of `{name}`") }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
