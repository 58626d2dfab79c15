//! A variant's parameters by name.

use std::{collections::BTreeMap, fmt};

use half::{bf16, f16};

use crate::{
    error::ProgramError,
    layer::LayerWeights,
    quant::{FusedRows, Int8Weights, scale_name},
    rows::Rows,
    tensor::{Element, Tensor},
};

/// Parameters by tensor name. Cloning shares the elements.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    tensors: BTreeMap<String, AnyTensor>,
}

/// A tensor of any of the element types.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyTensor {
    /// 32-bit floats.
    F32(Tensor<f32>),
    /// 16-bit floats of IEEE 754: rows.
    F16(Tensor<f16>),
    /// The upper halves of 32-bit floats: rows, weights of layers.
    BF16(Tensor<bf16>),
    /// 64-bit integers.
    I64(Tensor<i64>),
    /// 8-bit integers: codes of a layer's weights.
    I8(Tensor<i8>),
    /// Bytes: rows with their scale and bias.
    U8(Tensor<u8>),
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
    /// What it is to the model.
    pub role: Role,
}

/// What a tensor is to the model, which decides how it may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Rows that ids pick.
    Rows,
    /// Weights `[out, in]` of a layer.
    Layer,
    /// Anything else: biases, scales, hash parameters.
    #[default]
    Other,
}

/// Element types of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit float, IEEE 754.
    F16,
    /// 16-bit float, the upper half of a 32-bit one.
    BF16,
    /// 64-bit signed integer.
    I64,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
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

    /// Refuses tensors other than `specs`, in name, type or shape.
    ///
    /// # Errors
    ///
    /// What is missing, different or left over.
    pub fn expect(&self, specs: &[TensorSpec]) -> Result<(), WeightsError> {
        let known: std::collections::BTreeSet<&str> =
            specs.iter().map(|spec| spec.name.as_str()).collect();
        if let Some(name) = self.tensors.keys().find(|name| !known.contains(name.as_str())) {
            return Err(WeightsError::Unused { tensor: name.clone() });
        }
        for spec in specs {
            let found = self.find(spec)?;
            if found.dtype() != spec.dtype {
                return Err(wrong_type(spec, found));
            }
        }
        Ok(())
    }

    /// The floats that `spec` describes.
    ///
    /// # Errors
    ///
    /// When missing, or of another type or shape.
    pub fn f32(&self, spec: &TensorSpec) -> Result<Tensor<f32>, WeightsError> {
        self.typed(spec)
    }

    /// The tensor that `spec` describes, with elements of type `E`.
    ///
    /// # Errors
    ///
    /// As [`Weights::f32`].
    pub fn typed<E: Parameter>(&self, spec: &TensorSpec) -> Result<Tensor<E>, WeightsError> {
        let found = self.find(spec)?;
        E::of(found).cloned().ok_or_else(|| wrong_type(spec, found))
    }

    /// The rows that `spec` describes in full precision, in whichever format they are stored.
    ///
    /// # Errors
    ///
    /// When missing, or of a type or shape that no format gives them.
    pub fn rows(&self, spec: &TensorSpec) -> Result<Rows, WeightsError> {
        let (count, dim) = (spec.shape[0], spec.shape[1]);
        let bytes = match self.get(&spec.name) {
            Some(AnyTensor::U8(bytes)) => bytes,
            Some(AnyTensor::F16(_)) => return Ok(Rows::F16(self.typed(&spec.as_type::<f16>())?)),
            Some(AnyTensor::BF16(_)) => {
                return Ok(Rows::BF16(self.typed(&spec.as_type::<bf16>())?));
            }
            _ => return Ok(Rows::F32(self.f32(spec)?)),
        };
        let bits = [8, 4].into_iter().find(|&bits| {
            bytes.shape() == [count, FusedRows::row_bytes(dim, bits)] && (bits == 8 || dim > 1)
        });
        match bits {
            Some(bits) => Ok(Rows::Fused(FusedRows::new(bytes.clone(), dim, bits))),
            None => Err(WeightsError::Shape {
                tensor: spec.name.clone(),
                got: bytes.shape().to_vec(),
                expected: vec![count, FusedRows::row_bytes(dim, 8)],
            }),
        }
    }

    /// The weights that `spec` describes in full precision, in whichever format they are stored.
    ///
    /// # Errors
    ///
    /// As [`Weights::rows`].
    pub fn layer(&self, spec: &TensorSpec) -> Result<LayerWeights, WeightsError> {
        match self.get(&spec.name) {
            Some(AnyTensor::I8(_)) => {}
            Some(AnyTensor::BF16(_)) => {
                return Ok(LayerWeights::BF16(self.typed(&spec.as_type::<bf16>())?));
            }
            _ => return Ok(LayerWeights::F32(self.f32(spec)?)),
        }
        let codes = self.typed(&spec.as_type::<i8>())?;
        let scale = self.f32(&TensorSpec::f32(scale_name(&spec.name), &spec.shape[..1]))?;
        Ok(LayerWeights::Int8(Int8Weights::new(codes, scale)))
    }

    fn find(&self, spec: &TensorSpec) -> Result<&AnyTensor, WeightsError> {
        let tensor = self.tensors.get(&spec.name).ok_or_else(|| spec.missing())?;
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

/// Element types that parameters may have.
pub trait Parameter: Element {
    /// Its name in listings.
    const DTYPE: DType;

    /// The tensor, if it has this element type.
    fn of(tensor: &AnyTensor) -> Option<&Tensor<Self>>;
}

/// Runs an expression with `tensor` bound to whichever typed tensor there is.
macro_rules! each {
    ($any:expr, $tensor:ident => $do:expr) => {
        match $any {
            AnyTensor::F32($tensor) => $do,
            AnyTensor::F16($tensor) => $do,
            AnyTensor::BF16($tensor) => $do,
            AnyTensor::I64($tensor) => $do,
            AnyTensor::I8($tensor) => $do,
            AnyTensor::U8($tensor) => $do,
        }
    };
}

impl AnyTensor {
    /// Its element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F16(_) => DType::F16,
            Self::BF16(_) => DType::BF16,
            Self::I64(_) => DType::I64,
            Self::I8(_) => DType::I8,
            Self::U8(_) => DType::U8,
        }
    }

    /// Length of each dimension.
    pub fn shape(&self) -> &[usize] {
        each!(self, tensor => tensor.shape())
    }

    /// Size of the elements.
    pub fn bytes(&self) -> usize {
        each!(self, tensor => tensor.bytes())
    }

    /// The elements as they lie in a file: little-endian, row-major.
    pub fn as_bytes(&self) -> &[u8] {
        each!(self, tensor => bytemuck::cast_slice(tensor.as_slice()))
    }

    /// Whether the elements lie in a mapped file.
    pub fn is_mapped(&self) -> bool {
        each!(self, tensor => tensor.is_mapped())
    }
}

macro_rules! parameter {
    ($($element:ty => $variant:ident),*) => {$(
        impl Parameter for $element {
            const DTYPE: DType = DType::$variant;

            fn of(tensor: &AnyTensor) -> Option<&Tensor<Self>> {
                match tensor {
                    AnyTensor::$variant(tensor) => Some(tensor),
                    _ => None,
                }
            }
        }

        impl From<Tensor<$element>> for AnyTensor {
            fn from(tensor: Tensor<$element>) -> Self {
                Self::$variant(tensor)
            }
        }
    )*};
}

parameter!(f32 => F32, f16 => F16, bf16 => BF16, i64 => I64, i8 => I8, u8 => U8);

impl TensorSpec {
    /// A tensor of floats.
    pub fn f32(name: impl Into<String>, shape: &[usize]) -> Self {
        Self::new::<f32>(name, shape)
    }

    /// A tensor with elements of type `E`.
    pub fn new<E: Parameter>(name: impl Into<String>, shape: &[usize]) -> Self {
        let dtype = <E as Parameter>::DTYPE;
        Self { name: name.into(), dtype, shape: shape.to_vec(), role: Role::Other }
    }

    /// Rows `[rows, dim]` that ids pick.
    pub fn rows(name: impl Into<String>, rows: usize, dim: usize) -> Self {
        Self { role: Role::Rows, ..Self::f32(name, &[rows, dim]) }
    }

    /// Weights `name.weight`, `[outputs, inputs]`, and bias `name.bias`, `[outputs]`, of a layer.
    pub fn layer(name: &str, outputs: usize, inputs: usize) -> [Self; 2] {
        let weight = Self::f32(format!("{name}.weight"), &[outputs, inputs]);
        [Self { role: Role::Layer, ..weight }, Self::f32(format!("{name}.bias"), &[outputs])]
    }

    /// The same tensor with elements of another type.
    fn as_type<E: Parameter>(&self) -> Self {
        Self { dtype: <E as Parameter>::DTYPE, ..self.clone() }
    }

    pub(crate) fn missing(&self) -> WeightsError {
        WeightsError::Missing {
            tensor: self.name.clone(),
            expected: format!("{} {:?}", self.dtype, self.shape),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I8 => "I8",
            Self::U8 => "U8",
        })
    }
}
