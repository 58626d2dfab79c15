//! How commands fail: by what they were given, or by what happened.

use std::{fmt, process::ExitCode};

/// What a command returns.
pub(crate) type Run = Result<(), Failure>;

/// A failure, and whose it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was given cannot be used: exit code 2.
    Input(anyhow::Error),
    /// It could be used, but something went wrong: exit code 1.
    Other(anyhow::Error),
}

impl Failure {
    pub(crate) fn input(error: impl Into<anyhow::Error>) -> Self {
        Self::Input(error.into())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Input(_) => 2,
            Self::Other(_) => 1,
        })
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Input(error) | Self::Other(error)) = self;
        // The alternate form prints the chain of causes, separated by colons.
        write!(f, "{error:#}")
    }
}

/// Marks an error as being about what the user gave.
pub(crate) trait InputError<T> {
    /// The result, failing with exit code 2.
    fn or_bad_input(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> InputError<T> for Result<T, E> {
    fn or_bad_input(self) -> Result<T, Failure> {
        self.map_err(Failure::input)
    }
}
