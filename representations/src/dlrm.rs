//! The model around the embeddings (Naumov et al. 2019, arXiv 1906.00091).
//!
//! ```text
//! dense values ─ bottom net ─┐
//! ids ─ representations ─────┴─ interaction ─ top net ─ logit ─ sigmoid ─ score
//! ```
//!
//! Every layer ends in ReLU, the last of the bottom net too; only the last of the top net does not.
//!
//! With a [cross net](CrossSpec) between interaction and top net it is DLRM-v2 of MLPerf: DCN-v2 (Wang et al. 2021, arXiv
//! 2008.13535) over all vectors side by side.

use serde::{Deserialize, Serialize};

use crate::{
    clustered::check_centroids,
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
    /// Layers of crosses between a `cat` interaction and the top net.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross: Option<CrossSpec>,
    /// The representation of every sparse feature, in the schema's order.
    pub features: Vec<RepresentationSpec>,
    /// In how many bits the parameters are stored.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
}

/// A cross net of low rank without its parameters. With `x0` the interaction's output, every layer computes
/// `x0 · (W (V x) + b) + x`, the first product being element by element; its width is that of `x0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossSpec {
    /// Number of layers.
    pub layers: usize,
    /// Rows of `V` and columns of `W`.
    pub rank: usize,
}

impl CrossSpec {
    /// The tensors of layer `at` for inputs of `width` values: `V` `[rank, width]`, `W` `[width, rank]`, `b` `[width]`.
    fn layer(self, at: usize, width: usize) -> [TensorSpec; 3] {
        let [narrow, _] = TensorSpec::layer(&format!("cross_l.{at}.v"), self.rank, width);
        let [wide, bias] = TensorSpec::layer(&format!("cross_l.{at}.w"), width, self.rank);
        [narrow, wide, bias]
    }
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
            cross: None,
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
        if let Some(CrossSpec { layers, rank }) = self.cross {
            let possible = (1..=MAX_LAYERS).contains(&layers)
                && (1..=crate::program::MAX_WIDTH).contains(&rank);
            if !possible {
                let expected = format!("1 to {MAX_LAYERS} layers of rank 1 or more");
                return fail("a cross net of", expected, format!("{layers} of rank {rank}"));
            }
            if self.interaction != Interaction::Cat {
                let got = "dot".to_owned();
                return fail("before a cross net the interaction", "cat".into(), got);
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
            if let RepresentationSpec::Clustered(clustered) = feature {
                check_centroids(clustered.centroids)?;
            }
            if let Some(dhe) = feature.dhe()
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
        if let Some(cross) = self.cross {
            let width = self.interaction_width();
            tensors.extend((0..cross.layers).flat_map(|at| cross.layer(at, width)));
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
    cross: Vec<CrossLayer>,
    top: Vec<Layer>,
}

/// `V` `[rank, width]`, then `W` `[width, rank]` and bias `[width]`.
type CrossLayer = (LayerWeights, Layer);

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
            cross: load_cross(spec, weights)?,
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
        let met = slot;
        for (narrow, (wide, bias)) in &self.cross {
            slot = program.cross(met, slot, narrow.clone(), wide.clone(), bias.clone())?;
        }
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

fn load_cross(spec: &DlrmSpec, weights: &Weights) -> Result<Vec<CrossLayer>, WeightsError> {
    let Some(cross) = spec.cross else { return Ok(Vec::new()) };
    let width = spec.interaction_width();
    let load = |at| {
        let [narrow, wide, bias] = cross.layer(at, width);
        Ok((weights.layer(&narrow)?, (weights.layer(&wide)?, weights.f32(&bias)?)))
    };
    (0..cross.layers).map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::BatchShape, schema::SparseFeature};

    fn schema() -> Schema {
        let sparse = vec![SparseFeature { name: "s".into(), cardinality: 2 }];
        Schema::new(vec!["d".into()], sparse, Default::default()).unwrap()
    }

    fn crossed(cross: CrossSpec, interaction: Interaction) -> DlrmSpec {
        let table = RepresentationSpec::Table { dim: 1 };
        let spec = DlrmSpec::uniform(&schema(), &table, interaction, &[], &[]);
        DlrmSpec { cross: Some(cross), ..spec }
    }

    /// By hand: x0 = (2, 3), V x0 = 2 + 3 = 5, W 5 + b = (5, -4), x0 · that + x0 = (12, -9), summed by the top net.
    #[test]
    fn a_cross_layer_is_as_defined() {
        let spec = crossed(CrossSpec { layers: 1, rank: 1 }, Interaction::Cat);
        let mut weights = Weights::new();
        let values: [(&str, &[usize], &[f32]); 8] = [
            ("bot_l.0.weight", &[1, 1], &[1.0]),
            ("bot_l.0.bias", &[1], &[0.0]),
            ("emb_l.0.weight", &[2, 1], &[0.0, 3.0]),
            ("cross_l.0.v.weight", &[1, 2], &[1.0, 1.0]),
            ("cross_l.0.w.weight", &[2, 1], &[1.0, -1.0]),
            ("cross_l.0.w.bias", &[2], &[0.0, 1.0]),
            ("top_l.0.weight", &[1, 2], &[1.0, 1.0]),
            ("top_l.0.bias", &[1], &[-2.5]),
        ];
        for (name, shape, values) in &values {
            weights.insert(*name, Tensor::new(shape, values.to_vec()));
        }
        let program = Dlrm::load(&schema(), &spec, &weights).unwrap().lower().unwrap();
        let batch = BatchShape::new(&schema()).from_rows(vec![2.0], &[1]).unwrap();
        let values = program.interpret_all(&batch).unwrap();
        assert_eq!(values.get(program.logit()), [0.5]);
    }

    #[test]
    fn impossible_cross_nets_are_refused() {
        for cross in [
            CrossSpec { layers: 0, rank: 1 },
            CrossSpec { layers: MAX_LAYERS + 1, rank: 1 },
            CrossSpec { layers: 1, rank: 0 },
            CrossSpec { layers: 1, rank: usize::MAX },
        ] {
            let error = crossed(cross, Interaction::Cat).check(&schema()).unwrap_err();
            assert!(error.to_string().contains("a cross net of"), "{error}");
        }
        let spec = crossed(CrossSpec { layers: 1, rank: 1 }, Interaction::Dot { itself: false });
        assert!(spec.check(&schema()).unwrap_err().to_string().contains("cat, got dot"));
    }
}
