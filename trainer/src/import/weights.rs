//! The tensors that an architecture needs, out of a checkpoint, and a look at every byte of them.

use std::{collections::BTreeMap, sync::Arc};

use half::{bf16, f16};
use mprec_representations::{
    AnyTensor, DlrmSpec, Schema, Tensor, Weights, WeightsError, dhe::fold_batch_norm,
    weights::DType,
};
use safetensors::Dtype;

use super::{
    checkpoint::{Checkpoint, Storage},
    error::{ImportError, shown},
    layout::{Layout, Named},
    model::{Imported, Normalised, reordered, upper},
};

/// PyTorch adds it to a variance before dividing.
const EPSILON: f32 = 1e-5;

/// Elements that are looked at between two reports of progress.
const CHUNK: usize = 1 << 20;

pub(super) struct Taken {
    pub(super) weights: Weights,
    pub(super) names: BTreeMap<String, String>,
    pub(super) storages: Vec<Storage>,
}

/// Takes the tensors of `spec`, and refuses any other.
pub(super) fn take(
    checkpoint: &Checkpoint,
    mut tensors: BTreeMap<String, Named<'_>>,
    normalised: &Normalised,
    layout: Layout,
    spec: &DlrmSpec,
    schema: &Schema,
) -> Result<Taken, ImportError> {
    let names: BTreeMap<String, String> =
        tensors.iter().map(|(ours, named)| (ours.clone(), named.theirs.to_owned())).collect();
    let mut storages = BTreeMap::new();
    for named in tensors.values() {
        if let Some(storage) = checkpoint.storage(named.found) {
            storages.insert(storage.range.start, storage.clone());
        }
    }
    let mut weights = Weights::new();
    for (&feature, &layer) in normalised {
        // A decoder of no feature is left over, and refused as that.
        let dim = spec.features.get(feature).and_then(|feature| feature.widths().1);
        let Some(dim) = dim else { continue };
        let norm = fold(checkpoint, &mut tensors, (feature, layer), dim)?;
        for (part, values) in ["scale", "shift"].into_iter().zip([norm.0, norm.1]) {
            weights.insert(format!("dhe_l.dhe_norms.{feature}.{part}"), values);
        }
    }
    for (ours, named) in tensors {
        weights.insert(ours, map(checkpoint, named)?);
    }
    weights.expect(&spec.tensors(schema)).map_err(|error| theirs(error, &names))?;
    if reordered(layout, spec) {
        let first = "top_l.0.weight";
        let Some(AnyTensor::F32(weight)) = weights.get(first) else {
            unreachable!("an expected tensor is there");
        };
        let weight = reorder(weight, spec);
        weights.insert(first, weight);
    }
    Ok(Taken { weights, names, storages: storages.into_values().collect() })
}

/// The tensor as it lies in the file.
fn map(checkpoint: &Checkpoint, named: Named<'_>) -> Result<AnyTensor, ImportError> {
    let Named { theirs, found } = named;
    let (file, start) = (Arc::clone(checkpoint.file()), found.range.start);
    let tensor = match found.dtype {
        Dtype::F32 => Tensor::<f32>::mapped(&found.shape, file, start).map(AnyTensor::from),
        Dtype::F16 => Tensor::<f16>::mapped(&found.shape, file, start).map(AnyTensor::from),
        Dtype::BF16 => Tensor::<bf16>::mapped(&found.shape, file, start).map(AnyTensor::from),
        Dtype::I64 => Tensor::<i64>::mapped(&found.shape, file, start).map(AnyTensor::from),
        other => {
            return Err(ImportError::DType {
                tensor: shown(theirs),
                got: format!("{other:?}"),
                expected: format!("{} ({} for hash parameters)", DType::F32, DType::I64),
            });
        }
    };
    // The range has been checked, so only alignment is left to go wrong.
    tensor.ok_or_else(|| ImportError::Tensor {
        tensor: shown(theirs),
        what: "is not aligned in the file; save it anew".to_owned(),
    })
}

/// Takes the batch normalisation at the end of a decoder, as the scale and shift that remain of it.
fn fold(
    checkpoint: &Checkpoint,
    tensors: &mut BTreeMap<String, Named<'_>>,
    (feature, layer): (usize, usize),
    dim: usize,
) -> Result<(Tensor<f32>, Tensor<f32>), ImportError> {
    let name = |part: &str| format!("dhe_l.dhe_mlps.{feature}.{layer}.{part}");
    // A count of training steps.
    tensors.remove(&name("num_batches_tracked"));
    let mut values: [Vec<f32>; 4] = Default::default();
    let parts = ["weight", "bias", "running_mean", "running_var"];
    for (part, values) in parts.into_iter().zip(&mut values) {
        let missing = || WeightsError::Missing {
            tensor: name(part),
            expected: "the normalisation's other half".to_owned(),
        };
        let named = tensors.remove(&name(part)).ok_or_else(missing)?;
        let tensor = named.theirs.to_owned();
        let found = map(checkpoint, named)?;
        let AnyTensor::F32(found) = found else {
            let (got, expected) = (found.dtype(), DType::F32);
            return Err(WeightsError::DType { tensor, got, expected }.into());
        };
        if found.shape() != [dim] {
            let (got, expected) = (found.shape().to_vec(), vec![dim]);
            return Err(WeightsError::Shape { tensor, got, expected }.into());
        }
        *values = found.as_slice().to_vec();
    }
    let [gamma, beta, mean, variance] = &values;
    Ok(fold_batch_norm(gamma, beta, mean, variance, EPSILON))
}

/// The first layer of torchrec's top net, with the weights of products where a bundle has the products.
fn reorder(weight: &Tensor<f32>, spec: &DlrmSpec) -> Tensor<f32> {
    let (outputs, vectors) = (weight.rows(), spec.features.len() + 1);
    let dim = spec.bottom.last().copied().unwrap_or(0);
    let mut columns: Vec<usize> = (0..dim).collect();
    for row in 0..vectors {
        columns.extend((0..row).map(|column| dim + upper(vectors, row, column)));
    }
    let rows = (0..outputs).map(|output| weight.row(output));
    let values = rows.flat_map(|row| columns.iter().map(|&column| row[column])).collect();
    Tensor::new(weight.shape(), values)
}

/// The error, with the tensor's name in the checkpoint.
fn theirs(error: WeightsError, names: &BTreeMap<String, String>) -> ImportError {
    let name = |ours: String| names.get(&ours).cloned().unwrap_or(ours);
    let error = match error {
        WeightsError::DType { tensor, got, expected } => {
            WeightsError::DType { tensor: name(tensor), got, expected }
        }
        WeightsError::Shape { tensor, got, expected } => {
            WeightsError::Shape { tensor: name(tensor), got, expected }
        }
        WeightsError::Unused { tensor } => WeightsError::Unused { tensor: name(tensor) },
        other => other,
    };
    error.into()
}

impl Imported {
    /// Bytes that [`Imported::verify`] looks at.
    pub fn bytes_to_verify(&self, checksums: bool) -> u64 {
        let storages = self.storages.iter().map(|storage| storage.range.len() as u64).sum::<u64>();
        self.weights.bytes() as u64 + if checksums { storages } else { 0 }
    }

    /// Looks at every byte: checksums of what holds the tensors (a safetensors file has none) if they are wanted, and
    /// that all parameters are finite. `progress` is told of every few megabytes.
    ///
    /// # Errors
    ///
    /// [`ImportError::Checksum`] and [`ImportError::NotFinite`].
    pub fn verify(
        &self,
        checkpoint: &Checkpoint,
        checksums: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ImportError> {
        for storage in self.storages.iter().filter(|_| checksums) {
            checkpoint.check(storage, progress)?;
        }
        for (name, tensor) in self.weights.iter() {
            let AnyTensor::F32(floats) = tensor else {
                progress(tensor.bytes() as u64);
                continue;
            };
            for (chunk, values) in floats.as_slice().chunks(CHUNK).enumerate() {
                if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                    let tensor = self.names.get(name).map_or(name, String::as_str).to_owned();
                    let value = values[at];
                    return Err(ImportError::NotFinite { tensor, at: chunk * CHUNK + at, value });
                }
                progress(size_of_val(values) as u64);
            }
        }
        Ok(())
    }
}
