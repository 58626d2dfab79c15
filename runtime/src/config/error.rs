//! Why a configuration was refused. Each message names the key and what to write instead.

use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file system refused.
    #[error("cannot read config `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Larger than any real configuration.
    #[error("config `{}` has {bytes} bytes; the limit is {limit}", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not TOML, a key that is not known, or a value of the wrong type.
    #[error("in config `{}`, line {line}: {message}", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says, which names the key.
        message: String,
    },
    /// A variable of the environment that sets no key, or sets one to what it cannot be.
    #[error("variable `{variable}` is {value:?}: {message}")]
    Variable {
        /// The variable.
        variable: String,
        /// What it was set to.
        value: String,
        /// What the parser says.
        message: String,
    },
    /// A key without which nothing can be served.
    #[error("`{key}` is missing; write for example `{example}`")]
    Missing {
        /// The key.
        key: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// A value outside what the key may be.
    #[error("`{key}` is {value}; {expected}")]
    Value {
        /// The key.
        key: String,
        /// What was written.
        value: String,
        /// What it may be.
        expected: String,
    },
}
