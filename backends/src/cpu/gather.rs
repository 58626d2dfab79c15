//! All lookups of a program in one pass.

use std::ops::Range;

use half::{bf16, f16};
use mprec_representations::{Bags, FusedRows, Rows, Tensor};

use super::{
    divide::RowPicker, executable::Scratch, input::Input, kernels::Kernels, matrix::MatrixMut,
    place::Place, spread::spread, step::Now, sum_half_rows::Halves, sum_rows::prefetch,
};

/// Rows to ask for before the first of them is added. Beyond what a core can wait for at once
/// there is nothing to gain, and too many would push each other out of the first-level cache.
const WAVE: usize = 64;

/// Ids of one feature whose rows are resolved together when bags hold any number of ids.
const CHUNK: usize = 1024;

/// One table, and where its sums go.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) feature: usize,
    pub(crate) table: Table,
    pub(crate) picker: RowPicker,
    pub(crate) to: Place,
}

/// Rows in a format that this backend has kernels for.
#[derive(Debug)]
pub(crate) enum Table {
    F32(Tensor<f32>),
    F16(Tensor<f16>),
    BF16(Tensor<bf16>),
    Fused(FusedRows),
}

impl Table {
    /// Nothing for a format without kernels.
    pub(crate) fn new(rows: &Rows) -> Option<Self> {
        match rows {
            Rows::F32(table) => Some(Self::F32(table.clone())),
            Rows::F16(table) => Some(Self::F16(table.clone())),
            Rows::BF16(table) => Some(Self::BF16(table.clone())),
            Rows::Fused(table) => Some(Self::Fused(table.clone())),
            _ => None,
        }
    }

    fn prefetch(&self, rows: &[u64]) {
        match self {
            Self::F32(table) => prefetch(table.as_slice(), table.width(), rows),
            Self::F16(table) => prefetch(table.as_slice(), table.width(), rows),
            Self::BF16(table) => prefetch(table.as_slice(), table.width(), rows),
            Self::Fused(table) => prefetch(table.bytes().as_slice(), table.bytes().width(), rows),
        }
    }

    fn gather(&self, kernels: &Kernels, rows: &[u64], out: MatrixMut<'_>) {
        match self {
            Self::F32(table) => (kernels.sum_rows.gather)(table.as_slice(), rows, out),
            Self::F16(table) => {
                (kernels.sum_half_rows.gather)(Halves::F16(table.as_slice()), rows, out);
            }
            Self::BF16(table) => {
                (kernels.sum_half_rows.gather)(Halves::BF16(table.as_slice()), rows, out);
            }
            Self::Fused(table) => (kernels.sum_fused_rows.gather)(table, rows, out),
        }
    }

    fn sum(&self, kernels: &Kernels, rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
        match self {
            Self::F32(table) => (kernels.sum_rows.sum)(table.as_slice(), rows, weights, sum),
            Self::F16(table) => {
                (kernels.sum_half_rows.sum)(Halves::F16(table.as_slice()), rows, weights, sum);
            }
            Self::BF16(table) => {
                (kernels.sum_half_rows.sum)(Halves::BF16(table.as_slice()), rows, weights, sum);
            }
            Self::Fused(table) => (kernels.sum_fused_rows.sum)(table, rows, weights, sum),
        }
    }
}

/// Every lookup of a program.
#[derive(Debug)]
pub(crate) struct Gather {
    pub(crate) lookups: Vec<Lookup>,
}

impl Gather {
    /// Row numbers of scratch memory that it needs for blocks of `block` samples.
    pub(crate) fn scratch(&self, block: usize) -> usize {
        let picking = self.lookups.iter().filter(|lookup| lookup.picker != RowPicker::Id);
        CHUNK.max(picking.count() * block)
    }

    pub(crate) fn run(
        &self,
        input: Input<'_>,
        now: &Now<'_>,
        kernels: &Kernels,
        scratch: &mut Scratch,
    ) {
        let Scratch { numbers, buffers, .. } = scratch;
        if input.is_one_hot() {
            self.one_hot(input, now, kernels, scratch);
        } else {
            for lookup in &self.lookups {
                let (bags, which) = (input.bags(lookup.feature), lookup.bags(input, now));
                let out = lookup.to.write(&mut buffers[lookup.to.target()], which.len());
                lookup.jagged(bags, which, kernels, numbers, out);
            }
        }
        for lookup in &self.lookups {
            if let Some(of) = input.sharing(lookup.feature) {
                spread(lookup.to, &mut scratch.buffers, now, of);
            }
        }
    }

    /// Every bag holds one id: the next lookups' rows are asked for while these are copied.
    fn one_hot(&self, input: Input<'_>, now: &Now<'_>, kernels: &Kernels, scratch: &mut Scratch) {
        let Scratch { numbers, buffers, .. } = scratch;
        let samples = now.samples.len();
        let ids = |lookup: &Lookup| &input.bags(lookup.feature).ids()[lookup.bags(input, now)];
        let mut free = &mut numbers[..];
        for lookup in self.lookups.iter().filter(|lookup| lookup.picker != RowPicker::Id) {
            let (rows, rest) = free.split_at_mut(samples);
            lookup.picker.pick(ids(lookup), rows);
            free = rest;
        }
        let mut picked = numbers.chunks_exact(samples);
        let mut rows_of = |lookup: &Lookup| match lookup.picker {
            RowPicker::Id => ids(lookup),
            _ => lookup.first(input, now, picked.next()),
        };
        let mut ahead = self.lookups.iter();
        // One row number slice per lookup is known twice: when asked for and when copied.
        let mut again = numbers.chunks_exact(samples);
        let per_wave = WAVE.div_ceil(samples);
        let mut ask = |count: usize| {
            for lookup in ahead.by_ref().take(count) {
                lookup.table.prefetch(rows_of(lookup));
            }
        };
        ask(per_wave);
        for wave in self.lookups.chunks(per_wave) {
            ask(per_wave);
            for lookup in wave {
                let rows = match lookup.picker {
                    RowPicker::Id => ids(lookup),
                    _ => lookup.first(input, now, again.next()),
                };
                let out = lookup.to.write(&mut buffers[lookup.to.target()], rows.len());
                lookup.table.gather(kernels, rows, out);
            }
        }
    }
}

impl Lookup {
    /// The bags to look up: of groups if those share the feature, of samples if not.
    fn bags(&self, input: Input<'_>, now: &Now<'_>) -> Range<usize> {
        match input.sharing(self.feature) {
            Some(_) => now.groups.clone(),
            None => now.samples.clone(),
        }
    }

    /// The rows that were picked for it, which take memory for as many as there are samples.
    fn first<'a>(&self, input: Input<'_>, now: &Now<'_>, picked: Option<&'a [u64]>) -> &'a [u64] {
        let picked = picked.expect("rows were picked for each of these lookups before");
        &picked[..self.bags(input, now).len()]
    }

    /// Bags of any number of ids, in chunks so that scratch memory stays small.
    fn jagged(
        &self,
        bags: Bags<'_>,
        samples: Range<usize>,
        kernels: &Kernels,
        numbers: &mut [u64],
        mut out: MatrixMut<'_>,
    ) {
        for row in 0..samples.len() {
            out.row(row).fill(0.0);
        }
        let (Some(first), Some(last)) = (samples.clone().next(), samples.clone().next_back())
        else {
            return;
        };
        let ids = bags.range(first).start..bags.range(last).end;
        let mut bag = first;
        for start in ids.clone().step_by(CHUNK) {
            let chunk = start..ids.end.min(start + CHUNK);
            let rows = &mut numbers[..chunk.len()];
            self.picker.pick(&bags.ids()[chunk.clone()], rows);
            self.table.prefetch(rows);
            let mut at = chunk.start;
            while at < chunk.end {
                let end = bags.range(bag).end.min(chunk.end);
                self.table.sum(
                    kernels,
                    &rows[at - chunk.start..end - chunk.start],
                    bags.weights().map(|weights| &weights[at..end]),
                    out.row(bag - samples.start),
                );
                at = end;
                if bags.range(bag).end <= at {
                    bag += 1;
                }
            }
        }
    }
}
