//! One model on one machine in one quality scenario: the paths, the policies, and what load 1 means.

use std::time::Duration;

use mprec_router::{
    PathProfile, PolicyName, Profiles, RouterConfig, RouterState,
    sim::{Arrivals, Sizes, Trace, Until},
};
use serde::Serialize;

use super::{
    ExperimentError,
    candidates::{Candidate, Origin, candidates},
    hardware::{HOST, Hardware, Machine},
    plan::{PAPER_RATE, PAPER_SLA_MS},
    quality::{Quality, Scenario},
    resident,
};
use crate::{bench::Arch, profiler::ProfileFile};

/// Queries of each load that resident sets are judged by.
const SAMPLE: usize = 1_000;
/// Their rates, queries a second: the paper's, at which an accelerator idles, and two at which capacity decides.
const RATES: [f64; 3] = [PAPER_RATE, 10.0 * PAPER_RATE, 100.0 * PAPER_RATE];

/// A policy and the paths that it has.
#[derive(Debug, Clone)]
pub struct Contender {
    /// The policy.
    pub policy: PolicyName,
    /// The sets of paths among which it has one, chosen anew for every load; for a static policy, its path alone.
    pub sets: Vec<Profiles>,
}

/// What is simulated under every load.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Where accuracies come from.
    pub scenario: Scenario,
    /// The same in words.
    pub quality_source: String,
    /// The model.
    pub arch: Arch,
    /// The machine.
    pub machine: Machine,
    /// Every path that fits its device's budget by itself.
    pub candidates: Vec<Candidate>,
    /// Every set of paths that the machine can hold and to which nothing can be added, the best over all loads first.
    pub sets: Vec<Profiles>,
    /// Static policies of every candidate, then the others on the sets.
    pub contenders: Vec<Contender>,
    /// What load 1 is: the capacity of the most accurate path of the first set, by samples a second.
    pub accurate: Capacity,
    /// The capacity of the path that carries most.
    pub cheapest: Capacity,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// How much one path carries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacity {
    /// The path.
    pub path: String,
    /// Samples a second with every worker running batches of its limit back to back, by mean service times.
    pub samples_per_s: f64,
}

impl Setting {
    /// Finds the paths and chooses those that are kept.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`] if nothing fits the machine, or the profiles contradict each other.
    pub fn new(
        hardware: &Hardware,
        machine: &Machine,
        arch: Arch,
        quality: &Quality,
        files: &[ProfileFile],
    ) -> Result<Self, ExperimentError> {
        let (mut found, mut notes) = candidates(hardware, machine, arch, quality, files)?;
        let budgets: Vec<(&str, u64)> =
            machine.devices.iter().map(|slot| (slot.name.as_str(), slot.budget_bytes())).collect();
        found.retain(|candidate| {
            let path = &candidate.profile;
            let fits =
                budgets.iter().any(|&(at, budget)| at == path.device && path.bytes <= budget);
            if !fits {
                notes.push(format!("`{}` does not fit: {} bytes", path.name, path.bytes));
            }
            fits
        });
        let nothing = || ExperimentError::NothingFits {
            model: arch.name().to_owned(),
            machine: machine.name.clone(),
        };
        let loads = RATES.into_iter().map(sample).collect::<Result<Vec<_>, _>>()?;
        let mut sets = resident::sets(&found, &budgets)?;
        let usual = resident::usual(&sets, &loads)?.ok_or_else(nothing)?;
        sets.swap(0, usual);
        if sets.len() > 1 {
            notes.push(format!(
                "The machine does not hold all paths: of {} sets to which nothing can be added, every policy has the one that \
                 served it best under each load, on another trace",
                sets.len()
            ));
        }
        let mut contenders = Vec::new();
        for candidate in &found {
            contenders.push(Contender {
                policy: PolicyName::Static(candidate.profile.name.clone()),
                sets: vec![Profiles::new(vec![candidate.profile.clone()])?],
            });
        }
        for policy in [PolicyName::Fastest, PolicyName::MpRec, PolicyName::MultiPath] {
            contenders.push(Contender { policy, sets: sets.clone() });
        }
        let resident = &sets[0];
        let carried = resident.paths().iter().map(capacity).collect::<Result<Vec<_>, _>>()?;
        let more = |a: &Capacity, b: &Capacity| a.samples_per_s.total_cmp(&b.samples_per_s);
        let cheapest = carried.iter().max_by(|a, b| more(a, b)).cloned().ok_or_else(nothing)?;
        let accurate = resident.paths().iter().zip(&carried).max_by(|(a, first), (b, second)| {
            a.accuracy.total_cmp(&b.accuracy).then(more(first, second))
        });
        let accurate = accurate.map(|(_, carried)| carried.clone()).ok_or_else(nothing)?;
        Ok(Self {
            scenario: quality.scenario,
            quality_source: quality.source.clone(),
            arch,
            machine: machine.clone(),
            candidates: found,
            sets,
            contenders,
            accurate,
            cheapest,
            notes,
        })
    }

    /// The paper's baseline, where it fits: the table on the host.
    pub fn baseline(&self) -> Option<String> {
        let name = format!("table@{HOST}");
        let fits = self.candidates.iter().any(|candidate| candidate.profile.name == name);
        fits.then(|| format!("static:{name}"))
    }

    /// Where the service times of all simulations of this setting come from, as captions say it.
    pub fn basis(&self) -> String {
        let devices = self.machine.devices.iter().filter_map(|slot| {
            let mut here = self.candidates.iter();
            let first = here.find(|candidate| candidate.profile.device == slot.name)?;
            Some((slot.name.as_str(), first.speed))
        });
        let devices: Vec<(&str, Origin)> = devices.collect();
        let of = |origin| {
            let named = devices.iter().filter(|(_, speed)| *speed == origin);
            named.map(|(name, _)| *name).collect::<Vec<_>>().join(" and ")
        };
        match (of(Origin::Measured), of(Origin::Modelled)) {
            (measured, modelled) if measured.is_empty() => {
                format!("Simulated; service times modelled for {modelled}")
            }
            (measured, modelled) if modelled.is_empty() => {
                format!("Simulated; service times measured for {measured}")
            }
            (measured, modelled) => {
                format!("Simulated; service times measured for {measured}, modelled for {modelled}")
            }
        }
    }
}

/// A short load of the paper's sizes (log-normal of mean 128; σ 0.5 is ours) and SLA at this rate.
fn sample(rate: f64) -> Result<Trace, ExperimentError> {
    Ok(Trace::generate(
        &Arrivals::Poisson { rate },
        &log_normal(128.0, 0.5),
        Until::Queries(SAMPLE),
        Duration::from_secs_f64(PAPER_SLA_MS / 1e3),
        1,
    )?)
}

/// Log-normal sizes with this mean before truncation, clipped at eight times the mean: 1,024 at 128, as DeepRecSys does.
pub fn log_normal(mean: f64, sigma: f64) -> Sizes {
    Sizes::LogNormal { mu: mean.ln() - 0.5 * sigma * sigma, sigma, largest: (8.0 * mean) as u32 }
}

fn capacity(path: &PathProfile) -> Result<Capacity, ExperimentError> {
    let alone = Profiles::new(vec![path.clone()])?;
    let state = RouterState::new(alone, RouterConfig::default())
        .map_err(|error| mprec_router::sim::SimError::Router(error.into()))?;
    let batch = state.max_batch(mprec_router::PathId(0));
    let seconds = path.service.mean(batch).as_secs_f64();
    let samples_per_s = f64::from(path.lanes) * f64::from(batch) / seconds;
    Ok(Capacity { path: path.name.clone(), samples_per_s })
}
