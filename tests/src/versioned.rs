//! Bundles whose every score is a function of their version.

use std::path::{Path, PathBuf};

use mprec_representations::{
    BundleWriter, DlrmSpec, Interaction, OutOfVocabulary, Quality, RepresentationSpec, Schema,
    SparseFeature, Tensor, Weights, bundle::QualitySource,
};

fn schema() -> Schema {
    let sparse = vec![SparseFeature { name: "item".into(), cardinality: 50 }];
    Schema::new(vec!["x".into()], sparse, OutOfVocabulary::Zero).unwrap()
}

/// What every sample scores under a version.
pub(crate) fn code(version: u64) -> f64 {
    version as f64 / 2_000.0
}

/// The accuracy that a version claims.
pub(crate) fn accuracy(version: u64) -> f64 {
    0.5 + version as f64 / 5_000.0
}

/// Writes a version into `folder`, or over the one that is there. `hidden` is the width of a layer.
pub(crate) fn write_shaped(folder: &Path, version: u64, hidden: usize) {
    let schema = schema();
    let mut writer =
        BundleWriter::create(folder, "ctr", &version.to_string(), schema.clone(), None).unwrap();
    let table = RepresentationSpec::Table { dim: 4 };
    let spec =
        DlrmSpec::uniform(&schema, &table, Interaction::Dot { itself: false }, &[4], &[hidden]);
    let tensors = spec.tensors(&schema);
    let is_top = |name: &str| name.starts_with("top_l.") && name.ends_with(".bias");
    let last = tensors.iter().rev().find(|tensor| is_top(&tensor.name)).unwrap().name.clone();
    let mut weights = Weights::new();
    for tensor in tensors {
        let elements = tensor.shape.iter().product();
        // Only the last bias counts: the logit of the code.
        let logit = (code(version) / (1.0 - code(version))).ln() as f32;
        let value = if tensor.name == last { logit } else { 0.0 };
        weights.insert(tensor.name, Tensor::new(&tensor.shape, vec![value; elements]));
    }
    let quality = Quality {
        source: QualitySource::Measured,
        dataset: "made".into(),
        split: "held_out".into(),
        samples: 100,
        auc: 0.7,
        logloss: 0.5,
        accuracy: accuracy(version),
        ece: 0.01,
        normalised_entropy: 0.9,
    };
    writer.add("table", &spec, &weights, Some(quality)).unwrap();
    writer.finish().unwrap();
}

pub(crate) fn write(folder: &Path, version: u64) {
    write_shaped(folder, version, 4);
}

/// The one file of tensors of a bundle.
pub(crate) fn tensors_of(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_some_and(|ext| ext == "safetensors"));
    files.next().unwrap()
}
