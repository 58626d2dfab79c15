//! The models that a server begins with.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use indicatif::ProgressBar;
use mprec_backends::HotId;
use mprec_representations::Bundle;
use mprec_runtime::{
    config::Config,
    engine::EngineError,
    profiler::Progress,
    repository::{Inputs, LoadError, Recipe, Repository, RepositoryOptions, Rows, RowsError},
    service::Model,
};

use crate::cli::{
    Failure, Output,
    inputs::{MADE_UP, hot_ids, inputs},
    output::Unit,
};

/// Rows of a prepared folder, or made up; a bar while measuring.
struct ServedRows {
    data: Option<PathBuf>,
    output: Output,
    bar: Mutex<Option<ProgressBar>>,
}

impl ServedRows {
    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows for ServedRows {
    fn inputs(&self, bundle: &Bundle) -> Result<Inputs, RowsError> {
        // The note that they are made up belongs to measuring.
        let inputs = inputs(bundle, self.data.as_deref(), &self.output.quiet());
        inputs.map_err(|failure| failure.to_string().into())
    }

    fn hot_ids(&self, bundle: &Bundle, cache_bytes: usize) -> Result<Vec<HotId>, RowsError> {
        let hot = hot_ids(bundle, self.data.as_deref(), cache_bytes);
        hot.map_err(|failure| failure.to_string().into())
    }

    fn measuring(&self, progress: Progress<'_>) {
        let mut bar = self.bar();
        let bar = bar.get_or_insert_with(|| {
            if self.data.is_none() {
                self.output.note(MADE_UP);
            }
            self.output.bar("profiling", 0, Unit::Steps)
        });
        bar.set_length(progress.of as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(format!("{}, batch {}", progress.path, progress.batch));
    }
}

/// The repository with every configured model, and what each is.
pub(super) fn load_all(
    data: Option<&Path>,
    config: &Config,
    recipes: Vec<Recipe>,
    output: &Output,
) -> Result<(Repository, Vec<Arc<Model>>), Failure> {
    let repository = config.repository();
    let options = RepositoryOptions {
        folder: repository.folder.clone(),
        base: Recipe::base_of(config),
        budgets: config.budgets().clone(),
        keep_versions: repository.keep_versions,
        verify: repository.verify,
        drain: config.drain(),
        watch: repository.watch,
    };
    let data = data.map(Path::to_owned);
    let rows = Arc::new(ServedRows { data, output: *output, bar: Mutex::default() });
    let repository = Repository::new(options, Box::new(Arc::clone(&rows)))?;
    let models = recipes.into_iter().map(|recipe| repository.start(recipe));
    let models = models.collect::<Result<Vec<_>, _>>().map_err(|error| match error {
        LoadError::Engine(EngineError::Record(_)) => Failure::input(error),
        LoadError::Engine(_) | LoadError::Internal { .. } => error.into(),
        other => Failure::input(other),
    })?;
    if let Some(bar) = rows.bar().take() {
        bar.finish_and_clear();
    }
    Ok((repository, models))
}
