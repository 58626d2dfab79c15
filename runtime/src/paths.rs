//! From a bundle and the names of paths to paths that are resident: prepared, sized and judged.

use std::collections::{BTreeMap, btree_map::Entry};

use mprec_backends::{
    Backend, BackendError, BackendKind, Executable, HotId, OnnxProvider, Path, TorchDevice,
    registry,
};
use mprec_representations::{
    BatchShape, Program, ResidentRows,
    bundle::{Bundle, BundleError, QualitySource as BundleQuality},
};
use mprec_router::{PathProfile, QualitySource, ServiceCurve};

use crate::config::Declared;

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

/// What paths may spend beside their parameters to be faster. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Bytes of each executable's cache of vectors that are computed per id, such as a DHE's; 0 is none.
    pub cache_bytes: usize,
    /// Vectors that caches hold from the start, those first that come first.
    pub hot: Vec<HotId>,
    /// Whether tables are copied to memory of their own, in large pages where the system grants them.
    pub resident_tables: bool,
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
    memory: &Memory,
) -> Result<Vec<ResidentPath>, PathsError> {
    let mut loader = Loader::new(bundle, declared, memory);
    paths.iter().map(|path| loader.bring_up(path)).collect()
}

/// Brings up one path after the other, so that a caller can go on after one that cannot be.
///
/// Variants are loaded and backends opened once, whatever the number of paths.
#[derive(Debug)]
pub struct Loader<'a> {
    bundle: &'a Bundle,
    declared: &'a Declared,
    memory: &'a Memory,
    programs: BTreeMap<String, Program>,
    backends: BTreeMap<BackendKind, Box<dyn Backend>>,
    resident_rows: Option<ResidentRows>,
}

impl<'a> Loader<'a> {
    /// Nothing is loaded yet. See [`bring_up`] for the arguments.
    pub fn new(bundle: &'a Bundle, declared: &'a Declared, memory: &'a Memory) -> Self {
        let resident_rows = memory.resident_tables.then(ResidentRows::new);
        let (programs, backends) = (BTreeMap::new(), BTreeMap::new());
        Self { bundle, declared, memory, programs, backends, resident_rows }
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
        if let Some(file) = self.declared.files.get(path.variant()) {
            let shape = BatchShape::new(&self.bundle.manifest().schema);
            let executable = registry::open_file(kind, file, &shape).map_err(fail)?;
            return Ok(ResidentPath::new(path, accuracy, quality_source, executable));
        }
        let program = self.program(path)?;
        let backend = match self.backends.entry(kind) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let bytes = self.memory.cache_bytes;
                entry.insert(registry::open_with_cache(kind, bytes).map_err(fail)?)
            }
        };
        let mut executable = backend.prepare(&program).map_err(fail)?;
        let remembered = executable.remember(&self.memory.hot);
        if let Some(cache) = executable.cache() {
            let (bytes, slots) = (cache.bytes, cache.slots);
            tracing::info!(%path, bytes, slots, remembered, "the path has a cache");
        }
        Ok(ResidentPath::new(path, accuracy, quality_source, executable))
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
    ) -> Self {
        let bytes = executable.bytes() as u64;
        tracing::info!(%path, bytes, accuracy, source = %quality_source, "path is resident");
        let (path, device) = (path.clone(), device(path.backend()));
        Self { path, device, accuracy, quality_source, bytes, executable }
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
mod tests {
    use std::{sync::Arc, time::Duration};

    use mprec_backends::CacheStatistics;
    use mprec_representations::{
        Activation, BundleWriter, DheSpec, DlrmSpec, Interaction, Quality, RepresentationSpec,
        Schema, SparseFeature, Tensor, Transform, Weights, weights::DType,
    };
    use mprec_router::{PolicyName, Profiles};

    use super::*;
    use crate::{
        config::{ConfigFile, DeclaredQuality},
        engine::{Engine, EngineOptions},
        metrics::Metrics,
        service::{Model, ScoreRequest, Service},
    };

    fn schema() -> Schema {
        let feature = |name: &str, cardinality| SparseFeature { name: name.into(), cardinality };
        let sparse = vec![feature("a", 50), feature("b", 7)];
        Schema::new(vec!["x".into(), "y".into()], sparse, Default::default()).unwrap()
    }

    fn quality(source: BundleQuality) -> Quality {
        Quality {
            source,
            dataset: "made up".into(),
            split: "test".into(),
            samples: 100,
            auc: 0.75,
            logloss: 0.5,
            accuracy: 0.77,
            ece: 0.01,
            normalised_entropy: 0.9,
        }
    }

    /// `table` and `hash` with measured and declared quality, `plain` without, `ensemble` of two, and
    /// `computed`, a DHE.
    fn bundle(folder: &std::path::Path) -> Bundle {
        let schema = schema();
        let mut writer = BundleWriter::create(folder, "m", "3", schema.clone(), None).unwrap();
        let table = RepresentationSpec::Table { dim: 4 };
        let hash = RepresentationSpec::Hash { dim: 4, rows: 5 };
        let computed = RepresentationSpec::Dhe(DheSpec {
            hashes: 8,
            transform: Transform::Uniform,
            hidden: vec![8],
            dim: 4,
            activation: Activation::None,
            normalised: false,
        });
        for (name, representation, quality) in [
            ("computed", &computed, Some(quality(BundleQuality::Measured))),
            ("table", &table, Some(quality(BundleQuality::Measured))),
            ("hash", &hash, Some(quality(BundleQuality::Declared))),
            ("plain", &table, None),
        ] {
            let interaction = Interaction::Dot { itself: false };
            let spec = DlrmSpec::uniform(&schema, representation, interaction, &[8], &[8]);
            let mut weights = Weights::new();
            for (seed, tensor) in spec.tensors(&schema).into_iter().enumerate() {
                let count: usize = tensor.shape.iter().product();
                let value = |at: usize| (((at + seed) * 7_919) % 101) as f32 / 101.0 - 0.5;
                let values: Vec<f32> = (0..count).map(value).collect();
                if tensor.dtype == DType::I64 {
                    let hash = |at: usize| [at as i64 + 3, 5, 1_000_003, 1_000_000];
                    let values = (0..count / 4).flat_map(hash).collect();
                    weights.insert(tensor.name, Tensor::<i64>::new(&tensor.shape, values));
                    continue;
                }
                weights.insert(tensor.name, Tensor::new(&tensor.shape, values));
            }
            writer.add(name, &spec, &weights, quality).unwrap();
        }
        writer.add_ensemble("ensemble", &["table", "hash"], None);
        writer.finish().unwrap();
        Bundle::open(folder).unwrap()
    }

    fn paths(names: &[&str]) -> Vec<Path> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn quality_is_the_paths_then_the_variants_then_the_bundles() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle(folder.path());
        let state = |accuracy| DeclaredQuality { accuracy, source: "us".into() };
        let declared =
            BTreeMap::from([("hash@cpu".into(), state(0.6)), ("ensemble".into(), state(0.9))]);
        let declared = Declared { quality: declared, ..Declared::default() };
        let names = ["table@cpu", "hash@cpu", "hash@reference", "ensemble@cpu"];
        let resident = bring_up(&bundle, &paths(&names), &declared, &Memory::default()).unwrap();
        let found: Vec<_> =
            resident.iter().map(|path| (path.accuracy, path.quality_source.to_string())).collect();
        let expected = [
            (0.77, "measured"),
            (0.6, "declared (us)"),
            (0.77, "declared (made up)"),
            (0.9, "declared (us)"),
        ];
        assert_eq!(found, expected.map(|(accuracy, source)| (accuracy, source.to_owned())));
        assert!(resident.iter().all(|path| path.device == CPU && path.bytes > 0));
    }

    #[test]
    fn a_path_that_cannot_be_brought_up_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle(folder.path());
        let fail = |name| {
            bring_up(&bundle, &paths(&[name]), &Declared::default(), &Memory::default())
                .unwrap_err()
        };
        assert!(
            matches!(fail("plain@cpu"), PathsError::NoQuality { variant, .. } if variant == "plain")
        );
        assert_eq!(fail("dhe@cpu").to_string(), "path `dhe@cpu` cannot be loaded");
        assert_eq!(
            fail("table@torch:cuda:9").to_string(),
            "path `table@torch:cuda:9` cannot be brought up"
        );
    }

    #[test]
    fn a_file_needs_a_name_and_a_quality_of_its_own_and_a_backend_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle(folder.path());
        let fail = |name: &str, quality: &[&str]| {
            let state = |name: &&str| {
                ((*name).to_owned(), DeclaredQuality { accuracy: 0.5, source: "us".into() })
            };
            let variant = name.split('@').next().unwrap();
            let files = BTreeMap::from([(variant.to_owned(), folder.path().join("none.onnx"))]);
            let declared = Declared { quality: quality.iter().map(state).collect(), files };
            bring_up(&bundle, &paths(&[name]), &declared, &Memory::default()).unwrap_err()
        };
        assert!(matches!(fail("table@onnx", &["table"]), PathsError::TwoVariants { .. }));
        assert!(matches!(fail("other@onnx", &[]), PathsError::NoQuality { .. }));
        let source = |error| match error {
            PathsError::Backend { source, .. } => source,
            other => panic!("{other}"),
        };
        let cpu = source(fail("other@cpu", &["other"]));
        assert!(matches!(cpu, BackendError::Unsupported { .. }), "{cpu}");
        // Without ONNX Runtime that is what is missing first.
        let onnx = source(fail("other@onnx", &["other"]));
        let expected = matches!(onnx, BackendError::File { .. } | BackendError::Unavailable { .. });
        assert!(expected || matches!(onnx, BackendError::NotCompiled { .. }), "{onnx}");
    }

    #[test]
    fn what_computes_on_the_cores_shares_their_workers() {
        let on = |name: &str| device(name.parse().unwrap());
        for name in ["cpu", "reference", "onnx", "onnx:openvino", "torch:cpu"] {
            assert_eq!(on(name), CPU);
        }
        assert_eq!((on("torch:cuda:1"), on("wgpu")), ("cuda:1".into(), "wgpu".into()));
        assert_eq!(on("torch:cuda:0"), on("onnx:tensorrt"));
    }

    #[test]
    fn an_engine_over_a_bundle_gives_the_scores_of_its_programs() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle(folder.path());
        let file = ConfigFile::parse(
            "model.bundle = \"m\"\nserving.paths = [\"table@cpu\"]",
            std::path::Path::new("mprec.toml"),
        );
        let config = file.unwrap().check().unwrap();
        let shape = BatchShape::new(&schema());
        let hot = vec![HotId { feature: 0, id: 3, count: 9 }];
        let memory = Memory { cache_bytes: 64 << 10, hot, resident_tables: true };
        for name in ["table@cpu", "hash@cpu", "table@reference", "computed@cpu"] {
            let resident =
                bring_up(&bundle, &paths(&[name]), &Declared::default(), &memory).unwrap();
            let curve = ServiceCurve::from_medians(&[(1, 50.0)], 1.1, 1.2).unwrap();
            let profile = resident[0].profile(2, None, curve);
            let program = bundle.program(&profile.variant).unwrap();
            let model = Arc::new(Model {
                name: "m".into(),
                version: "3".into(),
                schema: schema(),
                shape: shape.clone(),
                max_samples: 100,
                sla: Duration::from_secs(60),
                paths: BTreeMap::from([(name.to_owned(), profile.accuracy)]),
            });
            let options = EngineOptions {
                policy: PolicyName::MultiPath,
                queue: *config.queue(),
                linger: Duration::ZERO,
                min_quality: None,
                pin_workers: false,
                record: None,
            };
            let profiles = Profiles::new(vec![profile]).unwrap();
            let engine = Engine::start(Arc::clone(&model), resident, profiles, &options).unwrap();
            let batches: Vec<_> = (1..40)
                .map(|samples| {
                    let dense = (0..2 * samples).map(|at| at as f32 / 10.0).collect();
                    let ids: Vec<i64> = (0..2 * i64::from(samples)).map(|at| at * 13 % 7).collect();
                    shape.from_rows(dense, &ids).unwrap()
                })
                .collect();
            let arrival = std::time::Instant::now();
            let taken: Vec<_> = batches
                .iter()
                .map(|batch| {
                    let request = ScoreRequest {
                        batch: batch.clone(),
                        arrival,
                        deadline: arrival + Duration::from_secs(60),
                        min_quality: None,
                        priority: 0,
                    };
                    engine.submit(&model, request).unwrap()
                })
                .collect();
            for (batch, receiver) in batches.iter().zip(taken) {
                let answer = receiver.blocking_recv().unwrap().unwrap();
                let expected = program.interpret(batch).unwrap();
                assert_eq!(answer.scores.len(), expected.len());
                for (score, expected) in answer.scores.iter().zip(&expected) {
                    // The backend may add in another order than the interpreter.
                    assert!((score - expected).abs() < 1e-5, "{name}: {score} {expected}");
                }
            }
            let cache = engine.stats().paths[0].cache;
            if name == "computed@cpu" {
                // Each of the two workers had one of the fourteen ids from the start.
                assert!(cache.hits > 0 && (1..=26).contains(&cache.misses), "{cache:?}");
                assert!((100_000..=131_200).contains(&cache.bytes), "{cache:?}");
                let page = Metrics::new("0", &[name], &[]).render(&engine);
                let hits = format!("mprec_cache_hits_total{{path=\"{name}\"}} {}\n", cache.hits);
                assert!(page.contains(&hits), "{hits} in\n{page}");
            } else {
                assert_eq!(cache, CacheStatistics::default());
            }
        }
    }
}
