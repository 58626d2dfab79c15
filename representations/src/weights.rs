//! A variant's parameters by name.

use std::{collections::BTreeMap, fmt};

use crate::{error::ProgramError, tensor::Tensor};

/// Parameters by tensor name. Cloning shares the elements.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    tensors: BTreeMap<String, AnyTensor>,
}

/// A tensor of either element type.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyTensor {
    /// 32-bit floats.
    F32(Tensor<f32>),
    /// 64-bit integers.
    I64(Tensor<i64>),
}

/// Name, element type and shape that a tensor must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Length of each dimension.
    pub shape: Vec<usize>,
}

/// Element types of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 64-bit signed integer.
    I64,
}

/// Parameters that are not what the variant needs. Every case names the tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// Not there.
    #[error("tensor `{tensor}` is missing; expected {expected}")]
    Missing {
        /// The tensor.
        tensor: String,
        /// What should be there.
        expected: String,
    },
    /// Of another element type.
    #[error("tensor `{tensor}` is {got}, expected {expected}")]
    DType {
        /// The tensor.
        tensor: String,
        /// What it is.
        got: DType,
        /// What it must be.
        expected: DType,
    },
    /// Of another shape.
    #[error("tensor `{tensor}` has shape {got:?}, expected {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// What it is.
        got: Vec<usize>,
        /// What it must be.
        expected: Vec<usize>,
    },
    /// Hash parameters outside their limits.
    #[error("tensor `{tensor}` does not hold usable hash parameters")]
    Hashes {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: Box<ProgramError>,
    },
    /// There, but nothing uses it.
    #[error(
        "tensor `{tensor}` belongs to no part of the variant; remove it or correct the architecture"
    )]
    Unused {
        /// The tensor.
        tensor: String,
    },
}

impl Weights {
    /// No tensors yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: impl Into<AnyTensor>) {
        self.tensors.insert(name.into(), tensor.into());
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&AnyTensor> {
        self.tensors.get(name)
    }

    /// All tensors in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AnyTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.tensors.values().map(AnyTensor::bytes).sum()
    }

    /// Refuses tensors beyond `specs`.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Unused`].
    pub fn expect_only(&self, specs: &[TensorSpec]) -> Result<(), WeightsError> {
        let known: std::collections::BTreeSet<&str> =
            specs.iter().map(|spec| spec.name.as_str()).collect();
        match self.tensors.keys().find(|name| !known.contains(name.as_str())) {
            Some(name) => Err(WeightsError::Unused { tensor: name.clone() }),
            None => Ok(()),
        }
    }

    /// The floats that `spec` describes.
    ///
    /// # Errors
    ///
    /// When missing, or of another type or shape.
    pub fn f32(&self, spec: &TensorSpec) -> Result<Tensor<f32>, WeightsError> {
        match self.find(spec)? {
            AnyTensor::F32(tensor) => Ok(tensor.clone()),
            other @ AnyTensor::I64(_) => Err(wrong_type(spec, other)),
        }
    }

    /// The integers that `spec` describes.
    ///
    /// # Errors
    ///
    /// As [`Weights::f32`].
    pub fn i64(&self, spec: &TensorSpec) -> Result<Tensor<i64>, WeightsError> {
        match self.find(spec)? {
            AnyTensor::I64(tensor) => Ok(tensor.clone()),
            other @ AnyTensor::F32(_) => Err(wrong_type(spec, other)),
        }
    }

    /// All of `specs`, which are floats and `N` in number.
    pub(crate) fn take_f32<const N: usize>(
        &self,
        specs: &[TensorSpec],
    ) -> Result<[Tensor<f32>; N], WeightsError> {
        let tensors =
            specs.iter().map(|spec| self.f32(spec)).collect::<Result<Vec<_>, WeightsError>>()?;
        Ok(tensors.try_into().expect("callers ask for as many tensors as they describe"))
    }

    fn find(&self, spec: &TensorSpec) -> Result<&AnyTensor, WeightsError> {
        let Some(tensor) = self.tensors.get(&spec.name) else {
            return Err(WeightsError::Missing {
                tensor: spec.name.clone(),
                expected: format!("{} {:?}", spec.dtype, spec.shape),
            });
        };
        if tensor.shape() != spec.shape {
            return Err(WeightsError::Shape {
                tensor: spec.name.clone(),
                got: tensor.shape().to_vec(),
                expected: spec.shape.clone(),
            });
        }
        Ok(tensor)
    }
}

fn wrong_type(spec: &TensorSpec, got: &AnyTensor) -> WeightsError {
    WeightsError::DType { tensor: spec.name.clone(), got: got.dtype(), expected: spec.dtype }
}

impl AnyTensor {
    /// Its element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::I64(_) => DType::I64,
        }
    }

    /// Length of each dimension.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(tensor) => tensor.shape(),
            Self::I64(tensor) => tensor.shape(),
        }
    }

    /// Size of the elements.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(tensor) => tensor.bytes(),
            Self::I64(tensor) => tensor.bytes(),
        }
    }

    /// The elements as they lie in a file: little-endian, row-major.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::F32(tensor) => bytemuck::cast_slice(tensor.as_slice()),
            Self::I64(tensor) => bytemuck::cast_slice(tensor.as_slice()),
        }
    }
}

impl From<Tensor<f32>> for AnyTensor {
    fn from(tensor: Tensor<f32>) -> Self {
        Self::F32(tensor)
    }
}

impl From<Tensor<i64>> for AnyTensor {
    fn from(tensor: Tensor<i64>) -> Self {
        Self::I64(tensor)
    }
}

impl TensorSpec {
    /// A tensor of floats.
    pub fn f32(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { name: name.into(), dtype: DType::F32, shape: shape.to_vec() }
    }

    /// A tensor of integers.
    pub fn i64(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { name: name.into(), dtype: DType::I64, shape: shape.to_vec() }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::I64 => "I64",
        })
    }
}
