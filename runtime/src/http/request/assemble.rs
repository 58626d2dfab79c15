//! From a document and the binary data behind it to the inputs of a request.

use super::{
    Parsed, ReplyForm,
    document::{Dimension, Document, Input, Output},
};
use crate::{
    endpoint::{
        ApiError, Inputs, Outputs, RequestParameters, Tensor, Texts, bad_input, expect_bytes,
        shape_of, wrong_shape,
    },
    service::Model,
};

impl Document {
    /// See [`parse`](super::parse).
    pub(super) fn assemble(self, model: &Model, binary: &[u8]) -> Result<Parsed, ApiError> {
        let parameters = self.parameters.of_request()?;
        let named = self.outputs.map(|outputs| outputs.0).unwrap_or_default();
        let reply = ReplyForm {
            id: self.id.filter(|id| !id.is_empty()),
            outputs: outputs(&named, &parameters)?,
        };
        let batch = inputs(self.inputs.0, binary)?.batch(model, &parameters)?;
        Ok(Parsed { batch, parameters, reply })
    }
}

fn outputs(named: &[Output], parameters: &RequestParameters) -> Result<Outputs, ApiError> {
    let mut forms = Vec::with_capacity(named.len());
    for output in named {
        for unsupported in ["classification", "shared_memory_region"] {
            if output.parameters.get(unsupported).is_some() {
                let problem = "can be sent as JSON or in binary only";
                return Err(ApiError::BadOutput { name: output.name.clone(), problem });
            }
        }
        let binary = output.parameters.flag("binary_data")?.unwrap_or(parameters.binary_output);
        forms.push((output.name.as_str(), binary));
    }
    Outputs::of(parameters, forms.into_iter())
}

/// Takes the inputs apart, cutting `binary` at the sizes that they state, in their order.
fn inputs(inputs: Vec<Input>, mut binary: &[u8]) -> Result<Inputs<'_>, ApiError> {
    let mut read = Inputs::default();
    for input in inputs {
        let name = input.name.clone();
        read.add(&name, |name| tensor(name, input, &mut binary))?;
    }
    if !binary.is_empty() {
        let problem = format!("{} bytes lie behind the last tensor", binary.len());
        return Err(bad_input("(binary)", &problem));
    }
    Ok(read)
}

fn tensor<'a>(
    name: &'static str,
    input: Input,
    binary: &mut &'a [u8],
) -> Result<Tensor<'a>, ApiError> {
    let shape = shape_of(name, input.shape.0.iter().map(|&Dimension(dimension)| dimension))?;
    let size = input.parameters.size("binary_data_size")?;
    match (size, input.data) {
        (Some(_), Some(_)) => Err(bad_input(name, "has both `data` and `binary_data_size`")),
        (None, None) => Err(bad_input(name, "has neither `data` nor `binary_data_size`")),
        (None, Some(data)) => {
            if let Some(problem) = data.problem() {
                return Err(wrong_shape(name, problem.to_owned()));
            }
            if !data.fits(&shape) {
                return Err(wrong_shape(name, format!("has data that is not {shape:?}")));
            }
            let (bytes, ends) = data.texts;
            if ends.is_empty() {
                return Tensor::of_numbers(name, input.datatype, shape, data.numbers);
            }
            let count = ends.len();
            Tensor::of_texts(name, input.datatype, shape, Texts::Joined(bytes, ends), count)
        }
        (Some(size), None) => {
            expect_bytes(name, &input.datatype, &shape, size)?;
            let (bytes, rest) = binary.split_at_checked(size).ok_or_else(|| {
                let problem = format!("states {size} bytes, of which {} are there", binary.len());
                bad_input(name, &problem)
            })?;
            *binary = rest;
            Tensor::of_bytes(name, input.datatype, shape, bytes)
        }
    }
}
