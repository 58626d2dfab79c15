//! `mprec replay`: recorded decisions once more, or another policy on the recorded queries.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use mprec_router::{
    PolicyName,
    sim::{Report, Service, SimConfig, simulate},
};
use mprec_runtime::record::{
    Ending, Event, Header, LogReader, Outcome, OutcomeCollector, Replayer,
};
use serde::Serialize;

use super::{
    Failure, InputError as _, Output, Run,
    output::{self, RUN_HEADINGS, Unit},
    simulate::row,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Without --policy, every event of the log is told to a fresh router, whose decisions and batches must be the recorded ones;
exit code 1 and both sides of the first difference if they are not. With --policy, the recorded queries are simulated
under other policies, beside what was measured. Latencies count from the decision.")]
pub(super) struct Replay {
    /// The log that `mprec serve --record` wrote.
    log: PathBuf,
    /// Simulate the recorded queries under this policy: `multi-path`, `mp-rec`, `fastest` or `static:<path>`. May be given
    /// several times; the recorded policy is simulated, too.
    #[arg(long)]
    policy: Vec<PolicyName>,
    /// What simulated batches take.
    #[arg(long, value_enum, default_value_t = Times::Recorded)]
    times: Times,
    /// Seed of service times that are drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Times {
    /// As much longer or shorter than profiled as the path's batches were, in their order; drawn for paths without any.
    Recorded,
    /// Drawn from the profiles.
    Profile,
}

#[derive(Debug, Serialize)]
struct Replayed {
    policy: String,
    model: String,
    model_version: String,
    program: String,
    /// Why the log ends: `stopped`, `behind`, `limit` or `cut-off`.
    ending: &'static str,
    bytes: u64,
    events: u64,
    decisions: u64,
    batches: u64,
    bytes_per_query: f64,
    /// Whether every decision and batch was the recorded one; null with --policy, which does not ask.
    equal: Option<bool>,
    difference: Option<String>,
    cancelled: u64,
    open: u64,
    /// What became of the recorded queries.
    served: Report,
    /// What would have, by simulation.
    simulated: Vec<Report>,
}

impl Replay {
    pub(super) fn run(&self, output: &Output) -> Run {
        let name = || format!("`{}`", self.log.display());
        let size = std::fs::metadata(&self.log).with_context(name).or_bad_input()?.len();
        let mut log = LogReader::open(&self.log).with_context(name).or_bad_input()?;
        let header = log.header().clone();
        let mut outcome = OutcomeCollector::new(&header);
        let mut replayer = None;
        if self.policy.is_empty() {
            replayer = Some(Replayer::new(&header).with_context(name).or_bad_input()?);
        }
        let bar = output.bar("reading the log", size, Unit::Bytes);
        let (mut decisions, mut batches, mut difference) = (0u64, 0u64, None);
        while let Some(event) = log.next_event().with_context(name).or_bad_input()? {
            match &event {
                Event::Submitted { .. } => decisions += 1,
                Event::Asked { started: Some(_), .. } => batches += 1,
                _ => {}
            }
            outcome.take(&event);
            if let Some(replayer) = &mut replayer
                && let Err(found) = replayer.replay(&event)
            {
                difference = Some(found.to_string());
                break;
            }
            if log.events() % 4_096 == 0 {
                bar.set_position(log.bytes());
            }
        }
        bar.finish_and_clear();
        let outcome = outcome.finish();
        let simulated = self.simulate(&header, &outcome)?;
        let ending = log.ending();
        let result = Replayed {
            policy: header.policy.to_string(),
            model: header.model,
            model_version: header.model_version,
            program: header.program,
            ending: match ending {
                Some(Ending::Stopped) => "stopped",
                Some(Ending::Behind) => "behind",
                Some(Ending::Limit) => "limit",
                Some(Ending::CutOff) | None => "cut-off",
            },
            bytes: log.bytes(),
            events: log.events(),
            decisions,
            batches,
            bytes_per_query: log.bytes() as f64 / decisions.max(1) as f64,
            equal: replayer.as_ref().map(|_| difference.is_none()),
            difference,
            cancelled: outcome.cancelled,
            open: outcome.open,
            served: outcome.report,
            simulated,
        };
        output.result(&result, || result.text(self.times))?;
        if result.difference.is_some() {
            let why = "the replay differs from the log; was it recorded by another version?";
            return Err(anyhow!(why).into());
        }
        Ok(())
    }

    /// The recorded policy, then those asked for.
    fn simulate(&self, header: &Header, outcome: &Outcome) -> Result<Vec<Report>, Failure> {
        if self.policy.is_empty() {
            return Ok(Vec::new());
        }
        let trace = outcome.trace().context("the log has no queries to simulate").or_bad_input()?;
        let ratios = match self.times {
            Times::Recorded => outcome.ratios.clone(),
            Times::Profile => Vec::new(),
        };
        let config = SimConfig {
            service: Service::Quantiles,
            ratios,
            slowdowns: Vec::new(),
            seed: self.seed,
            router: header.config.clone(),
        };
        let mut policies = vec![header.policy.clone()];
        policies.extend(self.policy.iter().filter(|policy| **policy != header.policy).cloned());
        let run = |policy: &PolicyName| simulate(&header.profiles, policy, &trace, &config);
        policies.iter().map(run).collect::<Result<_, _>>().or_bad_input()
    }
}

impl Replayed {
    fn text(&self, times: Times) -> String {
        let mut text = format!(
            "{} version {} by {}, policy {}: {} decisions and {} batches in {} events, {:.0} bytes a query",
            self.model,
            self.model_version,
            self.program,
            self.policy,
            output::count(self.decisions),
            output::count(self.batches),
            output::count(self.events),
            self.bytes_per_query
        );
        text.push_str(match self.ending {
            "stopped" => "\n",
            "behind" => "\nThe log ends early: its writer fell behind.\n",
            "limit" => "\nThe log ends early: it reached its limit.\n",
            _ if self.difference.is_some() => "\n",
            _ => "\nThe log was cut off; this is all up to its last whole record.\n",
        });
        match (&self.difference, self.equal) {
            (Some(difference), _) => {
                text.push_str(&format!("The first difference:\n{difference}\n"));
            }
            (None, Some(_)) => text.push_str("Replayed: all equal.\n"),
            (None, None) => {}
        }
        let [headings @ .., _] = RUN_HEADINGS;
        let runs = std::iter::once(&self.served).chain(&self.simulated);
        let rows = runs.map(|run| {
            let kind = if run.simulated { "simulated" } else { "measured" };
            row(format!("{} ({kind})", run.policy), run)
        });
        text.push_str(&output::table(headings, rows));
        if self.cancelled + self.open > 0 {
            text.push_str(&format!(
                "\nOf the failed, {} were left by their clients; {} more were open at the end of the log.",
                self.cancelled, self.open
            ));
        }
        if !self.simulated.is_empty() {
            text.push_str(match times {
                Times::Recorded => {
                    "\nSimulated batches took as much longer than profiled as the recorded ones."
                }
                Times::Profile => "\nSimulated batches took what the profiles say.",
            });
        }
        text
    }
}
