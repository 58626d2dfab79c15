//! The command line: what each command takes, and how results reach people and programs.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage or bad input.

mod access;
mod backends;
mod bench;
mod cluster;
mod data;
mod demo;
mod derived;
mod eval;
mod experiment;
mod export;
mod failure;
mod health;
mod import;
mod inputs;
mod inspect;
mod key;
mod load;
mod materialise;
mod models;
mod output;
mod profile;
mod quantize;
mod replay;
mod score;
mod security;
mod serve;
mod server;
mod simulate;
mod top;
mod train;
mod tune;
mod variant;

use std::{process::ExitCode, sync::OnceLock};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

pub(crate) use failure::{Failure, InputError, Run};
pub(crate) use output::Output;

/// Serves click-through models under a latency target, choosing a model variant for every query.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Start with `mprec demo`: it trains, profiles, serves and loads a small model, and ends with a report."
)]
pub(crate) struct Arguments {
    /// Print one JSON object on stdout instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Show no progress.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train, profile, serve and load a small model, and report: the whole product in one command.
    Demo(demo::Demo),
    /// Prepare click data.
    #[command(subcommand)]
    Data(data::Command),
    /// Train variants from prepared data, into a bundle.
    Train(train::Train),
    /// Take over a model that PyTorch trained, into a bundle.
    Import(import::Import),
    /// Show what a bundle holds, and check it.
    Inspect(inspect::Inspect),
    /// Measure a path's quality on labelled rows.
    Eval(eval::Eval),
    /// Score samples from a file.
    Score(score::Score),
    /// Add a variant in fewer bits, with its own measured quality.
    Quantize(quantize::Quantize),
    /// Add a variant whose DHEs are computed once for every id: their quality at a table's speed.
    Materialise(materialise::Materialise),
    /// Add a variant whose decoders are the nearest of some centroids, with its own measured quality.
    Cluster(cluster::Cluster),
    /// Write a variant in a format that others read.
    #[command(subcommand)]
    Export(export::Command),
    /// Show which backends can be used here, and why others cannot.
    Backends(backends::Backends),
    /// Measure how long each path takes, by batch size.
    Profile(profile::Profile),
    /// Try policies on a made-up load, from profiles alone.
    Simulate(simulate::Simulate),
    /// Choose the paths to keep resident, and write a serving config.
    Tune(tune::Tune),
    /// Run a published experiment and report it.
    #[command(subcommand)]
    Experiment(experiment::Command),
    /// Measure one path, beside what the machine could do at most.
    Bench(bench::Bench),
    /// Serve a bundle over HTTP.
    Serve(serve::Serve),
    /// Make keys that let requests in.
    #[command(subcommand)]
    Key(key::Command),
    /// Ask whether a running server can answer.
    Health(health::Health),
    /// Put an open-loop load on a running server.
    Load(load::Load),
    /// Show, load, unload and roll back the models of a running server.
    #[command(subcommand)]
    Models(models::Command),
    /// Watch a running server in the terminal.
    Top(top::Top),
    /// Make recorded decisions again, or try other policies on the recorded queries.
    Replay(replay::Replay),
}

type SetLogFilter = dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync;

static SET_LOG_FILTER: OnceLock<Box<SetLogFilter>> = OnceLock::new();

/// Logs by this filter from now on, unless the environment says which.
pub(crate) fn set_log_filter(filter: &str) -> anyhow::Result<()> {
    let parsed =
        EnvFilter::try_new(filter).with_context(|| format!("`log.filter` is {filter:?}"))?;
    SET_LOG_FILTER.get().map_or(Ok(()), |set| set(parsed))
}

/// Runs a command and reports its failure, with every cause on one line.
///
/// `log` is what the environment says is logged, and `variables` are all of this program's in it.
pub(crate) fn run(
    arguments: Arguments,
    log: Option<&str>,
    variables: &[(String, String)],
) -> ExitCode {
    let filter = log.unwrap_or("warn");
    let output = Output::new(arguments.json, arguments.quiet);
    let result = EnvFilter::try_new(filter)
        .map_err(|error| Failure::input(anyhow::anyhow!("MPREC_LOG `{filter}`: {error}")))
        .and_then(|filter| {
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_filter_reloading();
            if log.is_none() {
                let handle = subscriber.reload_handle();
                let set =
                    move |filter: EnvFilter| handle.reload(filter).map_err(anyhow::Error::from);
                // This is the only place that sets it, once.
                let _ = SET_LOG_FILTER.set(Box::new(set));
            }
            subscriber.init();
            match arguments.command {
                Command::Demo(command) => command.run(&output),
                Command::Data(command) => command.run(&output),
                Command::Train(command) => command.run(&output),
                Command::Import(command) => command.run(&output),
                Command::Inspect(command) => command.run(&output),
                Command::Eval(command) => command.run(&output),
                Command::Score(command) => command.run(&output),
                Command::Quantize(command) => command.run(&output),
                Command::Materialise(command) => command.run(&output),
                Command::Cluster(command) => command.run(&output),
                Command::Export(command) => command.run(&output),
                Command::Backends(command) => command.run(&output),
                Command::Profile(command) => command.run(&output),
                Command::Simulate(command) => command.run(&output),
                Command::Tune(command) => command.run(&output),
                Command::Experiment(command) => command.run(&output),
                Command::Bench(command) => command.run(&output),
                Command::Serve(command) => command.run(variables, &output),
                Command::Key(command) => command.run(&output),
                Command::Health(command) => command.run(&output),
                Command::Load(command) => command.run(&output),
                Command::Models(command) => command.run(&output),
                Command::Top(command) => command.run(&output),
                Command::Replay(command) => command.run(&output),
            }
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.error(&failure);
            failure.exit_code()
        }
    }
}
