//! An open-loop load: queries are sent when the trace says, whatever became of those before.
//!
//! ```text
//!  clock thread: encode, wait for the moment ──▶ I/O thread: idle connection ▸ send ▸ receive ▸ tally
//! ```
//!
//! Latency counts from the *scheduled* moment to the whole answer, so a stall of the server, of
//! the network or of this client shows in it and in every query that queued behind (no coordinated
//! omission). A query is in time when that latency is within its budget. The server is told what is
//! left of the budget at the moment of sending, as a caller with a deadline would.
//!
//! A slow server cannot hold the schedule up: when [`LoadOptions::connections`] queries are under
//! way, the next counts as failed with reason `client_saturated`.

mod access;
mod client;
mod clock;
mod driver;
mod encode;
mod manage;
mod report;
mod rows;
mod tally;
#[cfg(test)]
mod tests;

use std::time::Duration;

use mprec_router::sim::{SpecError, Trace};

pub use self::{
    access::{Access, AccessError},
    client::{describe, is_ready, metrics_text},
    driver::run,
    encode::WireFormat,
    manage::{ModelChange, change_model, model_index},
    report::{CdfPoint, LoadReport, PathLoad, Window},
    rows::{RequestRows, Rows, StoredRows},
};

/// What to send, where, and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// `http://HOST:PORT` or `https://HOST:PORT`, optionally with `/v2/models/NAME` behind it.
    pub url: String,
    /// What the server needs of its clients.
    pub access: Access,
    /// The model; by default that of the URL, or the only one of the server.
    pub model: Option<String>,
    /// The queries: when each is due, its samples, its budget, its floor and its priority.
    pub trace: Trace,
    /// Most queries under way, each on a connection of its own.
    pub connections: usize,
    /// How requests are written.
    pub format: WireFormat,
    /// How long an answer is waited for, counted from sending.
    pub patience: Duration,
}

impl LoadOptions {
    /// Options with the usual limits: 256 connections, binary tensors, 10 s of patience.
    pub fn new(url: &str, trace: Trace) -> Self {
        Self {
            url: url.to_owned(),
            access: Access::default(),
            model: None,
            trace,
            connections: 256,
            format: WireFormat::Binary,
            patience: Duration::from_secs(10),
        }
    }
}

/// How far a load has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Seconds since the first moment of the trace, of [`Trace::seconds`].
    pub seconds: f64,
    /// Queries that were due so far.
    pub offered: u64,
    /// Queries that ended so far, one way or another.
    pub ended: u64,
    /// Of these, answered in time.
    pub in_time: u64,
}

/// What keeps a load from running at all. Queries that fail are counted in the report instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The URL cannot be used.
    #[error(
        "`{url}` {problem}; use `http://HOST:PORT` or `https://HOST:PORT`, optionally with `/v2/models/NAME`"
    )]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nothing answers there.
    #[error("there is no server at `{address}`; is it running?")]
    Connect {
        /// Host and port.
        address: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Something answers, but no secure connection can be had.
    #[error(
        "there is no secure connection to `{address}`; does it speak TLS, and is `--ca` that of its certificate?"
    )]
    Untrusted {
        /// Host and port.
        address: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Something answers, but not as an mprec server does.
    #[error("`{path}` was answered {problem}; is this an mprec server?")]
    Reply {
        /// What was asked for.
        path: String,
        /// What came back.
        problem: String,
    },
    /// The server wants a key.
    #[error(
        "`{path}` was answered with status {status}: the server wants a key, or another one (`--key-file`)"
    )]
    Key {
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
    },
    /// The server has several models.
    #[error("the server has the models {models:?}; name one")]
    WhichModel {
        /// All that it has.
        models: Vec<String>,
    },
    /// Rows of other features than the model's.
    #[error(
        "the rows have {} dense and {} sparse features; model `{model}` has {} and {}",
        rows.0, rows.1, expected.0, expected.1
    )]
    Rows {
        /// The model.
        model: String,
        /// Dense and sparse features of the rows.
        rows: (usize, usize),
        /// Dense and sparse features of the model.
        expected: (usize, usize),
    },
    /// No rows to send, or of lengths that do not agree.
    #[error("the rows are unusable: {problem}")]
    NoRows {
        /// What is wrong with them.
        problem: &'static str,
    },
    /// The trace cannot be.
    #[error(transparent)]
    Trace(#[from] SpecError),
    /// Threads or the I/O runtime could not be had.
    #[error("the load generator could not be started")]
    Start(#[source] std::io::Error),
}
