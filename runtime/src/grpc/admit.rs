//! Whether a message may be decoded.
//!
//! Decoding makes a value of 24 to 200 bytes out of fields that take two bytes on the wire, so that
//! a message within the limit of size could take a hundred times that limit in memory. Before it is
//! decoded, its fields are counted and its lists of numbers measured, which copies nothing and looks
//! at no tensor.

use std::any::TypeId;

use super::protocol::inference;
use crate::endpoint::{ApiError, MAX_RANK};

/// Most fields of one message and all messages in it. A request with all of the protocol's optional
/// parts takes fewer than a hundred; 64 parameters take 300.
const MAX_FIELDS: usize = 4_096;

/// Most bytes of typed contents in one message. Numbers there take one byte or more each, and eight
/// when decoded: this is the limit that JSON has, too.
const MAX_TYPED_BYTES: usize = 8 << 20;

/// Most texts among typed contents. Each is a field of its own and takes 32 bytes when decoded.
const MAX_TEXTS: usize = 1 << 18;

/// The field of typed contents that has texts.
const TEXTS: u64 = 8;

/// Most bytes of a shape: a varint takes up to ten.
const MAX_SHAPE_BYTES: usize = 10 * MAX_RANK;

/// Which fields of a message hold what can grow. Fields that are not named are counted, and skipped.
#[derive(Debug)]
struct Shape {
    /// Fields that are messages, with theirs.
    messages: &'static [(u64, &'static Shape)],
    /// A field that is a shape.
    shape: Option<u64>,
    /// Whether all of the message is lists of numbers.
    is_typed: bool,
}

static LEAF: Shape = Shape { messages: &[], shape: None, is_typed: false };
static ENTRY: Shape = Shape { messages: &[(2, &LEAF)], shape: None, is_typed: false };
static CONTENTS: Shape = Shape { messages: &[], shape: None, is_typed: true };
static INPUT: Shape =
    Shape { messages: &[(4, &ENTRY), (5, &CONTENTS)], shape: Some(3), is_typed: false };
static OUTPUT: Shape = Shape { messages: &[(2, &ENTRY)], shape: None, is_typed: false };
static INFER: Shape =
    Shape { messages: &[(4, &ENTRY), (5, &INPUT), (6, &OUTPUT)], shape: None, is_typed: false };

/// Whether `bytes` may be decoded as an `M`.
///
/// # Errors
///
/// [`ApiError::BadMessage`] if there are too many fields or numbers, or if the fields are not ones.
pub(super) fn admit<M: 'static>(bytes: &[u8]) -> Result<(), ApiError> {
    let is_infer = TypeId::of::<M>() == TypeId::of::<inference::ModelInferRequest>();
    let shape = if is_infer { &INFER } else { &LEAF };
    Walk { fields: 0, typed: 0, texts: 0 }.message(bytes, shape)
}

/// What was seen so far.
struct Walk {
    fields: usize,
    typed: usize,
    texts: usize,
}

impl Walk {
    /// Depth is bounded by that of the shapes.
    fn message(&mut self, mut bytes: &[u8], shape: &Shape) -> Result<(), ApiError> {
        if shape.is_typed {
            self.typed += bytes.len();
            if self.typed > MAX_TYPED_BYTES {
                return Err(bad(
                    "it has too many typed contents; send them as `raw_input_contents`",
                ));
            }
        }
        while !bytes.is_empty() {
            let Some((field, value, rest)) = next(bytes) else {
                return Err(bad("a field ends early or has an unknown form"));
            };
            if shape.is_typed && field == TEXTS {
                self.texts += 1;
            } else {
                self.fields += 1;
            }
            if self.fields > MAX_FIELDS || self.texts > MAX_TEXTS {
                return Err(bad("it has too many fields; pack numbers, or send them raw"));
            }
            bytes = rest;
            if shape.shape == Some(field) && value.len() > MAX_SHAPE_BYTES {
                return Err(bad("a shape has too many dimensions"));
            }
            if let Some((_, inner)) = shape.messages.iter().find(|(known, _)| *known == field) {
                self.message(value, inner)?;
            }
        }
        Ok(())
    }
}

fn bad(message: &str) -> ApiError {
    ApiError::BadMessage { message: message.to_owned() }
}

/// The first field: its number, its bytes where it has a length, and what follows it.
fn next(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (key, rest) = varint(bytes)?;
    let field = key >> 3;
    let (value, rest) = match key & 7 {
        0 => (&rest[..0], varint(rest)?.1),
        1 => (&rest[..0], rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            rest.split_at_checked(usize::try_from(length).ok()?)?
        }
        5 => (&rest[..0], rest.get(4..)?),
        // Groups left the protocol before this service was described.
        _ => return None,
    };
    Some((field, value, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use inference::{ModelInferRequest, model_infer_request::InferInputTensor};

    fn with_contents(numbers: usize) -> Vec<u8> {
        let contents = inference::InferTensorContents {
            int64_contents: vec![1; numbers],
            ..Default::default()
        };
        let input = InferInputTensor {
            name: "sparse".into(),
            shape: vec![-1; MAX_RANK],
            contents: Some(contents),
            ..Default::default()
        };
        ModelInferRequest { inputs: vec![input], ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn requests_of_usual_form_pass_whatever_their_size() {
        let raw = ModelInferRequest {
            raw_input_contents: vec![vec![0; 20 << 20].into()],
            ..Default::default()
        };
        assert!(admit::<ModelInferRequest>(&raw.encode_to_vec()).is_ok());
        assert!(admit::<ModelInferRequest>(&with_contents(MAX_TYPED_BYTES - 8)).is_ok());
        assert!(admit::<ModelInferRequest>(&[]).is_ok());
    }

    #[test]
    fn what_would_grow_when_decoded_is_refused() {
        let empty_inputs = [0x2a, 0].repeat(MAX_FIELDS + 1);
        let empty_raw = [0x3a, 0].repeat(MAX_FIELDS + 1);
        let long_shape = ModelInferRequest {
            inputs: vec![InferInputTensor { shape: vec![1; 1_000], ..Default::default() }],
            ..Default::default()
        };
        for bytes in [
            empty_inputs,
            empty_raw,
            long_shape.encode_to_vec(),
            with_contents(MAX_TYPED_BYTES + 1),
            // A length beyond the end, a key without a value, a group, a key without end.
            vec![0x3a, 5, 0],
            vec![0x0a],
            vec![0x0b, 0x0c],
            vec![0xff; 11],
        ] {
            assert!(matches!(admit::<ModelInferRequest>(&bytes), Err(ApiError::BadMessage { .. })));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if ModelInferRequest::decode(&*bytes).is_err() {
                return Ok(());
            }
            // What is decodable has fields, and 64 bytes hold few enough; only groups are not taken.
            let has_group = bytes.iter().any(|byte| byte & 7 == 3);
            prop_assert!(has_group || admit::<ModelInferRequest>(&bytes).is_ok());
        }
    }
}
