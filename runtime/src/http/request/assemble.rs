//! From a document and the binary data behind it to a batch of the model.

use mprec_representations::{Batch, Jagged};

use super::{
    Parsed, ReplyForm,
    data::Numbers,
    document::{Dimension, Document, Input, Output},
};
use crate::{http::error::ApiError, service::Model};

/// Names of the inputs and of the output.
pub(crate) const DENSE: &str = "dense";
pub(crate) const SPARSE: &str = "sparse";
pub(crate) const LENGTHS: &str = "sparse_lengths";
pub(crate) const WEIGHTS: &str = "sparse_weights";
pub(crate) const SCORES: &str = "scores";

/// An input whose shape is known to be possible and whose values are counted.
struct Tensor<'a> {
    name: &'static str,
    datatype: String,
    shape: Vec<usize>,
    values: Values<'a>,
}

enum Values<'a> {
    Json(Numbers),
    /// Little-endian, as many bytes as the datatype and the shape need.
    Binary(&'a [u8]),
}

/// The inputs that a request may have.
#[derive(Default)]
struct Inputs<'a> {
    dense: Option<Tensor<'a>>,
    sparse: Option<Tensor<'a>>,
    lengths: Option<Tensor<'a>>,
    weights: Option<Tensor<'a>>,
}

impl Document {
    /// See [`parse`](super::parse).
    pub(super) fn assemble(self, model: &Model, binary: &[u8]) -> Result<Parsed, ApiError> {
        let parameters = self.parameters.of_request()?;
        let outputs = self.outputs.map(|outputs| outputs.0).unwrap_or_default();
        let reply = ReplyForm {
            id: self.id.filter(|id| !id.is_empty()),
            binary: wants_binary(&outputs, parameters.binary_output)?,
        };
        let batch = Inputs::read(self.inputs.0, binary)?.batch(model)?;
        Ok(Parsed {
            batch,
            budget: parameters.budget,
            min_quality: parameters.min_quality,
            priority: parameters.priority,
            reply,
        })
    }
}

fn wants_binary(outputs: &[Output], default: bool) -> Result<bool, ApiError> {
    let bad = |output: &Output, problem| ApiError::BadOutput { name: output.name.clone(), problem };
    let mut binary = default;
    for (at, output) in outputs.iter().enumerate() {
        if output.name != SCORES {
            return Err(bad(output, "does not exist; there is `scores`"));
        }
        if at > 0 {
            return Err(bad(output, "is asked for twice"));
        }
        for unsupported in ["classification", "shared_memory_region"] {
            if output.parameters.get(unsupported).is_some() {
                return Err(bad(output, "can be sent as JSON or in binary only"));
            }
        }
        binary = output.parameters.flag("binary_data")?.unwrap_or(default);
    }
    Ok(binary)
}

impl<'a> Inputs<'a> {
    /// Takes the inputs apart, cutting `binary` at the sizes that they state, in their order.
    fn read(inputs: Vec<Input>, mut binary: &'a [u8]) -> Result<Self, ApiError> {
        let mut read = Self::default();
        for input in inputs {
            let (name, slot) = match input.name.as_str() {
                DENSE => (DENSE, &mut read.dense),
                SPARSE => (SPARSE, &mut read.sparse),
                LENGTHS => (LENGTHS, &mut read.lengths),
                WEIGHTS => (WEIGHTS, &mut read.weights),
                other => {
                    return Err(bad_input(
                        other,
                        "is unknown; known are `dense`, `sparse`, `sparse_lengths` and \
                         `sparse_weights`",
                    ));
                }
            };
            if slot.is_some() {
                return Err(bad_input(name, "is given twice"));
            }
            *slot = Some(Tensor::read(name, input, &mut binary)?);
        }
        if !binary.is_empty() {
            return Err(bad_input(
                "(binary)",
                &format!("{} bytes lie behind the last tensor", binary.len()),
            ));
        }
        Ok(read)
    }

    /// Compares the inputs with the model and makes the batch.
    fn batch(self, model: &Model) -> Result<Batch, ApiError> {
        let missing = |name| bad_input(name, "is missing");
        let dense = self.dense.ok_or_else(|| missing(DENSE))?;
        let sparse = self.sparse.ok_or_else(|| missing(SPARSE))?;
        let (width, features) = (model.shape.dense_width(), model.shape.features());

        let samples = dense.shape.first().copied().unwrap_or_default();
        dense.expect_shape(&[samples, width])?;
        if samples == 0 {
            return Err(dense.wrong_shape("holds no samples; send at least one"));
        }
        if samples > model.max_samples {
            return Err(ApiError::TooManySamples { samples, limit: model.max_samples });
        }
        let Some(lengths) = self.lengths else {
            if self.weights.is_some() {
                return Err(bad_input(WEIGHTS, "needs `sparse_lengths` beside it"));
            }
            sparse.expect_shape(&[samples, features])?;
            return Ok(model.shape.from_rows(dense.floats()?, &sparse.integers()?)?);
        };
        lengths.expect_shape(&[samples, features])?;
        let lengths = lengths.lengths()?;
        // At most 2^32 - 1 each and 2^32 of them: the sum fits.
        let total = lengths.iter().map(|&length| u64::from(length)).sum::<u64>();
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        sparse.expect_shape(&[total])?;
        let weights = match self.weights {
            Some(weights) => {
                weights.expect_shape(&[total])?;
                Some(weights.floats()?)
            }
            None => None,
        };
        let ids = sparse.integers()?;
        let jagged = by_feature(&Jagged { ids, lengths, weights }, features);
        Ok(model.shape.from_jagged(dense.floats()?, &jagged)?)
    }
}

/// Turns bags that stand sample by sample into bags that stand feature by feature.
fn by_feature(rows: &Jagged, features: usize) -> Jagged {
    let samples = rows.lengths.len() / features;
    let mut starts = Vec::with_capacity(rows.lengths.len());
    let mut start = 0;
    for &length in &rows.lengths {
        starts.push(start);
        start += length as usize;
    }
    let mut columns = Jagged {
        ids: Vec::with_capacity(rows.ids.len()),
        lengths: Vec::with_capacity(rows.lengths.len()),
        weights: rows.weights.as_ref().map(|weights| Vec::with_capacity(weights.len())),
    };
    for feature in 0..features {
        for sample in 0..samples {
            let bag = sample * features + feature;
            let range = starts[bag]..starts[bag] + rows.lengths[bag] as usize;
            columns.lengths.push(rows.lengths[bag]);
            columns.ids.extend_from_slice(&rows.ids[range.clone()]);
            if let (Some(to), Some(from)) = (&mut columns.weights, &rows.weights) {
                to.extend_from_slice(&from[range]);
            }
        }
    }
    columns
}

impl<'a> Tensor<'a> {
    fn read(name: &'static str, input: Input, binary: &mut &'a [u8]) -> Result<Self, ApiError> {
        let shape = shape_of(name, &input.shape.0)?;
        // The product was proven not to overflow.
        let count = shape.iter().product::<usize>();
        let size = input.parameters.size("binary_data_size")?;
        let values = match (size, input.data) {
            (Some(_), Some(_)) => {
                return Err(bad_input(name, "has both `data` and `binary_data_size`"));
            }
            (None, None) => {
                return Err(bad_input(name, "has neither `data` nor `binary_data_size`"));
            }
            (None, Some(data)) => {
                if let Some(problem) = data.problem() {
                    return Err(wrong_shape(name, problem.to_owned()));
                }
                if !data.fits(&shape) {
                    return Err(wrong_shape(name, format!("has data that is not {shape:?}")));
                }
                Values::Json(data.numbers)
            }
            (Some(size), None) => {
                let width = width_of(&input.datatype).ok_or_else(|| ApiError::WrongDtype {
                    name: name.to_owned(),
                    expected: "a datatype of fixed size",
                    got: input.datatype.clone(),
                })?;
                if count.checked_mul(width) != Some(size) {
                    let datatype = &input.datatype;
                    return Err(wrong_shape(
                        name,
                        format!("states {size} bytes, which {shape:?} of {datatype} does not take"),
                    ));
                }
                let (bytes, rest) = binary.split_at_checked(size).ok_or_else(|| {
                    bad_input(
                        name,
                        &format!("states {size} bytes, of which {} are there", binary.len()),
                    )
                })?;
                *binary = rest;
                Values::Binary(bytes)
            }
        };
        Ok(Self { name, datatype: input.datatype, shape, values })
    }

    fn wrong_shape(&self, problem: &str) -> ApiError {
        wrong_shape(self.name, problem.to_owned())
    }

    fn expect_shape(&self, expected: &[usize]) -> Result<(), ApiError> {
        if self.shape == expected {
            return Ok(());
        }
        Err(wrong_shape(
            self.name,
            format!("has shape {:?} where {expected:?} is needed", self.shape),
        ))
    }

    fn wrong_datatype(&self, expected: &'static str) -> ApiError {
        ApiError::WrongDtype { name: self.name.to_owned(), expected, got: self.datatype.clone() }
    }

    fn floats(self) -> Result<Vec<f32>, ApiError> {
        if self.datatype != "FP32" {
            return Err(self.wrong_datatype("FP32"));
        }
        Ok(match self.values {
            Values::Json(Numbers::Floats(values)) => values,
            Values::Json(Numbers::Integers(values)) => {
                values.into_iter().map(|value| value as f32).collect()
            }
            Values::Binary(bytes) => {
                let (values, _) = bytes.as_chunks();
                values.iter().map(|&value| f32::from_le_bytes(value)).collect()
            }
        })
    }

    fn integers(self) -> Result<Vec<i64>, ApiError> {
        if self.datatype != "INT64" {
            return Err(self.wrong_datatype("INT64"));
        }
        match self.values {
            Values::Json(Numbers::Integers(values)) => Ok(values),
            Values::Json(Numbers::Floats(_)) => Err(ApiError::WrongDtype {
                name: self.name.to_owned(),
                expected: "integers within INT64",
                got: "other numbers".to_owned(),
            }),
            Values::Binary(bytes) => {
                let (values, _) = bytes.as_chunks();
                Ok(values.iter().map(|&value| i64::from_le_bytes(value)).collect())
            }
        }
    }

    fn lengths(mut self) -> Result<Vec<u32>, ApiError> {
        if self.datatype == "INT32" {
            if let Values::Binary(bytes) = self.values {
                let (values, _) = bytes.as_chunks();
                let wide = values.iter().map(|&value| i32::from_le_bytes(value).into()).collect();
                self.values = Values::Json(Numbers::Integers(wide));
            }
            self.datatype = "INT64".to_owned();
        }
        if self.datatype != "INT64" {
            return Err(self.wrong_datatype("INT32 or INT64"));
        }
        let name = self.name;
        let mut lengths = Vec::with_capacity(self.shape.iter().product());
        for length in self.integers()? {
            lengths.push(u32::try_from(length).map_err(|_| {
                wrong_shape(name, format!("has a length of {length}, which no bag can have"))
            })?);
        }
        Ok(lengths)
    }
}

fn bad_input(name: &str, problem: &str) -> ApiError {
    ApiError::BadInput { name: name.to_owned(), problem: problem.to_owned() }
}

fn wrong_shape(name: &str, problem: String) -> ApiError {
    ApiError::WrongShape { name: name.to_owned(), problem }
}

/// The dimensions, none negative, with a product of elements and of bytes that fits.
fn shape_of(name: &str, dimensions: &[Dimension]) -> Result<Vec<usize>, ApiError> {
    let mut shape = Vec::with_capacity(dimensions.len());
    let mut product = 1_usize;
    for &Dimension(dimension) in dimensions {
        let size = usize::try_from(dimension)
            .map_err(|_| wrong_shape(name, format!("has the impossible dimension {dimension}")))?;
        product = product
            .checked_mul(size)
            .ok_or_else(|| wrong_shape(name, "has an impossibly large shape".to_owned()))?;
        shape.push(size);
    }
    Ok(shape)
}

/// Bytes per element of the protocol's datatypes; `None` for BYTES and for what it does not name.
fn width_of(datatype: &str) -> Option<usize> {
    Some(match datatype {
        "BOOL" | "UINT8" | "INT8" => 1,
        "UINT16" | "INT16" | "FP16" | "BF16" => 2,
        "UINT32" | "INT32" | "FP32" => 4,
        "UINT64" | "INT64" | "FP64" => 8,
        _ => return None,
    })
}
