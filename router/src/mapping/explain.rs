//! What each part of a chosen set is worth.

use super::{Choice, MappingError, Measures, Problem, evaluate::Evaluator, instance::Instance};

/// Why a candidate is in a set: what the set would come to otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Its place in [`Problem::candidates`].
    pub candidate: usize,
    /// The set without it; `None` if it is alone.
    pub without: Option<Measures>,
    /// The set with the same path in another way (another batch limit or cache size), for each that
    /// can be beside the rest, by its place in [`Problem::candidates`].
    pub instead: Vec<(usize, Measures)>,
}

/// Simulates what the choice would come to with each of its candidates left out or exchanged.
///
/// # Errors
///
/// [`MappingError`] for what is wrong with the problem.
///
/// # Panics
///
/// If the choice is not of this problem.
pub fn explain(
    problem: &Problem,
    choice: &Choice,
    threads: usize,
) -> Result<Vec<Explanation>, MappingError> {
    let instance = Instance::new(problem)?;
    let chosen: Vec<u16> = choice.candidates.iter().map(|&at| at as u16).collect();
    let changes: Vec<Changes> =
        chosen.iter().map(|&member| Changes::of(&instance, &chosen, member)).collect();
    let mut evaluator = Evaluator::new(&instance, threads.max(1));
    let sets = changes.iter().flat_map(|change| {
        let rest = (!change.rest.is_empty()).then(|| change.rest.clone());
        change.instead.iter().map(|(_, set)| set.clone()).chain(rest)
    });
    evaluator.evaluate(&sets.collect::<Vec<_>>())?;
    let known = |set: &[u16]| evaluator.known(set).copied();
    let explanation = |change: Changes| Explanation {
        candidate: usize::from(change.member),
        without: known(&change.rest),
        instead: change
            .instead
            .into_iter()
            .filter_map(|(at, set)| Some((usize::from(at), known(&set)?)))
            .collect(),
    };
    Ok(changes.into_iter().map(explanation).collect())
}

/// The sets that differ from a choice by one member.
struct Changes {
    member: u16,
    rest: Vec<u16>,
    /// Who takes the member's place, and the set then.
    instead: Vec<(u16, Vec<u16>)>,
}

impl Changes {
    fn of(instance: &Instance<'_>, chosen: &[u16], member: u16) -> Self {
        let candidates = &instance.problem.candidates;
        let limits = instance.limits();
        let rest: Vec<u16> = chosen.iter().copied().filter(|&at| at != member).collect();
        let name = |at: u16| &candidates[usize::from(at)].profile.name;
        let set = |at: u16| {
            let mut set = rest.clone();
            set.push(at);
            set.sort_unstable();
            (at, set)
        };
        let instead = (0..candidates.len() as u16)
            .filter(|&at| at != member && name(at) == name(member))
            .filter(|&at| instance.joins(&rest, at, &limits))
            .map(set)
            .collect();
        Self { member, rest, instead }
    }
}
