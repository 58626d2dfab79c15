//! What can be wrong with a log.

use std::{io, path::PathBuf};

use mprec_router::{
    RouterError,
    sim::{SimError, SpecError},
};

/// A log that cannot be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file cannot be created. An older recording is never written over.
    #[error("cannot create the log `{}`; it must not exist yet", file.display())]
    Create {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the log")]
    Read(#[source] io::Error),
    /// The header cannot be written.
    #[error("cannot begin the log")]
    Begin(#[source] io::Error),
    /// The writer's thread cannot be started.
    #[error("the thread that writes the log cannot be started")]
    Thread(#[source] io::Error),
    /// Another kind of file.
    #[error("this is no log of decisions; `mprec serve --record` writes one")]
    Foreign,
    /// A log of a version that this program does not know.
    #[error("the log has version {found}; this program reads version {}", super::VERSION)]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// The file ends before the header does.
    #[error("the log ends within its header: nothing was recorded")]
    NoHeader,
    /// Bytes that are not what was written.
    #[error("the log is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where, from the start of the file.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The header's text does not say what it must.
    #[error("the log's header is not usable: {problem}")]
    Header {
        /// What is wrong.
        problem: String,
    },
    /// No router can be made from the header.
    #[error("the log's router cannot be set up")]
    Router(#[from] RouterError),
    /// The recorded queries make no trace.
    #[error("the recorded queries cannot be simulated")]
    Trace(#[from] SpecError),
    /// The simulation cannot be run.
    #[error("the recorded queries cannot be simulated")]
    Simulation(#[from] SimError),
}
