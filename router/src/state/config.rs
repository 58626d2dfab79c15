//! What an operator may set about queues and predictions.

use serde::{Deserialize, Serialize};

use crate::split::MOST_PARTS;

/// What an operator may set about queues and predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterConfig {
    /// The most queries waiting, over all paths; further ones are refused whatever the policy. Each part
    /// of a split query counts.
    pub max_queued: usize,
    /// The share of admitted queries that shall be done by their predicted upper finish.
    pub coverage: f64,
    /// How long a batch that is not full waits for more while a lane is idle, microseconds.
    pub linger_us: u64,
    /// Time between the end of a batch and the answer in the caller's hands, and between a
    /// submission and its start on an idle lane, microseconds; added to every prediction.
    pub overhead_us: u64,
    /// The most parts that one query is split into, each on a lane of its own. Left out, as many as
    /// its device has lanes, and at most [`MOST_PARTS`]; 1 keeps every query whole. Only `multi-path` splits.
    pub max_parts: Option<u32>,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self { max_queued: 4_096, coverage: 0.99, linger_us: 0, overhead_us: 0, max_parts: None }
    }
}

/// What makes a [`RouterConfig`] unusable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A coverage that is not a large share.
    #[error("`coverage` is {value}; it lies in [0.5, 0.9999]")]
    Coverage {
        /// What was given.
        value: f64,
    },
    /// A bound of 0, or one that a queue should never reach.
    #[error("`max_queued` is {value}; it lies in 1..=1000000")]
    MaxQueued {
        /// What was given.
        value: usize,
    },
    /// No parts, or more than a split can have.
    #[error("`max_parts` is {value}; it lies in 1..={MOST_PARTS}, and 1 keeps queries whole")]
    MaxParts {
        /// What was given.
        value: u32,
    },
    /// A wait beyond a minute.
    #[error("`{key}` is {value} µs; a minute is the limit")]
    Span {
        /// Which key.
        key: &'static str,
        /// What was given.
        value: u64,
    },
}

impl RouterConfig {
    /// # Errors
    ///
    /// [`ConfigError`] that names the key.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(0.5..=0.9999).contains(&self.coverage) {
            return Err(ConfigError::Coverage { value: self.coverage });
        }
        if !(1..=1_000_000).contains(&self.max_queued) {
            return Err(ConfigError::MaxQueued { value: self.max_queued });
        }
        if let Some(value) = self.max_parts.filter(|parts| !(1..=MOST_PARTS).contains(parts)) {
            return Err(ConfigError::MaxParts { value });
        }
        for (key, value) in [("linger_us", self.linger_us), ("overhead_us", self.overhead_us)] {
            if value > 60_000_000 {
                return Err(ConfigError::Span { key, value });
            }
        }
        Ok(())
    }
}
