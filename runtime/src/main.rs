//! The `mprec` binary: parse, set up logging, dispatch.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let log = std::env::var("MPREC_LOG").ok();
    cli::run(arguments, log.as_deref())
}
