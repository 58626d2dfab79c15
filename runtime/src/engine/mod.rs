//! The engine: what happens to a query between a protocol and its answer.
//!
//! ```text
//!  submit ──▶ router decides ──▶ path's queue ──▶ worker takes a batch ──▶ scores ──▶ outcome
//!             └────────── one short lock ─────┘   └ lock ┘         run      └ lock ┘
//! ```
//!
//! 1. **One lock.** Everything that a decision depends on, and every query that waits, is behind one
//!    mutex. It is held for a microsecond at a time, never while anything runs, waits or is
//!    sent.
//! 2. **Workers** own one [`Executable`](mprec_backends::Executable) per path of their device. A
//!    worker that is done takes the next batch under the same lock that reports the last one;
//!    one without work sleeps on its device's condition variable.
//! 3. **One outcome.** A query that was taken is in exactly one place: waiting, or with a worker. Its
//!    sender moves from one to the other and is used up by the outcome.
//!
//! The queue, the choice of queue and the forming of batches are the router's; this module
//! supplies threads, clocks and memory, and so the simulator runs the same rules.
//!
//! A query whose client went away leaves its queue at once. A query that expires in the queue is
//! answered so by the next worker, or by the housekeeper if all are busy. A large query that the router
//! admits in parts is run by several workers at once and answered with its last part. A path
//! whose device fails or panics goes down: what waited for it is decided anew, once, while its
//! deadline allows, and the path is probed until it can be brought up again.

mod assembly;
mod clock;
mod error;
mod gone;
mod handle;
mod housekeeper;
mod ledger;
mod outcome;
mod recorded;
mod recovery;
mod shared;
mod state;
mod stats;
#[cfg(test)]
mod tests;
mod ticket;
mod worker;

pub use self::{
    error::EngineError,
    handle::{Drained, Engine, EngineOptions, router_config},
    recovery::Backoff,
    stats::{EngineStats, PathCounts, PathStats},
};
