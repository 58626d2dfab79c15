//! The one configuration file of `mprec serve`.
//!
//! 1. [`ConfigFile`] is what a person wrote: every key optional, unknown keys refused.
//! 2. Variables `MPREC_<SECTION>_<KEY>` and then command-line flags set its fields, so that they and keys are checked by the
//!    same rules.
//! 3. [`ConfigFile::check`] fills in the defaults and proves the values: holding a [`Config`] means
//!    that it is valid.
//!
//! `runtime/mprec.example.toml` documents every key.

mod bytes;
mod check;
mod checked;
mod default;
mod effective;
mod environment;
mod error;
mod file;
mod models;
mod problems;
mod security;
mod settings;
#[cfg(test)]
mod tests;

pub use self::{
    bytes::{ByteSize, ByteSizeError},
    check::{MAX_CACHE_BYTES, MAX_OPERATION_THREADS},
    checked::{
        Budgets, Config, Constraints, Declared, DeclaredQuality, ProfileConfig, QueueLimits,
        ServerConfig, Serving,
    },
    error::ConfigError,
    file::{
        ConfigFile, ConstraintsFile, LogFile, ModelFile, ObjectiveFile, OneOrMany, ProfileSection,
        QualityFile, QueueFile, RecordFile, ServerFile, ServingFile, ShutdownFile, VariantFile,
    },
    models::{AdminConfig, AdminFile, ModelConfig, ModelsEntry, RepositoryConfig, RepositoryFile},
    security::{AuthFile, SecurityConfig, SecurityProblem, TlsFile},
};
