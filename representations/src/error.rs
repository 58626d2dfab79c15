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
    /// A group of samples without a sample.
    #[error("group {group} holds no samples")]
    Group {
        /// The group, from 0.
        group: usize,
    },
    /// Groups that are not those of the samples.
    #[error("groups of {got} samples given for {samples}")]
    Groups {
        /// Samples of all groups.
        got: usize,
        /// Samples given.
        samples: usize,
    },
    /// More ids than one batch may hold.
    #[error("{ids} ids in one batch; at most {} are allowed", crate::batch::MAX_IDS)]
    TooLarge {
        /// Ids given.
        ids: usize,
    },
}

/// Operations that do not make a program, or a batch that does not fit one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The batch has other features than the program reads.
    #[error(
        "the batch has {} dense and {} sparse features (or other cardinalities); the program reads {} and {}",
        dense.0, sparse.0, dense.1, sparse.1
    )]
    Batch {
        /// Dense features of the batch, and of the program.
        dense: (usize, usize),
        /// Sparse features of the batch, and of the program.
        sparse: (usize, usize),
    },
    /// An operation names a sparse feature that is not in the schema.
    #[error("there is no sparse feature {feature}; the schema has {features}")]
    NoFeature {
        /// The feature, from 0.
        feature: usize,
        /// How many there are.
        features: usize,
    },
    /// A table is too small for its feature's ids.
    #[error("the table of sparse feature {feature} has {rows} rows; its ids need {needed}")]
    Rows {
        /// The feature, from 0.
        feature: usize,
        /// Rows in the table.
        rows: usize,
        /// Rows that the ids can pick.
        needed: u64,
    },
    /// Ids cannot be divided by zero.
    #[error("the divisor of sparse feature {feature}'s ids is zero")]
    Divisor {
        /// The feature, from 0.
        feature: usize,
    },
    /// Box–Muller makes values in pairs.
    #[error(
        "the gaussian transform of sparse feature {feature} needs an even number of hashes, not {hashes}"
    )]
    OddHashes {
        /// The feature, from 0.
        feature: usize,
        /// Hashes given.
        hashes: usize,
    },
    /// Shapes do not fit.
    #[error("`{op}` needs {expected}, got {got:?}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What would fit.
        expected: String,
        /// What was given.
        got: Vec<usize>,
    },
    /// The operation reduces ids to samples and was given samples already.
    #[error("`{op}` needs one row per id, got one per sample")]
    NotPerId {
        /// The operation.
        op: &'static str,
    },
    /// The operation works on samples and was given rows per id.
    #[error("`{op}` needs one row per sample, got one per id; reduce the bags first")]
    NotPerSample {
        /// The operation.
        op: &'static str,
    },
    /// A slot of no width, or of an absurd one.
    #[error(
        "a layer of width {width} is not possible; it must be 1 to {}",
        crate::program::MAX_WIDTH
    )]
    Width {
        /// The width.
        width: usize,
    },
    /// The columns a, b, p, m of a hash family are outside their limits.
    #[error(
        "hash {at} has a={a}, b={b}, p={p}, m={m}; needed are 1 ≤ a < p, 0 ≤ b < p, 2 ≤ p ≤ 2^31, 2 ≤ m ≤ 2^24"
    )]
    Hash {
        /// Which hash, from 0.
        at: usize,
        /// Multiplier.
        a: i64,
        /// Offset.
        b: i64,
        /// Prime.
        p: i64,
        /// Range.
        m: i64,
    },
}
