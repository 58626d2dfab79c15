//! What a service did for a model since it began, in counts and sums of time.

use std::time::{Duration, SystemTime};

/// So many events, which took this long together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Events.
    pub count: u64,
    /// Time of all of them.
    pub time: Duration,
}

/// What was done for one model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelWork {
    /// Queries that no path took.
    pub refused: Spent,
    /// Every path, in the order of their names.
    pub paths: Vec<PathWork>,
}

/// What one path did. Every query that it took and that is over is in `answered` or in `failed`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathWork {
    /// Its name: `table@cpu`.
    pub path: String,
    /// Queries answered with scores, from arrival to the answer.
    pub answered: Spent,
    /// Queries that expired, failed, or whose client left, from arrival to then.
    pub failed: Spent,
    /// Samples of the queries answered.
    pub samples: u64,
    /// Of the queries answered, from arrival to the start of their batch.
    pub queue: Duration,
    /// Of the queries answered, the stages of their batches; queries of one batch count its time each.
    pub stages: Stages,
    /// Batches run, by size.
    pub batches: Vec<BatchWork>,
    /// Memory that it holds.
    pub memory: Vec<Memory>,
    /// When it answered last.
    pub last: Option<SystemTime>,
}

/// The time of batches, by what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages {
    /// Putting the samples of queries together.
    pub input: Duration,
    /// Scoring them.
    pub infer: Duration,
    /// Taking the scores apart.
    pub output: Duration,
}

/// Batches of about one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchWork {
    /// The largest size of the class: batches of more than half of it up to it are in it.
    pub size: u64,
    /// How many.
    pub count: u64,
    /// Their time.
    pub stages: Stages,
}

/// Memory on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Whose.
    pub kind: MemoryKind,
    /// Number of the device among those of its kind.
    pub id: u32,
    /// How much.
    pub bytes: u64,
}

/// Kinds of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryKind {
    /// The process's own.
    Cpu,
    /// A graphics card's.
    Gpu,
}

impl Stages {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            input: self.input + other.input,
            infer: self.infer + other.infer,
            output: self.output + other.output,
        }
    }
}

impl Spent {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, time: self.time + other.time }
    }
}

impl Memory {
    /// Memory of a device by the name that profiles give it: `cpu`, `cuda:1`, `wgpu`.
    pub(crate) fn of_device(device: &str, bytes: u64) -> Self {
        let (name, number) = device.split_once(':').unwrap_or((device, "0"));
        let kind = if name == "cpu" { MemoryKind::Cpu } else { MemoryKind::Gpu };
        Self { kind, id: number.parse().unwrap_or_default(), bytes }
    }
}
