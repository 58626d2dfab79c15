//! Path selection: which model variant on which device answers a query.
//!
//! A *path* is a model variant on a device, with a profile: service time by batch size, accuracy,
//! bytes. Several paths are resident at once, and a *policy* chooses one for every query, given the
//! query's size, deadline and quality floor and everything already queued. The figure that it
//! serves is SLA-goodput: correct predictions answered in time, per second.
//!
//! The crate knows no clock, no device and no I/O. Time is an argument, so that the server's engine
//! and the simulator ([`sim`]) run the very same decisions. Which paths are worth keeping resident is
//! searched beforehand, by simulation ([`mapping`]).
//!
//! # The events that an engine reports
//!
//! A [`Router`] holds a policy and a [`RouterState`], which owns the queues. Behind one lock, an
//! engine calls:
//!
//! | when | call | then |
//! |---|---|---|
//! | a query arrives | [`Router::submit`] | admitted: keep its inputs by [`QueryId`], wake a worker of the path's device; refused: answer so |
//! | a worker has nothing to do | [`Router::next_batch`] | [`Next::Run`]: run it; [`Next::Wait`]: ask again then; [`Next::Idle`]: sleep until woken. Answer `batch.expired` in any case |
//! | its batch is done | [`Router::completed`] | answer `batch.ended`, ask for the next |
//! | its batch failed | [`RouterState::failed`] | submit `batch.ended` again or answer them as failed |
//! | a client went away | [`RouterState::cancel`] | – |
//! | a device fails or recovers | [`RouterState::set_health`] | submit again what it hands back |
//! | a timer fires, say every millisecond | [`RouterState::take_expired`] | answer what it hands back |
//!
//! A large query may be admitted in parts, which wait and run as separate entries ([`Queued::offset`]) of one
//! path. The router counts them: `ended`, `expired` and what [`RouterState::set_health`] hands back name
//! each query once, with all its samples, however many parts it had.
//!
//! ```
//! use std::time::Duration;
//!
//! use mprec_router::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = |variant: &str, accuracy, per_sample_us: f64| -> Result<_, CurveError> {
//!     let medians = [(1, 30.0 + per_sample_us), (128, 30.0 + 128.0 * per_sample_us)];
//!     Ok(PathProfile {
//!         name: format!("{variant}@cpu"),
//!         variant: variant.into(),
//!         device: "cpu".into(),
//!         lanes: 2,
//!         accuracy,
//!         quality_source: QualitySource::Declared("an example".into()),
//!         bytes: 1 << 30,
//!         max_batch: None,
//!         service: ServiceCurve::from_medians(&medians, 1.1, 1.25)?,
//!     })
//! };
//! let profiles = Profiles::new(vec![path("table", 0.788, 10.0)?, path("hybrid", 0.790, 40.0)?])?;
//! let mut router = Router::new(profiles, &"multi-path".parse()?, RouterConfig::default())?;
//!
//! // A query of 100 samples arrives and has 10 ms.
//! let now = Time::from_millis(5);
//! let query = Query::new(QueryId(7), 100, now, Duration::from_millis(10))?;
//! let Decision::Admit(admission) = router.submit(&query, now) else { panic!("refused") };
//! assert_eq!(admission.path, PathId(1), "the machine is idle: the accurate path");
//!
//! // The workers of its device ask for work, run it, and report. Both are idle and the query is
//! // large, so that each runs half of it.
//! let device = router.state().profiles().device_of(admission.path);
//! let mut batches = [Batch::default(), Batch::default()];
//! for batch in &mut batches {
//!     assert_eq!(router.next_batch(device, now, batch), Next::Run);
//!     assert_eq!((batch.queries[0].id, batch.queries[0].samples), (QueryId(7), 50));
//! }
//! let took = Duration::from_micros(2_100);
//! router.completed(&mut batches[0], took, now + took);
//! assert!(batches[0].ended.is_empty(), "the other half still runs");
//! router.completed(&mut batches[1], took, now + took);
//! assert_eq!((batches[1].ended[0].id, batches[1].ended[0].samples), (QueryId(7), 100));
//! # Ok(())
//! # }
//! ```

mod backlog;
pub mod batching;
mod correction;
mod decision;
mod latency;
mod lateness;
pub mod mapping;
mod parts;
mod path;
pub mod policy;
mod predict;
mod query;
mod queue;
mod router;
pub mod sim;
mod split;
mod state;
#[cfg(test)]
mod testing;
mod time;

pub use self::{
    backlog::{LaneId, Lanes},
    correction::Correction,
    decision::{Admission, Decision, Reason, Refusal, RefuseReason},
    latency::{CurveError, MAX_POINTS, Quantile, ServiceCurve, ServicePoint},
    lateness::Spare,
    parts::SplitId,
    path::{
        DeviceId, DeviceProfile, Health, MAX_LANES, MAX_NAME, MAX_PATHS, PathId, PathProfile,
        PathSet, ProfileError, Profiles, QualitySource,
    },
    policy::{Policy, PolicyError, PolicyName},
    predict::Prediction,
    query::{MAX_SAMPLES, Priority, Query, QueryError, QueryId},
    queue::{PathQueue, Queued},
    router::{Router, RouterError},
    split::MOST_PARTS,
    state::{Batch, ConfigError, Next, PathState, Promises, RouterConfig, RouterState},
    time::Time,
};
