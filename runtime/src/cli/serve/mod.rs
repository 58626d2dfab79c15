//! `mprec serve`: the endpoint.

mod check;
mod models;
mod places;
mod reload;
mod server;

use std::path::PathBuf;

use clap::Args;
use mprec_runtime::{
    config::{Config, ConfigError, ConfigFile, OneOrMany},
    repository::Recipe,
};

use super::{Failure, InputError as _, Output, Run, security::Security};

#[derive(Debug, Args)]
#[command(
    after_help = "Flags override variables such as MPREC_SERVER_LISTEN, which override the config file. Send SIGTERM or press Ctrl-C to drain and stop, SIGHUP to read the config file again and load models that changed."
)]
pub(super) struct Serve {
    /// A TOML file; `runtime/mprec.example.toml` documents every key.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The bundle's folder.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// The model's name in URLs; default: the bundle's.
    #[arg(long)]
    name: Option<String>,
    /// Paths to keep resident; default: every variant with a quality, on `cpu`.
    #[arg(long, value_delimiter = ',')]
    paths: Vec<String>,
    /// `multi-path`, `mp-rec`, `fastest` or `static:<path>`.
    #[arg(long)]
    policy: Option<String>,
    /// Deadline of a query that names none.
    #[arg(long)]
    sla_ms: Option<f64>,
    /// Address and port, or `unix:` and a file; may be given several times. Port 0 takes a free one.
    #[arg(long)]
    listen: Vec<String>,
    /// Address and port of gRPC, or `off`; default: 127.0.0.1:8001.
    #[arg(long, value_name = "LISTEN")]
    grpc_listen: Option<String>,
    /// Address and port of a second listener, for metrics, the status page and health alone; default: none.
    #[arg(long, value_name = "LISTEN")]
    metrics: Option<String>,
    /// Worker threads; default: one per core.
    #[arg(long)]
    workers: Option<u32>,
    /// Profiles that `mprec profile` wrote; default: measure now.
    #[arg(long)]
    profiles: Option<PathBuf>,
    /// A prepared folder: rows to measure with, if measuring now, and ids that caches hold from the start.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Memory of each worker's cache of vectors, for each path with a DHE; default: none.
    #[arg(long, value_name = "BYTES")]
    cache: Option<usize>,
    /// Record every decision to this file, for `mprec replay`. It must not exist yet.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Largest size of that file; default: 1 GiB. A query takes some 50 bytes. At the limit recording ends, and serving goes on.
    #[arg(long, value_name = "BYTES", requires = "record")]
    record_limit: Option<u64>,
    /// Check the configuration and the bundle, and stop.
    #[arg(long)]
    check: bool,
}

impl Serve {
    pub(super) fn run(&self, variables: &[(String, String)], output: &Output) -> Run {
        let file = self.file(variables).or_bad_input()?;
        if self.check {
            return check::check(file, output);
        }
        let config = file.check().or_bad_input()?;
        let recipes = Recipe::all_of(&config);
        set_log_filter(&config)?;
        let host = server::Host::new()?;
        // Before the models, which take longer.
        let security = Security::open(&config)?;
        let (repository, models) =
            models::load_all(self.data.as_deref(), &config, recipes, output)?;
        let read_again = || self.file(variables)?.check();
        server::run(host, &config, &security, repository, models, &read_again, output)
    }

    /// The configuration as it is now: the file, then variables, then flags.
    fn file(&self, variables: &[(String, String)]) -> Result<ConfigFile, ConfigError> {
        let file = match &self.config {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        let mut file = file.with_variables(variables.iter().cloned())?;
        self.override_keys(&mut file);
        Ok(file)
    }

    fn override_keys(&self, file: &mut ConfigFile) {
        fn set<T: Clone>(key: &mut Option<T>, flag: &Option<T>) {
            if flag.is_some() {
                key.clone_from(flag);
            }
        }
        set(&mut file.model.bundle, &self.bundle);
        set(&mut file.model.name, &self.name);
        set(&mut file.objective.policy, &self.policy);
        set(&mut file.constraints.sla_ms, &self.sla_ms);
        if !self.listen.is_empty() {
            file.server.listen = Some(OneOrMany::Many(self.listen.clone()));
        }
        set(&mut file.server.grpc, &self.grpc_listen);
        set(&mut file.server.metrics, &self.metrics);
        set(&mut file.serving.workers, &self.workers);
        set(&mut file.serving.cache_bytes, &self.cache);
        set(&mut file.profile.file, &self.profiles);
        set(&mut file.record.file, &self.record);
        set(&mut file.record.limit_bytes, &self.record_limit);
        if !self.paths.is_empty() {
            file.serving.paths = Some(self.paths.clone());
        }
    }
}

fn set_log_filter(config: &Config) -> Result<(), Failure> {
    config.log_filter().map_or(Ok(()), super::set_log_filter).or_bad_input()
}
