use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use mprec_backends::{BackendError, BackendKind, Executable};
use mprec_representations::{Batch, BatchShape, OutOfVocabulary, Schema, SparseFeature};
use mprec_router::{QualitySource, Quantile};

use super::*;
use crate::paths::{ResidentPath, Revive};

/// Takes a tenth of a millisecond and a microsecond per sample; fails at `broken` samples.
#[derive(Debug, Clone)]
struct Fake {
    runs: Arc<AtomicUsize>,
    broken: Option<usize>,
    per_sample: Duration,
}

impl Executable for Fake {
    fn run(&mut self, batch: &Batch, _: &mut [f32]) -> Result<(), BackendError> {
        self.runs.fetch_add(1, SeqCst);
        if self.broken == Some(batch.samples()) {
            let source = "it is on fire".into();
            return Err(BackendError::Device { backend: BackendKind::Cpu, source });
        }
        std::thread::sleep(Duration::from_micros(100) + self.per_sample * batch.samples() as u32);
        Ok(())
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(self.clone()))
    }

    fn bytes(&self) -> usize {
        1_000
    }
}

fn fake() -> Fake {
    Fake { runs: Arc::default(), broken: None, per_sample: Duration::from_micros(1) }
}

fn resident(name: &str, fake: Fake) -> ResidentPath {
    ResidentPath {
        path: name.parse().unwrap(),
        device: "cpu".into(),
        accuracy: 0.8,
        quality_source: QualitySource::Measured,
        bytes: 1_000,
        revive: Revive::new({
            let fake = fake.clone();
            move || Ok(Box::new(fake.clone()))
        }),
        executable: Box::new(fake),
    }
}

fn inputs(samples: usize) -> Batch {
    let sparse = vec![SparseFeature { name: "item".into(), cardinality: 10 }];
    let schema = Schema::new(vec!["x".into()], sparse, OutOfVocabulary::Zero).unwrap();
    BatchShape::new(&schema).from_rows(vec![0.5; samples], &vec![1; samples]).unwrap()
}

fn options(budget: Duration) -> ProfileOptions {
    ProfileOptions { budget, max_batch: None }
}

fn measured(paths: &[ResidentPath]) -> ProfileFile {
    let profiles =
        measure(paths, |_| 2, options(Duration::from_millis(500)), &mut inputs, &mut |_| {});
    ProfileFile {
        format: PROFILE_FORMAT,
        machine: Machine::here(),
        model: "m".into(),
        version: "1".into(),
        measured: true,
        measured_at_unix_seconds: Some(1_700_000_000),
        paths: profiles.unwrap(),
    }
}

#[test]
fn every_size_is_measured_on_every_worker() {
    let runs = Arc::new(AtomicUsize::new(0));
    let paths = [resident("table@cpu", Fake { runs: Arc::clone(&runs), ..fake() })];
    let mut cells = Vec::new();
    let mut progress = |progress: Progress<'_>| {
        assert_eq!((progress.path, progress.of), ("table@cpu", SIZES.len()));
        cells.push((progress.done, progress.batch));
    };
    let budget = Duration::from_secs(2);
    let profiles = measure(&paths, |_| 2, options(budget), &mut inputs, &mut progress).unwrap();
    assert_eq!(cells, SIZES.into_iter().enumerate().collect::<Vec<_>>());
    let path = &profiles.paths()[0];
    assert_eq!((path.lanes, path.accuracy, path.bytes), (2, 0.8, 1_000));
    let points = path.service.points();
    assert!(points.iter().map(|point| point.batch).eq(SIZES));
    for point in points {
        let least = 100.0 + f64::from(point.batch);
        assert!(point.p50_us >= least && point.p95_us >= point.p50_us, "{point:?}");
        assert!(point.p99_us >= point.p95_us, "{point:?}");
    }
    assert!(path.service.at(2_048, Quantile::P50) > path.service.at(1, Quantile::P50));
    assert!(runs.load(SeqCst) >= 2 * SIZES.len() * 8);
}

#[test]
fn a_slow_path_is_measured_at_small_sizes_only() {
    let slow = Fake { per_sample: Duration::from_millis(2), ..fake() };
    let paths = [resident("table@reference", slow)];
    let budget = Duration::from_millis(300);
    let profiles = measure(&paths, |_| 1, options(budget), &mut inputs, &mut |_| {}).unwrap();
    let largest = profiles.paths()[0].service.largest_measured();
    assert!((1..256).contains(&largest), "{largest}");
}

#[test]
fn a_path_that_fails_is_named_with_the_batch() {
    let broken = Fake { broken: Some(2), ..fake() };
    let paths = [resident("table@cpu", fake()), resident("dhe@cpu", broken)];
    let budget = Duration::from_secs(1);
    let error = measure(&paths, |_| 3, options(budget), &mut inputs, &mut |_| {}).unwrap_err();
    assert!(
        matches!(&error, ProfilerError::Run { path, batch: 2, .. } if path == "dhe@cpu"),
        "{error}"
    );
    let mut few = |samples: usize| inputs(samples / 2);
    let error = measure(&paths, |_| 1, options(budget), &mut few, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ProfilerError::Inputs { asked: 2_048, got: 1_024 }), "{error}");
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let paths = [resident("table@cpu", fake()), resident("dhe@cpu", fake())];
    let file = measured(&paths);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    file.save(&path).unwrap();
    assert_eq!(ProfileFile::load(&path).unwrap(), file);

    // Quality is the path's of now, and so are the order and the choice of paths.
    let better = ResidentPath { accuracy: 0.9, ..resident("dhe@cpu", fake()) };
    let profiles = file.for_paths("m", "2", &[better], |_| 2, Some(77)).unwrap();
    let [dhe] = profiles.paths() else { panic!("{profiles:?}") };
    assert_eq!((dhe.name.as_str(), dhe.accuracy, dhe.max_batch), ("dhe@cpu", 0.9, Some(77)));
    assert_eq!(dhe.service, file.paths.paths()[1].service);
}

#[test]
fn a_file_that_does_not_fit_is_refused() {
    let file = measured(&[resident("table@cpu", fake())]);
    let table = [resident("table@cpu", fake())];
    let other = [resident("hash@cpu", fake())];
    let refused = |model, paths: &[ResidentPath], lanes| {
        file.for_paths(model, "1", paths, |_| lanes, None).unwrap_err()
    };
    assert!(matches!(refused("n", &table, 2), ProfilerError::Model { .. }));
    assert!(
        matches!(refused("m", &other, 2), ProfilerError::NoPath { path, .. } if path == "hash@cpu")
    );
    assert!(matches!(refused("m", &table, 4), ProfilerError::Lanes { found: 2, expected: 4, .. }));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    assert!(matches!(ProfileFile::load(&path), Err(ProfilerError::Io { .. })));
    file.save(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        ProfileFile::load(&path).unwrap_err()
    };
    let newer = text.replace("\"format\": 1", "\"format\": 2, \"new\": {}");
    assert!(matches!(load(&newer), ProfilerError::Format { found: 2 }));
    let unknown = text.replace("\"measured\"", "\"mesured\"");
    assert!(matches!(load(&unknown), ProfilerError::Parse { .. }));
    let negative = text.replacen("\"p50_us\": ", "\"p50_us\": -", 1);
    assert!(matches!(load(&negative), ProfilerError::Parse { .. }));
    for end in (0..text.len() - 2).step_by(97) {
        assert!(matches!(load(&text[..end]), ProfilerError::Parse { .. }), "cut at {end}");
    }
    assert!(matches!(load(&" ".repeat(5 << 20)), ProfilerError::TooLarge { .. }));
}
