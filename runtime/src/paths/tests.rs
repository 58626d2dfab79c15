use std::{sync::Arc, time::Duration};

use mprec_backends::CacheStatistics;
use mprec_representations::{
    Activation, BundleWriter, DheSpec, DlrmSpec, Interaction, Quality, RepresentationSpec, Schema,
    SparseFeature, Tensor, Transform, Weights, weights::DType,
};
use mprec_router::{PolicyName, Profiles};

use super::*;
use crate::{
    config::{ConfigFile, DeclaredQuality},
    engine::{Backoff, Engine, EngineOptions},
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
    let resident = bring_up(&bundle, &paths(&names), &declared, &Allowance::default()).unwrap();
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
        bring_up(&bundle, &paths(&[name]), &Declared::default(), &Allowance::default()).unwrap_err()
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
fn paths_share_the_budget_of_their_device() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let names = paths(&["table@cpu", "hash@reference"]);
    let bytes: Vec<u64> = bring_up(&bundle, &names, &Declared::default(), &Allowance::default())
        .unwrap()
        .iter()
        .map(|path| path.bytes)
        .collect();
    let with = |device: &str, budget| Allowance {
        budgets: BTreeMap::from([(device.to_owned(), ByteSize(budget))]),
        ..Allowance::default()
    };
    let total = bytes[0] + bytes[1];
    for allowance in [with(CPU, total), with("cuda:0", 0)] {
        assert_eq!(bring_up(&bundle, &names, &Declared::default(), &allowance).unwrap().len(), 2);
    }
    let error = bring_up(&bundle, &names, &Declared::default(), &with(CPU, total - 1)).unwrap_err();
    let PathsError::Budget { path, left, .. } = &error else { panic!("{error}") };
    assert_eq!((path, *left), (&names[1], bytes[1] - 1));
    assert!(error.to_string().contains("`budgets.\"cpu\"`"), "{error}");
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
        bring_up(&bundle, &paths(&[name]), &declared, &Allowance::default()).unwrap_err()
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
    let allowance =
        Allowance { cache_bytes: 64 << 10, hot, resident_tables: true, ..Allowance::default() };
    for name in ["table@cpu", "hash@cpu", "table@reference", "computed@cpu"] {
        let resident =
            bring_up(&bundle, &paths(&[name]), &Declared::default(), &allowance).unwrap();
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
            preprocessor: None,
        });
        let options = EngineOptions {
            policy: PolicyName::MultiPath,
            queue: *config.queue(),
            linger: Duration::ZERO,
            min_quality: None,
            pin_workers: false,
            worker_nice: 0,
            record: None,
            max_parts: None,
            recovery: Backoff::default(),
        };
        let batch = shape.from_rows(vec![0.5; 8], &[1, 2, 3, 4, 5, 6, 0, 1]).unwrap();
        let mut again = resident[0].revive.executable().unwrap();
        let mut scores = [0.0; 4];
        again.run(&batch, &mut scores).unwrap();
        for (score, expected) in scores.iter().zip(program.interpret(&batch).unwrap()) {
            assert!((score - expected).abs() < 1e-5, "{name} brought up again");
        }
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
                    batch: batch.clone().into(),
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
