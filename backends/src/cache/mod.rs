//! A cache of vectors that are costly to compute: exact, of a fixed size, on nobody's heap but its own.
//!
//! A DHE's vector is a pure function of the id, and few ids get most of the lookups. The cache holds the
//! vectors of ids that were asked for often, so that the chain of steps behind them is skipped. It is one
//! executable's own: no lock, no atomic, no line of memory that two cores write. Workers of a path thus
//! hold much the same vectors twice; what they would save by sharing, every lookup would pay for, and a lookup has
//! to cost far less than the small net that it saves.
//!
//! It is no decorator around an [`Executable`](crate::Executable): the vectors are inside a run, and an executable
//! shows scores only. The backend whose chain computes the vectors consults it.

mod set;
mod vectors;

pub(crate) use vectors::{Slot, VectorCache};

/// A vector that [`Executable::remember`](crate::Executable::remember) may hold from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HotId {
    /// The sparse feature.
    pub feature: usize,
    /// The id, below the feature's cardinality.
    pub id: u64,
    /// How often it was asked for. Only comparisons count.
    pub count: u64,
}

/// What a cache holds and did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStatistics {
    /// Distinct ids of a chunk that were held.
    pub hits: u64,
    /// Distinct ids of a chunk that were computed.
    pub misses: u64,
    /// Memory, whatever it holds.
    pub bytes: usize,
    /// Vectors that it can hold.
    pub slots: usize,
}
