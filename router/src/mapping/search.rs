//! Branch and bound over sets of candidates.

use std::{cmp::Ordering, collections::BinaryHeap, ops::ControlFlow};

use super::{
    Choice, MappingError, Measures, Objective, Problem,
    bound::bound,
    dominance::dominated,
    evaluate::{Evaluator, parallel},
    front::front,
    goal::{Goal, Value},
    infeasible::diagnose,
    instance::{Instance, Limits},
};

/// Nodes branched together, and simulated over the threads. A constant, so that a search takes the
/// same course on every machine.
const ROUND: usize = 32;

/// How much a search may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// The most sets simulated.
    pub evaluations: usize,
    /// Up to so many sets, all of them are simulated, so that the front is that of all sets.
    pub complete_up_to: usize,
    /// Threads that simulate.
    pub threads: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { evaluations: 1 << 14, complete_up_to: 1 << 10, threads: 1 }
    }
}

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Sets simulated.
    pub evaluations: usize,
    /// Sets that may be simulated at most.
    pub at_most: usize,
    /// The objective of the best set found.
    pub best: Option<f64>,
    /// What no set exceeds of those that are still open.
    pub bound: Option<f64>,
    /// Whether there is no set that meets the constraints, and the search is for the reason.
    pub diagnosing: bool,
}

/// How sure it is that the winner is the best of all sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Proof {
    /// Every other set was simulated, or cannot be better.
    Best,
    /// The search was stopped.
    Stopped {
        /// What no set can exceed (or fall below, where less is better).
        bound: f64,
        /// How far the winner is from that, as a share of the winner.
        gap: f64,
    },
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The best set.
    pub winner: Choice,
    /// Sets that meet the constraints and that no other matches in goodput, accuracy, bytes and p99 and
    /// exceeds in one, the highest goodput first. The winner may be absent: ties of the objective are
    /// broken by bytes, not by the other figures.
    pub front: Vec<Choice>,
    /// Whether the front is that of all sets, not only of those simulated on the way to the winner.
    pub front_complete: bool,
    /// How sure the winner is.
    pub proof: Proof,
    /// Sets simulated.
    pub evaluations: usize,
    /// How many sets there are at most, by the number of ways to have each path.
    pub sets: f64,
    /// Candidates left out of a large search, each with one that matches it in everything.
    pub dropped: Vec<(usize, usize)>,
    /// Samples offered per second, which goodputs are shares of.
    pub offered_per_s: f64,
}

/// Searches for the best set of candidates.
///
/// `progress` is told after every few simulations, and may stop the search. The result depends on
/// the arguments alone, the number of threads left out, unless `progress` stops the search.
///
/// # Errors
///
/// [`MappingError::Infeasible`] if no set meets the constraints, [`MappingError::Stopped`] if that was
/// not found out in time, and others for what is wrong with the problem.
pub fn search(
    problem: &Problem,
    effort: &Effort,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Found, MappingError> {
    let instance = Instance::new(problem)?;
    let mut limits = instance.limits();
    let sets = instance.sets(&limits);
    let mut dropped = Vec::new();
    if sets > effort.evaluations as f64 {
        dropped = dominated(&instance, &limits);
        dropped.iter().for_each(|&(at, _)| limits.allowed[at] = false);
    }
    let complete = sets <= effort.complete_up_to.min(effort.evaluations) as f64;
    let goal = Goal::Objective(problem.objective);
    let mut evaluator = Evaluator::new(&instance, effort.threads.max(1));
    let at_most = sets.min(effort.evaluations as f64) as usize;
    let plan = Plan { goal, limits: &limits, every: complete, evaluations: effort.evaluations };
    let solved = solve(&instance, &mut evaluator, &plan, &mut |evaluations, best, bound| {
        progress(Progress { evaluations, at_most, best, bound, diagnosing: false })
    })?;
    let Some(best) = solved.best else {
        let stopped = MappingError::Stopped { evaluations: evaluator.count() };
        if solved.open.is_some() {
            return Err(stopped);
        }
        let reason = diagnose(&instance, &mut evaluator, effort, &mut |evaluations, at_most| {
            let (best, bound) = (None, None);
            progress(Progress { evaluations, at_most, best, bound, diagnosing: true })
        })?;
        return Err(reason.map_or(stopped, MappingError::Infeasible));
    };
    let choice = |(set, measures): (&[u16], &Measures)| Choice {
        candidates: set.iter().map(|&at| usize::from(at)).collect(),
        measures: *measures,
    };
    let measures = evaluator.known(&best).expect("the best set was simulated");
    let winner = choice((&best, measures));
    let met = evaluator.all().filter(|(_, measures)| limits.met_by(measures)).map(choice);
    let proof = match solved.open {
        None => Proof::Best,
        Some(open) => {
            let value = measures.of_objective(problem.objective);
            let gap = (open.raw - value).abs() / value.abs().max(f64::MIN_POSITIVE);
            Proof::Stopped { bound: open.raw, gap }
        }
    };
    Ok(Found {
        winner,
        front: front(met.collect(), instance.offered_per_s, 1.0),
        front_complete: complete && proof == Proof::Best,
        proof,
        evaluations: evaluator.count(),
        sets,
        dropped,
        offered_per_s: instance.offered_per_s,
    })
}

/// What one tree search is for.
pub(super) struct Plan<'l> {
    pub(super) goal: Goal,
    pub(super) limits: &'l Limits,
    /// Whether sets that cannot be the best are simulated too.
    pub(super) every: bool,
    /// How many simulations the evaluator may have made in the end.
    pub(super) evaluations: usize,
}

/// What one tree search came to.
pub(super) struct Solved {
    /// The best set that meets the limits.
    pub(super) best: Option<Vec<u16>>,
    /// If the search was stopped, what no set that is still open exceeds.
    pub(super) open: Option<Value>,
}

/// Sets that hold `chosen` and something more of `union`.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    bound: Bounded,
    /// Candidates before this place of the order are decided.
    depth: usize,
    chosen: Vec<u16>,
    union: Vec<u16>,
}

#[derive(Debug, Clone, Copy)]
struct Bounded(Value);

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.0.steps == other.0.steps
    }
}

impl Eq for Bounded {}

impl Ord for Node {
    /// The greatest is branched first: the best bound, and the deepest of equals.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_bound = self.bound.0.steps.cmp(&other.bound.0.steps);
        by_bound
            .then(self.depth.cmp(&other.depth))
            .then_with(|| other.chosen.cmp(&self.chosen))
            .then_with(|| other.union.cmp(&self.union))
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Told how many sets were simulated, the best value and the best open bound.
pub(super) type Told<'t> = &'t mut dyn FnMut(usize, Option<f64>, Option<f64>) -> ControlFlow<()>;

pub(super) fn solve<'p>(
    instance: &Instance<'p>,
    evaluator: &mut Evaluator<'_, 'p>,
    plan: &Plan<'_>,
    told: Told<'_>,
) -> Result<Solved, MappingError> {
    let Plan { goal, limits, every, .. } = *plan;
    let usable: Vec<u16> = (0..instance.problem.candidates.len() as u16)
        .filter(|&at| instance.joins(&[], at, limits))
        .collect();
    let mut best = Best { instance, plan, set: None };
    let mut open = BinaryHeap::new();
    if let Some(value) = bound(instance, goal, limits, &[], &usable).filter(|_| !usable.is_empty())
    {
        let (chosen, union) = (Vec::new(), usable.clone());
        open.push(Node { bound: Bounded(value), depth: 0, chosen, union });
    }
    let order =
        if open.is_empty() { usable } else { greedy(instance, evaluator, &mut best, &usable)? };
    loop {
        let highest = open.peek().map(|node: &Node| node.bound.0);
        let count = evaluator.count();
        let spent = count >= plan.evaluations;
        if told(count, best.value(evaluator), highest.map(|value| value.raw)).is_break() || spent {
            open.retain(|node| every || !best.beats(evaluator, node));
            let left = open.peek().map(|node| node.bound.0);
            return Ok(Solved { best: best.set, open: left });
        }
        let mut nodes = Vec::new();
        while nodes.len() < ROUND.min(plan.evaluations - count)
            && let Some(node) = open.pop()
        {
            if every || !best.beats(evaluator, &node) {
                nodes.push(node);
            }
        }
        if nodes.is_empty() {
            return Ok(Solved { best: best.set, open: None });
        }
        let children: Vec<Child> =
            nodes.iter().flat_map(|node| branch(instance, limits, &order, node)).collect();
        let joined: Vec<Vec<u16>> = children
            .iter()
            .filter(|child| child.joined)
            .map(|child| child.chosen.clone())
            .collect();
        evaluator.evaluate(&joined)?;
        joined.iter().for_each(|set| best.consider(evaluator, set));
        // Who holds all of its union already has no completion.
        let inner: Vec<Child> =
            children.into_iter().filter(|child| child.union != child.chosen).collect();
        let bounds = parallel(&inner, evaluator.threads(), |child| {
            bound(instance, goal, limits, &child.chosen, &child.union)
        });
        for (child, value) in inner.into_iter().zip(bounds) {
            if let Some(value) = value {
                let Child { depth, chosen, union, .. } = child;
                open.push(Node { bound: Bounded(value), depth, chosen, union });
            }
        }
    }
}

struct Child {
    depth: usize,
    chosen: Vec<u16>,
    union: Vec<u16>,
    /// Whether `chosen` is new.
    joined: bool,
}

/// With the next candidate that may join, and without it.
fn branch(instance: &Instance<'_>, limits: &Limits, order: &[u16], node: &Node) -> Vec<Child> {
    let undecided = |at: &u16| node.union.contains(at) && !node.chosen.contains(at);
    let Some(place) = (node.depth..order.len()).find(|&place| undecided(&order[place])) else {
        return Vec::new();
    };
    let (depth, next) = (place + 1, order[place]);
    let mut chosen = node.chosen.clone();
    chosen.push(next);
    chosen.sort_unstable();
    let joins =
        |at: &u16| chosen.contains(at) || (undecided(at) && instance.joins(&chosen, *at, limits));
    let union = node.union.iter().copied().filter(joins).collect();
    let without = node.union.iter().copied().filter(|&at| at != next).collect();
    vec![
        Child { depth, chosen, union, joined: true },
        Child { depth, chosen: node.chosen.clone(), union: without, joined: false },
    ]
}

/// The best set so far that meets the limits.
struct Best<'b, 'p> {
    instance: &'b Instance<'p>,
    plan: &'b Plan<'b>,
    set: Option<Vec<u16>>,
}

impl Best<'_, '_> {
    fn consider(&mut self, evaluator: &Evaluator<'_, '_>, set: &[u16]) {
        let goal = self.plan.goal;
        let rank = |set| Some(goal.rank(self.instance, set, evaluator.known(set)?));
        let met = evaluator.known(set).is_some_and(|measures| self.plan.limits.met_by(measures));
        if met && self.set.as_ref().is_none_or(|best| rank(set) > rank(best)) {
            self.set = Some(set.to_vec());
        }
    }

    fn value(&self, evaluator: &Evaluator<'_, '_>) -> Option<f64> {
        let set = self.set.as_ref()?;
        Some(self.plan.goal.value(self.instance, set, evaluator.known(set)?).raw)
    }

    /// Whether no completion of the node, which holds one path more at least, outranks the best.
    fn beats(&self, evaluator: &Evaluator<'_, '_>, node: &Node) -> bool {
        let Some((set, measures)) =
            self.set.as_ref().and_then(|set| Some((set, evaluator.known(set)?)))
        else {
            return false;
        };
        let (bytes, paths) = (self.instance.bytes(&node.chosen), node.chosen.len() + 1);
        let steps = self.plan.goal.value(self.instance, set, measures).steps;
        (node.bound.0.steps, measures.bytes, set.len()) < (steps, bytes, paths)
    }
}

/// Adds the best path while that helps: a good set to begin with, and an order in which to branch,
/// the paths that matter first.
fn greedy<'p>(
    instance: &Instance<'p>,
    evaluator: &mut Evaluator<'_, 'p>,
    best: &mut Best<'_, 'p>,
    usable: &[u16],
) -> Result<Vec<u16>, MappingError> {
    let Plan { goal, limits, evaluations, .. } = *best.plan;
    // While the limits are not met, more answers are the way to meet them.
    let score = |evaluator: &Evaluator<'_, '_>, set: &[u16]| {
        let measures = evaluator.known(set)?;
        let met = limits.met_by(measures);
        let goal = if met { goal } else { Goal::Objective(Objective::SlaGoodput) };
        Some((met, goal.value(instance, set, measures).steps, std::cmp::Reverse(measures.bytes)))
    };
    let mut order: Vec<u16> = Vec::new();
    let mut rest = usable.to_vec();
    let mut set: Vec<u16> = Vec::new();
    loop {
        let with = |&at: &u16| {
            let mut larger = set.clone();
            larger.push(at);
            larger.sort_unstable();
            larger
        };
        let mut larger: Vec<Vec<u16>> =
            rest.iter().filter(|&&at| instance.joins(&set, at, limits)).map(with).collect();
        larger.truncate(evaluations.saturating_sub(evaluator.count()));
        evaluator.evaluate(&larger)?;
        larger.iter().for_each(|set| best.consider(evaluator, set));
        // `max_by_key` takes the last of equals; the first is taken here.
        let found = larger.iter().rev().max_by_key(|set| score(evaluator, set));
        let better = found.filter(|&found| score(evaluator, found) > score(evaluator, &set));
        let Some(found) = better.cloned() else { break };
        let added = |at: &u16| found.contains(at) && !set.contains(at);
        order.extend(rest.iter().copied().filter(added));
        rest.retain(|at| !found.contains(at));
        set = found;
    }
    rest.sort_by_key(|&at| std::cmp::Reverse(score(evaluator, &[at])));
    order.extend(rest);
    Ok(order)
}
