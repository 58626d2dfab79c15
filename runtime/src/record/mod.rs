//! A log of everything that a router was told and what it decided, and its replay.
//!
//! A router is a function of its profiles, its configuration and the order of its events. So a log of
//! those is enough to make every decision again, bit for bit, on another machine and later: to
//! find out why a query went where it went, and what another policy would have done.
//!
//! # The file
//!
//! ```text
//! "MPRECLOG" │ version u32 │ length u32 │ SHA-256 of the header │ header: CBOR of [`Header`]
//! block: length u32 │ CRC-32 of the length u32 │ CRC-32 of the payload u32 │ payload        … as often as it takes
//! ```
//!
//! Integers are little-endian. The payloads, one behind the other, are the records; a record may
//! begin in one block and end in the next. A record is a kind and varints: moments as differences to the
//! record before, deadlines as budgets, ids as differences. A query that runs alone takes some 50
//! bytes: its decision, its batch, its completion. Of a batch that has parts of queries, the log also tells
//! which samples they are and which queries ended with it. The last record says why the log ends; a log
//! without one was cut off, and is good up to its last whole record.
//!
//! # Recording
//!
//! [`Recorder`] encodes an event while the engine holds its lock, since their order is what counts,
//! and puts it into a ring of fixed size. It takes no lock of its own, makes no system call and
//! allocates nothing. A thread takes records out of the ring and writes them. When it falls behind,
//! when the file reaches its limit or cannot be written, recording stops, which is logged and
//! counted, and serving goes on.
//!
//! # Limits
//!
//! Queries that the engine refuses before it asks the router (too many samples or bytes wait, a deadline that
//! has passed on arrival) are not in the log. Inputs and scores are not in the log.

mod decode;
mod encode;
mod error;
mod event;
mod header;
mod outcome;
mod read;
mod recorder;
mod replay;
#[cfg(test)]
pub(crate) mod tests;
mod varint;
mod writer;

pub use self::{
    error::RecordError,
    event::{Ending, Entry, Event, Part, Started},
    header::Header,
    outcome::{Outcome, OutcomeCollector},
    read::LogReader,
    recorder::Recorder,
    replay::{Difference, Replayer},
    writer::{LogWriter, RecordOptions, RecordStats, create},
};

/// The first bytes of a log.
const MAGIC: [u8; 8] = *b"MPRECLOG";
/// The version of the file that is written and read.
pub const VERSION: u32 = 1;
/// Largest header. 64 paths at 64 points fit many times over.
const MAX_HEADER: usize = 4 << 20;
/// Largest payload of one block.
const MAX_BLOCK: usize = 256 << 10;
/// The most queries and parts in one record: what a router lets wait at most, the last of it split.
const MAX_IDS: u64 = 1_000_000 + mprec_router::MOST_PARTS as u64;
