//! From the message of an inference request to a batch.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use mprec_representations::GroupedBatch;

use super::protocol::inference::{
    InferParameter, InferTensorContents, ModelInferRequest,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use crate::{
    endpoint::{
        ApiError, Inputs, Numbers, Outputs, Parameters, RequestParameters, Scalar, Tensor, Texts,
        bad_input, shape_of,
    },
    service::Model,
};

/// Most inputs, and most requested outputs.
const MAX_TENSORS: usize = 16;

/// A parsed request.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) batch: GroupedBatch,
    pub(super) parameters: RequestParameters,
    pub(super) outputs: Outputs,
    /// Echoed; empty for none.
    pub(super) id: String,
}

/// Parses a request to `model`.
///
/// # Errors
///
/// [`ApiError`] for whatever the message gets wrong; no message makes this panic.
pub(super) fn parse(model: &Model, request: ModelInferRequest) -> Result<Parsed, ApiError> {
    let parameters = parameters(request.parameters)?.of_request()?;
    let outputs = outputs(&request.outputs, &parameters)?;
    let inputs = inputs(request.inputs, &request.raw_input_contents)?;
    let batch = inputs.batch(model, &parameters)?;
    Ok(Parsed { batch, parameters, outputs, id: request.id })
}

fn parameters(map: BTreeMap<String, InferParameter>) -> Result<Parameters, ApiError> {
    Parameters::of(map.into_iter().map(|(name, value)| {
        let value = match value.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Scalar::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Scalar::Integer(value),
            Some(ParameterChoice::StringParam(value)) => Scalar::Text(value),
            Some(ParameterChoice::DoubleParam(value)) => Scalar::Float(value),
            Some(ParameterChoice::Uint64Param(value)) => {
                i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Integer)
            }
            None => Scalar::Other,
        };
        (name, value)
    }))
}

fn outputs(
    named: &[InferRequestedOutputTensor],
    parameters: &RequestParameters,
) -> Result<Outputs, ApiError> {
    for output in named {
        for unsupported in ["classification", "shared_memory_region"] {
            if output.parameters.contains_key(unsupported) {
                let problem = "can be sent in the response only, as it is";
                return Err(ApiError::BadOutput { name: output.name.clone(), problem });
            }
        }
    }
    // All are sent in binary here.
    Outputs::of(parameters, named.iter().map(|output| (output.name.as_str(), true)))
}

fn inputs(inputs: Vec<InferInputTensor>, raw: &[Bytes]) -> Result<Inputs<'_>, ApiError> {
    let message = |message: String| ApiError::BadMessage { message };
    if inputs.len() > MAX_TENSORS {
        return Err(message(format!("it has more than {MAX_TENSORS} inputs")));
    }
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(message(format!(
            "it has {} `raw_input_contents` for {} inputs; send one for every input, or none",
            raw.len(),
            inputs.len()
        )));
    }
    let mut raw = raw.iter();
    let mut read = Inputs::default();
    for input in inputs {
        let raw = raw.next();
        let name = input.name.clone();
        read.add(&name, |name| tensor(name, input, raw))?;
    }
    Ok(read)
}

fn tensor<'a>(
    name: &'static str,
    input: InferInputTensor,
    raw: Option<&'a Bytes>,
) -> Result<Tensor<'a>, ApiError> {
    if input.parameters.contains_key("shared_memory_region") {
        return Err(bad_input(name, "lies in shared memory, which is not supported; send it"));
    }
    let shape = shape_of(name, input.shape.into_iter().map(i128::from))?;
    match (raw, input.contents) {
        (Some(_), Some(_)) => {
            Err(bad_input(name, "has `contents` beside `raw_input_contents`; send one of them"))
        }
        (None, None) => Err(bad_input(name, "has neither `contents` nor `raw_input_contents`")),
        (Some(bytes), None) => Tensor::of_bytes(name, input.datatype, shape, bytes),
        // Without any it is a tensor of none, which is of the wrong shape unless that says so.
        (None, Some(mut contents)) if input.datatype == "BYTES" => {
            let texts = std::mem::take(&mut contents.bytes_contents);
            only_of_it(name, &contents)?;
            let count = texts.len();
            Tensor::of_texts(name, input.datatype, shape, Texts::Separate(texts), count)
        }
        (None, Some(contents)) => {
            let numbers = numbers(name, &input.datatype, contents)?;
            Tensor::of_numbers(name, input.datatype, shape, numbers)
        }
    }
}

/// The numbers in the field of `datatype`, which must be the only one that is filled.
fn numbers(
    name: &'static str,
    datatype: &str,
    mut contents: InferTensorContents,
) -> Result<Numbers, ApiError> {
    let numbers = match datatype {
        "FP32" => Numbers::Floats(std::mem::take(&mut contents.fp32_contents)),
        "INT64" => Numbers::Integers(std::mem::take(&mut contents.int64_contents)),
        "INT32" => {
            let values = std::mem::take(&mut contents.int_contents);
            Numbers::Integers(values.into_iter().map(i64::from).collect())
        }
        _ => {
            return Err(ApiError::WrongDtype {
                name: name.to_owned(),
                expected: "`contents` of FP32, INT64, INT32 or BYTES",
                got: datatype.to_owned(),
            });
        }
    };
    only_of_it(name, &contents)?;
    Ok(numbers)
}

/// That nothing is left once the field of the datatype was taken.
fn only_of_it(name: &str, left: &InferTensorContents) -> Result<(), ApiError> {
    if *left == InferTensorContents::default() {
        return Ok(());
    }
    Err(bad_input(name, "has `contents` of another datatype than it states"))
}
