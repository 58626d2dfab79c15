//! What `mprec tune` found, for people and programs.

use std::{collections::BTreeMap, path::PathBuf};

use mprec_router::mapping::{Candidate, Choice, Found, Measures, Objective, Problem, Proof, thin};
use serde::Serialize;

use super::{
    super::output::{self, bytes, count},
    Replay,
};

/// Rows of the Pareto set that people see.
const ROWS: usize = 15;

/// Everything found; also what `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Figures of sets are simulated, those under `replay.served` are measured.
    simulated: bool,
    objective: Objective,
    policy: String,
    model: String,
    version: String,
    machine: String,
    queries: usize,
    seconds: f64,
    sla_ms: f64,
    candidates: usize,
    sets_at_most: f64,
    sets_simulated: usize,
    /// Whether no other set can be better, in simulation.
    proved: bool,
    /// What no set exceeds, where that is not proved.
    bound: Option<f64>,
    bound_gap_percent: Option<f64>,
    /// Candidates left out because another matches them in everything.
    dropped: Vec<(String, String)>,
    budgets: BTreeMap<String, u64>,
    winner: Set,
    pareto_complete: bool,
    pareto: Vec<Set>,
    replay: Option<Replay>,
    /// Why nothing was replayed.
    replay_skipped: Option<String>,
    config: PathBuf,
    profiles: PathBuf,
    #[serde(skip)]
    rows: Vec<Set>,
}

/// A set of paths.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Set {
    paths: Vec<Member>,
    #[serde(flatten)]
    measures: Measures,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Member {
    path: String,
    max_batch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_bytes: Option<u64>,
}

/// Where results went and where they came from.
pub(super) struct Origin {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) machine: String,
    pub(super) sla_ms: f64,
    pub(super) config: PathBuf,
    pub(super) profiles: PathBuf,
}

impl Report {
    pub(super) fn new(
        problem: &Problem,
        found: &Found,
        replay: Result<Replay, String>,
        origin: Origin,
    ) -> Self {
        let set = |choice: &Choice| Set {
            paths: choice.candidates.iter().map(|&at| member(&problem.candidates[at])).collect(),
            measures: choice.measures,
        };
        let winner = set(&found.winner);
        let mut rows: Vec<Set> =
            thin(&found.front, found.offered_per_s, ROWS).iter().map(set).collect();
        // Ties may have taken its place.
        rows.retain(|row| *row != winner);
        rows.insert(0, winner.clone());
        let name = |at: usize| label(&member(&problem.candidates[at]));
        let (bound, gap) = match found.proof {
            Proof::Best => (None, None),
            Proof::Stopped { bound, gap } => (Some(bound), Some(100.0 * gap)),
        };
        let (replay, replay_skipped) = match replay {
            Ok(replay) => (Some(replay), None),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            simulated: true,
            objective: problem.objective,
            policy: problem.policy.to_string(),
            model: origin.model,
            version: origin.version,
            machine: origin.machine,
            queries: problem.trace.queries().len(),
            seconds: problem.trace.seconds(),
            sla_ms: origin.sla_ms,
            candidates: problem.candidates.len(),
            sets_at_most: found.sets,
            sets_simulated: found.evaluations,
            proved: found.proof == Proof::Best,
            bound,
            bound_gap_percent: gap,
            dropped: found.dropped.iter().map(|&(one, by)| (name(one), name(by))).collect(),
            budgets: problem.budgets.clone(),
            winner,
            pareto_complete: found.front_complete,
            pareto: found.front.iter().map(set).collect(),
            replay,
            replay_skipped,
            config: origin.config,
            profiles: origin.profiles,
            rows,
        }
    }

    pub(super) fn text(&self) -> String {
        let pareto = match (self.pareto_complete, self.pareto.len()) {
            (true, all) => format!("Pareto set of all sets ({all})"),
            (false, all) => format!("Pareto set of the sets simulated ({all})"),
        };
        let shown = if self.pareto.len() > self.rows.len() {
            format!(", of which {} tell most (--json has all)", self.rows.len())
        } else {
            String::new()
        };
        let mut text = format!(
            "{} version {}, {}; {} queries over {:.1} s, SLA {} ms, policy {}\n\
             {} candidates, at most {:.0} sets within the budgets, {} simulated. {}\n",
            self.model,
            self.version,
            self.machine,
            count(self.queries as u64),
            self.seconds,
            self.sla_ms,
            self.policy,
            self.candidates,
            self.sets_at_most,
            count(self.sets_simulated as u64),
            self.proof()
        );
        for (one, by) in &self.dropped {
            text.push_str(&format!("Left out: {one}, which {by} matches in everything.\n"));
        }
        text.push_str(&format!(
            "\n{pareto}{shown}; simulated, the winner first:\n{}\n\n",
            self.table()
        ));
        text.push_str(&self.replayed());
        text.push_str(&format!(
            "\nwritten to {} and {}",
            self.config.display(),
            self.profiles.display()
        ));
        text
    }

    fn proof(&self) -> String {
        match (self.bound, self.bound_gap_percent) {
            (Some(bound), Some(gap)) => format!(
                "Stopped there: the best found is {gap:.1} % from {}, which no set exceeds.",
                figure(bound)
            ),
            _ => format!("No other set has a better {}.", self.objective),
        }
    }

    fn table(&self) -> String {
        output::table(
            ["paths (batch limit)", "correct in time/s", "in time", "accuracy", "p99 ms", "memory"],
            self.rows.iter().map(|set| {
                let measures = &set.measures;
                let paths: Vec<String> = set.paths.iter().map(label).collect();
                [
                    paths.join(" + "),
                    figure(measures.correct_in_time_per_s),
                    format!("{:.2} %", 100.0 * measures.in_time),
                    format!("{:.4}", measures.accuracy),
                    format!("{:.2}", measures.p99_ms),
                    bytes(measures.bytes),
                ]
            }),
        )
    }

    fn replayed(&self) -> String {
        let Some(replay) = &self.replay else {
            let reason = self.replay_skipped.as_deref().unwrap_or("nothing was served");
            return format!("Not replayed: {reason}.");
        };
        let (simulated, served) = (&replay.simulated, &replay.served);
        let in_time = served.samples_in_time as f64 / served.samples_offered.max(1) as f64;
        let row = |what: &str, simulated: String, served: String, difference: f64| {
            [what.to_owned(), simulated, served, format!("{difference:+.1} %")]
        };
        let table = output::table(
            ["the winner", "simulated", "served", "difference"],
            [
                row(
                    "correct in time/s",
                    figure(simulated.correct_in_time_per_s),
                    figure(served.correct_in_time_per_s),
                    replay.goodput_difference_percent,
                ),
                row(
                    "p99 ms",
                    format!("{:.2}", simulated.p99_ms),
                    format!("{:.2}", served.p99_ms),
                    replay.p99_difference_percent,
                ),
                row(
                    "samples in time",
                    format!("{:.2} %", 100.0 * simulated.in_time),
                    format!("{:.2} %", 100.0 * in_time),
                    100.0 * (in_time / simulated.in_time.max(f64::MIN_POSITIVE) - 1.0),
                ),
            ],
        );
        let late = if replay.client_was_late {
            format!(
                "\nThe load generator shared these cores and sent 1 % of the queries {:.1} ms late or more, which counts as latency.",
                served.send_lag_p99_ms
            )
        } else {
            String::new()
        };
        format!(
            "Served over HTTP for {:.1} s, {} queries:\n{table}{late}",
            replay.seconds,
            count(replay.queries)
        )
    }
}

impl Replay {
    /// One line for the config.
    pub(super) fn sentence(&self) -> String {
        format!(
            "Replayed for {:.1} s: served {} correct in time per second ({:+.1} % of the simulated), p99 {:.2} ms (simulated {:.2} ms).",
            self.seconds,
            figure(self.served.correct_in_time_per_s),
            self.goodput_difference_percent,
            self.served.p99_ms,
            self.simulated.p99_ms
        )
    }
}

fn member(candidate: &Candidate) -> Member {
    Member {
        path: candidate.profile.name.clone(),
        max_batch: candidate.profile.max_batch,
        cache_bytes: candidate.cache_bytes,
    }
}

fn label(member: &Member) -> String {
    let mut label = member.path.clone();
    let limit = member.max_batch.map(|limit| limit.to_string());
    let cache = member.cache_bytes.filter(|&size| size > 0);
    let cache = cache.map(|size| format!("cache {}", bytes(size)));
    let notes: Vec<String> = limit.into_iter().chain(cache).collect();
    if !notes.is_empty() {
        label.push_str(&format!(" ({})", notes.join(", ")));
    }
    label
}

/// A figure of any size, to four digits at least.
pub(super) fn figure(value: f64) -> String {
    if value.abs() < 100.0 && value != 0.0 { format!("{value:.4}") } else { format!("{value:.0}") }
}
