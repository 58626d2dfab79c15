//! Raw click logs to a prepared folder.
//!
//! 1. **Read** the files once, in the order given, which is the order of time. One thread
//!    decompresses and cuts the text into runs of lines; all threads parse. Every token of a
//!    feature gets a provisional id in order of appearance, and rows go to shards with those.
//! 2. **Count** the tokens of the training rows, whose number is known only now, in the shards.
//! 3. **Encode**: order tokens by count, and rewrite the shards' ids in place.
//!
//! With hashing, or with the vocabulary of another folder, ids are final at once and step 2 falls
//! away. The text is never read twice, so a pipe will do.
//!
//! Memory: some 40 bytes per distinct token of the whole input, one shard, and four runs of text
//! per thread. Neither rows nor text are held. Disk: the shards and nothing besides.

mod collect;
mod learn;
mod options;
mod plan;
mod progress;
mod run;
mod seal;

pub(crate) use self::options::DEFAULT_SHARD_ROWS;
pub use self::options::{MalformedLimit, PrepareOptions, Recipe};
pub use self::progress::{Progress, Stage};
pub use self::run::{PrepareReport, prepare};
pub(crate) use self::run::{check_shard_rows, in_pool};
pub(crate) use self::seal::{Unsealed, finish};
