//! Scales and shifts of columns, for all that are of one width.

use mprec_representations::Tensor as Parameter;
use tch::{TchError, Tensor};

use super::constant::{Constant, Uploader, view};

/// `input · scale + shift`, of several inputs at once.
#[derive(Debug)]
pub(super) struct Affine {
    /// `[members, 1, width]`
    scale: Constant,
    shift: Constant,
}

impl Affine {
    /// Of scales and shifts of one width.
    pub(super) fn new(
        parameters: &[(&Parameter<f32>, &Parameter<f32>)],
        uploader: &mut Uploader,
    ) -> Result<Self, TchError> {
        let (scales, shifts): (Vec<_>, Vec<_>) = parameters.iter().copied().unzip();
        let mut stack = |rows: Vec<&Parameter<f32>>| {
            let rows = rows.into_iter().map(|row| {
                // SAFETY: the view is copied, and gone, when this closure returns.
                unsafe { view(row) }?.f_unsqueeze(0)
            });
            uploader.keep(&Tensor::f_stack(&rows.collect::<Result<Vec<_>, _>>()?, 0)?)
        };
        Ok(Self { scale: stack(scales)?, shift: stack(shifts)? })
    }

    /// Of inputs `[members, rows, width]`, or of the one member's `[rows, width]`.
    pub(super) fn run(&self, input: &Tensor, one: Option<usize>) -> Result<Tensor, TchError> {
        let of = |constant: &Constant| match one {
            Some(at) => constant.f_select(0, at as i64),
            None => Ok(constant.shallow_clone()),
        };
        // Two operations: each rounds.
        input.f_mul(&of(&self.scale)?)?.f_add(&of(&self.shift)?)
    }
}
