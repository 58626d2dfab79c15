//! `static:<path>`: one path for every query.

use super::{Policy, PolicyName, admit, refuse_unusable};
use crate::{Decision, PathId, Query, Reason, RouterState, Time};

/// Sends every query to one path, late or not: the baseline that a single deployed model is.
#[derive(Debug, Clone)]
pub struct Fixed {
    path: PathId,
    name: String,
}

impl Fixed {
    /// The policy that knows only `path`, which is called `name`.
    pub fn new(path: PathId, name: String) -> Self {
        Self { path, name }
    }
}

impl Policy for Fixed {
    fn name(&self) -> PolicyName {
        PolicyName::Static(self.name.clone())
    }

    fn decide(&mut self, query: &Query, state: &RouterState, now: Time) -> Decision {
        if !state.usable(self.path, query) {
            return refuse_unusable(query, state, std::iter::once(self.path));
        }
        let prediction = state.predict(self.path, query, now);
        admit(query, state, self.path, &prediction, Reason::Only, now)
    }
}
