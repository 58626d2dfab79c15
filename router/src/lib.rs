//! Path selection: no clocks, no devices, no I/O.

mod backlog;
pub mod batching;
mod correction;
mod decision;
mod latency;
mod path;
pub mod policy;
mod predict;
mod query;
mod queue;
mod router;
pub mod sim;
mod state;
#[cfg(test)]
mod testing;
mod time;

pub use self::{
    backlog::{LaneId, Lanes},
    correction::Correction,
    decision::{Admission, Decision, Reason, Refusal, RefuseReason},
    latency::{CurveError, MAX_POINTS, Quantile, ServiceCurve, ServicePoint},
    path::{
        DeviceId, DeviceProfile, Health, MAX_LANES, MAX_NAME, MAX_PATHS, PathId, PathProfile,
        ProfileError, Profiles, QualitySource,
    },
    policy::{Policy, PolicyError, PolicyName},
    predict::Prediction,
    query::{MAX_SAMPLES, Priority, Query, QueryError, QueryId},
    queue::{PathQueue, Queued},
    router::{Router, RouterError},
    state::{Batch, ConfigError, Next, PathState, Promises, RouterConfig, RouterState},
    time::Time,
};
