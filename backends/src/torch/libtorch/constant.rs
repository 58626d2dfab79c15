//! Parameters as libtorch sees them: where they are on a CPU, uploaded once to a GPU.

use std::ops::Deref;

use half::{bf16, f16};
use mprec_representations::{Element, Tensor as Parameter};
use tch::{Device, Kind, TchError, Tensor};

/// A tensor that is never written to once it is made. All executables of a program share it.
#[derive(Debug)]
pub(super) struct Constant(Tensor);

// SAFETY: the only way to the tensor is a shared reference, and no code of this folder uses it to write: operations in
// place are called on results of other operations only. Reading a tensor from several threads is what libtorch allows:
// its counts of references are atomic.
unsafe impl Sync for Constant {}

impl Deref for Constant {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// Types that are the same here and there.
pub(super) trait Same: Element {
    const KIND: Kind;
}

impl Same for f32 {
    const KIND: Kind = Kind::Float;
}

impl Same for f16 {
    const KIND: Kind = Kind::Half;
}

impl Same for bf16 {
    const KIND: Kind = Kind::BFloat16;
}

impl Same for u8 {
    const KIND: Kind = Kind::Uint8;
}

impl Same for i64 {
    const KIND: Kind = Kind::Int64;
}

/// Makes constants and counts their bytes.
#[derive(Debug)]
pub(super) struct Uploader {
    pub(super) device: Device,
    /// Bytes of all constants, those that were asked for in vain included.
    pub(super) bytes: usize,
}

impl Uploader {
    /// The parameter: as a view on a CPU, as a copy elsewhere.
    ///
    /// # Safety
    ///
    /// The parameter's elements must stay where they are, unchanged, as long as the constant lives.
    pub(super) unsafe fn share<E: Same>(
        &mut self,
        parameter: &Parameter<E>,
    ) -> Result<Constant, TchError> {
        self.bytes += parameter.bytes();
        // SAFETY: as this function asks.
        let view = unsafe { view(parameter) }?;
        Ok(Constant(if self.device == Device::Cpu { view } else { view.f_to(self.device)? }))
    }

    /// The matrices `parts` of one width, one below the other. On a CPU they must lie in memory like that already.
    ///
    /// # Safety
    ///
    /// As [`share`](Self::share), for all parts; on a CPU each must begin where the one before ends.
    pub(super) unsafe fn join<E: Same>(
        &mut self,
        parts: &[&Parameter<E>],
    ) -> Result<Constant, TchError> {
        let rows: usize = parts.iter().map(|part| part.rows()).sum();
        let shape = [rows as i64, parts[0].width() as i64];
        self.bytes += parts.iter().map(|part| part.bytes()).sum::<usize>();
        if self.device == Device::Cpu {
            let start = parts[0].as_slice().as_ptr().cast();
            // SAFETY: the parts are readable as long as the caller promises, and without a gap between them they are one
            // array of this shape, which is only read.
            return Ok(Constant(unsafe {
                Tensor::f_from_blob(start, &shape, &[], E::KIND, Device::Cpu)
            }?));
        }
        let whole = Tensor::f_empty(shape, (E::KIND, self.device))?;
        let mut at = 0;
        for part in parts {
            // SAFETY: the view does not outlive this call.
            let view = unsafe { view(part) }?;
            let mut place = whole.f_narrow(0, at, part.rows() as i64)?;
            place.f_copy_(&view)?;
            at += part.rows() as i64;
        }
        Ok(Constant(whole))
    }

    /// A tensor made on the host. Small ones, or those that libtorch wants in another order than they are in.
    pub(super) fn keep(&mut self, tensor: &Tensor) -> Result<Constant, TchError> {
        self.bytes += tensor.numel() * tensor.f_kind()?.elt_size_in_bytes();
        // A copy even on a CPU: what is given may view memory that goes away.
        let copy = tensor.f_to_device_(self.device, tensor.f_kind()?, false, true)?;
        Ok(Constant(copy.f_contiguous()?))
    }
}

impl Constant {
    /// A view of it, made of its only owner.
    pub(super) fn map(
        self,
        view: impl FnOnce(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Self, TchError> {
        Ok(Self(view(&self.0)?))
    }
}

/// The parameter, without a copy.
///
/// # Safety
///
/// The elements must stay where they are, unchanged, as long as the tensor lives, and it must not be written to.
pub(super) unsafe fn view<E: Same>(parameter: &Parameter<E>) -> Result<Tensor, TchError> {
    let shape: Vec<i64> = parameter.shape().iter().map(|&length| length as i64).collect();
    // SAFETY: the slice holds exactly as many elements of this kind as its shape says, aligned for them, and lives as long
    // as the caller promises.
    unsafe {
        Tensor::f_from_blob(parameter.as_slice().as_ptr().cast(), &shape, &[], E::KIND, Device::Cpu)
    }
}
