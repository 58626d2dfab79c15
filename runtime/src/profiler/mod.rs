//! How long each path takes, by batch size: measured here, kept in a file, given to the router.
//!
//! A path is measured as it will run: **every worker of its device at once**, each on its own
//! executable, because cores share memory bandwidth and last-level cache. The time of a batch on an
//! otherwise idle machine would promise what a loaded one cannot keep. Requests are not part of
//! it: what parsing and waking threads cost is learnt while serving, by the router's correction.
//!
//! Inputs are rows of the caller's, thousands of different ones, so that lookups miss caches as
//! often as they will in production, if the rows are drawn as production's are.

mod error;
mod file;
mod measure;
#[cfg(test)]
mod tests;

pub use self::{
    error::ProfilerError,
    file::{Machine, PROFILE_FORMAT, ProfileFile},
    measure::{ProfileOptions, Progress, SIZES, measure},
};
