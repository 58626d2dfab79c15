//! Policies: which path answers a query.
//!
//! | name | rule | refuses |
//! |---|---|---|
//! | `static:<path>` | always that path | never |
//! | `fastest` | the earliest expected finish, queues counted | never |
//! | `mp-rec` | the most accurate path whose profiled latency meets the SLA, else the fastest | never |
//! | `multi-path` | the best expected value after the price of device time | what no path answers in time |
//!
//! Under every policy a query's quality floor is a hard constraint, as is which paths can run it, a path that is down takes no
//! work, and the router's bound on waiting queries holds; "never" is short of those four.

mod dispersion;
mod dominance;
mod fastest;
mod fixed;
mod most_accurate;
mod multi_path;
mod pool;
mod price;

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    fastest::Fastest, fixed::Fixed, most_accurate::MostAccurate, multi_path::MultiPath,
};
use crate::{
    Admission, Decision, Health, PathId, Profiles, Query, Reason, Refusal, RefuseReason,
    RouterState, Time, predict::Prediction,
};

/// Chooses a path per query.
///
/// A policy is a function of its arguments and its own state: it reads no clock and draws no
/// randomness, so a simulated minute and a served minute decide alike. `decide` is called exactly
/// once per offered query, in order of `now`; a policy may therefore learn the load from its calls.
pub trait Policy: fmt::Debug + Send {
    /// What it is called in configs and reports.
    fn name(&self) -> PolicyName;

    /// Decides one query. Does not block, and does not allocate after the first few calls.
    fn decide(&mut self, query: &Query, state: &RouterState, now: Time) -> Decision;
}

/// A policy by name: `static:table@cpu`, `fastest`, `mp-rec`, `multi-path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PolicyName {
    /// One path, given by its name.
    Static(String),
    /// The earliest expected finish.
    Fastest,
    /// The published rule.
    MpRec,
    /// Ours.
    MultiPath,
}

/// What makes a policy unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No policy of that name.
    #[error(
        "there is no policy `{name}`; known are `static:<path>`, `fastest`, `mp-rec`, `multi-path`"
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The path of a `static` policy is not among the profiles.
    #[error("policy `static:{path}` names no path; known are {known}")]
    UnknownPath {
        /// What was asked for.
        path: String,
        /// Every path's name, each in backticks.
        known: String,
    },
}

impl PolicyName {
    /// Makes the policy for these paths.
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownPath`] if a `static` policy names a path that is not there.
    pub fn build(&self, profiles: &Profiles) -> Result<Box<dyn Policy>, PolicyError> {
        Ok(match self {
            Self::Static(path) => match profiles.find(path) {
                Some(id) => Box::new(Fixed::new(id, path.clone())),
                None => {
                    let names = profiles.paths().iter().map(|path| format!("`{}`", path.name));
                    let known = names.collect::<Vec<_>>().join(", ");
                    return Err(PolicyError::UnknownPath { path: path.clone(), known });
                }
            },
            Self::Fastest => Box::new(Fastest),
            Self::MpRec => Box::new(MostAccurate),
            Self::MultiPath => Box::new(MultiPath::new(profiles)),
        })
    }

    /// Every policy that these paths allow: each path alone, then the others.
    pub fn all(profiles: &Profiles) -> Vec<Self> {
        let fixed = profiles.paths().iter().map(|path| Self::Static(path.name.clone()));
        fixed.chain([Self::Fastest, Self::MpRec, Self::MultiPath]).collect()
    }
}

impl FromStr for PolicyName {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "fastest" => Ok(Self::Fastest),
            "mp-rec" => Ok(Self::MpRec),
            "multi-path" => Ok(Self::MultiPath),
            _ => match text.strip_prefix("static:") {
                Some(path) if !path.is_empty() => Ok(Self::Static(path.to_owned())),
                _ => Err(PolicyError::Unknown { name: text.to_owned() }),
            },
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(path) => write!(formatter, "static:{path}"),
            Self::Fastest => formatter.write_str("fastest"),
            Self::MpRec => formatter.write_str("mp-rec"),
            Self::MultiPath => formatter.write_str("multi-path"),
        }
    }
}

impl TryFrom<String> for PolicyName {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<PolicyName> for String {
    fn from(name: PolicyName) -> Self {
        name.to_string()
    }
}

/// The refusal of a query for which none of these paths is usable.
fn refuse_unusable(
    query: &Query,
    state: &RouterState,
    paths: impl Iterator<Item = PathId>,
) -> Decision {
    let mut takers = paths.filter(|&path| query.paths().contains(path)).peekable();
    let reason = if takers.peek().is_none() {
        RefuseReason::NoPathTakesIt
    } else if takers.all(|path| state.path(path).health == Health::Down) {
        RefuseReason::NoPathUp
    } else {
        RefuseReason::NoPathMeetsFloor
    };
    Decision::Refuse(Refusal { reason, retry_after: Duration::from_secs(1) })
}

fn admit(
    query: &Query,
    state: &RouterState,
    path: PathId,
    prediction: &Prediction,
    reason: Reason,
    now: Time,
) -> Decision {
    let downgraded = state.profiles().path(path).accuracy < state.best_accuracy(query);
    admit_as(path, prediction, downgraded, reason, now)
}

/// As [`admit`], where it is known whether a more accurate path is up.
fn admit_as(
    path: PathId,
    prediction: &Prediction,
    downgraded: bool,
    reason: Reason,
    now: Time,
) -> Decision {
    Decision::Admit(Admission {
        path,
        parts: prediction.parts,
        predicted_finish: prediction.finish(now),
        upper_finish: prediction.upper_finish(now),
        downgraded,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in ["static:table@cpu", "fastest", "mp-rec", "multi-path"] {
            assert_eq!(name.parse::<PolicyName>().unwrap().to_string(), name);
        }
        let error = "best".parse::<PolicyName>().unwrap_err().to_string();
        assert!(error.contains("`best`") && error.contains("`mp-rec`"), "{error}");
        assert!("static:".parse::<PolicyName>().is_err());
    }

    #[test]
    fn a_static_policy_of_an_unknown_path_lists_the_paths() {
        let profiles = crate::testing::three_paths();
        let error = PolicyName::Static("tabel@cpu".into()).build(&profiles).unwrap_err();
        assert!(error.to_string().contains("`table@cpu`"), "{error}");
        assert_eq!(PolicyName::all(&profiles).len(), 6);
    }

    #[test]
    fn a_query_goes_only_where_it_can_be_run() {
        use crate::{PathSet, QueryId, RouterConfig};

        let profiles = crate::testing::three_paths();
        let [hash, table, ensemble] = [PathId(0), PathId(1), PathId(2)];
        let mut state = RouterState::new(profiles.clone(), RouterConfig::default()).unwrap();
        let query = Query::new(QueryId(0), 8, Time::ZERO, Duration::from_secs(1)).unwrap();
        let only = |paths: &[PathId]| query.with_paths(paths.iter().copied().collect());
        let refusal = |decision| match decision {
            Decision::Refuse(refused) => refused.reason,
            Decision::Admit(admission) => panic!("{admission:?}"),
        };
        for policy in PolicyName::all(&profiles) {
            let decide = |query: &Query, state: &RouterState| {
                policy.build(&profiles).unwrap().decide(query, state, Time::ZERO)
            };
            assert!(PathSet::ALL.contains(ensemble) && decide(&query, &state).path().is_some());
            let fixed = match &policy {
                PolicyName::Static(name) => profiles.find(name),
                _ => None,
            };
            for path in [hash, table, ensemble] {
                let decision = decide(&only(&[path]), &state);
                if fixed.is_none_or(|fixed| fixed == path) {
                    let Decision::Admit(admission) = decision else { panic!("{policy}") };
                    // What cannot run it was not passed over.
                    assert_eq!((admission.path, admission.downgraded), (path, false), "{policy}");
                } else {
                    assert_eq!(refusal(decision), RefuseReason::NoPathTakesIt, "{policy}");
                }
            }
            let none = refusal(decide(&only(&[]), &state));
            assert_eq!(none, RefuseReason::NoPathTakesIt, "{policy}");
        }
        state.set_health(table, Health::Down, Time::ZERO, &mut Vec::new());
        let mut policy = PolicyName::MultiPath.build(&profiles).unwrap();
        let reason = refusal(policy.decide(&only(&[table]), &state, Time::ZERO));
        assert_eq!(reason, RefuseReason::NoPathUp);
        let picky = only(&[hash, table]).with_min_quality(0.79).unwrap();
        let reason = refusal(policy.decide(&picky, &state, Time::ZERO));
        assert_eq!(reason, RefuseReason::NoPathMeetsFloor);
    }
}
