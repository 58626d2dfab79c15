//! How far a preparation is.

/// What a preparation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Reading files; counted in bytes of them as they lie on disk.
    Reading,
    /// Making up rows; counted in rows.
    Generating,
    /// Counting tokens; counted in features.
    Counting,
    /// Writing final ids and digests; counted in shards.
    Encoding,
}

impl Stage {
    /// The stage in one word, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Generating => "generating",
            Self::Counting => "counting",
            Self::Encoding => "encoding",
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// How much of the stage is done, in its unit.
    pub done: u64,
    /// How much there is to do. For pipes it is not known and 0.
    pub total: u64,
    /// Rows so far.
    pub rows: u64,
    /// Malformed lines so far.
    pub malformed: u64,
}
