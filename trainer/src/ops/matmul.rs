//! Matrix product on slices, by the `gemm` crate.

/// A matrix in a slice: element `(row, column)` is `values[row * row_stride + column * column_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix of this width.
    pub(super) fn new(values: &'a [f32], width: usize) -> Self {
        Self { values, row_stride: width, column_stride: 1 }
    }

    /// Its transpose.
    pub(super) fn t(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.values.len()
    }
}

/// `out = left · right`, or `out += left · right`, for `out` row-major `[rows, columns]`, `left`
/// `[rows, inner]` and `right` `[inner, columns]`.
pub(super) fn multiply(
    out: &mut [f32],
    (rows, inner, columns): (usize, usize, usize),
    left: Matrix<'_>,
    right: Matrix<'_>,
    add: bool,
) {
    assert_eq!(out.len(), rows * columns, "the result is {rows} by {columns}");
    assert!(left.holds(rows, inner), "the left matrix is {rows} by {inner}");
    assert!(right.holds(inner, columns), "the right matrix is {inner} by {columns}");
    // SAFETY: the asserts above prove that every element that the strides reach lies within its
    // slice; `out` is borrowed mutably, so it overlaps with neither input.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            columns as isize,
            add,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
