//! Why certificates or keys cannot be used. No message has anything of what the files hold.

use std::{error::Error, io, path::PathBuf};

/// A file of keys that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file system refused.
    #[error("cannot read the keys in `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Larger than any real file of keys.
    #[error("the keys in `{}` take more than {limit} bytes; remove keys that are no longer used", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// More keys than every request can be compared with.
    #[error("`{}` has more than {limit} keys; remove keys that are no longer used", file.display())]
    TooMany {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A line that is not one of the format.
    #[error("`{}`, line {line}: {problem}; `mprec key new NAME` prints a line", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No key at all, with which nobody could ask.
    #[error("`{}` has no key; `mprec key new NAME` makes one", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("the system has no random bytes for a key")]
    Random(#[source] io::Error),
}

/// Files of TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The binary was built without TLS.
    #[error("TLS is not compiled in; rebuild with `--features tls`")]
    NotCompiled,
    /// The file system refused.
    #[error("cannot read `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Larger than any real file of its kind.
    #[error("`{}` has more than {limit} bytes; is it a PEM file?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Not what the file should hold.
    #[error("`{}` has no {what} in PEM", file.display())]
    Absent {
        /// The file.
        file: PathBuf,
        /// What it should have.
        what: &'static str,
    },
    /// The key is another certificate's.
    #[error("the key in `{}` is not that of the certificate in `{}`", key.display(), certificate.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// A certificate or key of a kind that cannot be used.
    #[error("`{}` cannot be used", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What the TLS library says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
