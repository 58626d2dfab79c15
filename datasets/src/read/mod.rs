//! Click logs as downloaded: opened, cut into runs of whole lines, and parsed in parallel.

mod chunks;
mod input;
mod line;

pub(crate) use self::chunks::{Chunk, Limits, read_all};
pub(crate) use self::input::Input;
pub use self::line::{LineError, ValueError};
pub(crate) use self::line::{
    MAX_EXAMPLES, ParsedRows, dense, log_of, parse_chunk, parse_line, token,
};

/// Longest line, in bytes. A longer one is malformed, and is skipped without being held.
pub const MAX_LINE_BYTES: usize = 64 << 10;
