//! One input tensor of a request, whatever protocol it came by.

use hyper::body::Bytes;

use super::error::ApiError;

/// Most dimensions of a shape.
pub(crate) const MAX_RANK: usize = 8;

/// The numbers of a tensor that were written as such.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Numbers {
    /// All were written as integers.
    Integers(Vec<i64>),
    /// At least one was not.
    Floats(Vec<f32>),
}

/// An input whose shape is known to be possible and whose values are counted.
#[derive(Debug)]
pub(crate) struct Tensor<'a> {
    name: &'static str,
    datatype: String,
    pub(super) shape: Vec<usize>,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    Numbers(Numbers),
    /// Little-endian, as many bytes as the datatype and the shape need; of BYTES, at least as many.
    Binary(&'a [u8]),
    Texts(Texts),
}

/// The elements of a tensor of BYTES that did not come in binary.
#[derive(Debug)]
pub(crate) enum Texts {
    /// One after the other, and where each ends.
    Joined(Vec<u8>, Vec<usize>),
    /// Each on its own.
    Separate(Vec<Bytes>),
}

impl Texts {
    fn list(&self) -> Vec<&[u8]> {
        match self {
            Self::Joined(bytes, ends) => {
                let starts = std::iter::once(&0).chain(ends);
                starts.zip(ends).map(|(&start, &end)| &bytes[start..end]).collect()
            }
            Self::Separate(texts) => texts.iter().map(|text| &text[..]).collect(),
        }
    }
}

/// The first element of a binary tensor of BYTES, and what follows it.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

impl Numbers {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Integers(values) => values.len(),
            Self::Floats(values) => values.len(),
        }
    }
}

impl<'a> Tensor<'a> {
    /// A tensor of numbers, as many as `shape` takes.
    pub(crate) fn of_numbers(
        name: &'static str,
        datatype: String,
        shape: Vec<usize>,
        numbers: Numbers,
    ) -> Result<Self, ApiError> {
        if numbers.len() != elements_of(name, &shape)? {
            return Err(wrong_shape(name, format!("has data that is not {shape:?}")));
        }
        Ok(Self { name, datatype, shape, values: Values::Numbers(numbers) })
    }

    /// A tensor of little-endian values, as many bytes as `datatype` and `shape` take.
    pub(crate) fn of_bytes(
        name: &'static str,
        datatype: String,
        shape: Vec<usize>,
        bytes: &'a [u8],
    ) -> Result<Self, ApiError> {
        expect_bytes(name, &datatype, &shape, bytes.len())?;
        Ok(Self { name, datatype, shape, values: Values::Binary(bytes) })
    }

    /// A tensor of `count` texts, as many as `shape` takes.
    pub(crate) fn of_texts(
        name: &'static str,
        datatype: String,
        shape: Vec<usize>,
        texts: Texts,
        count: usize,
    ) -> Result<Self, ApiError> {
        if count != elements_of(name, &shape)? {
            return Err(wrong_shape(name, format!("has data that is not {shape:?}")));
        }
        Ok(Self { name, datatype, shape, values: Values::Texts(texts) })
    }

    pub(super) fn bad(&self, problem: &str) -> ApiError {
        bad_input(self.name, problem)
    }

    pub(super) fn is_of(&self, datatype: &str) -> bool {
        self.datatype == datatype
    }

    pub(super) fn wrong_shape(&self, problem: &str) -> ApiError {
        wrong_shape(self.name, problem.to_owned())
    }

    pub(super) fn expect_shape(&self, expected: &[usize]) -> Result<(), ApiError> {
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

    fn wrong_values(&self, expected: &'static str, got: &str) -> ApiError {
        ApiError::WrongDtype { name: self.name.to_owned(), expected, got: got.to_owned() }
    }

    /// The texts of a tensor of BYTES; `expected` is what its name may be of.
    pub(super) fn texts(&self, expected: &'static str) -> Result<Vec<&[u8]>, ApiError> {
        if self.datatype != BYTES {
            return Err(self.wrong_datatype(expected));
        }
        match &self.values {
            Values::Texts(texts) => Ok(texts.list()),
            Values::Binary(bytes) => self.framed(bytes),
            Values::Numbers(_) => Err(self.wrong_values("strings as data of BYTES", "numbers")),
        }
    }

    /// The elements in a binary tensor of BYTES. `expect_bytes` found room for their lengths, so that there are not too many.
    fn framed<'b>(&self, bytes: &'b [u8]) -> Result<Vec<&'b [u8]>, ApiError> {
        let count = self.shape.iter().product();
        let mut texts = Vec::with_capacity(count);
        let mut rest = bytes;
        while texts.len() < count {
            let Some((text, behind)) = frame(rest) else {
                let problem = format!("ends before its element {}", texts.len());
                return Err(self.wrong_shape(&problem));
            };
            texts.push(text);
            rest = behind;
        }
        if rest.is_empty() {
            return Ok(texts);
        }
        Err(self.wrong_shape(&format!("has {} bytes behind its last element", rest.len())))
    }

    pub(super) fn floats(self) -> Result<Vec<f32>, ApiError> {
        if self.datatype != "FP32" {
            return Err(self.wrong_datatype("FP32"));
        }
        Ok(match self.values {
            Values::Numbers(Numbers::Floats(values)) => values,
            Values::Numbers(Numbers::Integers(values)) => {
                values.into_iter().map(|value| value as f32).collect()
            }
            Values::Binary(bytes) => {
                let (values, _) = bytes.as_chunks();
                values.iter().map(|&value| f32::from_le_bytes(value)).collect()
            }
            Values::Texts(_) => return Err(self.wrong_values("numbers", "strings")),
        })
    }

    pub(super) fn integers(self) -> Result<Vec<i64>, ApiError> {
        if self.datatype != "INT64" {
            return Err(self.wrong_datatype("INT64"));
        }
        match self.values {
            Values::Numbers(Numbers::Integers(values)) => Ok(values),
            Values::Numbers(Numbers::Floats(_)) => {
                Err(self.wrong_values("integers within INT64", "other numbers"))
            }
            Values::Texts(_) => Err(self.wrong_values("integers within INT64", "strings")),
            Values::Binary(bytes) => {
                let (values, _) = bytes.as_chunks();
                Ok(values.iter().map(|&value| i64::from_le_bytes(value)).collect())
            }
        }
    }

    pub(super) fn lengths(mut self) -> Result<Vec<u32>, ApiError> {
        if self.datatype == "INT32" {
            if let Values::Binary(bytes) = self.values {
                let (values, _) = bytes.as_chunks();
                let wide = values.iter().map(|&value| i32::from_le_bytes(value).into()).collect();
                self.values = Values::Numbers(Numbers::Integers(wide));
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

pub(crate) fn bad_input(name: &str, problem: &str) -> ApiError {
    ApiError::BadInput { name: name.to_owned(), problem: problem.to_owned() }
}

pub(crate) fn wrong_shape(name: &str, problem: String) -> ApiError {
    ApiError::WrongShape { name: name.to_owned(), problem }
}

/// The dimensions as sizes: none negative, and not too many.
pub(crate) fn shape_of(
    name: &str,
    dimensions: impl IntoIterator<Item = i128>,
) -> Result<Vec<usize>, ApiError> {
    let mut shape = Vec::new();
    for dimension in dimensions {
        if shape.len() == MAX_RANK {
            let problem = format!("has more than {MAX_RANK} dimensions");
            return Err(wrong_shape(name, problem));
        }
        shape.push(
            usize::try_from(dimension).map_err(|_| {
                wrong_shape(name, format!("has the impossible dimension {dimension}"))
            })?,
        );
    }
    elements_of(name, &shape)?;
    Ok(shape)
}

fn elements_of(name: &str, shape: &[usize]) -> Result<usize, ApiError> {
    shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .ok_or_else(|| wrong_shape(name, "has an impossibly large shape".to_owned()))
}

/// The datatype whose elements have lengths of their own.
const BYTES: &str = "BYTES";

/// That `size` bytes are what `datatype` and `shape` take; of BYTES, that there is room for the elements' lengths.
pub(crate) fn expect_bytes(
    name: &str,
    datatype: &str,
    shape: &[usize],
    size: usize,
) -> Result<(), ApiError> {
    if datatype == BYTES {
        return match elements_of(name, shape)?.checked_mul(4) {
            Some(least) if least <= size => Ok(()),
            _ => {
                let problem =
                    format!("states {size} bytes, in which {shape:?} of BYTES have no room");
                Err(wrong_shape(name, problem))
            }
        };
    }
    let width = width_of(datatype).ok_or_else(|| ApiError::WrongDtype {
        name: name.to_owned(),
        expected: "a datatype of the protocol",
        got: datatype.to_owned(),
    })?;
    if elements_of(name, shape)?.checked_mul(width) == Some(size) {
        return Ok(());
    }
    let problem = format!("states {size} bytes, which {shape:?} of {datatype} does not take");
    Err(wrong_shape(name, problem))
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
