//! `mprec models`: what a running server serves, and changing it.

use clap::{Args, Subcommand};
use mprec_runtime::load::{ModelChange, change_model, model_index};

use super::{InputError as _, Output, Run, access::AccessArguments, output};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show every model and version, and how far each is.
    List(List),
    /// Load the newest version of a model, which takes over when it is ready.
    Load(Change),
    /// Let every version of a model finish its queries and go.
    Unload(Change),
    /// Have the version before take over again.
    Rollback(Change),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct Change {
    /// The model's name.
    model: String,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The server must be told where its models are managed: `[admin]` in its config file."
)]
struct Server {
    /// Where the server's models are managed.
    #[arg(long, default_value = "http://127.0.0.1:8003")]
    url: String,
    #[command(flatten)]
    access: AccessArguments,
}

impl Command {
    pub(super) fn run(&self, output: &Output) -> Run {
        match self {
            Self::List(List { server }) => list(server, output),
            Self::Load(change) => change.run(ModelChange::Load, output),
            Self::Unload(change) => change.run(ModelChange::Unload, output),
            Self::Rollback(change) => change.run(ModelChange::Rollback, output),
        }
    }
}

fn list(server: &Server, output: &Output) -> Run {
    let index = model_index(&server.url, &server.access.read()?).or_bad_input()?;
    output.result(&index, || {
        let rows = index.iter().map(|line| {
            let state = line.state.name().to_owned();
            [line.name.clone(), line.version.clone(), state, line.reason.clone()]
        });
        output::table(["model", "version", "state", "reason"], rows)
    })
}

impl Change {
    fn run(&self, change: ModelChange, output: &Output) -> Run {
        let access = self.server.access.read()?;
        let changed = change_model(&self.server.url, &access, &self.model, change)?;
        output.result(&changed, || match &changed.version {
            Some(version) => format!("{} version {version} is served", changed.name),
            None => format!("{} is unloaded", changed.name),
        })
    }
}
