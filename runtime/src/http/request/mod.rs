//! From the bytes of an inference request to a batch.
//!
//! 1. **Document.** The JSON part is read in one pass by typed visitors, with no tree of values:
//!    numbers go straight into the tensor that they belong to.
//! 2. **Tensors.** Binary data behind the JSON part is cut at the sizes that the document states.
//! 3. **Batch.** What [`Inputs`](crate::endpoint::Inputs) does for every protocol: names, datatypes and shapes are
//!    compared with the model, and the batch's own constructor proves the rest.

mod assemble;
mod data;
mod document;

use mprec_representations::GroupedBatch;

use self::document::Document;
use crate::{
    endpoint::{ApiError, Outputs, RequestParameters},
    service::Model,
};

/// A parsed request.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) batch: GroupedBatch,
    pub(super) parameters: RequestParameters,
    pub(super) reply: ReplyForm,
}

/// What the client wants the reply to look like.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReplyForm {
    /// Echoed; an empty one counts as none.
    pub(super) id: Option<String>,
    /// Those in binary are sent as raw little-endian values behind the JSON part.
    pub(super) outputs: Outputs,
}

/// Parses a request to `model`. `json_bytes` is the length of the JSON part, where a header gave
/// it; otherwise the whole body is JSON.
///
/// # Errors
///
/// [`ApiError`] for whatever the bytes get wrong; no bytes make this panic.
pub(super) fn parse(
    model: &Model,
    body: &[u8],
    json_bytes: Option<usize>,
) -> Result<Parsed, ApiError> {
    let (json, binary) = match json_bytes {
        None => (body, &[][..]),
        Some(0) => {
            return Err(ApiError::BadHeader {
                name: HEADER_LENGTH,
                problem: "is 0, which is for models of a single input",
            });
        }
        Some(length) => body.split_at_checked(length).ok_or(ApiError::BadHeader {
            name: HEADER_LENGTH,
            problem: "is larger than the body",
        })?,
    };
    let document: Document = serde_json::from_slice(json)
        .map_err(|error| ApiError::BadJson { message: error.to_string() })?;
    document.assemble(model, binary)
}

/// Length of the JSON part of a body that carries binary tensors, in requests and replies.
pub(crate) const HEADER_LENGTH: &str = "inference-header-content-length";
