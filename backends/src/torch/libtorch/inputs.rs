//! A batch, or a part of one, as libtorch sees it.

use std::ops::Range;

use mprec_representations::Batch;
use tch::{Device, Kind, TchError, Tensor};

use super::lookup;

/// Samples of a batch on a device. On a CPU most of it is the batch's own memory.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    /// `[samples, dense_width]`
    pub(super) dense: Tensor,
    pub(super) ids: Ids,
    /// Where it comes from: what is computed on the host is read from here.
    pub(super) batch: &'a Batch,
    pub(super) samples: Range<usize>,
}

#[derive(Debug)]
pub(super) enum Ids {
    /// `[features, samples]`: one id per sample, not weighted.
    OneHot(Tensor),
    /// Of every feature.
    Bags(Vec<Bags>),
}

/// The bags of a feature.
#[derive(Debug)]
pub(super) struct Bags {
    /// `[ids]`
    pub(super) ids: Tensor,
    /// `[samples + 1]`: where bags begin in `ids`, and where the last one ends.
    pub(super) offsets: Tensor,
    /// `[ids]`
    pub(super) weights: Option<Tensor>,
    /// Where the ids lie in the batch's of the feature.
    pub(super) range: Range<usize>,
}

impl Bags {
    /// The sum of each bag's rows of `values` `[ids, width]`, times their weights if there are any.
    pub(super) fn sum(&self, values: &Tensor) -> Result<Tensor, TchError> {
        // In the order of the ids on every device: adding by index would take any order on a GPU.
        let rows = Tensor::f_arange(self.range.len() as i64, (Kind::Int64, values.device()))?;
        lookup::sum(values, &rows, self)
    }
}

/// Memory of the host in which inputs are laid out before they go to a device: pinned where the device is a GPU, so that
/// it fetches them itself.
#[derive(Debug)]
pub(super) struct Staging {
    device: Device,
    integers: Buffer,
    floats: Buffer,
    offsets: Vec<i64>,
}

/// Memory of one kind, grown when asked for more.
#[derive(Debug)]
struct Buffer {
    kind: Kind,
    pinned: Option<Tensor>,
}

impl Buffer {
    /// The first `length` elements, of type `E`, which is this buffer's kind.
    fn get<E: tch::kind::Element>(
        &mut self,
        length: usize,
        device: Device,
    ) -> Result<(&mut [E], Tensor), TchError> {
        assert_eq!(E::KIND, self.kind, "kind of a staging buffer");
        if self.pinned.as_ref().is_none_or(|tensor| tensor.numel() < length) {
            let room = length.next_power_of_two().max(1024) as i64;
            // Zeros: a slice of what was never written would be undefined.
            let zeros = Tensor::f_zeros([room], (self.kind, Device::Cpu))?;
            self.pinned = Some(zeros.f_pin_memory(device)?);
        }
        let tensor = self.pinned.as_ref().expect("it was made above");
        // SAFETY: the tensor lies in host memory, holds at least `length` elements of this kind, all of them written, and
        // is not read by the device: every run waits for its results before it returns. The borrow of `self` keeps both
        // the tensor and other borrowers away.
        let slice = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), length) };
        Ok((slice, tensor.f_narrow(0, 0, length as i64)?))
    }
}

impl Staging {
    pub(super) fn new(device: Device) -> Self {
        let buffer = |kind| Buffer { kind, pinned: None };
        let (integers, floats) = (buffer(Kind::Int64), buffer(Kind::Float));
        Self { device, integers, floats, offsets: Vec::new() }
    }

    /// The samples in `range`, on the device.
    ///
    /// # Safety
    ///
    /// Tensors of the inputs, and views of them, must be gone before the batch changes and before this is called again.
    pub(super) unsafe fn inputs<'a>(
        &'a mut self,
        batch: &'a Batch,
        samples: Range<usize>,
    ) -> Result<Inputs<'a>, TchError> {
        // SAFETY: as this function asks.
        unsafe {
            if self.device == Device::Cpu {
                self.here(batch, samples)
            } else {
                self.there(batch, samples)
            }
        }
    }

    /// Views of the batch.
    ///
    /// # Safety
    ///
    /// As [`inputs`](Self::inputs).
    unsafe fn here<'a>(
        &'a mut self,
        batch: &'a Batch,
        samples: Range<usize>,
    ) -> Result<Inputs<'a>, TchError> {
        let (start, count) = (samples.start as i64, samples.len() as i64);
        // SAFETY: the batch holds as many values as its shape says and stays as long as the caller promises; inputs are
        // never written to.
        let dense = unsafe { floats(batch.dense(), &[batch.samples(), batch.dense_width()]) }?;
        let dense = dense.f_narrow(0, start, count)?;
        if batch.is_one_hot() {
            // SAFETY: as above.
            let ids = unsafe { integers(batch.ids(), &[batch.features(), batch.samples()]) }?;
            let ids = Ids::OneHot(ids.f_narrow(1, start, count)?);
            return Ok(Inputs { dense, ids, batch, samples });
        }
        let ranges = self.bags(batch, &samples);
        let mut bags = Vec::with_capacity(ranges.len());
        for (feature, range) in ranges.into_iter().enumerate() {
            let of = batch.bags(feature);
            let offsets = &self.offsets[feature * (samples.len() + 1)..][..=samples.len()];
            let length = range.len();
            // SAFETY: as above; the offsets stay as long as this staging is not used again.
            let (ids, offsets, weights) = unsafe {
                let ids = integers(&of.ids()[range.clone()], &[length])?;
                let offsets = integers(bytemuck::cast_slice(offsets), &[offsets.len()])?;
                let weights = of.weights().map(|all| floats(&all[range.clone()], &[length]));
                (ids, offsets, weights.transpose()?)
            };
            bags.push(Bags { ids, offsets, weights, range });
        }
        Ok(Inputs { dense, ids: Ids::Bags(bags), batch, samples })
    }

    /// Copies in the device's memory: one of integers and one of floats, each a single transfer.
    ///
    /// # Safety
    ///
    /// As [`inputs`](Self::inputs).
    unsafe fn there<'a>(
        &'a mut self,
        batch: &'a Batch,
        samples: Range<usize>,
    ) -> Result<Inputs<'a>, TchError> {
        let device = self.device;
        let (count, width) = (samples.len(), batch.dense_width());
        let dense_values = &batch.dense()[samples.start * width..samples.end * width];
        if batch.is_one_hot() {
            let (floats, integers) = (dense_values.len(), batch.features() * count);
            let (slice, staged) = self.floats.get::<f32>(floats, device)?;
            slice.copy_from_slice(dense_values);
            let dense = send(&staged, device)?.f_view([count as i64, width as i64])?;
            let (slice, staged) = self.integers.get::<i64>(integers, device)?;
            for (feature, slice) in slice.chunks_exact_mut(count).enumerate() {
                slice.copy_from_slice(signed(&batch.bags(feature).ids()[samples.clone()]));
            }
            let ids = send(&staged, device)?.f_view([batch.features() as i64, count as i64])?;
            return Ok(Inputs { dense, ids: Ids::OneHot(ids), batch, samples });
        }
        let ranges = self.bags(batch, &samples);
        let total: usize = ranges.iter().map(Range::len).sum();
        let weighted = batch.bags(0).weights().is_some();
        let (slice, staged) = self
            .floats
            .get::<f32>(dense_values.len() + if weighted { total } else { 0 }, device)?;
        slice[..dense_values.len()].copy_from_slice(dense_values);
        let mut at = dense_values.len();
        for (feature, range) in ranges.iter().enumerate() {
            if let Some(weights) = batch.bags(feature).weights() {
                slice[at..at + range.len()].copy_from_slice(&weights[range.clone()]);
                at += range.len();
            }
        }
        let floats = send(&staged, device)?;
        let (slice, staged) = self.integers.get::<i64>(total + self.offsets.len(), device)?;
        slice[..self.offsets.len()].copy_from_slice(&self.offsets);
        let mut at = self.offsets.len();
        for (feature, range) in ranges.iter().enumerate() {
            slice[at..at + range.len()]
                .copy_from_slice(signed(&batch.bags(feature).ids()[range.clone()]));
            at += range.len();
        }
        let integers = send(&staged, device)?;
        let dense = floats.f_narrow(0, 0, dense_values.len() as i64)?;
        let dense = dense.f_view([count as i64, width as i64])?;
        let (mut id, mut weight) = (self.offsets.len() as i64, dense_values.len() as i64);
        let mut bags = Vec::with_capacity(ranges.len());
        for (feature, range) in ranges.into_iter().enumerate() {
            let (places, length) = (count as i64 + 1, range.len() as i64);
            let offsets = integers.f_narrow(0, feature as i64 * places, places)?;
            let ids = integers.f_narrow(0, id, length)?;
            let weights = if weighted { Some(floats.f_narrow(0, weight, length)?) } else { None };
            id += length;
            weight += length;
            bags.push(Bags { ids, offsets, weights, range });
        }
        Ok(Inputs { dense, ids: Ids::Bags(bags), batch, samples })
    }

    /// Fills in the offsets of all features, and tells where their ids lie.
    fn bags(&mut self, batch: &Batch, samples: &Range<usize>) -> Vec<Range<usize>> {
        self.offsets.clear();
        let ranges = (0..batch.features()).map(|feature| {
            let bags = batch.bags(feature);
            let start = bags.range(samples.start).start;
            let mut end = start;
            self.offsets.push(0);
            for sample in samples.clone() {
                end = bags.range(sample).end;
                self.offsets.push((end - start) as i64);
            }
            start..end
        });
        ranges.collect()
    }
}

/// Ids as libtorch has them. They lie below 2^40.
fn signed(ids: &[u64]) -> &[i64] {
    bytemuck::cast_slice(ids)
}

/// To the device, without waiting for the transfer: what follows on the device does.
fn send(staged: &Tensor, device: Device) -> Result<Tensor, TchError> {
    staged.f_to_device_(device, staged.f_kind()?, true, true)
}

/// # Safety
///
/// The values must stay where they are, unchanged, as long as the tensor lives, and it must not be written to.
unsafe fn floats(values: &[f32], shape: &[usize]) -> Result<Tensor, TchError> {
    // SAFETY: as this function asks.
    unsafe { blob(values, shape, Kind::Float) }
}

/// # Safety
///
/// As [`floats`].
unsafe fn integers(values: &[u64], shape: &[usize]) -> Result<Tensor, TchError> {
    // SAFETY: as this function asks; ids and offsets lie below 2^63.
    unsafe { blob(values, shape, Kind::Int64) }
}

/// # Safety
///
/// As [`floats`], and `kind` must be as large as an element.
pub(super) unsafe fn blob<E>(
    values: &[E],
    shape: &[usize],
    kind: Kind,
) -> Result<Tensor, TchError> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "values of a tensor");
    assert_eq!(kind.elt_size_in_bytes(), size_of::<E>(), "size of an element");
    let shape: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
    // SAFETY: there are as many values of this size as the shape says, as long as the caller promises.
    unsafe { Tensor::f_from_blob(values.as_ptr().cast(), &shape, &[], kind, Device::Cpu) }
}
