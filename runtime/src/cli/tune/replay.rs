//! The winner, served: what the written config really comes to, beside what the simulation said.

use std::{ffi::OsStr, path::Path, time::Duration};

use mprec_datasets::Dataset;
use mprec_router::{
    Profiles, Time,
    mapping::{Choice, Measures, Problem},
    sim::{Trace, simulate},
};
use mprec_runtime::load::{Access, LoadOptions, LoadReport, StoredRows, describe};
use serde::Serialize;

use super::super::{
    Failure, InputError as _, Output,
    load::{run_with_bar, stored_rows},
    server::Server,
};

/// Length of the load before the one that counts: it fills caches and the router's corrections.
const WARM_UP: Duration = Duration::from_millis(600);

/// Rows that are made up where no data is given.
const MADE_UP: usize = 16_384;

/// A replay, beside the simulation of the same queries.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Replay {
    /// For how long queries were offered.
    pub(super) seconds: f64,
    /// Queries offered.
    pub(super) queries: u64,
    /// What the simulation of these queries came to.
    pub(super) simulated: Measures,
    /// What the server came to.
    pub(super) served: LoadReport,
    /// Served goodput over the simulated, less one, in per cent.
    pub(super) goodput_difference_percent: f64,
    /// The same of the 99th percentile of latency.
    pub(super) p99_difference_percent: f64,
    /// Whether the client itself was late in sending by more than a tenth of the SLA, so that the
    /// served figures are worse than the server is.
    pub(super) client_was_late: bool,
}

/// Serves the written config in a process of its own and puts the first `limit` of the problem's
/// trace on it.
pub(super) fn replay(
    config: &Path,
    data: Option<&Path>,
    (problem, winner): (&Problem, &Choice),
    limit: Duration,
    output: &Output,
) -> Result<Replay, Failure> {
    let trace = prefix(&problem.trace, limit)?;
    let profile = |&at: &usize| problem.candidates[at].profile.clone();
    let profiles = Profiles::new(winner.candidates.iter().map(profile).collect())?;
    let report = simulate(&profiles, &problem.policy, &trace, &problem.sim)?;
    let simulated = Measures::of(&report, winner.measures.bytes);

    let server = Server::start([OsStr::new("--config"), config.as_os_str()])?;
    let rows: StoredRows = match data {
        Some(folder) => stored_rows(&Dataset::open(folder).or_bad_input()?)?,
        None => {
            let schema = describe(server.url(), &Access::default(), None)?.mprec.schema;
            StoredRows::random(&schema, MADE_UP, 1)?
        }
    };
    let warm_up = LoadOptions::new(server.url(), prefix(&trace, WARM_UP)?);
    run_with_bar(&warm_up, &rows, "warm-up", output)?;
    let sla = trace.queries().first().map_or(Duration::ZERO, |query| query.sla);
    let options = LoadOptions::new(server.url(), trace);
    let served = run_with_bar(&options, &rows, "replay", output)?;
    server.stop()?;
    Ok(Replay {
        seconds: served.seconds,
        queries: served.offered,
        goodput_difference_percent: percent(
            served.correct_in_time_per_s,
            simulated.correct_in_time_per_s,
        ),
        p99_difference_percent: percent(served.p99_ms, simulated.p99_ms),
        client_was_late: served.send_lag_p99_ms > 100.0 * sla.as_secs_f64(),
        simulated,
        served,
    })
}

/// The queries of the first `limit`, and the first one in any case.
fn prefix(trace: &Trace, limit: Duration) -> Result<Trace, Failure> {
    let queries = trace.queries();
    let first = queries.first().map_or(Time::ZERO, |query| query.arrival);
    let count = queries.partition_point(|query| query.arrival <= first + limit);
    if count == queries.len() {
        return Ok(trace.clone());
    }
    Ok(Trace::new(queries[..count].to_vec())?)
}

fn percent(served: f64, simulated: f64) -> f64 {
    100.0 * (served / simulated.max(f64::MIN_POSITIVE) - 1.0)
}
