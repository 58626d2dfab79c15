//! From a bundle and the names of paths to paths that are resident: prepared, sized and judged.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
};

use mprec_backends::{
    Backend, BackendError, BackendKind, Executable, HotId, OnnxProvider, Path, TorchDevice,
    registry,
};
use mprec_representations::{
    BatchShape, Program, ResidentRows,
    bundle::{Bundle, BundleError, QualitySource as BundleQuality},
};
use mprec_router::{PathProfile, QualitySource, ServiceCurve};

use crate::config::{Budgets, ByteSize, Declared};

/// A path that can be run.
#[derive(Debug)]
pub struct ResidentPath {
    /// Its name: a variant on a backend.
    pub path: Path,
    /// Whose workers run it; paths on one device share them.
    pub device: String,
    /// Fraction of samples classified correctly, in `[0, 1]`.
    pub accuracy: f64,
    /// Where `accuracy` comes from.
    pub quality_source: QualitySource,
    /// Memory that it holds.
    pub bytes: u64,
    /// Runs it, on one worker; the others get [`Executable::another`].
    pub executable: Box<dyn Executable>,
    /// Makes another from nothing if the device fails under this one.
    pub revive: Revive,
}

/// Prepares a path's executable anew, as when it was brought up, on a backend that is opened for it.
///
/// It holds on to the path's program: mapped tensors, and the copies of tables where they are resident.
#[derive(Clone)]
pub struct Revive(Arc<ReviveFn>);

type ReviveFn = dyn Fn() -> Result<Box<dyn Executable>, BackendError> + Send + Sync;

impl Revive {
    /// By what is called for every attempt.
    pub fn new(
        executable: impl Fn() -> Result<Box<dyn Executable>, BackendError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(executable))
    }

    /// An executable that shares nothing with earlier ones.
    ///
    /// # Errors
    ///
    /// As opening the backend and [`Backend::prepare`]: the device may still be gone.
    pub fn executable(&self) -> Result<Box<dyn Executable>, BackendError> {
        (self.0)()
    }
}

impl fmt::Debug for Revive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Revive")
    }
}

/// Why a path cannot be brought up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathsError {
    /// The bundle does not have the variant, or its tensors are wrong.
    #[error("path `{path}` cannot be loaded")]
    Bundle {
        /// The path.
        path: Path,
        /// Why.
        #[source]
        source: Box<BundleError>,
    },
    /// A file and the bundle both claim to be it.
    #[error("path `{path}`: the bundle has a variant `{}` too; give the file another name", path.variant())]
    TwoVariants {
        /// The path.
        path: Path,
    },
    /// The backend is missing or cannot run the variant.
    #[error("path `{path}` cannot be brought up")]
    Backend {
        /// The path.
        path: Path,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// Its tables cannot be copied.
    #[error(
        "path `{path}`: no memory for its tables; leave them mapped (`serving.resident_tables = false`)"
    )]
    Memory {
        /// The path.
        path: Path,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The paths of a device take more than its budget.
    #[error(
        "path `{path}` takes {} on `{device}`, where {} of {} are left (`budgets.\"{device}\"`); `mprec tune` finds the \
         paths that are worth a budget", ByteSize(*.bytes), ByteSize(*.left), ByteSize(*.budget)
    )]
    Budget {
        /// The path.
        path: Path,
        /// Its device.
        device: String,
        /// Bytes that it takes.
        bytes: u64,
        /// Bytes that the paths before it left.
        left: u64,
        /// Bytes that all paths of the device may take.
        budget: u64,
    },
    /// The router has nothing to compare it by.
    #[error(
        "there is no measured quality of `{variant}`; run `mprec eval`, or state `[quality.\"{path}\"]` with its source in the config"
    )]
    NoQuality {
        /// The path.
        path: Path,
        /// Its variant.
        variant: String,
    },
}

/// What paths may use: beside their parameters to be faster, by default nothing and one thread, and in all, by default
/// anything.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// Bytes of each executable's cache of vectors that are computed per id, such as a DHE's; 0 is none.
    pub cache_bytes: usize,
    /// Vectors that caches hold from the start, those first that come first.
    pub hot: Vec<HotId>,
    /// Whether tables are copied to memory of their own, in large pages where the system grants them.
    pub resident_tables: bool,
    /// Threads of one operation on a CPU, where a backend's library has threads of its own; at least 1.
    pub threads: u16,
    /// Most bytes of all paths on a device.
    pub budgets: Budgets,
}

impl Default for Allowance {
    fn default() -> Self {
        let registry::Resources { cache_bytes, threads } = registry::Resources::default();
        Self {
            cache_bytes,
            hot: Vec::new(),
            resident_tables: false,
            threads,
            budgets: Budgets::new(),
        }
    }
}

/// Brings up every path, in the order given.
///
/// A declared quality, by the path's name or else its variant's, goes before the bundle's. A file that is declared needs
/// one, and caches and resident tables are not for it: it keeps its parameters itself.
/// Variants are loaded and backends opened once, whatever the number of paths.
///
/// # Errors
///
/// [`PathsError`], which names the first path that cannot be brought up.
pub fn bring_up(
    bundle: &Bundle,
    paths: &[Path],
    declared: &Declared,
    allowance: &Allowance,
) -> Result<Vec<ResidentPath>, PathsError> {
    let mut loader = Loader::new(bundle, declared, allowance);
    paths.iter().map(|path| loader.bring_up(path)).collect()
}

/// Brings up one path after the other, so that a caller can go on after one that cannot be.
///
/// Variants are loaded and backends opened once, whatever the number of paths.
#[derive(Debug)]
pub struct Loader<'a> {
    bundle: &'a Bundle,
    declared: &'a Declared,
    allowance: &'a Allowance,
    programs: BTreeMap<String, Program>,
    backends: BTreeMap<BackendKind, Box<dyn Backend>>,
    resident_rows: Option<ResidentRows>,
    /// Bytes of the paths that were brought up, by device.
    spent: BTreeMap<String, u64>,
}

impl<'a> Loader<'a> {
    /// Nothing is loaded yet. See [`bring_up`] for the arguments.
    pub fn new(bundle: &'a Bundle, declared: &'a Declared, allowance: &'a Allowance) -> Self {
        let resident_rows = allowance.resident_tables.then(ResidentRows::new);
        Self {
            bundle,
            declared,
            allowance,
            programs: BTreeMap::new(),
            backends: BTreeMap::new(),
            resident_rows,
            spent: BTreeMap::new(),
        }
    }

    /// Brings up one path.
    ///
    /// # Errors
    ///
    /// [`PathsError`]; the loader can be used further.
    pub fn bring_up(&mut self, path: &Path) -> Result<ResidentPath, PathsError> {
        let (accuracy, quality_source) = quality(self.bundle, path, self.declared)?;
        let kind = path.backend();
        let fail = |source| PathsError::Backend { path: path.clone(), source };
        let Allowance { cache_bytes, threads, .. } = *self.allowance;
        let resources = registry::Resources { cache_bytes, threads };
        if let Some(file) = self.declared.files.get(path.variant()) {
            let shape = BatchShape::new(&self.bundle.manifest().schema);
            let file = file.clone();
            let revive = Revive::new(move || registry::open_file(kind, &file, &shape, resources));
            let executable = revive.executable().map_err(fail)?;
            let resident = ResidentPath::new(path, accuracy, quality_source, executable, revive);
            return self.within_budget(resident);
        }
        let program = self.program(path)?;
        let backend = match self.backends.entry(kind) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(registry::open_with(kind, resources).map_err(fail)?)
            }
        };
        let mut executable = backend.prepare(&program).map_err(fail)?;
        let remembered = executable.remember(&self.allowance.hot);
        if let Some(cache) = executable.cache() {
            let (bytes, slots) = (cache.bytes, cache.slots);
            tracing::info!(%path, bytes, slots, remembered, "the path has a cache");
        }
        let hot = self.allowance.hot.clone();
        let revive = Revive::new(move || {
            let mut executable = registry::open_with(kind, resources)?.prepare(&program)?;
            executable.remember(&hot);
            Ok(executable)
        });
        self.within_budget(ResidentPath::new(path, accuracy, quality_source, executable, revive))
    }

    /// The path, counted, if its device's budget holds it too.
    fn within_budget(&mut self, resident: ResidentPath) -> Result<ResidentPath, PathsError> {
        let (device, bytes) = (&resident.device, resident.bytes);
        let spent = self.spent.get(device).copied().unwrap_or(0);
        if let Some(&ByteSize(budget)) = self.allowance.budgets.get(device)
            && spent.saturating_add(bytes) > budget
        {
            let (path, device) = (resident.path, device.clone());
            return Err(PathsError::Budget { path, device, bytes, left: budget - spent, budget });
        }
        self.spent.insert(device.clone(), spent + bytes);
        Ok(resident)
    }

    fn program(&mut self, path: &Path) -> Result<Program, PathsError> {
        let variant = path.variant();
        if let Some(program) = self.programs.get(variant) {
            return Ok(program.clone());
        }
        let fail = |source| PathsError::Bundle { path: path.clone(), source: Box::new(source) };
        let mut program = self.bundle.program(variant).map_err(fail)?;
        if let Some(rows) = &mut self.resident_rows {
            let fail = |source| PathsError::Memory { path: path.clone(), source };
            program = rows.program(&program).map_err(fail)?;
        }
        self.programs.insert(variant.to_owned(), program.clone());
        Ok(program)
    }
}

impl ResidentPath {
    fn new(
        path: &Path,
        accuracy: f64,
        quality_source: QualitySource,
        executable: Box<dyn Executable>,
        revive: Revive,
    ) -> Self {
        let bytes = executable.bytes() as u64;
        tracing::info!(%path, bytes, accuracy, source = %quality_source, "path is resident");
        let (path, device) = (path.clone(), device(path.backend()));
        Self { path, device, accuracy, quality_source, bytes, executable, revive }
    }

    /// What the router knows about it, given its measured speed under `lanes` workers.
    pub fn profile(
        &self,
        lanes: u32,
        max_batch: Option<u32>,
        service: ServiceCurve,
    ) -> PathProfile {
        PathProfile {
            name: self.path.to_string(),
            variant: self.path.variant().to_owned(),
            device: self.device.clone(),
            lanes,
            accuracy: self.accuracy,
            quality_source: self.quality_source.clone(),
            bytes: self.bytes,
            max_batch,
            service,
        }
    }
}

/// The device whose workers run a backend. What computes on CPU cores shares the cores' workers, and what computes on one
/// GPU that GPU's: two pools on one device would make each other's predictions wrong.
pub fn device(backend: BackendKind) -> String {
    match backend {
        BackendKind::Reference | BackendKind::Cpu | BackendKind::Torch(TorchDevice::Cpu) => {
            CPU.to_owned()
        }
        BackendKind::Onnx(provider) if provider.is_on_cpu() => CPU.to_owned(),
        BackendKind::Onnx(OnnxProvider::Cuda | OnnxProvider::TensorRt) => "cuda:0".to_owned(),
        BackendKind::Torch(TorchDevice::Cuda(index)) => format!("cuda:{index}"),
        BackendKind::Onnx(_) | BackendKind::Wgpu => backend.to_string(),
    }
}

/// The device of the CPU's cores.
pub const CPU: &str = "cpu";

fn quality(
    bundle: &Bundle,
    path: &Path,
    declared: &Declared,
) -> Result<(f64, QualitySource), PathsError> {
    let variant = path.variant();
    let is_file = declared.files.contains_key(variant);
    if is_file && bundle.manifest().variant(variant).is_ok() {
        return Err(PathsError::TwoVariants { path: path.clone() });
    }
    let stated = &declared.quality;
    if let Some(declared) = stated.get(&path.to_string()).or_else(|| stated.get(variant)) {
        return Ok((declared.accuracy, QualitySource::Declared(declared.source.clone())));
    }
    if is_file {
        return Err(PathsError::NoQuality { path: path.clone(), variant: variant.to_owned() });
    }
    let entry = bundle
        .manifest()
        .variant(variant)
        .map_err(|source| PathsError::Bundle { path: path.clone(), source: Box::new(source) })?;
    let Some(quality) = &entry.quality else {
        return Err(PathsError::NoQuality { path: path.clone(), variant: variant.to_owned() });
    };
    let source = match quality.source {
        BundleQuality::Measured => QualitySource::Measured,
        BundleQuality::Declared => QualitySource::Declared(quality.dataset.clone()),
    };
    Ok((quality.accuracy, source))
}

#[cfg(test)]
mod tests;
