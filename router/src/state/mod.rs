//! Everything a decision depends on: profiles, corrections, queues, busy lanes, health.
//!
//! - `router_state`: the state itself. `config` and `batch` are what goes in and what comes out.
//! - `prediction`: what is ahead of a query, and when it would be done.
//! - `admission` and `dispatch`: the events that change it. Queries are queued or leave; batches begin and end.
//! - `planning`: after each event, the batches that a queue is expected to run.

mod admission;
mod batch;
mod config;
mod dispatch;
mod planning;
mod prediction;
mod router_state;

pub use self::{
    batch::{Batch, Next},
    config::{ConfigError, RouterConfig},
    router_state::{PathState, Promises, RouterState},
};
