//! What a running server does, from two looks at its metrics page.
//!
//! ```text
//!  GET /metrics ──▶ samples ──▶ reading (counters so far) ──▶ view (rates between two readings) ──▶ screen
//! ```
//!
//! Counters tell rates by their differences, and histograms quantiles by the differences of their buckets: a quantile is as
//! fine as its bucket, within which it is interpolated.

mod page;
mod reading;
mod screen;
mod view;

pub use self::{
    page::{PageError, Sample, samples},
    reading::{PathReading, Reading, ReadingError},
    screen::{Screen, draw},
    view::{PathRow, Totals, View},
};
