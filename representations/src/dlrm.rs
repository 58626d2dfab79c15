//! The model around the embeddings (Naumov et al. 2019, arXiv 1906.00091).
//!
//! ```text
//! dense values ─ bottom net ─┐
//! ids ─ representations ─────┴─ interaction ─ top net ─ logit ─ sigmoid ─ score
//! ```
//!
//! Every layer ends in ReLU, the last of the bottom net too; only the last of the top net does not.

use serde::{Deserialize, Serialize};

use crate::{
    error::ProgramError,
    layer::LayerWeights,
    op::{Activation, Interaction, Slot},
    program::{Program, ProgramBuilder},
    quant::{Precision, RowFormat},
    representation::{Cost, Representation, RepresentationSpec, Vectors},
    schema::Schema,
    tensor::Tensor,
    weights::{TensorSpec, Weights, WeightsError},
};

/// Most layers that a net may have.
pub const MAX_LAYERS: usize = 64;

/// A DLRM without its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DlrmSpec {
    /// Widths of the bottom net from the dense features to the vector that meets the embeddings.
    pub bottom: Vec<usize>,
    /// Widths of the top net from the interaction to the logit, which is 1.
    pub top: Vec<usize>,
    /// How the vectors meet.
    pub interaction: Interaction,
    /// The representation of every sparse feature, in the schema's order.
    pub features: Vec<RepresentationSpec>,
    /// In how many bits the parameters are stored.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
}

/// A model that cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The architecture contradicts the schema or itself.
    #[error("the architecture needs {what} {expected}, got {got}")]
    Architecture {
        /// Which part.
        what: &'static str,
        /// What would fit.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A tensor is not what the architecture needs.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The operations do not fit together.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl DlrmSpec {
    /// A DLRM in which every feature has the same representation, with the top net's first width
    /// computed: `bottom_hidden` and `top_hidden` are the widths between input and output.
    pub fn uniform(
        schema: &Schema,
        representation: &RepresentationSpec,
        interaction: Interaction,
        bottom_hidden: &[usize],
        top_hidden: &[usize],
    ) -> Self {
        let features = vec![representation.clone(); schema.sparse().len()];
        Self::new(schema, features, interaction, bottom_hidden, top_hidden)
    }

    /// As [`DlrmSpec::uniform`], with a representation for each feature.
    pub fn new(
        schema: &Schema,
        features: Vec<RepresentationSpec>,
        interaction: Interaction,
        bottom_hidden: &[usize],
        top_hidden: &[usize],
    ) -> Self {
        let dim = features
            .first()
            .and_then(|feature| {
                let (stored, computed) = feature.widths();
                stored.or(computed)
            })
            .unwrap_or(1);
        let mut bottom = vec![schema.dense().len()];
        bottom.extend(bottom_hidden);
        bottom.push(dim);
        let mut spec = Self {
            bottom,
            top: Vec::new(),
            interaction,
            features,
            precision: Precision::default(),
        };
        spec.top.push(spec.interaction_width());
        spec.top.extend(top_hidden);
        spec.top.push(1);
        spec
    }

    /// Width of the interaction: what the top net must start with.
    pub fn interaction_width(&self) -> usize {
        let widths = self.features.iter().map(RepresentationSpec::widths);
        let mut vectors = vec![self.bottom.last().copied().unwrap_or(0)];
        vectors.extend(widths.clone().filter_map(|(stored, _)| stored));
        vectors.extend(widths.filter_map(|(_, computed)| computed));
        self.interaction.width(&vectors)
    }

    /// Refuses an architecture that contradicts `schema` or itself, before anything is loaded.
    ///
    /// # Errors
    ///
    /// [`ModelError::Architecture`].
    pub fn check(&self, schema: &Schema) -> Result<(), ModelError> {
        let fail = |what, expected: String, got: String| {
            Err(ModelError::Architecture { what, expected, got })
        };
        for (what, layers) in [("a bottom net of", &self.bottom), ("a top net of", &self.top)] {
            let possible = (2..=MAX_LAYERS + 1).contains(&layers.len())
                && layers.iter().all(|width| (1..=crate::program::MAX_WIDTH).contains(width));
            if !possible {
                let expected = format!("1 to {MAX_LAYERS} layers of at least one output");
                return fail(what, expected, format!("widths {layers:?}"));
            }
        }
        for feature in &self.features {
            let (stored, computed) = feature.widths();
            for width in [stored, computed].into_iter().flatten() {
                if !(1..=crate::program::MAX_WIDTH).contains(&width) {
                    let expected = format!("width 1 to {}", crate::program::MAX_WIDTH);
                    return fail("vectors of", expected, width.to_string());
                }
            }
            if let RepresentationSpec::Dhe(dhe) | RepresentationSpec::Hybrid { dhe, .. } = feature
                && dhe.hidden.len() >= MAX_LAYERS
            {
                let got = format!("{} hidden layers", dhe.hidden.len());
                return fail("a decoder of", format!("less than {MAX_LAYERS} layers"), got);
            }
        }
        if self.precision.rows == RowFormat::Int4 {
            let mut widths = self.features.iter().flat_map(RepresentationSpec::row_widths);
            if let Some(odd) = widths.find(|width| !width.is_multiple_of(2)) {
                return fail("int4 rows of", "an even width".into(), odd.to_string());
            }
        }
        let dense = schema.dense().len();
        if self.bottom[0] != dense {
            let got = format!("{} inputs", self.bottom[0]);
            return fail("a bottom net of", format!("{dense} inputs, one per dense feature"), got);
        }
        let sparse = schema.sparse().len();
        if self.features.len() != sparse {
            let got = self.features.len().to_string();
            return fail("representations for", format!("{sparse} sparse features"), got);
        }
        if self.top[0] != self.interaction_width() {
            let expected = format!("{} inputs, as the interaction gives", self.interaction_width());
            return fail("a top net of", expected, format!("{} inputs", self.top[0]));
        }
        if self.top.last() != Some(&1) {
            return fail("a top net with", "1 output".into(), format!("widths {:?}", self.top));
        }
        Ok(())
    }

    /// Every tensor that holds its parameters, with the names of `facebookresearch/dlrm`.
    pub fn tensors(&self, schema: &Schema) -> Vec<TensorSpec> {
        let mut tensors = mlp_tensors("bot_l", &self.bottom);
        for (feature, (spec, sparse)) in self.features.iter().zip(schema.sparse()).enumerate() {
            tensors.extend(spec.tensors(feature, sparse.cardinality));
        }
        tensors.extend(mlp_tensors("top_l", &self.top));
        tensors.into_iter().flat_map(|tensor| self.precision.stored(tensor)).collect()
    }
}

fn mlp_tensors(prefix: &str, layers: &[usize]) -> Vec<TensorSpec> {
    layers
        .windows(2)
        .enumerate()
        .flat_map(|(at, pair)| TensorSpec::layer(&format!("{prefix}.{}", 2 * at), pair[1], pair[0]))
        .collect()
}

/// A DLRM with its parameters.
#[derive(Debug)]
pub struct Dlrm {
    schema: Schema,
    interaction: Interaction,
    bottom: Vec<Layer>,
    features: Vec<Box<dyn Representation>>,
    top: Vec<Layer>,
}

/// Weight `[out, in]` and bias `[out]`.
type Layer = (LayerWeights, Tensor<f32>);

impl Dlrm {
    /// Takes the parameters of `spec` from `weights`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when the architecture does not fit the schema, or a tensor is missing, left
    /// over, or of another type or shape.
    pub fn load(schema: &Schema, spec: &DlrmSpec, weights: &Weights) -> Result<Self, ModelError> {
        spec.check(schema)?;
        weights.expect(&spec.tensors(schema))?;
        let features = spec
            .features
            .iter()
            .zip(schema.sparse())
            .enumerate()
            .map(|(at, (feature, sparse))| feature.load(at, sparse.cardinality, weights))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            schema: schema.clone(),
            interaction: spec.interaction,
            bottom: load_mlp("bot_l", &spec.bottom, weights)?,
            features,
            top: load_mlp("top_l", &spec.top, weights)?,
        })
    }

    /// The representations, one per sparse feature.
    pub fn features(&self) -> &[Box<dyn Representation>] {
        &self.features
    }

    /// What the representations together cost per sample with one id per bag.
    pub fn embedding_cost(&self) -> Cost {
        self.features.iter().fold(Cost::default(), |cost, feature| cost + feature.cost())
    }

    /// The operations that score with this model.
    ///
    /// # Errors
    ///
    /// [`ModelError::Program`] when its parts do not fit together.
    pub fn lower(&self) -> Result<Program, ModelError> {
        let mut program = ProgramBuilder::new(&self.schema);
        let logit = self.lower_into(&mut program)?;
        Ok(program.finish(logit)?)
    }

    /// Adds the operations up to the logit, `[samples, 1]`.
    ///
    /// # Errors
    ///
    /// As [`Dlrm::lower`].
    pub fn lower_into(&self, program: &mut ProgramBuilder) -> Result<Slot, ModelError> {
        let mut dense = program.dense();
        for (weight, bias) in &self.bottom {
            dense = program.linear(dense, weight.clone(), bias.clone(), Activation::Relu)?;
        }
        let vectors = self
            .features
            .iter()
            .enumerate()
            .map(|(at, feature)| feature.lower(at, program))
            .collect::<Result<Vec<Vectors>, _>>()?;
        let mut inputs = vec![dense];
        inputs.extend(vectors.iter().filter_map(|vector| vector.stored));
        inputs.extend(vectors.iter().filter_map(|vector| vector.computed));
        let mut slot = program.interact(self.interaction, inputs)?;
        for (at, (weight, bias)) in self.top.iter().enumerate() {
            let last = at + 1 == self.top.len();
            let activation = if last { Activation::None } else { Activation::Relu };
            slot = program.linear(slot, weight.clone(), bias.clone(), activation)?;
        }
        Ok(slot)
    }
}

fn load_mlp(prefix: &str, layers: &[usize], weights: &Weights) -> Result<Vec<Layer>, WeightsError> {
    mlp_tensors(prefix, layers)
        .chunks_exact(2)
        .map(|pair| Ok((weights.layer(&pair[0])?, weights.f32(&pair[1])?)))
        .collect()
}
