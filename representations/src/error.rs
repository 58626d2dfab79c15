//! Errors of the schema, of batches, of tensors and of programs. Those of bundles are in
//! [`bundle`](crate::bundle).

/// A schema that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Nothing to score with.
    #[error("the schema has no {kind} features")]
    NoFeatures {
        /// `dense` or `sparse`.
        kind: &'static str,
    },
    /// More features than any batch may have.
    #[error(
        "the schema has {count} {kind} features; at most {} are allowed",
        crate::schema::MAX_FEATURES
    )]
    TooManyFeatures {
        /// `dense` or `sparse`.
        kind: &'static str,
        /// How many it names.
        count: usize,
    },
    /// Two features of one kind share a name.
    #[error("feature `{feature}` is named twice")]
    Repeated {
        /// The name.
        feature: String,
    },
    /// A cardinality of zero, or beyond what ids can address.
    #[error(
        "feature `{feature}` has cardinality {cardinality}; it must be 1 to {}",
        crate::schema::MAX_CARDINALITY
    )]
    Cardinality {
        /// The feature.
        feature: String,
        /// What was given.
        cardinality: u64,
    },
}

/// Input that is not a batch of the schema.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The dense values do not divide into samples.
    #[error("{got} dense values do not divide into samples of {width}")]
    Dense {
        /// Values given.
        got: usize,
        /// Values per sample.
        width: usize,
    },
    /// Too few or too many ids.
    #[error("{got} ids given where the shape needs {expected}")]
    Ids {
        /// Ids given.
        got: usize,
        /// Ids needed.
        expected: usize,
    },
    /// Too few or too many bag lengths.
    #[error("{got} bag lengths given where features × samples is {expected}")]
    Lengths {
        /// Lengths given.
        got: usize,
        /// Lengths needed.
        expected: usize,
    },
    /// Too few or too many weights.
    #[error("{got} weights given for {expected} ids")]
    Weights {
        /// Weights given.
        got: usize,
        /// Ids given.
        expected: usize,
    },
    /// A weight is NaN or infinite.
    #[error("weight {at} is not finite")]
    Weight {
        /// Its position.
        at: usize,
    },
    /// A dense value is NaN or infinite.
    #[error("dense feature {feature} of sample {sample} is not finite")]
    NotFinite {
        /// The sample, from 0.
        sample: usize,
        /// The dense feature, from 0.
        feature: usize,
    },
    /// An id is outside its vocabulary and the schema refuses those.
    #[error("id {id} of sparse feature {feature}, sample {sample}, is not in 0..{cardinality}")]
    OutOfVocabulary {
        /// The sparse feature, from 0.
        feature: usize,
        /// The sample, from 0.
        sample: usize,
        /// The id as given.
        id: i64,
        /// The feature's cardinality.
        cardinality: u64,
    },
    /// More ids than one batch may hold.
    #[error("{ids} ids in one batch; at most {} are allowed", crate::batch::MAX_IDS)]
    TooLarge {
        /// Ids given.
        ids: usize,
    },
}
