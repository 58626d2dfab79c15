//! From a bundle and the names of paths to paths that are resident: prepared, sized and judged.

use std::collections::{BTreeMap, btree_map::Entry};

use mprec_backends::{Backend, BackendError, BackendKind, Executable, Path, TorchDevice, registry};
use mprec_representations::{
    Program,
    bundle::{Bundle, BundleError, QualitySource as BundleQuality},
};
use mprec_router::{PathProfile, QualitySource, ServiceCurve};

use crate::config::DeclaredQuality;

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
    /// The backend is missing or cannot run the variant.
    #[error("path `{path}` cannot be brought up")]
    Backend {
        /// The path.
        path: Path,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// The router has nothing to compare it by.
    #[error(
        "the bundle has no measured quality of `{variant}`; run `mprec eval`, or state `[quality.\"{path}\"]` with its source in the config"
    )]
    NoQuality {
        /// The path.
        path: Path,
        /// Its variant.
        variant: String,
    },
}

/// Brings up every path, in the order given.
///
/// A declared quality, by the path's name or else its variant's, goes before the bundle's.
/// Variants are loaded and backends opened once, whatever the number of paths.
///
/// # Errors
///
/// [`PathsError`], which names the first path that cannot be brought up.
pub fn bring_up(
    bundle: &Bundle,
    paths: &[Path],
    declared: &BTreeMap<String, DeclaredQuality>,
) -> Result<Vec<ResidentPath>, PathsError> {
    let mut programs: BTreeMap<&str, Program> = BTreeMap::new();
    let mut backends: BTreeMap<BackendKind, Box<dyn Backend>> = BTreeMap::new();
    let mut resident = Vec::with_capacity(paths.len());
    for path in paths {
        let (accuracy, quality_source) = quality(bundle, path, declared)?;
        let variant = path.variant();
        let program = match programs.get(variant) {
            Some(program) => program.clone(),
            None => {
                let fail =
                    |source| PathsError::Bundle { path: path.clone(), source: Box::new(source) };
                let program = bundle.program(variant).map_err(fail)?;
                programs.insert(variant, program.clone());
                program
            }
        };
        let fail = |source| PathsError::Backend { path: path.clone(), source };
        let kind = path.backend();
        let backend = match backends.entry(kind) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(registry::open(kind).map_err(fail)?),
        };
        let executable = backend.prepare(&program).map_err(fail)?;
        let bytes = executable.bytes() as u64;
        tracing::info!(%path, bytes, accuracy, source = %quality_source, "path is resident");
        let device = device(kind);
        let path = path.clone();
        resident.push(ResidentPath { path, device, accuracy, quality_source, bytes, executable });
    }
    Ok(resident)
}

impl ResidentPath {
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

/// The device whose workers run a backend. What computes on CPU cores shares the cores' workers:
/// two pools on the same cores would make each other's predictions wrong.
pub fn device(backend: BackendKind) -> String {
    match backend {
        BackendKind::Reference
        | BackendKind::Cpu
        | BackendKind::Onnx
        | BackendKind::Torch(TorchDevice::Cpu) => CPU.to_owned(),
        BackendKind::Torch(TorchDevice::Cuda(_)) | BackendKind::Wgpu => backend.to_string(),
    }
}

/// The device of the CPU's cores.
pub const CPU: &str = "cpu";

fn quality(
    bundle: &Bundle,
    path: &Path,
    declared: &BTreeMap<String, DeclaredQuality>,
) -> Result<(f64, QualitySource), PathsError> {
    let variant = path.variant();
    if let Some(declared) = declared.get(&path.to_string()).or_else(|| declared.get(variant)) {
        return Ok((declared.accuracy, QualitySource::Declared(declared.source.clone())));
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
