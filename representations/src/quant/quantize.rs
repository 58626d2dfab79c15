//! From a variant in full precision to a quantised one.

use half::{bf16, f16};

use super::{Form, FusedRows, Int8Weights, Precision, scale_name};
use crate::{
    dlrm::{DlrmSpec, ModelError},
    schema::Schema,
    weights::Weights,
};

/// The architecture and the parameters of `spec` in `precision`.
///
/// # Errors
///
/// [`ModelError`] when the variant is quantised already, cannot be stored in this precision, or its tensors are
/// not those of its architecture.
pub fn quantize(
    schema: &Schema,
    spec: &DlrmSpec,
    weights: &Weights,
    precision: Precision,
) -> Result<(DlrmSpec, Weights), ModelError> {
    if !spec.precision.is_full() {
        return Err(ModelError::Architecture {
            what: "a variant to quantise with",
            expected: "32-bit parameters".into(),
            got: format!(
                "{} rows and {} layers",
                spec.precision.rows.name(),
                spec.precision.layers.name()
            ),
        });
    }
    let quantised = DlrmSpec { precision, ..spec.clone() };
    quantised.check(schema)?;
    let mut stored = Weights::new();
    for tensor in spec.tensors(schema) {
        match precision.form(&tensor) {
            Form::Fused { bits } => {
                let rows = FusedRows::quantise(&weights.f32(&tensor)?, bits);
                stored.insert(tensor.name, rows.bytes().clone());
            }
            Form::F16 => {
                let full = weights.f32(&tensor)?;
                let half = full.map(f16::from_f32);
                if let Some(at) = half.as_slice().iter().position(|x| x.is_infinite()) {
                    return Err(ModelError::Architecture {
                        what: "f16 rows of",
                        expected: "values up to 65504; bf16 holds larger ones".into(),
                        got: format!("{} in `{}`", full.as_slice()[at], tensor.name),
                    });
                }
                stored.insert(tensor.name, half);
            }
            Form::BF16 => {
                let half = weights.f32(&tensor)?.map(bf16::from_f32);
                stored.insert(tensor.name, half);
            }
            Form::Int8 => {
                let layer = Int8Weights::quantise(&weights.f32(&tensor)?);
                stored.insert(scale_name(&tensor.name), layer.scale().clone());
                stored.insert(tensor.name, layer.codes().clone());
            }
            Form::Full => {
                let full = weights.get(&tensor.name).ok_or_else(|| tensor.missing())?;
                stored.insert(tensor.name, full.clone());
            }
        }
    }
    Ok((quantised, stored))
}
