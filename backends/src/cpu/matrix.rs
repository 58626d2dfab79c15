//! Views of matrices whose rows may lie apart.

/// Rows of `width` floats, `stride` floats from one start to the next.
///
/// The constructor proves that every row lies inside the data; kernels rely on it.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    width: usize,
    stride: usize,
}

/// As [`Matrix`], to be written. What lies between the rows is left alone.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    width: usize,
    stride: usize,
}

/// Panics unless `rows` rows lie inside `length` floats without overlap.
fn prove(length: usize, rows: usize, width: usize, stride: usize) {
    assert!(width <= stride, "rows of {width} floats every {stride}");
    let needed = match rows.checked_sub(1) {
        Some(last) => last.checked_mul(stride).and_then(|start| start.checked_add(width)),
        None => Some(0),
    };
    assert!(
        needed.is_some_and(|needed| needed <= length),
        "{rows} rows every {stride} in {length}"
    );
}

impl<'a> Matrix<'a> {
    /// A view of `data`.
    ///
    /// # Panics
    ///
    /// If a row would overlap the next one or leave `data`.
    pub fn new(data: &'a [f32], rows: usize, width: usize, stride: usize) -> Self {
        prove(data.len(), rows, width, stride);
        Self { data, rows, width, stride }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Floats in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Floats from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `at`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[inline]
    pub fn row(&self, at: usize) -> &'a [f32] {
        assert!(at < self.rows, "row {at} of {}", self.rows);
        &self.data[at * self.stride..][..self.width]
    }

    /// From the first float of the first row on.
    #[inline]
    pub fn as_slice(&self) -> &'a [f32] {
        self.data
    }
}

impl<'a> MatrixMut<'a> {
    /// A view of `data`.
    ///
    /// # Panics
    ///
    /// If a row would overlap the next one or leave `data`.
    pub fn new(data: &'a mut [f32], rows: usize, width: usize, stride: usize) -> Self {
        prove(data.len(), rows, width, stride);
        Self { data, rows, width, stride }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Floats in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Floats from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `at`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[inline]
    pub fn row(&mut self, at: usize) -> &mut [f32] {
        assert!(at < self.rows, "row {at} of {}", self.rows);
        &mut self.data[at * self.stride..][..self.width]
    }

    /// From the first float of the first row on.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        self.data
    }
}
