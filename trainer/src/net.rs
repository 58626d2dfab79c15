//! The dense parts as an autograd graph: bottom net, decoders, interaction, top net.
//!
//! Stored vectors enter as a leaf of the graph. What becomes of the leaf's gradient is the business
//! of [`stored`](crate::stored).

use std::{ops::Range, sync::Arc};

use candle_core::{Result as TensorResult, Tensor};
use mprec_representations::{
    Activation, Batch, DheSpec, DlrmSpec, Interaction, ModelError, RepresentationSpec, Schema,
};

use crate::{
    encode::{Codes, Encoder},
    ops::{activation::Activate, affine::Affine, dot::Dot, linear::Linear, pool::Pool, tensor},
};

/// A variant's dense architecture. Parameters are kept apart, as a slice in the order of
/// [`Net::parameters`], so that one net runs with current weights and with averaged ones.
#[derive(Debug)]
pub(crate) struct Net {
    interaction: Interaction,
    dim: usize,
    bottom: Vec<Layer>,
    top: Vec<Layer>,
    /// Features whose decoders agree in shape share one, so that their layers run as one.
    decoders: Vec<Decoder>,
    /// Decoder and place within it of every computed vector, in the order of the features.
    computed: Vec<(usize, usize)>,
    parameters: Vec<Parameter>,
}

/// One or more tensors of a bundle that are trained as one.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    /// Names in a bundle, one per group.
    pub(crate) names: Vec<String>,
    /// Shape of one group.
    pub(crate) shape: Vec<usize>,
    pub(crate) role: Role,
    pub(crate) part: Part,
    /// Which decoder it belongs to, if any.
    decoder: Option<usize>,
}

/// What a parameter does, which decides its initial values and weight decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Weight,
    Bias,
    Scale,
    Shift,
}

/// Where a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Net,
    /// A layer of a decoder.
    Decoder {
        /// It is the first, whose inputs are codes.
        first: bool,
        /// It is the last, whose outputs are vectors.
        last: bool,
    },
}

/// Indices of a layer's weight and bias; the bias follows the weight.
#[derive(Debug, Clone, Copy)]
struct Layer(usize);

#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) features: Vec<usize>,
    pub(crate) spec: DheSpec,
    layers: Vec<Layer>,
    /// Index of the scales, which the shifts follow.
    norm: Option<usize>,
}

/// What a net makes of some samples of a batch.
#[derive(Debug)]
pub(crate) struct Input {
    samples: usize,
    dense: Tensor,
    stored: Option<Tensor>,
    codes: Vec<Codes>,
}

impl Net {
    /// The dense parts of `spec`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Architecture`] where `spec` contradicts the schema or itself.
    pub(crate) fn new(schema: &Schema, spec: &DlrmSpec) -> Result<Self, ModelError> {
        spec.check(schema)?;
        check_features(spec)?;
        let mut this = Self {
            interaction: spec.interaction,
            dim: spec.bottom.last().copied().unwrap_or(0),
            bottom: Vec::new(),
            top: Vec::new(),
            decoders: Vec::new(),
            computed: Vec::new(),
            parameters: Vec::new(),
        };
        this.bottom = this.add_mlp("bot_l", &spec.bottom);
        for (feature, representation) in spec.features.iter().enumerate() {
            if let RepresentationSpec::Dhe(dhe) | RepresentationSpec::Hybrid { dhe, .. } =
                representation
            {
                let found = this.decoders.iter().position(|decoder| decoder.spec == *dhe);
                let decoder = found.unwrap_or_else(|| {
                    this.decoders.push(Decoder {
                        features: Vec::new(),
                        spec: dhe.clone(),
                        layers: Vec::new(),
                        norm: None,
                    });
                    this.decoders.len() - 1
                });
                this.computed.push((decoder, this.decoders[decoder].features.len()));
                this.decoders[decoder].features.push(feature);
            }
        }
        for at in 0..this.decoders.len() {
            this.add_decoder(at);
        }
        this.top = this.add_mlp("top_l", &spec.top);
        Ok(this)
    }

    fn add(&mut self, names: Vec<String>, shape: &[usize], role: Role, part: Part) -> usize {
        // Decoders are completed one after the other: the one under way is the first without layers.
        let decoder = match part {
            Part::Net => None,
            Part::Decoder { .. } => self.decoders.iter().position(|one| one.layers.is_empty()),
        };
        self.parameters.push(Parameter { names, shape: shape.to_vec(), role, part, decoder });
        self.parameters.len() - 1
    }

    /// Names are those of [`DlrmSpec::tensors`]; a test compares them.
    fn add_mlp(&mut self, prefix: &str, widths: &[usize]) -> Vec<Layer> {
        let layers = widths.windows(2).enumerate();
        layers
            .map(|(at, pair)| {
                let name = |part| vec![format!("{prefix}.{}.{part}", 2 * at)];
                let weight = self.add(name("weight"), &[pair[1], pair[0]], Role::Weight, Part::Net);
                self.add(name("bias"), &[pair[1]], Role::Bias, Part::Net);
                Layer(weight)
            })
            .collect()
    }

    fn add_decoder(&mut self, at: usize) {
        let Decoder { features, spec, .. } = &self.decoders[at];
        let (features, spec) = (features.clone(), spec.clone());
        let names = |rest: &str| -> Vec<String> {
            features
                .iter()
                .map(|feature| format!("dhe_l.{}", rest.replace('#', &feature.to_string())))
                .collect()
        };
        let widths = spec.layers();
        let mut layers = Vec::new();
        for (layer, pair) in widths.windows(2).enumerate() {
            let part = Part::Decoder { first: layer == 0, last: layer + 2 == widths.len() };
            let prefix = format!("dhe_mlps.#.{}", 2 * layer);
            let weight = names(&format!("{prefix}.weight"));
            let weight = self.add(weight, &[pair[1], pair[0]], Role::Weight, part);
            self.add(names(&format!("{prefix}.bias")), &[pair[1]], Role::Bias, part);
            layers.push(Layer(weight));
        }
        let norm = spec.normalised.then(|| {
            let part = Part::Decoder { first: false, last: true };
            let scale = self.add(names("dhe_norms.#.scale"), &[spec.dim], Role::Scale, part);
            self.add(names("dhe_norms.#.shift"), &[spec.dim], Role::Shift, part);
            scale
        });
        self.decoders[at].layers = layers;
        self.decoders[at].norm = norm;
    }

    /// What is trained.
    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The decoder of parameter `at`, if it belongs to one.
    pub(crate) fn decoder_of(&self, at: usize) -> Option<&DheSpec> {
        self.parameters[at].decoder.map(|decoder| &self.decoders[decoder].spec)
    }

    /// The decoders.
    pub(crate) fn decoders(&self) -> &[Decoder] {
        &self.decoders
    }

    /// Puts `samples` of `batch` into tensors. `dense` and `stored` are the samples' values, and
    /// `encoders` holds those of each decoder's features.
    pub(crate) fn input(
        &self,
        batch: &Batch,
        samples: Range<usize>,
        dense: Vec<f32>,
        stored: Option<Tensor>,
        encoders: &[Vec<Encoder>],
    ) -> TensorResult<Input> {
        let codes = self.decoders.iter().zip(encoders).map(|(decoder, encoders)| {
            let Decoder { features, spec, .. } = decoder;
            Codes::new(batch, samples.clone(), features, encoders, spec.hashes)
        });
        Ok(Input {
            samples: samples.len(),
            dense: tensor(dense, &[samples.len(), batch.dense_width()])?,
            stored,
            codes: codes.collect(),
        })
    }

    /// The logits, `[samples, 1]`.
    pub(crate) fn forward(&self, parameters: &[Tensor], input: Input) -> TensorResult<Tensor> {
        let samples: Arc<[usize]> = [0, input.samples].into();
        let mut dense = input.dense;
        for (at, layer) in self.bottom.iter().enumerate() {
            dense = layer.apply(parameters, &dense, &samples, true, at > 0)?;
        }
        let computed = self.decode(parameters, input.codes, input.samples)?;
        let mut vectors: Vec<Tensor> = input.stored.into_iter().chain(computed).collect();
        let mut value = match self.interaction {
            Interaction::Dot { itself } => {
                let features =
                    if vectors.len() == 1 { vectors.remove(0) } else { Tensor::cat(&vectors, 1)? };
                Dot { dim: self.dim, itself }.apply(&dense, &features)?
            }
            Interaction::Cat => {
                vectors.insert(0, dense);
                Tensor::cat(&vectors, 1)?
            }
        };
        for (at, layer) in self.top.iter().enumerate() {
            let last = at + 1 == self.top.len();
            value = layer.apply(parameters, &value, &samples, !last, true)?;
        }
        Ok(value)
    }

    /// The computed vectors, `[samples, widths]`, in the order of the features.
    fn decode(
        &self,
        parameters: &[Tensor],
        codes: Vec<Codes>,
        samples: usize,
    ) -> TensorResult<Option<Tensor>> {
        let mut decoded = Vec::with_capacity(codes.len());
        for (decoder, codes) in self.decoders.iter().zip(codes) {
            decoded.push(decoder.apply(parameters, codes, samples)?);
        }
        if decoded.len() < 2 {
            return Ok(decoded.pop());
        }
        let ordered = self.computed.iter().map(|&(decoder, place)| {
            let dim = self.decoders[decoder].spec.dim;
            decoded[decoder].narrow(1, place * dim, dim)
        });
        let ordered = ordered.collect::<TensorResult<Vec<_>>>()?;
        Tensor::cat(&ordered, 1).map(Some)
    }
}

/// Refuses what [`DlrmSpec::check`] leaves to the program's builder, which training does not reach
/// until it is over.
fn check_features(spec: &DlrmSpec) -> Result<(), ModelError> {
    let fail =
        |what, expected: String, got: String| Err(ModelError::Architecture { what, expected, got });
    if spec.cross.is_some() {
        let expected = "no cross net: models with one are imported";
        return fail("to train", expected.into(), "a cross net".into());
    }
    let dim = spec.bottom.last().copied().unwrap_or(0);
    for feature in &spec.features {
        let (stored, computed) = feature.widths();
        if let Interaction::Dot { .. } = spec.interaction
            && let Some(width) =
                [stored, computed].into_iter().flatten().find(|&width| width != dim)
        {
            let expected = format!("width {dim}, that of the bottom net, for a dot interaction");
            return fail("vectors of", expected, width.to_string());
        }
        match feature {
            RepresentationSpec::Materialised { .. } => {
                let expected = "a DHE: its rows are made from it when it is trained";
                return fail("to train", expected.into(), "materialised rows".into());
            }
            RepresentationSpec::Clustered(_) => {
                let expected = "a DHE: its codes are clustered when it is trained";
                return fail("to train", expected.into(), "centroids".into());
            }
            RepresentationSpec::Hash { rows: 0, .. } => {
                return fail("a hashed table of", "at least 1 row".into(), "0".into());
            }
            RepresentationSpec::QuotientRemainder { collisions: 0, .. } => {
                return fail("a quotient for", "at least 1 id".into(), "0".into());
            }
            RepresentationSpec::Dhe(dhe) | RepresentationSpec::Hybrid { dhe, .. } => {
                let widths = dhe.layers();
                let most = mprec_representations::program::MAX_WIDTH;
                if !widths.iter().all(|width| (1..=most).contains(width)) {
                    return fail(
                        "a decoder of",
                        format!("widths 1 to {most}"),
                        format!("{widths:?}"),
                    );
                }
                let gaussian = dhe.transform == mprec_representations::Transform::Gaussian;
                if gaussian && !dhe.hashes.is_multiple_of(2) {
                    let expected = "an even number of hashes for the Gaussian transform";
                    return fail("a code of", expected.into(), dhe.hashes.to_string());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl Layer {
    fn apply(
        self,
        parameters: &[Tensor],
        input: &Tensor,
        starts: &Arc<[usize]>,
        relu: bool,
        input_gradient: bool,
    ) -> TensorResult<Tensor> {
        let layer = Linear::new(Arc::clone(starts), relu, input_gradient);
        layer.apply(input, &parameters[self.0], &parameters[self.0 + 1])
    }
}

impl Decoder {
    fn apply(&self, parameters: &[Tensor], codes: Codes, samples: usize) -> TensorResult<Tensor> {
        let starts = codes.starts;
        let distinct = starts.last().copied().unwrap_or(0);
        let mut value = tensor(codes.values, &[distinct, self.spec.hashes])?;
        for (at, layer) in self.layers.iter().enumerate() {
            let last = at + 1 == self.layers.len();
            let relu = !last || self.spec.activation == Activation::Relu;
            value = layer.apply(parameters, &value, &starts, relu, at > 0)?;
        }
        if self.spec.activation != Activation::Relu {
            value = Activate(self.spec.activation).apply(&value)?;
        }
        if let Some(norm) = self.norm {
            let affine = Affine { starts: Arc::clone(&starts) };
            value = affine.apply(&value, &parameters[norm], &parameters[norm + 1])?;
        }
        Pool { uses: codes.uses, samples, bags: self.features.len() }.apply(&value)
    }
}

impl Parameter {
    /// Shape of the trained tensor: that of one group, with the groups in front.
    pub(crate) fn grouped_shape(&self) -> Vec<usize> {
        let mut shape = vec![self.names.len()];
        shape.extend(&self.shape);
        shape
    }

    /// Values of one group.
    pub(crate) fn group_len(&self) -> usize {
        self.shape.iter().product()
    }
}
