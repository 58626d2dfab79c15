//! The published architectures, with random parameters.

use mprec_datasets::synthetic::{CRITEO_KAGGLE, CRITEO_TERABYTE, scaled_down};
use mprec_representations::{
    Activation, DheSpec, Dlrm, DlrmSpec, Interaction, ModelError, Precision, Program,
    RepresentationSpec, Schema, Tensor, Transform, Weights, quantize, weights::DType,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// The published hash: the first prime above its range.
const PRIME: i64 = 1_000_003;
/// Its range.
const RANGE: i64 = 1_000_000;

/// The representations that an architecture can be built around.
pub const VARIANTS: [&str; 5] = ["table", "hash", "dhe-small", "dhe", "hybrid"];

/// A DLRM as published for one of the two Criteo data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// Bottom net 13-512-256-64-16, vectors of 16, top net 512-256-1; tables of 2.2 GB.
    Kaggle,
    /// Bottom net 13-512-256-64, vectors of 64, top net 512-512-256-1; tables of 12.6 GB.
    Terabyte,
}

impl Arch {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kaggle, Self::Terabyte];

    /// 13 dense features and 26 sparse ones, with the data set's cardinalities divided by `scale_down` (small ones
    /// stay).
    ///
    /// # Panics
    ///
    /// Never: the cardinalities are valid.
    pub fn schema(self, scale_down: f64) -> Schema {
        let cardinalities = match self {
            Self::Kaggle => &CRITEO_KAGGLE,
            Self::Terabyte => &CRITEO_TERABYTE,
        };
        let cardinalities: [u64; 26] = scaled_down(cardinalities, scale_down)
            .try_into()
            .expect("scaling keeps the number of features");
        Schema::criteo(&cardinalities).expect("26 cardinalities of at least one")
    }

    /// The model around one of [`VARIANTS`], quantised from one and the same set of floats, or nothing if there is no
    /// such variant.
    ///
    /// `hash` keeps 100,000 rows of a feature. `dhe` has the decoder 1024-512-256-dim of the paper, `dhe-small`
    /// 1024-128-dim; both end in a sigmoid. `hybrid` is a table beside `dhe`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when the variant cannot be stored in this precision.
    pub fn program(
        self,
        schema: &Schema,
        variant: &str,
        precision: Precision,
    ) -> Option<Result<Program, ModelError>> {
        let representation = self.representation(variant)?;
        let (bottom, top) = self.hidden();
        let dot = Interaction::Dot { itself: false };
        let spec = DlrmSpec::uniform(schema, &representation, dot, bottom, top);
        Some(self.build(schema, &spec, precision))
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kaggle => "kaggle",
            Self::Terabyte => "terabyte",
        }
    }

    /// Rows of all tables together.
    pub fn rows(self) -> u64 {
        match self {
            Self::Kaggle => CRITEO_KAGGLE.iter().sum(),
            Self::Terabyte => CRITEO_TERABYTE.iter().sum(),
        }
    }

    /// Widths of the hidden layers of the bottom net and of the top net.
    pub fn hidden(self) -> (&'static [usize], &'static [usize]) {
        match self {
            Self::Kaggle => (&[512, 256, 64], &[512, 256]),
            Self::Terabyte => (&[512, 256], &[512, 512, 256]),
        }
    }

    /// Length of a feature's vector.
    pub fn dim(self) -> usize {
        match self {
            Self::Kaggle => 16,
            Self::Terabyte => 64,
        }
    }

    fn representation(self, variant: &str) -> Option<RepresentationSpec> {
        let dim = self.dim();
        let dhe = |hidden: &[usize]| DheSpec {
            hashes: 1024,
            transform: Transform::Uniform,
            hidden: hidden.to_vec(),
            dim,
            activation: Activation::Sigmoid,
            normalised: false,
        };
        Some(match variant {
            "table" => RepresentationSpec::Table { dim },
            "hash" => RepresentationSpec::Hash { dim, rows: 100_000 },
            "dhe" => RepresentationSpec::Dhe(dhe(&[512, 256])),
            "dhe-small" => RepresentationSpec::Dhe(dhe(&[128])),
            "hybrid" => RepresentationSpec::Hybrid { dim, dhe: dhe(&[512, 256]) },
            _ => return None,
        })
    }

    fn build(
        self,
        schema: &Schema,
        spec: &DlrmSpec,
        precision: Precision,
    ) -> Result<Program, ModelError> {
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
                        let a = random.random_range(1..PRIME);
                        [a, random.random_range(0..PRIME), PRIME, RANGE]
                    });
                    let rows: Vec<i64> = rows.collect();
                    weights.insert(tensor.name, Tensor::new(&tensor.shape, rows));
                }
                other => unreachable!("the model is made in full precision, not in {other}"),
            }
        }
        if precision.is_full() {
            return Dlrm::load(schema, spec, &weights)?.lower();
        }
        let (spec, weights) = quantize(schema, spec, &weights, precision)?;
        Dlrm::load(schema, &spec, &weights)?.lower()
    }
}
