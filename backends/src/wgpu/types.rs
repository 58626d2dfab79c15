//! The vocabulary of a plan: which shader, over which buffers, with which words.

use mprec_representations::RowsOf;

/// A shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    BagSum,
    Hash,
    Linear,
    Quantise,
    LinearInt8,
    BagReduce,
    Elementwise,
    Dot,
}

impl Kernel {
    /// All of them, with their sources after what is common to all.
    pub(super) const SOURCES: [(Self, &str); 8] = [
        (
            Self::BagSum,
            concat!(include_str!("shaders/common.wgsl"), include_str!("shaders/bag_sum.wgsl")),
        ),
        (
            Self::Hash,
            concat!(include_str!("shaders/common.wgsl"), include_str!("shaders/hash.wgsl")),
        ),
        (
            Self::Linear,
            concat!(include_str!("shaders/common.wgsl"), include_str!("shaders/linear.wgsl")),
        ),
        (
            Self::Quantise,
            concat!(include_str!("shaders/common.wgsl"), include_str!("shaders/quantise.wgsl")),
        ),
        (
            Self::LinearInt8,
            concat!(include_str!("shaders/common.wgsl"), include_str!("shaders/linear_int8.wgsl")),
        ),
        (
            Self::BagReduce,
            concat!(include_str!("shaders/common.wgsl"), include_str!("shaders/bag_reduce.wgsl")),
        ),
        (
            Self::Elementwise,
            concat!(include_str!("shaders/common.wgsl"), include_str!("shaders/elementwise.wgsl")),
        ),
        (Self::Dot, concat!(include_str!("shaders/common.wgsl"), include_str!("shaders/dot.wgsl"))),
    ];

    /// What reports call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BagSum => "bag_sum",
            Self::Hash => "hash",
            Self::Linear => "linear",
            Self::Quantise => "quantise",
            Self::LinearInt8 => "linear_int8",
            Self::BagReduce => "bag_reduce",
            Self::Elementwise => "elementwise",
            Self::Dot => "dot",
        }
    }
}

/// What `elementwise` computes, by the numbers in its source.
#[derive(Debug, Clone, Copy)]
pub(super) enum Elementwise {
    Copy = 0,
    Product = 1,
    Sum = 2,
    Affine = 3,
    AddTo = 4,
    Divide = 5,
    Sigmoid = 6,
}

/// A buffer that a shader reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ref {
    /// None; the shader does not look at it.
    None,
    /// The batch.
    Batch,
    /// Parameters, by their number.
    Parameter(usize),
    /// Values, by their number.
    Values(usize),
}

/// A word that a shader is given: fixed, or known once the batch is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    Fixed(u32),
    /// Number of rows.
    Rows(RowsOf),
    /// The first of the ids that this call is for, counted over the batch.
    First,
    /// Where a feature's ids are in the batch, from that one on.
    Ids(usize),
    /// Where the starts of its bags are.
    Offsets(usize),
    /// Where its weights are, if it has any.
    Weights(usize),
    /// Where the rows are that its ids pick by this index, counted over the plan.
    Picks(usize),
}

/// Rows and columns that one workgroup of a product computes.
pub(super) const TILE: usize = 16;

/// How many workgroups a shader needs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Groups {
    /// 64 threads to a workgroup, one thread per row and column.
    Elements { rows: RowsOf, width: usize },
    /// One per row.
    Rows(RowsOf),
    /// One per [`TILE`] rows and [`TILE`] columns.
    Tiles { rows: RowsOf, width: usize },
}

impl Groups {
    /// The rows that they are for.
    pub(super) fn rows(self) -> RowsOf {
        match self {
            Self::Elements { rows, .. } | Self::Rows(rows) | Self::Tiles { rows, .. } => rows,
        }
    }
}

/// One call of a shader.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) kernel: Kernel,
    /// What it is called for: all samples at once, or some ids of a feature at a time.
    pub(super) over: RowsOf,
    pub(super) source: Ref,
    pub(super) second: Ref,
    pub(super) third: Ref,
    pub(super) result: Ref,
    pub(super) words: Vec<Word>,
    pub(super) groups: Groups,
}

/// Where a value of the program lies: rows of `stride` floats in a buffer, from `offset` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) buffer: Ref,
    pub(super) offset: usize,
    pub(super) stride: usize,
}

/// A buffer of values: rows of so many floats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values {
    pub(super) rows: RowsOf,
    pub(super) stride: usize,
}
