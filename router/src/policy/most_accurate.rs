//! `mp-rec`: the published rule.

use super::{Policy, PolicyName, admit, refuse_unusable};
use crate::{Decision, PathId, Query, Reason, RouterState, Time};

/// Takes the most accurate path whose profiled median latency at the query's size meets the SLA,
/// and the fastest by profile if none does.
///
/// As published, as far as that is known, the rule looks at the profile alone: neither at queues
/// nor at what was observed since. Among devices that offer the same accuracy it takes the fastest.
#[derive(Debug, Clone, Copy, Default)]
pub struct MostAccurate;

impl Policy for MostAccurate {
    fn name(&self) -> PolicyName {
        PolicyName::MpRec
    }

    fn decide(&mut self, query: &Query, state: &RouterState, now: Time) -> Decision {
        let budget_ns = query.deadline().nanos_from(query.arrival());
        let latency = |path: PathId| state.profiles().path(path).service.p50_ns(query.samples());
        let accuracy = |path: PathId| state.profiles().path(path).accuracy;
        let usable = || state.profiles().ids().filter(|&path| state.usable(path, query));

        let meets = usable().filter(|&path| latency(path) <= budget_ns);
        let best = meets.max_by(|&a, &b| {
            accuracy(a).total_cmp(&accuracy(b)).then_with(|| latency(b).total_cmp(&latency(a)))
        });
        let fastest = || usable().min_by(|&a, &b| latency(a).total_cmp(&latency(b)));
        let (path, reason) = match best {
            Some(path) => (path, Reason::MostAccurate),
            None => match fastest() {
                Some(path) => (path, Reason::NoneInTime),
                None => return refuse_unusable(query, state, state.profiles().ids()),
            },
        };
        admit(query, state, path, &state.predict(path, query, now), reason, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{QueryId, RouterConfig, testing::three_paths};

    #[test]
    fn a_larger_query_or_a_tighter_sla_goes_to_a_less_accurate_path() {
        let profiles = three_paths();
        let mut state = RouterState::new(profiles.clone(), RouterConfig::default()).unwrap();
        let decide = |state: &RouterState, samples, sla_us| {
            let sla = Duration::from_micros(sla_us);
            let query = Query::new(QueryId(0), samples, Time::ZERO, sla).unwrap();
            let path = MostAccurate.decide(&query, state, Time::ZERO).path().unwrap();
            profiles.path(path).variant.clone()
        };
        assert_eq!(decide(&state, 128, 5_000), "ensemble");
        assert_eq!(decide(&state, 128, 4_000), "table");
        assert_eq!(decide(&state, 512, 5_000), "hash");
        assert_eq!(decide(&state, 512, 100), "hash", "the fastest where none meets it");

        // It is blind to what waits, which is what the other policies improve on.
        for id in 0..100 {
            let query = Query::new(QueryId(id), 512, Time::ZERO, Duration::from_secs(1)).unwrap();
            if let Decision::Admit(admission) = MostAccurate.decide(&query, &state, Time::ZERO) {
                state.admit(&query, &admission, Time::ZERO);
            }
        }
        assert_eq!(decide(&state, 128, 5_000), "ensemble");
    }
}
