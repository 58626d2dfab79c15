//! From a folder to a version that is ready: opened, verified, brought up, profiled, warmed and started.

use std::{path::Path as FilePath, sync::Arc, time::Instant};

use mprec_backends::HotId;
use mprec_datasets::Preprocessor;
use mprec_representations::{
    Batch, BatchShape,
    bundle::{Bundle, Manifest},
};
use mprec_router::Profiles;

use super::{LoadError, Recipe, RowsError, stamp::Stamp, version::Version};
use crate::{
    config::{Budgets, ByteSize},
    engine::Engine,
    paths::{Allowance, PathsError, ResidentPath, bring_up},
    profiler::{ProfileFile, ProfileOptions, Progress, measure},
    service::Model,
};

/// Gives batches of a number of samples, each time of other rows.
pub type Inputs = Box<dyn FnMut(usize) -> Batch>;

/// Where rows to measure and to warm up with come from.
pub trait Rows: Send + Sync + 'static {
    /// Rows of a bundle's schema.
    ///
    /// # Errors
    ///
    /// When there are none.
    fn inputs(&self, bundle: &Bundle) -> Result<Inputs, RowsError>;

    /// The ids that a cache of so many bytes holds from the start; by default none.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn hot_ids(&self, bundle: &Bundle, cache_bytes: usize) -> Result<Vec<HotId>, RowsError> {
        let _ = (bundle, cache_bytes);
        Ok(Vec::new())
    }

    /// Is told how far a measurement is.
    fn measuring(&self, progress: Progress<'_>) {
        let _ = progress;
    }
}

impl<R: Rows + ?Sized> Rows for std::sync::Arc<R> {
    fn inputs(&self, bundle: &Bundle) -> Result<Inputs, RowsError> {
        (**self).inputs(bundle)
    }

    fn hot_ids(&self, bundle: &Bundle, cache_bytes: usize) -> Result<Vec<HotId>, RowsError> {
        (**self).hot_ids(bundle, cache_bytes)
    }

    fn measuring(&self, progress: Progress<'_>) {
        (**self).measuring(progress);
    }
}

/// Samples of the batches that every path is warmed up with, in this order.
const WARM_UP: [usize; 4] = [1, 8, 64, 256];

/// What is to be loaded.
#[derive(Debug)]
pub(super) struct Order<'a> {
    /// The name that is served; `None` takes what the recipe or the bundle says.
    pub(super) name: Option<&'a str>,
    pub(super) recipe: &'a Recipe,
    /// The state of the bundle, taken before anything of it was read.
    pub(super) stamp: Stamp,
    /// The version that is served now.
    pub(super) current: Option<&'a Version>,
    /// Whether no version of it was ever served.
    pub(super) is_first: bool,
    /// Whether all bytes are checked.
    pub(super) verify: bool,
    /// Most bytes of all versions on a device.
    pub(super) budgets: &'a Budgets,
    /// What is resident, by device.
    pub(super) resident: Budgets,
}

/// Makes a version that can answer at once.
pub(super) fn build(order: Order<'_>, rows: &dyn Rows) -> Result<Version, LoadError> {
    let began = Instant::now();
    let Order { recipe, stamp, current, .. } = &order;
    let bundle = open(&stamp.folder, order.verify)?;
    let manifest = bundle.manifest();
    let name = name_of(&order, &manifest.model)?;
    check_folder(recipe, &stamp.folder, &manifest.version)?;
    let preprocessor = preprocessor(&bundle, *current)?;
    let paths = recipe.paths(&bundle)?;
    let hot = rows.hot_ids(&bundle, recipe.serving.cache_bytes).map_err(LoadError::Rows)?;
    let allowance = Allowance {
        cache_bytes: recipe.serving.cache_bytes,
        hot,
        resident_tables: recipe.serving.resident_tables,
        threads: recipe.serving.operation_threads,
        budgets: left(order.budgets, &order.resident),
    };
    let mut resident = bring_up(&bundle, &paths, &recipe.declared, &allowance)
        .map_err(|error| within_budgets(error, order.budgets))?;
    warm(&mut resident, rows.inputs(&bundle).map_err(LoadError::Rows)?)?;
    let profiles = profiles(recipe, &bundle, &mut resident, *current, rows)?;
    let bytes = bytes_of(&resident);
    let model = Arc::new(Model {
        name,
        version: manifest.version.clone(),
        schema: manifest.schema.clone(),
        shape: BatchShape::new(&manifest.schema),
        max_samples: recipe.max_samples,
        sla: recipe.sla,
        paths: profiles.paths().iter().map(|path| (path.name.clone(), path.accuracy)).collect(),
        preprocessor,
    });
    let options = recipe.engine(order.is_first);
    if recipe.record.is_some() && options.record.is_none() {
        tracing::warn!(model = model.name, "only the first version is recorded; the log has ended");
    }
    let engine = Engine::start(Arc::clone(&model), resident, profiles.clone(), &options)
        .map_err(LoadError::Engine)?;
    tracing::info!(
        model = model.name,
        version = model.version,
        milliseconds = began.elapsed().as_millis() as u64,
        "version is loaded"
    );
    let (recipe, manifest) = ((*recipe).clone(), manifest.clone());
    Ok(Version::new(model, engine, recipe, manifest, profiles, order.stamp, bytes))
}

/// What a recipe comes to, tried out without serving it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The model's name in URLs.
    pub name: String,
    /// The version of its newest bundle.
    pub version: String,
    /// Its paths.
    pub paths: Vec<String>,
    /// What they take, by device.
    pub bytes: Budgets,
}

impl Recipe {
    /// Opens the newest bundle and brings its paths up, beside others that take `resident`, and lets go of them again.
    ///
    /// # Errors
    ///
    /// As loading it, short of what only measuring and running can find.
    pub fn try_out(&self, budgets: &Budgets, resident: &Budgets) -> Result<Tried, LoadError> {
        let stamp = Stamp::newest(&self.folder)?;
        let bundle = open(&stamp.folder, false)?;
        let manifest = bundle.manifest();
        check_folder(self, &stamp.folder, &manifest.version)?;
        preprocessor(&bundle, None)?;
        let paths = self.paths(&bundle)?;
        let allowance = Allowance {
            cache_bytes: self.serving.cache_bytes,
            hot: Vec::new(),
            resident_tables: self.serving.resident_tables,
            threads: self.serving.operation_threads,
            budgets: left(budgets, resident),
        };
        let found = bring_up(&bundle, &paths, &self.declared, &allowance)
            .map_err(|error| within_budgets(error, budgets))?;
        Ok(Tried {
            name: self.name.clone().unwrap_or_else(|| manifest.model.clone()),
            version: manifest.version.clone(),
            paths: paths.iter().map(ToString::to_string).collect(),
            bytes: bytes_of(&found),
        })
    }
}

fn bytes_of(resident: &[ResidentPath]) -> Budgets {
    let mut bytes = Budgets::new();
    for path in resident {
        bytes.entry(path.device.clone()).or_default().0 += path.bytes;
    }
    bytes
}

fn open(folder: &FilePath, verify: bool) -> Result<Bundle, LoadError> {
    let fail = |source| LoadError::Bundle { folder: folder.to_owned(), source: Box::new(source) };
    let bundle = Bundle::open(folder).map_err(fail)?;
    if verify {
        bundle.verify().map_err(fail)?;
    }
    Ok(bundle)
}

/// What turns raw values into features, if the bundle carries it. One of the version before is used again if it is of the
/// same files: finding places for tens of millions of tokens takes seconds, and memory.
fn preprocessor(
    bundle: &Bundle,
    current: Option<&Version>,
) -> Result<Option<Arc<Preprocessor>>, LoadError> {
    let manifest = bundle.manifest();
    let raw = |manifest: &Manifest| manifest.preprocessing.as_ref().and_then(|all| all.raw.clone());
    if let Some(current) = current
        && current.manifest.schema == manifest.schema
        && raw(&current.manifest) == raw(manifest)
    {
        return Ok(current.model.preprocessor.clone());
    }
    let fail = |source| LoadError::Preprocessing {
        folder: bundle.folder().to_owned(),
        source: Box::new(source),
    };
    Ok(Preprocessor::of_bundle(bundle).map_err(fail)?.map(Arc::new))
}

fn name_of(order: &Order<'_>, found: &str) -> Result<String, LoadError> {
    if let Some(name) = &order.recipe.name {
        return Ok(name.clone());
    }
    match order.name {
        Some(expected) if expected != found => {
            Err(LoadError::Model { found: found.to_owned(), expected: expected.to_owned() })
        }
        _ => Ok(found.to_owned()),
    }
}

/// A bundle in a folder of versions must be of the version that its folder is named after: rolling back goes by it.
fn check_folder(recipe: &Recipe, folder: &FilePath, version: &str) -> Result<(), LoadError> {
    let is_numbered = folder != recipe.folder;
    if is_numbered && folder.file_name().is_some_and(|name| name != version) {
        let version = version.to_owned();
        return Err(LoadError::VersionFolder { folder: folder.to_owned(), version });
    }
    Ok(())
}

/// What is left of every budget.
fn left(budgets: &Budgets, resident: &Budgets) -> Budgets {
    let taken = |device: &String| resident.get(device).map_or(0, |bytes| bytes.0);
    let left = |(device, bytes): (&String, &ByteSize)| {
        (device.clone(), ByteSize(bytes.0.saturating_sub(taken(device))))
    };
    budgets.iter().map(left).collect()
}

/// Says of a path that does not fit what the whole budget is.
fn within_budgets(error: PathsError, budgets: &Budgets) -> LoadError {
    match error {
        PathsError::Budget { path, device, bytes, left, .. } => {
            let budget = budgets.get(&device).map_or(left, |budget| budget.0);
            LoadError::Budget { path, device, bytes, left, budget }
        }
        other => LoadError::Paths(other),
    }
}

/// Runs a few batches on every path, so that the first queries find pages and code in memory, and that a path that cannot
/// answer is found out before it is asked.
fn warm(resident: &mut [ResidentPath], mut inputs: Inputs) -> Result<(), LoadError> {
    let batches: Vec<Batch> = WARM_UP.into_iter().map(&mut inputs).collect();
    for ResidentPath { path, executable, .. } in resident {
        for batch in &batches {
            let mut scores = vec![f32::NAN; batch.samples()];
            executable
                .run(batch, &mut scores)
                .map_err(|source| LoadError::Warm { path: path.clone(), source })?;
            if let Some(&score) = scores.iter().find(|score| !(0.0..=1.0).contains(*score)) {
                return Err(LoadError::Score { path: path.clone(), score });
            }
        }
    }
    Ok(())
}

/// Service times: of the file that the recipe names; else those measured for the current version, for paths that do the
/// same work; else measured now, beside whatever the machine is serving.
fn profiles(
    recipe: &Recipe,
    bundle: &Bundle,
    resident: &mut Vec<ResidentPath>,
    current: Option<&Version>,
    rows: &dyn Rows,
) -> Result<Profiles, LoadError> {
    let manifest = bundle.manifest();
    let lanes = |device: &str| recipe.workers(device);
    let max_batch = recipe.serving.max_batch;
    if let Some(file) = &recipe.profile.file {
        let (model, version) = (&manifest.model, &manifest.version);
        return ProfileFile::load(file)
            .and_then(|file| file.for_paths(model, version, resident, lanes, max_batch))
            .map_err(LoadError::Profile);
    }
    let order: Vec<String> = resident.iter().map(|path| path.path.to_string()).collect();
    let known = |path: &ResidentPath| current?.profile_for(&path.path, recipe, manifest);
    let (known, unknown): (Vec<_>, Vec<_>) =
        std::mem::take(resident).into_iter().partition(|path| known(path).is_some());
    let mut found = Vec::with_capacity(order.len());
    for path in &known {
        let Some(earlier) =
            current.and_then(|current| current.profile_for(&path.path, recipe, manifest))
        else {
            continue;
        };
        let profile = path.profile(earlier.lanes, earlier.max_batch, earlier.service.clone());
        tracing::info!(path = %path.path, "the service times of the version before are used");
        found.push(profile);
    }
    if !unknown.is_empty() {
        let mut inputs = rows.inputs(bundle).map_err(LoadError::Rows)?;
        let options = ProfileOptions { budget: recipe.profile.budget, max_batch };
        let mut tell = |progress: Progress<'_>| rows.measuring(progress);
        let measured = measure(&unknown, lanes, options, &mut inputs, &mut tell)
            .map_err(LoadError::Profile)?;
        found.extend(Vec::from(measured));
    }
    let place = |name: &str| order.iter().position(|path| path == name);
    found.sort_by_key(|profile| place(&profile.name));
    resident.extend(known);
    resident.extend(unknown);
    Profiles::new(found).map_err(|error| LoadError::Profile(error.into()))
}
