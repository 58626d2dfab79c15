//! What can go wrong with an experiment.

use std::{io, path::PathBuf};

use mprec_router::{
    CurveError, ProfileError,
    sim::{SimError, SpecError},
};

/// Why an experiment cannot be made or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// A file could not be read.
    #[error("could not read `{}`", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A hardware file that is not in its form.
    #[error("the hardware file is not understood; `runtime/hardware.example.toml` has every key")]
    HardwareFile(#[source] toml::de::Error),
    /// A value of a hardware file that cannot be used.
    #[error("in the hardware file, `{value}` of `{of}` must {must}")]
    Hardware {
        /// The device or machine.
        of: String,
        /// The key or value.
        value: String,
        /// What it must be.
        must: &'static str,
    },
    /// Something named that is not there.
    #[error("there is no {what} `{name}`; known are {known}")]
    Unknown {
        /// What it should be.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A file given for a model that has nothing to say about it.
    #[error("{what} of `{model}` is of no use: {reason}")]
    Useless {
        /// `the profile`, `the bundle`.
        what: &'static str,
        /// The model.
        model: String,
        /// Why.
        reason: &'static str,
    },
    /// A machine that cannot hold a model in any representation.
    #[error("no path of `{model}` fits into the budgets of `{machine}`")]
    NothingFits {
        /// The model.
        model: String,
        /// The machine.
        machine: String,
    },
    /// Profiles that contradict each other.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A modelled service time out of bounds.
    #[error("a modelled service time is out of bounds")]
    Curve(#[from] CurveError),
    /// A load that cannot be made.
    #[error(transparent)]
    Load(#[from] SpecError),
    /// A simulation that cannot be run.
    #[error(transparent)]
    Simulation(#[from] SimError),
}
