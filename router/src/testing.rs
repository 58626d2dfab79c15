//! Profiles that several tests use.

use crate::{PathProfile, Profiles, QualitySource, ServiceCurve};

/// A path with the shape of a two-lane CPU, `scale` times as slow as the table path.
pub(crate) fn cpu_path(variant: &str, accuracy: f64, scale: f64) -> PathProfile {
    let medians = [(1, 40.0), (8, 120.0), (128, 1300.0), (512, 5200.0)];
    path(&format!("{variant}@cpu"), accuracy, 2, &medians.map(|(batch, us)| (batch, us * scale)))
}

/// A path whose p95 is 1.1 and whose p99 is 1.25 times the given medians.
pub(crate) fn path(name: &str, accuracy: f64, lanes: u32, medians: &[(u32, f64)]) -> PathProfile {
    let (variant, device) = name.split_once('@').unwrap();
    PathProfile {
        name: name.into(),
        variant: variant.into(),
        device: device.into(),
        lanes,
        accuracy,
        quality_source: QualitySource::Declared("test".into()),
        bytes: 0,
        max_batch: None,
        service: ServiceCurve::from_medians(medians, 1.1, 1.25).unwrap(),
    }
}

/// Hash, table and ensemble on a two-lane CPU.
pub(crate) fn three_paths() -> Profiles {
    Profiles::new(vec![
        cpu_path("hash", 0.786, 0.9),
        cpu_path("table", 0.790, 1.0),
        cpu_path("ensemble", 0.792, 3.2),
    ])
    .unwrap()
}
