//! A variant with something else in the place of its DHEs, made of what they compute.

use super::DheSpec;
use crate::{
    dlrm::{DlrmSpec, ModelError},
    representation::RepresentationSpec,
    schema::Schema,
    weights::Weights,
};

/// The architecture and the parameters of `spec` with another representation for every DHE; `purpose` is what for, in
/// messages. `replace` gets a feature, its DHE and the width of a hybrid's table, and adds its parameters to those it gets.
pub(crate) fn replace_dhes<E: From<ModelError>>(
    schema: &Schema,
    spec: &DlrmSpec,
    weights: &Weights,
    purpose: &'static str,
    mut replace: impl FnMut(
        usize,
        &DheSpec,
        Option<usize>,
        &mut Weights,
    ) -> Result<RepresentationSpec, E>,
) -> Result<(DlrmSpec, Weights), E> {
    let refuse = |got: &str| ModelError::Architecture {
        what: purpose,
        expected: "a DHE with 32-bit parameters".into(),
        got: got.into(),
    };
    if !spec.precision.is_full() {
        return Err(refuse("quantised parameters").into());
    }
    let mut replaced = spec.clone();
    let mut parameters = Weights::new();
    for (feature, representation) in replaced.features.iter_mut().enumerate() {
        *representation = match &*representation {
            RepresentationSpec::Dhe(dhe) => replace(feature, dhe, None, &mut parameters)?,
            RepresentationSpec::Hybrid { dim, dhe } => {
                replace(feature, dhe, Some(*dim), &mut parameters)?
            }
            _ => continue,
        };
    }
    if parameters.iter().next().is_none() {
        return Err(refuse("no DHE").into());
    }
    // Everything else is as it was.
    for tensor in replaced.tensors(schema) {
        if parameters.get(&tensor.name).is_none() {
            let kept = weights.get(&tensor.name).ok_or_else(|| ModelError::from(tensor.missing()));
            parameters.insert(tensor.name, kept?.clone());
        }
    }
    Ok((replaced, parameters))
}
