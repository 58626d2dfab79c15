//! Memory for scratch values and packed weights.

use crate::{error::BackendError, path::BackendKind};

/// Floats in a cache line, and in the widest vector.
pub(crate) const LINE: usize = 16;

#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Floats that start on a cache line. The length is rounded up to whole lines.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// `floats` zeros.
    ///
    /// # Errors
    ///
    /// [`BackendError::Memory`] when they cannot be had: sizes follow from a bundle, which anybody
    /// may have written.
    pub(crate) fn zeroed(floats: usize) -> Result<Self, BackendError> {
        let count = floats.div_ceil(LINE);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| BackendError::Memory {
            backend: BackendKind::Cpu,
            bytes: floats.saturating_mul(size_of::<f32>()),
        })?;
        lines.resize(count, Line([0.0; LINE]));
        Ok(Self { lines })
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    /// All floats.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.lines)
    }

    /// All floats.
    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}
