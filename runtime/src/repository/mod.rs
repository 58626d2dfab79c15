//! The models that are served, and how one version takes another's place.
//!
//! ```text
//!  load ──▶ open ──▶ verify ──▶ paths ──▶ profiles ──▶ warm ──▶ swap ──▶ drain the old ──▶ free it
//!           └───────────────── the loader's thread ─────────────────┘   └─ a thread of its own ─┘
//! ```
//!
//! 1. **A version is whole.** Each has an [`Engine`](crate::engine::Engine) of its own: paths, router, queue, workers. No
//!    answer can mix two of them. A query is answered by the version for which it was parsed: the very
//!    [`Model`](crate::service::Model) that [`Service::model`](crate::service::Service::model) gave is the key.
//! 2. **Looking up takes no lock.** What is served is an immutable table behind an atomic pointer. A change
//!    replaces the table.
//! 3. **A failed load changes nothing.** A version is added to the table only once it has answered batches on every path.
//! 4. **An old version goes last.** It is drained when no request can reach it any more, which is when nobody but
//!    itself holds its `Model`, and freed on a thread of its own, off the network's threads.
//!
//! Loads are made one at a time, in order, so that what is resident, the old version included, can be held
//! against the budgets of the devices before anything is added.
//!
//! Engines share the machine's cores: each has its own workers and predicts from its own backlog. Two busy
//! models on the same cores make each other slower than profiled, which the correction of each follows; dividing the
//! workers among them keeps the predictions true.

mod build;
mod error;
mod loader;
mod observe;
mod recipe;
mod reconcile;
mod retire;
mod stamp;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod version;
mod watch;

pub use self::{
    build::{Inputs, Rows, Tried},
    error::{LoadError, RowsError},
    recipe::Recipe,
    store::{Repository, RepositoryOptions},
};
