//! The MP-Rec paper's experiments (arXiv 2302.10872), as far as they are known: every policy, on the paper's three
//! machines, over loads, SLAs and query sizes.
//!
//! 1. **Hardware** ([`Hardware`]): devices by their data sheets and machines by byte budgets, from a file.
//! 2. **Work** ([`shape`]): what a batch of a published model moves and computes, counted from its shapes.
//! 3. **Service times**: a profile that was measured, where one is given; else a roofline ([`roofline`]).
//! 4. **Quality** ([`Quality`]): declared or measured, in scenarios that never meet.
//! 5. **Settings** ([`Setting`]): the sets of paths that fit the budgets, and the policies over them, which have the set that
//!    suits the load.
//! 6. **Points** ([`run()`]): each load is one trace that every policy is simulated on, beside a clairvoyant bound.
//! 7. **Report** ([`ExperimentReport`], [`page`]): all numbers, and a page of them.
//!
//! Nothing here is a measurement unless it is called one, and a simulated machine is as good as its profiles: the shape
//! of the results (who wins where, and by about how much) is what the experiment can show, not what the authors' machine
//! did.

mod candidates;
mod error;
mod hardware;
mod outcome;
pub mod page;
mod plan;
mod quality;
mod report;
mod resident;
pub mod roofline;
mod run;
mod setting;
pub mod shape;
#[cfg(test)]
mod tests;

pub use self::{
    candidates::{Candidate, Origin},
    error::ExperimentError,
    hardware::{Device, HOST, Hardware, Machine, Products, Slot},
    outcome::{Comparison, OF_BOUND, Point, PolicyOutcome},
    plan::{Cell, PAPER_RATE, PAPER_SLA_MS, Plan, SizeCase, Sweep},
    quality::{Quality, Scenario},
    report::{ExperimentReport, PAPER_CLAIMS, PaperClaim, PathReport, SettingReport, Verdict},
    run::run,
    setting::{Capacity, Contender, Setting, log_normal},
};
