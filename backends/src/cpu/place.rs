//! Where the values of a slot are.

use super::{
    buffer::Buffer,
    matrix::{Matrix, MatrixMut},
};

/// Where a matrix lies: in the batch's dense values, or among the columns of a scratch buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The buffer, or nothing for the batch's dense values.
    pub(crate) buffer: Option<usize>,
    /// First column.
    pub(crate) offset: usize,
    /// Columns.
    pub(crate) width: usize,
    /// Floats from row to row.
    pub(crate) stride: usize,
}

impl Place {
    /// The first `rows` rows.
    pub(crate) fn read<'a>(
        &self,
        buffers: &'a [Buffer],
        dense: &'a [f32],
        rows: usize,
    ) -> Matrix<'a> {
        let data = match self.buffer {
            None => dense,
            Some(buffer) => &buffers[buffer].as_slice()[self.offset..],
        };
        Matrix::new(data, rows, self.width, self.stride)
    }

    /// The first `rows` rows of the buffer, which has been taken out of the others so that those
    /// can be read meanwhile.
    pub(crate) fn write<'a>(&self, taken: &'a mut Buffer, rows: usize) -> MatrixMut<'a> {
        MatrixMut::new(&mut taken.as_mut_slice()[self.offset..], rows, self.width, self.stride)
    }

    /// The buffer of a place that is written.
    pub(crate) fn target(&self) -> usize {
        self.buffer.expect("layout gives every slot but the dense one a buffer")
    }
}
