//! `mprec key`: keys that let requests in.

use clap::{Args, Subcommand, ValueEnum};
use mprec_runtime::security::{NewKey, Scope};

use super::{Failure, Output, Run};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key: print it, which nothing does again, and the line for the file that `auth.keys_file` names.
    New(New),
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// Who will have it, as metrics and the file call them.
    name: String,
    /// What it is good for.
    #[arg(long, value_enum, default_value_t = Good::Infer)]
    scope: Good,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Good {
    /// Asking for scores, and what there is.
    Infer,
    /// Loading and unloading models, too.
    Admin,
}

impl Command {
    pub(super) fn run(&self, output: &Output) -> Run {
        let Self::New(New { name, scope }) = self;
        let scope = match scope {
            Good::Infer => Scope::Infer,
            Good::Admin => Scope::Admin,
        };
        let made = NewKey::new(name, scope)?.ok_or_else(|| {
            let wrong = "is no name of a key; use 1 to 64 of `A-Z a-z 0-9 _ . -`";
            Failure::input(anyhow::anyhow!("{name:?} {wrong}"))
        })?;
        let report = serde_json::json!({ "key": made.key(), "line": made.line() });
        output.result(&report, || format!("key:  {}\nline: {}", made.key(), made.line()))
    }
}
