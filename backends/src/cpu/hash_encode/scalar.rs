//! The definition.

use super::{Encoder, check};
use crate::cpu::matrix::MatrixMut;

/// See [`Encode`](super::Encode).
pub(super) fn encode(encoder: &Encoder, ids: &[u64], mut codes: MatrixMut<'_>) {
    check(encoder, ids, &codes);
    for (at, &id) in ids.iter().enumerate() {
        encoder.family.encode(id, encoder.transform, codes.row(at));
    }
}
