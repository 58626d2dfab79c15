//! What a representation is: how one sparse feature's ids become vectors.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    clustered::{Clustered, ClusteredSpec},
    dhe::{Dhe, DheSpec},
    error::ProgramError,
    hashed::{Hashed, QuotientRemainder},
    hybrid::Hybrid,
    materialised::Materialised,
    op::{Combination, Slot},
    program::ProgramBuilder,
    table::Table,
    weights::{TensorSpec, Weights, WeightsError},
};

/// Turns the ids of one sparse feature into one or two vectors per bag.
///
/// A representation states two things and runs on no device: what it costs, and which operations
/// compute it. Their reference arithmetic is the interpreter of programs. A variant holds one
/// `Box<dyn Representation>` per sparse feature.
pub trait Representation: fmt::Debug + Send + Sync {
    /// Its word in configs and labels: `table`, `hash`, `dhe`, `hybrid`.
    fn name(&self) -> &'static str;

    /// Memory held, and arithmetic per id.
    fn cost(&self) -> Cost;

    /// Adds the operations that compute it for `feature`.
    ///
    /// # Errors
    ///
    /// When its parameters do not fit the feature's cardinality or each other.
    fn lower(&self, feature: usize, program: &mut ProgramBuilder) -> Result<Vectors, ProgramError>;
}

/// The vectors that a feature brings to the interaction, each `[samples, dim]`.
///
/// An interaction sees all stored vectors in feature order, then all computed ones: the order to
/// which the top net of a hybrid or a select was trained (MP-Rec's artifact).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vectors {
    /// Looked up.
    pub stored: Option<Slot>,
    /// Computed from the id.
    pub computed: Option<Slot>,
}

/// What a representation asks of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes of parameters resident while serving.
    pub bytes: usize,
    /// Floating-point operations to embed one id.
    pub flops_per_id: usize,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            flops_per_id: self.flops_per_id + other.flops_per_id,
        }
    }
}

/// A representation without its parameters, as a manifest states it for one feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "representation", rename_all = "snake_case", deny_unknown_fields)]
pub enum RepresentationSpec {
    /// One row per id.
    Table {
        /// Width of the vector.
        dim: usize,
    },
    /// Row `id mod rows`.
    Hash {
        /// Width of the vector.
        dim: usize,
        /// Rows kept.
        rows: u64,
    },
    /// Two small tables, at `id div collisions` and `id mod collisions`, combined.
    QuotientRemainder {
        /// Width of each table's rows; a `concat` doubles it.
        dim: usize,
        /// Ids that share a quotient row.
        collisions: u64,
        /// How the two become one.
        combination: Combination,
    },
    /// Computed by a small network from hashes of the id.
    Dhe(DheSpec),
    /// A table's vector and a DHE's vector, both seen by the interaction.
    Hybrid {
        /// Width of the table's vector.
        dim: usize,
        /// The other half.
        dhe: DheSpec,
    },
    /// The vectors of a DHE, computed once for every id; as they come from a DHE, the interaction sees them where that
    /// one's vector stood.
    Materialised {
        /// Width of the vector.
        dim: usize,
        /// Width of the table beside it, if it was a hybrid.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beside: Option<usize>,
    },
    /// The vectors of the nearest of some centroids of a DHE's codes; the interaction sees them where that one's vector
    /// stood.
    Clustered(ClusteredSpec),
}

impl RepresentationSpec {
    /// Its word in configs and labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Table { .. } => "table",
            Self::Hash { .. } => "hash",
            Self::QuotientRemainder { .. } => "quotient_remainder",
            Self::Dhe(_) => "dhe",
            Self::Hybrid { .. } => "hybrid",
            Self::Materialised { .. } => "materialised",
            Self::Clustered(_) => "clustered",
        }
    }

    /// Its DHE, alone or beside a table.
    pub fn dhe(&self) -> Option<&DheSpec> {
        match self {
            Self::Dhe(dhe) | Self::Hybrid { dhe, .. } => Some(dhe),
            _ => None,
        }
    }

    /// Widths of the stored and the computed vector.
    pub fn widths(&self) -> (Option<usize>, Option<usize>) {
        match self {
            Self::Table { dim } | Self::Hash { dim, .. } => (Some(*dim), None),
            Self::QuotientRemainder { dim, combination, .. } => {
                let concat = *combination == Combination::Concat;
                // Saturating: the width may come from a hostile manifest and is checked later.
                (Some(if concat { dim.saturating_mul(2) } else { *dim }), None)
            }
            Self::Dhe(dhe) => (None, Some(dhe.dim)),
            Self::Hybrid { dim, dhe } => (Some(*dim), Some(dhe.dim)),
            Self::Materialised { dim, beside } => (*beside, Some(*dim)),
            Self::Clustered(clustered) => (clustered.beside, Some(clustered.dim)),
        }
    }

    /// Widths of the rows that it stores, of one table or two.
    pub fn row_widths(&self) -> impl Iterator<Item = usize> {
        let (first, second) = match self {
            Self::Table { dim }
            | Self::Hash { dim, .. }
            | Self::QuotientRemainder { dim, .. }
            | Self::Hybrid { dim, .. } => (Some(*dim), None),
            Self::Materialised { dim, beside } => (Some(*dim), *beside),
            Self::Clustered(clustered) => (clustered.beside, None),
            Self::Dhe(_) => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// The tensors that hold its parameters for `feature`, whose ids are below `cardinality`.
    pub fn tensors(&self, feature: usize, cardinality: u64) -> Vec<TensorSpec> {
        match self {
            Self::Table { dim } => Table::tensors(feature, cardinality, *dim),
            Self::Hash { dim, rows } => Hashed::tensors(feature, cardinality, *dim, *rows),
            Self::QuotientRemainder { dim, collisions, .. } => {
                QuotientRemainder::tensors(feature, cardinality, *dim, *collisions)
            }
            Self::Materialised { dim, beside } => {
                Materialised::tensors(feature, cardinality, *dim, *beside)
            }
            Self::Clustered(clustered) => clustered.tensors(feature, cardinality),
            Self::Dhe(dhe) => dhe.tensors(feature),
            Self::Hybrid { dim, dhe } => {
                let mut tensors = Table::tensors(feature, cardinality, *dim);
                tensors.extend(dhe.tensors(feature));
                tensors
            }
        }
    }

    /// The representation, with its parameters taken from `weights`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing, or of another type or shape than [`Self::tensors`] says.
    pub fn load(
        &self,
        feature: usize,
        cardinality: u64,
        weights: &Weights,
    ) -> Result<Box<dyn Representation>, WeightsError> {
        Ok(match self {
            Self::Table { dim } => Box::new(Table::load(feature, cardinality, *dim, weights)?),
            Self::Hash { dim, rows } => {
                Box::new(Hashed::load(feature, cardinality, *dim, *rows, weights)?)
            }
            Self::QuotientRemainder { dim, collisions, combination } => {
                Box::new(QuotientRemainder::load(
                    feature,
                    cardinality,
                    (*dim, *collisions, *combination),
                    weights,
                )?)
            }
            Self::Materialised { dim, beside } => {
                Box::new(Materialised::load(feature, cardinality, *dim, *beside, weights)?)
            }
            Self::Clustered(clustered) => {
                Box::new(Clustered::load(feature, cardinality, clustered, weights)?)
            }
            Self::Dhe(dhe) => Box::new(Dhe::load(feature, dhe, weights)?),
            Self::Hybrid { dim, dhe } => Box::new(Hybrid {
                table: Table::load(feature, cardinality, *dim, weights)?,
                dhe: Dhe::load(feature, dhe, weights)?,
            }),
        })
    }
}
