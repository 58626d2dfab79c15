//! The JSON part of an inference request.

use std::{fmt, marker::PhantomData};

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use super::data::Data;
use crate::endpoint::{MAX_RANK, Parameters};

/// Most inputs, and most requested outputs.
const MAX_TENSORS: usize = 16;

/// What may stand at the top. Members that the protocol does not name are skipped.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) parameters: Parameters,
    pub(super) inputs: Few<Input, MAX_TENSORS>,
    #[serde(default)]
    pub(super) outputs: Option<Few<Output, MAX_TENSORS>>,
}

/// One input tensor.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Few<Dimension, MAX_RANK>,
    #[serde(default)]
    pub(super) parameters: Parameters,
    /// Absent when the data follows in binary.
    #[serde(default)]
    pub(super) data: Option<Data>,
}

/// One requested output.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Output {
    pub(super) name: String,
    #[serde(default)]
    pub(super) parameters: Parameters,
}

/// One dimension of a shape, held so that any integer can be read and none can overflow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dimension(pub(super) i128);

/// A list of at most `N` items.
#[derive(Debug)]
pub(super) struct Few<T, const N: usize>(pub(super) Vec<T>);

impl<'de> Deserialize<'de> for Dimension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl Visitor<'_> for Value {
            type Value = Dimension;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number")
            }

            fn visit_i64<E>(self, value: i64) -> Result<Dimension, E> {
                Ok(Dimension(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Dimension, E> {
                Ok(Dimension(value.into()))
            }
        }

        deserializer.deserialize_any(Value)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Few<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const N: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for List<T, N> {
            type Value = Few<T, N>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a list of at most {N} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T, N>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == N {
                        return Err(serde::de::Error::invalid_length(N + 1, &self));
                    }
                    items.push(item);
                }
                Ok(Few(items))
            }
        }

        deserializer.deserialize_seq(List(PhantomData))
    }
}
