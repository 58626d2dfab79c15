//! Requests as bytes, and replies back from bytes.

use std::borrow::Cow;

use hyper::body::Bytes;
use mprec_router::{Priority, sim::TraceQuery};
use serde::{Deserialize, Serialize};

use super::rows::RequestRows;
use crate::endpoint::{DENSE, SPARSE};

/// How tensors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WireFormat {
    /// Raw little-endian behind a short JSON head, in both directions.
    #[default]
    Binary,
    /// Numbers in JSON.
    Json,
}

/// A request's body.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    pub(super) body: Bytes,
    /// Length of the JSON part, where binary data follows it.
    pub(super) json_bytes: Option<usize>,
}

#[derive(Serialize)]
struct Document<'a> {
    parameters: Parameters,
    inputs: [Input<'a>; 2],
}

#[derive(Serialize)]
struct Parameters {
    binary_data_output: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_quality: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
}

#[derive(Serialize)]
struct Input<'a> {
    name: &'static str,
    datatype: &'static str,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Numbers<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Floats(&'a [f32]),
    Integers(&'a [i64]),
}

impl WireFormat {
    /// The body of a request for `query` with these rows of `dense_width` and `features` features.
    pub(super) fn encode(
        self,
        query: &TraceQuery,
        rows: &RequestRows,
        (dense_width, features): (usize, usize),
    ) -> Encoded {
        let samples = rows.ids.len() / features;
        let binary = self == Self::Binary;
        let input = |name, datatype, width, data, size| Input {
            name,
            datatype,
            shape: [samples, width],
            parameters: binary.then_some(BinarySize { binary_data_size: size }),
            data: (!binary).then_some(data),
        };
        let (dense, ids) = (Numbers::Floats(&rows.dense), Numbers::Integers(&rows.ids));
        let document = Document {
            parameters: Parameters {
                binary_data_output: binary,
                min_quality: (query.min_quality > 0.0).then_some(query.min_quality),
                // The protocol's numbers: 0, and none, is the default, 1 the most important.
                priority: match query.priority {
                    Priority::High => Some(1),
                    Priority::Normal => None,
                    Priority::Low => Some(2),
                },
            },
            inputs: [
                input(DENSE, "FP32", dense_width, dense, size_of_val(rows.dense.as_slice())),
                input(SPARSE, "INT64", features, ids, size_of_val(rows.ids.as_slice())),
            ],
        };
        let binary_bytes = size_of_val(rows.dense.as_slice()) + size_of_val(rows.ids.as_slice());
        let mut body = Vec::with_capacity(512 + binary_bytes);
        serde_json::to_writer(&mut body, &document)
            .expect("requests have string keys only, and writing to memory cannot fail");
        let json_bytes = binary.then_some(body.len());
        if binary {
            body.extend(rows.dense.iter().flat_map(|value| value.to_le_bytes()));
            body.extend(rows.ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        Encoded { body: body.into(), json_bytes }
    }
}

/// What a reply says, as far as a load needs it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decoded {
    pub(super) path: String,
    pub(super) quality: f64,
    pub(super) downgraded: bool,
    pub(super) scores: Vec<f32>,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    parameters: ReplyParameters<'a>,
    outputs: [Output; 1],
}

#[derive(Deserialize)]
struct ReplyParameters<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    quality: f64,
    #[serde(default)]
    downgraded: bool,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    data: Option<Vec<f32>>,
}

/// Reads a reply; `None` unless it has a path, a quality and `samples` finite scores.
pub(super) fn decode(body: &[u8], json_bytes: Option<usize>, samples: usize) -> Option<Decoded> {
    let (json, binary) = body.split_at_checked(json_bytes.unwrap_or(body.len()))?;
    let reply: Reply<'_> = serde_json::from_slice(json).ok()?;
    let [output] = reply.outputs;
    let scores = match output.data {
        Some(scores) => scores,
        None => {
            let (scores, rest) = binary.as_chunks();
            if !rest.is_empty() {
                return None;
            }
            scores.iter().map(|&score| f32::from_le_bytes(score)).collect()
        }
    };
    if scores.len() != samples || !scores.iter().all(|score| score.is_finite()) {
        return None;
    }
    Some(Decoded {
        path: reply.parameters.path.into_owned(),
        quality: reply.parameters.quality,
        downgraded: reply.parameters.downgraded,
        scores,
    })
}
