//! Initial weights of the nets, and the hash functions of DHEs.

use mprec_representations::{
    self as model, DheSpec, HashFamily, ModelError, Schema, Transform, WeightsError,
};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{
    encode::Encoder,
    error::TrainError,
    net::{Net, Parameter, Part, Role},
    options::{Hashes, TrainOptions},
    random::{Purpose, stream},
};

/// Deviation of a decoder's last weights, times `√in`: decoded vectors begin at about 0.1 times
/// their usual scale, near where the rows of a table begin.
const DECODER_GAIN: f64 = 0.1;

/// Initial values of a parameter, group after group.
///
/// Nets begin as in `facebookresearch/dlrm`: weights normal with variance `2 / (in + out)`, biases
/// with `1 / out`. Decoders begin with He's variance `2 / in` (2015), tripled where the inputs are
/// uniform codes, whose own variance is one third; their biases are zero.
pub(crate) fn values(
    parameter: &Parameter,
    at: usize,
    decoder: Option<&DheSpec>,
    seed: u64,
) -> Vec<f32> {
    let mut random = stream(seed, Purpose::Dense, &[at as u64]);
    let count = parameter.names.len() * parameter.group_len();
    let out = parameter.shape[0] as f64;
    let inner = parameter.shape.last().copied().unwrap_or(1) as f64;
    let deviation = match (parameter.role, parameter.part) {
        (Role::Scale, _) => return vec![1.0; count],
        (Role::Shift, _) | (Role::Bias, Part::Decoder { .. }) => return vec![0.0; count],
        (Role::Bias, Part::Net) => (1.0 / out).sqrt(),
        (Role::Weight, Part::Net) => (2.0 / (inner + out)).sqrt(),
        (Role::Weight, Part::Decoder { last: true, .. }) => DECODER_GAIN / inner.sqrt(),
        (Role::Weight, Part::Decoder { first, .. }) => {
            let uniform = decoder.is_some_and(|spec| spec.transform == Transform::Uniform);
            let variance = if first && uniform { 1.0 / 3.0 } else { 1.0 };
            (2.0 / (inner * variance)).sqrt()
        }
    };
    (0..count)
        .map(|_| {
            let value: f64 = StandardNormal.sample(&mut random);
            (value * deviation) as f32
        })
        .collect()
}

/// Encoders of each decoder's features, with hash functions drawn for this seed.
pub(crate) fn encoders(
    net: &Net,
    schema: &Schema,
    options: &TrainOptions,
) -> Result<Vec<Vec<Encoder>>, TrainError> {
    let Hashes { prime, range, allow_collisions } = options.hashes;
    for &feature in net.decoders().iter().flat_map(|decoder| &decoder.features) {
        let sparse = &schema.sparse()[feature];
        let largest = sparse.cardinality - 1;
        if !allow_collisions && largest >= prime as u64 {
            return Err(TrainError::Prime { feature: sparse.name.clone(), prime, largest });
        }
    }
    each_encoder(net, |spec, feature| {
        let mut random = stream(options.seed, Purpose::Hashes, &[feature as u64]);
        let parameters = (0..spec.hashes)
            .flat_map(|_| {
                [random.random_range(1..prime), random.random_range(0..prime), prime, range]
            })
            .collect();
        Ok(model::Tensor::new(&[spec.hashes, 4], parameters))
    })
}

/// Encoders of each decoder's features, with the parameters that `parameters` gives.
pub(crate) fn each_encoder(
    net: &Net,
    parameters: impl Fn(&DheSpec, usize) -> Result<model::Tensor<i64>, WeightsError>,
) -> Result<Vec<Vec<Encoder>>, TrainError> {
    let encoder = |spec: &DheSpec, feature| {
        let family = HashFamily::new(parameters(spec, feature).map_err(ModelError::from)?);
        Ok(Encoder::new(family.map_err(ModelError::from)?, spec.transform))
    };
    net.decoders()
        .iter()
        .map(|decoder| {
            decoder.features.iter().map(|&feature| encoder(&decoder.spec, feature)).collect()
        })
        .collect()
}
