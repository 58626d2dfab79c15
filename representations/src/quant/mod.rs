//! Reduced precision: fewer bytes per parameter, and cheaper arithmetic where a machine has it.
//!
//! A quantised model is a variant of its own, with its own measured quality: nothing is quantised
//! behind anybody's back. Two parts of a model can be stored in fewer bits, each on its own:
//!
//! - **Rows** of tables: 16-bit floats of either kind, or codes ([`FusedRows`]), where every row carries its scale
//!   and bias. Bytes are those of FBGEMM's fused row-wise formats with half-precision scale and bias.
//! - **Layers** of nets and decoders ([`Int8Weights`]): weights have one scale per output, and the inputs
//!   of a layer are quantised too, row by row as they come, so that the products are those of small integers. Or
//!   both are rounded to the upper halves of 32-bit floats, and nothing else changes.
//!
//! Codes have an exact definition here, so that backends agree bit for bit.

mod layer;
mod quantize;
mod rows;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

pub use layer::{Int8Weights, MAX_INPUTS, QuantisedRow};
pub use quantize::quantize;
pub use rows::{FusedRows, TAIL};

use crate::weights::{Role, TensorSpec};

/// In how many bits a variant stores its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Precision {
    /// Rows of tables.
    #[serde(default)]
    pub rows: RowFormat,
    /// Weights of layers.
    #[serde(default)]
    pub layers: LayerFormat,
}

/// How rows of tables are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowFormat {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats of IEEE 754: 11 bits of precision, up to 65504.
    F16,
    /// The upper halves of 32-bit floats: 8 bits of precision, the range of 32-bit floats.
    BF16,
    /// 8-bit codes with scale and bias per row.
    Int8,
    /// 4-bit codes with scale and bias per row.
    Int4,
}

/// How weights of layers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerFormat {
    /// 32-bit floats.
    #[default]
    F32,
    /// The upper halves of 32-bit floats, and inputs rounded to as many bits; sums are 32-bit floats. Layers with a
    /// single output stay in 32 bits, as for int8.
    BF16,
    /// 8-bit codes with a scale per output. Layers with a single output stay in 32 bits: they are a
    /// dot product that costs nothing, and the logit's own precision is at stake.
    Int8,
}

impl Precision {
    /// Whether nothing is quantised.
    pub fn is_full(&self) -> bool {
        *self == Self::default()
    }

    /// How a tensor of the model in full precision is stored.
    fn form(&self, tensor: &TensorSpec) -> Form {
        match (tensor.role, self.rows.bits(), self.layers) {
            (Role::Rows, Some(bits), _) => Form::Fused { bits },
            (Role::Rows, None, _) if self.rows == RowFormat::F16 => Form::F16,
            (Role::Rows, None, _) if self.rows == RowFormat::BF16 => Form::BF16,
            (Role::Layer, _, LayerFormat::BF16) if tensor.shape[0] > 1 => Form::BF16,
            (Role::Layer, _, LayerFormat::Int8) if tensor.shape[0] > 1 => Form::Int8,
            _ => Form::Full,
        }
    }

    /// The tensors that hold what `spec`, a tensor of the model in full precision, describes.
    pub fn stored(&self, spec: TensorSpec) -> Vec<TensorSpec> {
        match (self.form(&spec), &spec.shape[..]) {
            (Form::Fused { bits }, &[rows, width]) => {
                vec![TensorSpec::new::<u8>(spec.name, &[rows, FusedRows::row_bytes(width, bits)])]
            }
            (Form::Int8, &[outputs, inputs]) => {
                let scale = scale_name(&spec.name);
                vec![
                    TensorSpec::new::<i8>(spec.name, &[outputs, inputs]),
                    TensorSpec::f32(scale, &[outputs]),
                ]
            }
            (Form::F16, shape) => vec![TensorSpec::new::<f16>(spec.name, shape)],
            (Form::BF16, shape) => vec![TensorSpec::new::<bf16>(spec.name, shape)],
            _ => vec![spec],
        }
    }
}

/// How one tensor of a model is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it is.
    Full,
    /// As 16-bit floats of IEEE 754.
    F16,
    /// As upper halves of 32-bit floats.
    BF16,
    /// As rows with scale and bias.
    Fused { bits: u32 },
    /// As codes, with scales beside them.
    Int8,
}

impl RowFormat {
    /// Bits of a code, where rows are codes.
    pub fn bits(self) -> Option<u32> {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => None,
            Self::Int8 => Some(8),
            Self::Int4 => Some(4),
        }
    }

    /// Its word in configs and names of variants.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

impl LayerFormat {
    /// Its word in configs and names of variants.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

/// Name of the scales beside the weights `name`.
pub(crate) fn scale_name(name: &str) -> String {
    format!("{name}_scale")
}
