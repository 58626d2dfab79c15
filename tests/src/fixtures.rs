//! Small models with every representation, filled with reproducible parameters.

use mprec_representations::{
    BundleError, BundleWriter, ClusteredSpec, Combination, DheSpec, DlrmSpec, Interaction,
    RepresentationSpec, Schema, SparseFeature, Tensor, Transform, Weights, op::Activation,
    weights::DType,
};

/// A schema of two dense features and one sparse feature per cardinality.
pub fn schema(cardinalities: &[u64]) -> Schema {
    let sparse = cardinalities
        .iter()
        .enumerate()
        .map(|(at, &cardinality)| SparseFeature { name: format!("s{at}"), cardinality })
        .collect();
    Schema::new(vec!["x".into(), "y".into()], sparse, Default::default())
        .expect("the fixture's schema is possible")
}

/// A DHE of `hashes` hashes and one hidden layer.
pub fn dhe(hashes: usize, hidden: usize, dim: usize) -> DheSpec {
    DheSpec {
        hashes,
        transform: Transform::Uniform,
        hidden: vec![hidden],
        dim,
        activation: Activation::Sigmoid,
        normalised: false,
    }
}

/// Centroids of the codes of `hashes` hashes.
pub fn clustered(hashes: usize, centroids: usize, dim: usize) -> ClusteredSpec {
    ClusteredSpec { hashes, transform: Transform::Uniform, centroids, dim, beside: Some(dim) }
}

/// One architecture per representation, by variant name.
pub fn architectures(schema: &Schema, dim: usize) -> Vec<(&'static str, DlrmSpec)> {
    let uniform = |representation: RepresentationSpec| {
        DlrmSpec::uniform(schema, &representation, Interaction::Dot { itself: false }, &[8], &[8])
    };
    let combination = Combination::Mult;
    let mut select = vec![RepresentationSpec::Table { dim }; schema.sparse().len()];
    select[0] = RepresentationSpec::Dhe(dhe(8, 6, dim));
    vec![
        ("table", uniform(RepresentationSpec::Table { dim })),
        ("hash", uniform(RepresentationSpec::Hash { dim, rows: 5 })),
        ("qr", uniform(RepresentationSpec::QuotientRemainder { dim, collisions: 4, combination })),
        ("dhe", uniform(RepresentationSpec::Dhe(dhe(8, 6, dim)))),
        ("hybrid", uniform(RepresentationSpec::Hybrid { dim, dhe: dhe(8, 6, dim) })),
        ("clustered", uniform(RepresentationSpec::Clustered(clustered(8, 9, dim)))),
        ("select", DlrmSpec::new(schema, select, Interaction::Dot { itself: false }, &[8], &[8])),
    ]
}

/// Parameters for an architecture: floats within ±0.5, usable hash parameters. The same seed gives
/// the same parameters everywhere.
pub fn weights(schema: &Schema, spec: &DlrmSpec, seed: u64) -> Weights {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    // xorshift64*: nothing here needs more than that.
    let mut next = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    };
    let mut weights = Weights::new();
    for tensor in spec.tensors(schema) {
        let elements: usize = tensor.shape.iter().product();
        match tensor.dtype {
            DType::F32 => {
                let values =
                    (0..elements).map(|_| next() as f32 / (1_u64 << 31) as f32 - 0.5).collect();
                weights.insert(tensor.name, Tensor::new(&tensor.shape, values));
            }
            DType::I64 => {
                let (p, m) = (2_147_483_647_i64, 1_000_000_i64);
                let values = (0..tensor.shape[0])
                    .flat_map(|_| [next() as i64 % (p - 1) + 1, next() as i64 % p, p, m])
                    .collect();
                weights.insert(tensor.name, Tensor::new(&tensor.shape, values));
            }
            other => unreachable!("only quantised models hold {other}"),
        }
    }
    weights
}

/// Writes a bundle of every architecture of [`architectures`] and an ensemble of two.
///
/// # Errors
///
/// When the folder cannot be written.
pub fn write_bundle(folder: &std::path::Path, schema: &Schema) -> Result<(), BundleError> {
    let mut writer = BundleWriter::create(folder, "fixture", "1", schema.clone(), None)?;
    for (seed, (name, spec)) in architectures(schema, 4).iter().enumerate() {
        writer.add(name, spec, &weights(schema, spec, seed as u64 + 1), None)?;
    }
    writer.add_ensemble("ensemble", &["table", "hybrid"], None);
    writer.finish()
}
