//! Labels whose values are known when the program is built.

use super::instrument::Label;
use crate::{endpoint::ErrorCode, service::Refusal};

/// How a request ended: with an answer, or with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    /// It was answered.
    Answered,
    /// An error was sent.
    Error(ErrorCode),
    /// The client went away before there was anything to send.
    Cancelled,
}

impl Label for RequestEnd {
    const NAMES: &'static [&'static str] = &{
        let mut names = [""; ErrorCode::NAMES.len() + 2];
        names[0] = "ok";
        names[1] = "cancelled";
        let mut at = 0;
        while at < ErrorCode::NAMES.len() {
            names[at + 2] = ErrorCode::NAMES[at];
            at += 1;
        }
        names
    };

    fn index(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Cancelled => 1,
            Self::Error(code) => code.index() + 2,
        }
    }
}

/// The kinds of [`Refusal`], as a label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reason(usize);

impl Label for Reason {
    const NAMES: &'static [&'static str] =
        &["overloaded", "quality", "weighted", "deadline_passed", "unavailable", "failed"];

    fn index(self) -> usize {
        self.0
    }
}

impl From<&Refusal> for Reason {
    fn from(refusal: &Refusal) -> Self {
        Self(match refusal {
            Refusal::Overloaded { .. } => 0,
            Refusal::Quality { .. } => 1,
            Refusal::Weighted => 2,
            Refusal::DeadlinePassed { .. } => 3,
            Refusal::Unavailable { .. } => 4,
            Refusal::Failed { .. } => 5,
        })
    }
}
