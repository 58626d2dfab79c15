//! Rows by ids, and sums of bags.
//!
//! Tables that lie one after another in memory are one table to libtorch, and one lookup serves the features of all of
//! them: on a GPU they are uploaded like that, in a mapped bundle they mostly lie like that.

use half::{bf16, f16};
use mprec_representations::{RowIndex, Rows, Tensor as Parameter, quant::TAIL};
use tch::{Device, Kind, TchError, Tensor};

use super::{
    constant::{Constant, Same, Uploader},
    inputs::Bags,
};

/// Tables of one format and width as one, looked up by the ids of a feature each.
#[derive(Debug)]
pub(super) struct Lookup {
    table: Constant,
    format: Format,
    dim: i64,
    index: Index,
    /// `[features, 1]`: where each feature's rows begin. Nothing for a single one, which begins at 0.
    base: Option<Constant>,
    /// Of each feature: where its rows begin, and what it divides ids by.
    parts: Vec<(i64, i64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    F16,
    BF16,
    /// Codes of so many bits.
    Fused(u32),
}

/// How ids become rows, with the divisors `[features, 1]`.
#[derive(Debug)]
enum Index {
    Id,
    Remainder(Constant),
    Quotient(Constant),
}

/// A table, and how ids pick its rows.
pub(super) type Part<'a> = (&'a Rows, RowIndex);

impl Format {
    /// Nothing for a format that is not known here.
    pub(super) fn of(rows: &Rows) -> Option<Self> {
        match rows {
            Rows::F32(_) => Some(Self::F32),
            Rows::F16(_) => Some(Self::F16),
            Rows::BF16(_) => Some(Self::BF16),
            Rows::Fused(rows) => Some(Self::Fused(rows.bits())),
            _ => None,
        }
    }
}

/// First byte of a table, and the first after it.
pub(super) fn extent(rows: &Rows) -> (usize, usize) {
    let start = match rows {
        Rows::F32(table) => table.as_slice().as_ptr().addr(),
        Rows::F16(table) => table.as_slice().as_ptr().addr(),
        Rows::BF16(table) => table.as_slice().as_ptr().addr(),
        Rows::Fused(table) => table.bytes().as_slice().as_ptr().addr(),
        _ => 0,
    };
    (start, start + rows.bytes())
}

impl Lookup {
    /// `parts` are of one format, width and kind of index. On a CPU, their tables leave no gap.
    ///
    /// # Safety
    ///
    /// The tables must stay where they are, unchanged, as long as the lookup lives.
    pub(super) unsafe fn new(
        parts: &[Part<'_>],
        format: Format,
        uploader: &mut Uploader,
    ) -> Result<Self, TchError> {
        // One table may serve several features.
        let mut tables: Vec<&Rows> = parts.iter().map(|(rows, _)| *rows).collect();
        tables.sort_by_key(|rows| extent(rows));
        tables.dedup_by_key(|rows| extent(rows));
        // SAFETY: as this function asks; tables were sorted by address, and where they must leave no gap this is checked.
        let table = unsafe {
            match format {
                Format::F32 => join::<f32>(&tables, uploader, |rows| match rows {
                    Rows::F32(table) => table,
                    _ => unreachable!("all tables are of one format"),
                }),
                Format::F16 => join::<f16>(&tables, uploader, |rows| match rows {
                    Rows::F16(table) => table,
                    _ => unreachable!("all tables are of one format"),
                }),
                Format::BF16 => join::<bf16>(&tables, uploader, |rows| match rows {
                    Rows::BF16(table) => table,
                    _ => unreachable!("all tables are of one format"),
                }),
                Format::Fused(_) => join::<u8>(&tables, uploader, |rows| match rows {
                    Rows::Fused(table) => table.bytes(),
                    _ => unreachable!("all tables are of one format"),
                }),
            }
        }?;
        let begin = |rows: &Rows| -> i64 {
            let before = tables.iter().take_while(|table| extent(table) != extent(rows));
            before.map(|table| table.len() as i64).sum()
        };
        let parts_of: Vec<(i64, i64)> =
            parts.iter().map(|(rows, index)| (begin(rows), divisor(*index))).collect();
        let column = |uploader: &mut Uploader, pick: fn(&(i64, i64)) -> i64| {
            let values: Vec<i64> = parts_of.iter().map(pick).collect();
            uploader.keep(&Tensor::f_from_slice(&values)?.f_view([-1, 1])?)
        };
        let index = match parts[0].1 {
            RowIndex::Id => Index::Id,
            RowIndex::Remainder { .. } => Index::Remainder(column(uploader, |part| part.1)?),
            RowIndex::Quotient { .. } => Index::Quotient(column(uploader, |part| part.1)?),
        };
        let base = if parts.len() > 1 { Some(column(uploader, |part| part.0)?) } else { None };
        let dim = parts[0].0.dim() as i64;
        Ok(Self { table, format, dim, index, base, parts: parts_of })
    }

    /// Rows of one id per sample, for all features: `[features, samples, dim]` of ids `[features, samples]`, without the
    /// first dimension if there is one feature.
    pub(super) fn one_hot(&self, ids: &Tensor) -> Result<Tensor, TchError> {
        let mut rows = match &self.index {
            Index::Id => ids.shallow_clone(),
            Index::Remainder(divisor) => ids.f_fmod_tensor(divisor)?,
            Index::Quotient(divisor) => ids.f_floor_divide(divisor)?,
        };
        if let Some(base) = &self.base {
            rows = rows.f_add(base)?;
        }
        let vectors = self.decoded(&self.table.f_index_select(0, &rows.f_reshape([-1])?)?)?;
        match self.parts.len() {
            1 => Ok(vectors),
            features => vectors.f_view([features as i64, -1, self.dim]),
        }
    }

    /// Sums of the bags of feature `part`: `[samples, dim]`.
    pub(super) fn bags(&self, part: usize, bags: &Bags) -> Result<Tensor, TchError> {
        let (begin, divisor) = self.parts[part];
        let mut rows = match &self.index {
            Index::Id => bags.ids.shallow_clone(),
            Index::Remainder(_) => bags.ids.f_fmod(divisor)?,
            Index::Quotient(_) => bags.ids.f_floor_divide_scalar(divisor)?,
        };
        if begin > 0 {
            rows = rows.f_add_scalar(begin)?;
        }
        if self.format == Format::F32 {
            return sum(&self.table, &rows, bags);
        }
        bags.sum(&self.decoded(&self.table.f_index_select(0, &rows)?)?)
    }

    /// Rows as 32-bit floats, `[ids, dim]`, with the roundings of the definition.
    fn decoded(&self, rows: &Tensor) -> Result<Tensor, TchError> {
        let bits = match self.format {
            Format::F32 => return Ok(rows.shallow_clone()),
            Format::F16 | Format::BF16 => return rows.f_to_kind(Kind::Float),
            Format::Fused(bits) => bits,
        };
        let width = rows.size2()?.1 - TAIL as i64;
        let codes = rows.f_narrow(1, 0, width)?;
        let codes = if bits == 8 {
            codes.f_to_kind(Kind::Float)?
        } else {
            // Two codes a byte, low bits first.
            let high = codes.f_floor_divide_scalar(16)?;
            let low = codes.f_bitwise_and(15)?;
            let pairs = Tensor::f_stack(&[low, high], 2)?.f_view([-1, 2 * width])?;
            pairs.f_narrow(1, 0, self.dim)?.f_to_kind(Kind::Float)?
        };
        // Two halves, low byte first, as this machine and every GPU has them.
        let tail = rows.f_narrow(1, width, TAIL as i64)?.f_clone_tail()?;
        let tail = tail.f_view_dtype(Kind::Half)?.f_to_kind(Kind::Float)?;
        codes.f_mul(&tail.f_narrow(1, 0, 1)?)?.f_add(&tail.f_narrow(1, 1, 1)?)
    }

    /// Bytes of temporary values per sample of every feature together.
    pub(super) fn scratch(&self) -> usize {
        let per_row = match self.format {
            Format::F32 => 0,
            _ => 8 * self.dim as usize,
        };
        self.parts.len() * (16 + per_row)
    }
}

/// A copy whose rows lie one after another: bytes are read as halves then.
trait CloneTail {
    fn f_clone_tail(&self) -> Result<Tensor, TchError>;
}

impl CloneTail for Tensor {
    fn f_clone_tail(&self) -> Result<Tensor, TchError> {
        let copy = Tensor::f_empty(self.size().as_slice(), (Kind::Uint8, self.device()));
        let mut copy = copy?;
        copy.f_copy_(self)?;
        Ok(copy)
    }
}

/// # Safety
///
/// As [`Uploader::join`], but for the gaps.
unsafe fn join<E: Same>(
    tables: &[&Rows],
    uploader: &mut Uploader,
    get: impl Fn(&Rows) -> &Parameter<E>,
) -> Result<Constant, TchError> {
    let parts: Vec<&Parameter<E>> = tables.iter().map(|rows| get(rows)).collect();
    let gapless = tables.windows(2).all(|pair| extent(pair[0]).1 == extent(pair[1]).0);
    assert!(gapless || uploader.device != Device::Cpu, "tables of a lookup leave no gap");
    // SAFETY: as the caller promises, and there is no gap where there must not be one.
    unsafe { uploader.join(&parts) }
}

/// As 64 signed bits have it: ids lie below 2^40, so a larger divisor does what the largest that they can hold does.
fn divisor(index: RowIndex) -> i64 {
    match index {
        RowIndex::Id => 1,
        RowIndex::Remainder { divisor } | RowIndex::Quotient { divisor } => {
            i64::try_from(divisor).unwrap_or(i64::MAX)
        }
    }
}

/// The sum of the rows that each bag picks, times their weights if there are any.
pub(super) fn sum(table: &Tensor, rows: &Tensor, bags: &Bags) -> Result<Tensor, TchError> {
    const SUM: i64 = 0;
    let weights = bags.weights.as_ref();
    let (sums, ..) = Tensor::f_internal_embedding_bag_forward_only(
        table,
        rows,
        &bags.offsets,
        false,
        SUM,
        false,
        weights,
        true,
        -1,
    )?;
    Ok(sums)
}
