//! Which paths to keep resident: a search over sets of them, judged by simulation.
//!
//! A [`Candidate`] is a path with its profile, at one cache size and one batch limit. [`search`]
//! takes candidates, a byte budget per device, constraints, an objective and a load (a
//! [`Problem`]), and returns the best set and the sets that no other is better than in everything.
//!
//! 1. **Evaluate.** A set is simulated on the problem's trace, the same for every set (common random
//!    numbers), so that two sets differ by what they can do and not by their luck.
//! 2. **Bound.** The clairvoyant bound ([`crate::sim::oracle`]) of a set joined with every candidate
//!    that is still undecided bounds every completion of the set. A completion `S` is a subset of
//!    that union `U`. What a schedule of `S` does is allowed for `U` too, which needs not use its
//!    other paths: the linear program of `U` has at least the value of that of `S`, which no policy
//!    on `S` exceeds. The dual of `U` at any prices is at least the value of the program of `U`, so
//!    that an unfinished search for prices keeps the bound true. It does not matter that a
//!    *simulated* superset may do worse than its subset: the bound is not a simulation.
//! 3. **Branch.** Best bound first over "with the next candidate" and "without it". A node is dropped
//!    when it cannot meet a constraint (bytes only grow; accuracy and samples in time are bounded by
//!    the union) or cannot outrank the best set found. When no node is left, that set is the best of
//!    all: the tests compare it with every subset.
//!
//! Sets rank by the objective, then by fewer bytes, then by fewer paths. Differences of goodput below
//! [`TIE`] of what is offered count as ties.
//!
//! **Limits.** The winner is the best *in simulation*, on one trace. The bound is some per cent above
//! what the policy reaches, so that it removes hopeless sets and not close ones: with a dozen
//! candidates or fewer every set may be simulated ([`Effort::complete_up_to`]), with many the
//! search stops at [`Effort::evaluations`] and says how far the best may be from the bound. Before
//! that, candidates that another on their device matches in accuracy, speed at every size and
//! bytes are left out of such a large search; a policy that is not clairvoyant could in principle
//! use them, so [`Found::dropped`] names them.
//!
//! Bytes of a set are the sum over its paths: profiles do not say what two paths share, and a sum
//! that counts pages twice keeps within the budget.

mod bound;
mod dominance;
mod error;
mod evaluate;
mod explain;
mod front;
mod goal;
mod infeasible;
mod instance;
mod limits;
mod problem;
mod search;
#[cfg(test)]
mod tests;

pub use self::{
    error::{Binding, Constraint, Infeasible, MappingError},
    explain::{Explanation, explain},
    front::thin,
    goal::TIE,
    limits::batch_limits,
    problem::{Candidate, Choice, Constraints, MAX_CANDIDATES, Measures, Objective, Problem},
    search::{Effort, Found, Progress, Proof, search},
};
