//! Profiles that several tests use.

use mprec_router::{PathProfile, QualitySource, ServiceCurve};

/// A path whose p95 is 1.1 and whose p99 is `p99` times the given medians.
pub(crate) fn path(
    name: &str,
    accuracy: f64,
    lanes: u32,
    medians: &[(u32, f64)],
    p99: f64,
) -> PathProfile {
    let (variant, device) = name.split_once('@').expect("a path has a device");
    PathProfile {
        name: name.into(),
        variant: variant.into(),
        device: device.into(),
        lanes,
        accuracy,
        quality_source: QualitySource::Declared("test".into()),
        bytes: 0,
        max_batch: None,
        service: ServiceCurve::from_medians(medians, 1.1, p99).expect("medians increase"),
    }
}
