//! `fastest`: the earliest expected finish.

use super::{Policy, PolicyName, admit, refuse_unusable};
use crate::{Decision, DeviceId, PathId, Prediction, Query, Reason, RouterState, Time};

/// Takes the path that is expected to finish first, whatever its accuracy; among equals, the most
/// accurate. With one variant on several devices it is the usual load balancer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fastest;

impl Policy for Fastest {
    fn name(&self) -> PolicyName {
        PolicyName::Fastest
    }

    fn decide(&mut self, query: &Query, state: &RouterState, now: Time) -> Decision {
        let profiles = state.profiles();
        let accuracy = |path| profiles.path(path).accuracy;
        let mut first: Option<(PathId, Prediction)> = None;
        for (at, device) in profiles.devices().iter().enumerate() {
            let view = state.view(DeviceId(at as u16), query.deadline(), now);
            for &path in device.paths.iter().filter(|&&path| state.usable(path, query)) {
                let prediction = state.predict_in(&view, path, query.samples(), now);
                let sooner = first.is_none_or(|(other, best)| {
                    let finish = prediction.finish_ns().total_cmp(&best.finish_ns());
                    finish.then_with(|| accuracy(other).total_cmp(&accuracy(path))).is_lt()
                });
                if sooner {
                    first = Some((path, prediction));
                }
            }
        }
        match first {
            Some((path, prediction)) => {
                admit(query, state, path, &prediction, Reason::Fastest, now)
            }
            None => refuse_unusable(query, state, profiles.ids()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{QueryId, RouterConfig, testing::three_paths};

    #[test]
    fn it_takes_the_cheapest_path_and_respects_the_floor() {
        let profiles = three_paths();
        let state = RouterState::new(profiles.clone(), RouterConfig::default()).unwrap();
        let sla = Duration::from_millis(10);
        let query = Query::new(QueryId(0), 64, Time::ZERO, sla).unwrap();
        assert_eq!(Fastest.decide(&query, &state, Time::ZERO).path(), profiles.find("hash@cpu"));
        let picky = query.with_min_quality(0.791).unwrap();
        assert_eq!(
            Fastest.decide(&picky, &state, Time::ZERO).path(),
            profiles.find("ensemble@cpu")
        );
        let impossible = query.with_min_quality(0.9).unwrap();
        assert_eq!(Fastest.decide(&impossible, &state, Time::ZERO).path(), None);
    }
}
