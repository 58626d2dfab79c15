//! How feature vectors meet.

use mprec_representations::Slot;
use tch::{TchError, Tensor};

use super::{
    constant::{Constant, Uploader},
    plan::Place,
};

/// An interaction of vectors.
#[derive(Debug)]
pub(super) struct Meet {
    /// For dots: of every pair below the diagonal, row by row, where it lies among all products. Nothing for `cat`.
    pairs: Option<Constant>,
    dot: bool,
    vectors: usize,
    dim: usize,
    /// The inputs, with one id per sample.
    pub(super) pieces: Pieces,
}

/// Inputs, those that are together already in one piece.
#[derive(Debug)]
pub(super) struct Pieces(pub(super) Vec<Piece>);

/// One or several inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// The value of this slot.
    Slot(usize),
    /// So many outputs of a group, from one of them on.
    Members { group: usize, start: usize, length: usize },
}

impl Pieces {
    /// `members` tells the size of a group.
    pub(super) fn of(inputs: &[Slot], places: &[Place], members: impl Fn(usize) -> usize) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for input in inputs {
            match places[input.index()] {
                Place::Slot(slot) => pieces.push(Piece::Slot(slot)),
                Place::Member { group, at } => match pieces.last_mut() {
                    Some(Piece::Members { group: of, start, length })
                        if *of == group && *start + *length == at && at < members(group) =>
                    {
                        *length += 1;
                    }
                    _ => pieces.push(Piece::Members { group, start: at, length: 1 }),
                },
            }
        }
        Self(pieces)
    }
}

impl Meet {
    /// `itself`: for dots, whether vectors meet themselves; nothing for `cat`.
    pub(super) fn new(
        itself: Option<bool>,
        vectors: usize,
        dim: usize,
        pieces: Pieces,
        uploader: &mut Uploader,
    ) -> Result<Self, TchError> {
        let pairs: Vec<i64> = match itself {
            None => Vec::new(),
            Some(itself) => (0..vectors)
                .flat_map(|row| (0..row + usize::from(itself)).map(move |at| (row, at)))
                .map(|(row, at)| (row * vectors + at) as i64)
                .collect(),
        };
        let pairs = if pairs.is_empty() {
            None
        } else {
            Some(uploader.keep(&Tensor::f_from_slice(&pairs)?)?)
        };
        Ok(Self { pairs, dot: itself.is_some(), vectors, dim, pieces })
    }

    /// Whether it is of dots, whose vectors are put together as `[vectors, samples, dim]`; `cat` wants
    /// `[samples, width]`.
    pub(super) fn is_dot(&self) -> bool {
        self.dot
    }

    /// The first vector, then the products of pairs: `[samples, dim + pairs]` of vectors `[vectors, samples, dim]`.
    pub(super) fn dots(&self, vectors: &Tensor) -> Result<Tensor, TchError> {
        let first = vectors.f_select(0, 0)?;
        let Some(pairs) = &self.pairs else { return Ok(first) };
        // Rows of a sample lie far apart here, which a product takes as it is.
        let rows = vectors.f_transpose(0, 1)?;
        let products = rows.f_bmm(&rows.f_transpose(1, 2)?)?;
        let products = products.f_view([-1, (self.vectors * self.vectors) as i64])?;
        Tensor::f_cat(&[first, products.f_index_select(1, pairs)?], 1)
    }

    /// Bytes of temporary values per sample.
    pub(super) fn scratch(&self) -> usize {
        let all = if self.dot { self.vectors * self.vectors } else { 0 };
        let pairs = self.pairs.as_ref().map_or(0, |pairs| pairs.numel());
        4 * (self.vectors * self.dim + all + pairs)
    }
}
