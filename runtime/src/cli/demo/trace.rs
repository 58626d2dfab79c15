//! The queries that every policy of the demo gets.

use std::time::Duration;

use anyhow::Context as _;
use mprec_router::{
    PathProfile, PathSet, Priority, Profiles, Time,
    sim::{Arrivals, Sizes, Trace, TraceQuery},
};

use super::super::{Failure, InputError as _};

/// Load of every phase, as a multiple of what the most accurate path can do alone: calm, busy, a
/// burst that it cannot follow, calm again.
const PHASES: [f64; 4] = [0.2, 0.5, 1.3, 0.2];

/// No phase exceeds this part of what the fastest path can do: the load generator needs a share of
/// the same cores, and a load that nothing can carry would compare refusals only.
const MOST: f64 = 0.35;

/// Nor this many queries per second: endpoint and load generator spend some 0.2 ms of these cores on
/// each, which is all there is to measure of a model that is much faster than that.
const MOST_QUERIES: f64 = 500.0;

/// Length of the load before the one that counts.
const WARM_UP_SECONDS: f64 = 0.6;

/// A trace, made to fit the machine.
#[derive(Debug)]
pub(super) struct Plan {
    /// Put on the server first, and not counted: it fills caches and the router's corrections.
    pub(super) warm_up: Trace,
    /// The trace that counts.
    pub(super) trace: Trace,
    /// Start in seconds, and queries per second, of every phase.
    pub(super) phases: Vec<(f64, f64)>,
}

impl Plan {
    pub(super) fn new(
        profiles: &Profiles,
        sizes: &str,
        seconds: f64,
        sla: Duration,
        seed: u64,
    ) -> Result<Self, Failure> {
        let sizes = Sizes::parse(sizes, |path| std::fs::read_to_string(path)).or_bad_input()?;
        let mean = sizes.samples(seed).take(10_000).map(f64::from).sum::<f64>() / 1e4;
        let paths = profiles.paths();
        let accurate = paths
            .iter()
            .max_by(|a, b| a.accuracy.total_cmp(&b.accuracy))
            .context("there are no paths")?;
        let fastest = paths.iter().map(|path| capacity(path, mean)).fold(0.0, f64::max);
        let most = (MOST * fastest).clamp(1.0, MOST_QUERIES);
        let rates = PHASES.map(|phase| (phase * capacity(accurate, mean)).clamp(1.0, most));
        let length = seconds / rates.len() as f64;
        let mut queries = Vec::new();
        let mut phases = Vec::new();
        let mut samples = sizes.samples(seed);
        for (phase, rate) in rates.into_iter().enumerate() {
            let start = length * phase as f64;
            phases.push((start, rate));
            let moments = Arrivals::Poisson { rate };
            for moment in moments.times(seed + phase as u64) {
                let moment = moment.as_secs_f64();
                if moment >= length {
                    break;
                }
                queries.push(TraceQuery {
                    arrival: Time::from_secs_f64(start + moment),
                    samples: samples.next().context("sizes never end")?,
                    sla,
                    min_quality: 0.0,
                    priority: Priority::default(),
                    paths: PathSet::ALL,
                });
            }
        }
        let early =
            queries.iter().take_while(|query| query.arrival.as_secs_f64() < WARM_UP_SECONDS);
        let warm_up = Trace::new(early.copied().collect()).or_bad_input()?;
        Ok(Self { warm_up, trace: Trace::new(queries).or_bad_input()?, phases })
    }
}

/// Queries of `samples` samples per second that all workers of a path's device can run, at most.
fn capacity(path: &PathProfile, samples: f64) -> f64 {
    let points = path.service.points();
    let rate = points.iter().map(|point| f64::from(point.batch) / point.p50_us * 1e6);
    f64::from(path.lanes) * rate.fold(0.0, f64::max) / samples
}
