//! The serving config that the search ends in, with the reason for every choice.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::Context as _;
use mprec_router::{
    QualitySource,
    mapping::{Candidate, Constraint, Explanation, Found, Measures, Problem, Proof},
};
use mprec_runtime::config::ConfigFile;

use super::{
    super::output::{bytes, count},
    Settings,
    report::figure,
};

/// The first words of what is written, by which an earlier result may be told from a file of somebody's own.
pub(super) const HEADER: &str = "# Written by `mprec tune`";

/// Everything that the text tells of.
pub(super) struct Chosen<'c> {
    pub(super) settings: &'c Settings,
    pub(super) problem: &'c Problem,
    pub(super) found: &'c Found,
    pub(super) explanations: &'c [Explanation],
    pub(super) model: &'c str,
    pub(super) version: &'c str,
    /// What speeds were measured on.
    pub(super) machine: &'c str,
    /// The bundle's folder, if one was given.
    pub(super) bundle: Option<&'c Path>,
    /// The profile file's name, as the config states it.
    pub(super) profiles: &'c str,
    pub(super) cache_bytes: u64,
    /// What a replay came to, or why there was none.
    pub(super) replay: &'c str,
}

impl Chosen<'_> {
    /// The config's text, which was checked as `mprec serve` checks it.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        let text = self.lines();
        ConfigFile::parse(&text, Path::new("the written config"))
            .and_then(ConfigFile::check)
            .context("what was chosen cannot be served; name servable paths in `input.paths`")?;
        Ok(text)
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        self.heading(&mut text);
        self.model(&mut text);
        self.server(&mut text);
        self.rules(&mut text);
        self.serving(&mut text);
        self.budgets(&mut text);
        let profiles = quoted(self.profiles);
        line(&mut text, "[profile]");
        line(
            &mut text,
            "# Service times and batch limits of the paths above, as they were compared.",
        );
        line(&mut text, &format!("file = {profiles}"));
        self.quality(&mut text);
        text
    }

    fn heading(&self, text: &mut String) {
        let Self { settings, problem, found, .. } = self;
        let measures = &found.winner.measures;
        let load = &settings.load;
        for words in [
            format!(
                "{HEADER} {} for {} version {}.",
                env!("CARGO_PKG_VERSION"),
                self.model,
                self.version
            ),
            format!("Objective: {}. {}", settings.goal, self.proof()),
            format!(
                "Load: {} queries over {:.1} s ({} queries/s, {}), sizes {}, SLA {} ms, seed {}.",
                count(problem.trace.queries().len() as u64),
                problem.trace.seconds(),
                load.qps,
                load.arrivals,
                load.sizes,
                load.sla_ms,
                load.seed
            ),
            format!("Speeds: {}.", self.machine),
            format!(
                "Simulated: {} correct predictions in time per second, {:.2} % of the samples in time, accuracy {:.4}, p99 {:.2} ms, {}.",
                figure(measures.correct_in_time_per_s),
                100.0 * measures.in_time,
                measures.accuracy,
                measures.p99_ms,
                bytes(measures.bytes)
            ),
            self.replay.to_owned(),
        ] {
            line(text, &comment(&words));
        }
    }

    fn proof(&self) -> String {
        let Found { proof, evaluations, sets, dropped, .. } = self.found;
        let among = format!("{} of at most {sets:.0} sets simulated", count(*evaluations as u64));
        let mut words = match proof {
            Proof::Best => {
                format!("The best of all sets in simulation ({among}; no other can be better).")
            }
            Proof::Stopped { bound, gap } => format!(
                "The best found ({among}); no set exceeds {}, {:.1} % away.",
                figure(*bound),
                100.0 * gap
            ),
        };
        if !dropped.is_empty() {
            let _ = write!(
                words,
                " {} candidates were left out that another matches in everything.",
                dropped.len()
            );
        }
        words
    }

    fn model(&self, text: &mut String) {
        line(text, "\n[model]");
        match self.bundle {
            Some(folder) => {
                line(text, &format!("bundle = {}", quoted(&folder.display().to_string())));
            }
            None => {
                line(text, "# No bundle was given: the folder of this model goes here.");
                line(text, &format!("bundle = {}", quoted(self.model)));
            }
        }
    }

    /// Limits that the load exceeds where they are left at their defaults.
    fn server(&self, text: &mut String) {
        let queries = self.problem.trace.queries();
        let largest = queries.iter().map(|query| query.samples).max().unwrap_or(1);
        if largest > 4_096 {
            line(text, "\n[server]");
            line(text, "# The largest query of the load.");
            line(text, &format!("max_samples = {largest}"));
        }
        if largest > 262_144 {
            line(text, "\n[queue]");
            line(text, "# At least one request has to fit.");
            line(text, &format!("max_samples = {largest}"));
        }
    }

    fn rules(&self, text: &mut String) {
        let Self { settings, problem, .. } = self;
        line(text, "\n[objective]");
        line(text, "# The policy under which sets were compared.");
        line(text, &format!("policy = {}", quoted(&problem.policy.to_string())));
        line(text, "\n[constraints]");
        line(text, &format!("sla_ms = {:?}", settings.load.sla_ms));
        let constraints = &problem.constraints;
        if let Some(floor) = constraints.min_quality {
            line(text, "# As asked for; paths below it were not considered.");
            line(text, &format!("min_quality = {floor:?}"));
        }
        let measures = &self.found.winner.measures;
        let kept = [
            constraints.min_accuracy.map(|least| {
                format!("{} = {least}: {:.4}", Constraint::MinAccuracy, measures.accuracy)
            }),
            constraints.min_in_time.map(|least| {
                format!("{} = {least}: {:.4}", Constraint::MinInTime, measures.in_time)
            }),
            constraints
                .max_p99_ms
                .map(|most| format!("{} = {most}: {:.2}", Constraint::MaxP99Ms, measures.p99_ms)),
            constraints.max_bytes.map(|most| {
                format!("{} = {}: {}", Constraint::MaxBytes, bytes(most), bytes(measures.bytes))
            }),
        ];
        for kept in kept.into_iter().flatten() {
            line(text, &comment(&format!("Kept by the choice of paths, in simulation: {kept}.")));
        }
    }

    fn serving(&self, text: &mut String) {
        line(text, "\n[serving]");
        for (device, (paths, used)) in &self.devices() {
            let of = match self.problem.budgets.get(device) {
                Some(&budget) => {
                    let share = 100.0 * *used as f64 / budget.max(1) as f64;
                    format!("of {} ({share:.0} %)", bytes(budget))
                }
                None => "without a budget".to_owned(),
            };
            let word = if *paths == 1 { "path" } else { "paths" };
            line(text, &comment(&format!("{device}: {paths} {word}, {} {of}.", bytes(*used))));
        }
        line(text, "paths = [");
        for explanation in self.explanations {
            let candidate = &self.problem.candidates[explanation.candidate];
            for reason in self.reasons(explanation, candidate) {
                line(text, &format!("  {}", comment(&reason)));
            }
            line(text, &format!("  {},", quoted(&candidate.profile.name)));
        }
        line(text, "]");
        let chosen = self.found.winner.candidates.iter().map(|&at| &self.problem.candidates[at]);
        let cpu = chosen.into_iter().find(|one| one.profile.device == mprec_runtime::paths::CPU);
        if let Some(cpu) = cpu {
            line(
                text,
                "# As many as ran at once when speeds were measured; another number has other speeds.",
            );
            line(text, &format!("workers = {}", cpu.profile.lanes));
        }
        if self.cache_bytes > 0 {
            line(
                text,
                "# Each worker's cache for each path with a DHE: the size under which the paths were measured.",
            );
            line(text, &format!("cache_bytes = {}", self.cache_bytes));
        }
        text.push('\n');
    }

    /// What the server shall hold itself to, too.
    fn budgets(&self, text: &mut String) {
        let devices = self.devices();
        let limits =
            self.problem.budgets.iter().filter(|(device, _)| devices.contains_key(*device));
        let lines: Vec<String> =
            limits.map(|(device, budget)| format!("{} = {budget}", quoted(device))).collect();
        if !lines.is_empty() {
            line(text, "# As asked for, in bytes.");
            line(text, "[budgets]");
            lines.iter().for_each(|limit| line(text, limit));
            text.push('\n');
        }
    }

    /// Paths and bytes by device.
    fn devices(&self) -> BTreeMap<String, (usize, u64)> {
        let mut devices: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for &at in &self.found.winner.candidates {
            let profile = &self.problem.candidates[at].profile;
            let device = devices.entry(profile.device.clone()).or_default();
            *device = (device.0 + 1, device.1 + profile.bytes);
        }
        devices
    }

    /// Why a path is there, and its batch limit.
    fn reasons(&self, explanation: &Explanation, candidate: &Candidate) -> Vec<String> {
        let profile = &candidate.profile;
        let winner = &self.found.winner.measures;
        let source = &profile.quality_source;
        let mut reasons =
            vec![format!("Accuracy {:.4} ({source}), {}.", profile.accuracy, bytes(profile.bytes))];
        reasons.push(match &explanation.without {
            None => "The only path: without it nothing is answered.".to_owned(),
            Some(without) => format!(
                "With it {} correct in time per second, without it {} ({}); {}.",
                figure(winner.correct_in_time_per_s),
                figure(without.correct_in_time_per_s),
                change(winner, without),
                self.broken(without)
            ),
        });
        let limit = profile.batch_limit();
        let mut batch = format!("Batches of several queries hold at most {limit} samples");
        let alternatives: Vec<String> = explanation
            .instead
            .iter()
            .map(|(at, measures)| {
                let other = &self.problem.candidates[*at];
                let cache = match (other.cache_bytes, candidate.cache_bytes) {
                    (Some(other), Some(own)) if other != own => {
                        format!(" and a cache of {}", bytes(other))
                    }
                    _ => String::new(),
                };
                let limit = other.profile.max_batch.unwrap_or(0);
                format!("with {limit}{cache} {}", change(winner, measures))
            })
            .collect();
        if alternatives.is_empty() {
            batch.push_str(": the one limit that was considered.");
        } else {
            let _ = write!(batch, ": {}.", alternatives.join(", "));
        }
        reasons.push(batch);
        reasons
    }

    /// What else would change without a path.
    fn broken(&self, without: &Measures) -> String {
        let constraints = &self.problem.constraints;
        let mut broken = Vec::new();
        if constraints.min_accuracy.is_some_and(|least| without.accuracy < least) {
            broken.push(Constraint::MinAccuracy.to_string());
        }
        if constraints.min_in_time.is_some_and(|least| without.in_time < least) {
            broken.push(Constraint::MinInTime.to_string());
        }
        if constraints.max_p99_ms.is_some_and(|most| without.p99_ms > most) {
            broken.push(Constraint::MaxP99Ms.to_string());
        }
        let figures = format!(
            "accuracy {:.4}, {:.2} % in time, p99 {:.2} ms",
            without.accuracy,
            100.0 * without.in_time,
            without.p99_ms
        );
        if broken.is_empty() {
            figures
        } else {
            format!("{figures}, which breaks {}", broken.join(" and "))
        }
    }

    fn quality(&self, text: &mut String) {
        for &at in &self.found.winner.candidates {
            let profile = &self.problem.candidates[at].profile;
            if let QualitySource::Declared(source) = &profile.quality_source {
                let source: String = source.chars().take(200).collect();
                line(text, &format!("\n[quality.{}]", quoted(&profile.name)));
                line(text, "# Not measured on the bundle: declared, and compared by.");
                line(text, &format!("accuracy = {:?}", profile.accuracy));
                line(text, &format!("source = {}", quoted(&source)));
            }
        }
    }
}

/// How goodput would change from the winner's.
fn change(winner: &Measures, other: &Measures) -> String {
    let ratio = other.correct_in_time_per_s / winner.correct_in_time_per_s.max(f64::MIN_POSITIVE);
    format!("{:+.2} %", 100.0 * (ratio - 1.0))
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A comment, whatever characters names hold.
fn comment(words: &str) -> String {
    let words = words.strip_prefix("# ").unwrap_or(words);
    let clean: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# {clean}")
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
