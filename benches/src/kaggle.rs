//! The DLRM of the Criteo Kaggle data set, with random parameters.
//!
//! Bottom net 13-512-256-64-16, 26 features, dot interaction, top net 512-256-1. Cardinalities are
//! those of the data set, except that tables above [`WHOLE`] rows are cut to one [`SHARE`]th: all
//! tables then take 0.28 GB instead of 2.2 GB, which still is several times any cache.

use mprec_representations::{
    Activation, Batch, BatchShape, DheSpec, Dlrm, DlrmSpec, Interaction, Precision, Program,
    RepresentationSpec, Schema, Tensor, Transform, Weights, quantize, weights::DType,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::ids::zipf;

/// Distinct values of each categorical feature.
pub const CARDINALITIES: [u64; 26] = [
    1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683, 8_351_593, 3194, 27,
    14_992, 5_461_306, 10, 5652, 2173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572,
];

/// Tables up to this many rows are whole.
pub const WHOLE: u64 = 100_000;

/// Larger ones keep one in so many rows.
pub const SHARE: u64 = 8;

/// The published hash: the first prime above its range.
const PRIME: i64 = 1_000_003;

/// Width of the vectors.
const DIM: usize = 16;

/// The variants that are measured.
pub const VARIANTS: [&str; 5] = ["table", "hash", "dhe-small", "dhe", "hybrid"];

/// 13 dense features, and 26 sparse ones with the cardinalities above.
///
/// # Panics
///
/// Never: the cardinalities are valid.
pub fn schema() -> Schema {
    let cut = |cardinality| if cardinality > WHOLE { cardinality / SHARE } else { cardinality };
    Schema::criteo(&CARDINALITIES.map(cut)).expect("26 cardinalities of at least one")
}

/// The representation of one of [`VARIANTS`], or nothing.
///
/// `hash` keeps 100,000 rows of a feature. `dhe` has the decoder 1024-512-256-16 of the paper,
/// `dhe-small` 1024-128-16; both end in a sigmoid. `hybrid` is a table beside `dhe-small`.
pub fn representation(variant: &str) -> Option<RepresentationSpec> {
    let dhe = |hidden: &[usize]| DheSpec {
        hashes: 1024,
        transform: Transform::Uniform,
        hidden: hidden.to_vec(),
        dim: DIM,
        activation: Activation::Sigmoid,
        normalised: false,
    };
    Some(match variant {
        "table" => RepresentationSpec::Table { dim: DIM },
        "hash" => RepresentationSpec::Hash { dim: DIM, rows: 100_000 },
        "dhe" => RepresentationSpec::Dhe(dhe(&[512, 256])),
        "dhe-small" => RepresentationSpec::Dhe(dhe(&[128])),
        "hybrid" => RepresentationSpec::Hybrid { dim: DIM, dhe: dhe(&[128]) },
        _ => return None,
    })
}

/// The whole model around one representation, quantised from one and the same set of floats.
///
/// # Panics
///
/// Never: the parameters are made for the architecture.
pub fn program(
    schema: &Schema,
    representation: &RepresentationSpec,
    precision: Precision,
) -> Program {
    let interaction = Interaction::Dot { itself: false };
    let spec = DlrmSpec::uniform(schema, representation, interaction, &[512, 256, 64], &[512, 256]);
    let mut random = SmallRng::seed_from_u64(1);
    let mut weights = Weights::new();
    for tensor in spec.tensors(schema) {
        let count = tensor.shape.iter().product();
        match tensor.dtype {
            DType::F32 => {
                let table = tensor.name.starts_with("emb_l");
                let inputs = tensor.shape.last().copied().unwrap_or(1);
                let scale = if table { 0.25 } else { 1.0 / (inputs as f32).sqrt() };
                let values = (0..count).map(|_| random.random_range(-scale..scale)).collect();
                weights.insert(tensor.name, Tensor::new(&tensor.shape, values));
            }
            DType::I64 => {
                let rows = (0..count / 4).flat_map(|_| {
                    let (a, b) = (random.random_range(1..PRIME), random.random_range(0..PRIME));
                    [a, b, PRIME, 1_000_000]
                });
                let rows: Vec<i64> = rows.collect();
                weights.insert(tensor.name, Tensor::new(&tensor.shape, rows));
            }
            DType::I8 | DType::U8 => unreachable!("only quantised models hold bytes"),
        }
    }
    let (spec, weights) =
        quantize(schema, &spec, &weights, precision).expect("the model is in full precision");
    Dlrm::load(schema, &spec, &weights)
        .and_then(|model| model.lower())
        .expect("the parameters are those that the architecture names")
}

/// `count` batches of `samples` samples: one Zipf id a bag, dense values in 0..1.
///
/// # Panics
///
/// Never: ids are below their cardinalities.
pub fn batches(schema: &Schema, samples: usize, count: usize) -> Vec<Batch> {
    let shape = BatchShape::new(schema);
    let mut random = SmallRng::seed_from_u64(2);
    (0..count)
        .map(|_| {
            let dense = (0..samples * schema.dense().len()).map(|_| random.random()).collect();
            let ids: Vec<i64> = schema
                .sparse()
                .iter()
                .flat_map(|feature| {
                    let ids: Vec<i64> = (0..samples)
                        .map(|_| zipf(&mut random, feature.cardinality) as i64)
                        .collect();
                    ids
                })
                .collect();
            shape.from_columns(dense, &ids).expect("ids are below their cardinalities")
        })
        .collect()
}
