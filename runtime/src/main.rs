//! The `mprec` binary: parse, set up logging, dispatch.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // The trainer shares each step between threads of its own; the library's process-wide pool
        // would spin beside them, and only the environment configures it.
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    if let Some(library) = std::env::var_os("MPREC_ONNX_LIBRARY").filter(|path| !path.is_empty()) {
        mprec_backends::onnx::set_library(library.into());
    }
    if let Ok(adapter) = std::env::var("MPREC_WGPU_ADAPTER")
        && !adapter.is_empty()
    {
        mprec_backends::wgpu::set_adapter(adapter);
    }
    let arguments = cli::Arguments::parse();
    let log = std::env::var("MPREC_LOG").ok();
    let texts = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let variables: Vec<_> = texts.filter(|(name, _)| name.starts_with("MPREC_")).collect();
    cli::run(arguments, log.as_deref(), &variables)
}
