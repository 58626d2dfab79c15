//! What is behind the repository's lock. No query takes it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use super::{
    Recipe,
    observe::Past,
    stamp::Stamp,
    version::{Table, Version, Versions},
};
use crate::{
    config::Budgets,
    endpoint::{IndexEntry, ModelState},
};

/// Earlier versions that can be gone back to, if their bundles are still there.
const MAX_HISTORY: usize = 16;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) entries: BTreeMap<String, Entry>,
    /// What all versions take, by device, until they are freed.
    pub(super) resident: Budgets,
    /// Tables that were replaced, as long as somebody looks something up in one.
    pub(super) tables: Vec<Weak<Table>>,
    /// What versions did that are gone.
    pub(super) past: Past,
}

/// A model that is served, or could be.
#[derive(Debug)]
pub(super) struct Entry {
    /// How its next version is made.
    pub(super) recipe: Recipe,
    /// Whether the configuration names it; else it was loaded by its name alone.
    pub(super) is_configured: bool,
    pub(super) current: Option<Arc<Version>>,
    /// Earlier versions that stay resident, the latest last.
    pub(super) kept: Vec<Arc<Version>>,
    pub(super) retiring: Vec<Arc<Version>>,
    /// Versions that have ended and are being freed, beside those that retire.
    pub(super) leaving: usize,
    /// The versions before the current one, the latest last. The last of them are those that are kept.
    pub(super) history: Vec<Earlier>,
    /// Loads that wait or are under way.
    pub(super) loading: usize,
    /// The bundle that was tried last.
    pub(super) tried: Option<Stamp>,
    /// The bundle that was gone back from: it is not loaded again until it changes, unless somebody asks for it.
    pub(super) rolled_back: Option<Stamp>,
    /// Whether it was unloaded by command, which reading the configuration again does not undo.
    pub(super) is_unloaded: bool,
    /// Why the last load failed, if it did, or that the model was unloaded.
    pub(super) unavailable: Option<Arc<str>>,
    pub(super) loads: u64,
    pub(super) failures: u64,
    pub(super) rollbacks: u64,
}

/// A version that was served before.
#[derive(Debug, Clone)]
pub(super) struct Earlier {
    pub(super) version: String,
    pub(super) stamp: Stamp,
    pub(super) recipe: Recipe,
}

impl Entry {
    pub(super) fn new(recipe: Recipe, is_configured: bool) -> Self {
        Self {
            recipe,
            is_configured,
            current: None,
            kept: Vec::new(),
            retiring: Vec::new(),
            leaving: 0,
            history: Vec::new(),
            loading: 0,
            tried: None,
            rolled_back: None,
            is_unloaded: false,
            unavailable: None,
            loads: 0,
            failures: 0,
            rollbacks: 0,
        }
    }

    /// Puts a version in the place of the current one. Returns what has to go: versions that are not kept.
    pub(super) fn adopt(&mut self, version: Arc<Version>, keep: usize) -> Vec<Arc<Version>> {
        (self.rolled_back, self.is_unloaded) = (None, false);
        if let Some(old) = self.current.replace(version) {
            self.history.push(Earlier {
                version: old.model.version.clone(),
                stamp: old.stamp.clone(),
                recipe: old.recipe.clone(),
            });
            if self.history.len() > MAX_HISTORY {
                self.history.remove(0);
            }
            self.kept.push(old);
        }
        let too_many = self.kept.len().saturating_sub(keep);
        self.kept.drain(..too_many).collect()
    }

    /// Puts an earlier version in the place of the current one, which has to go.
    pub(super) fn go_back(&mut self, version: Arc<Version>) -> Vec<Arc<Version>> {
        self.history.pop();
        let left = self.current.replace(version);
        self.rolled_back = left.as_ref().map(|left| left.stamp.clone());
        left.into_iter().collect()
    }

    /// Takes every version out of service.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Version>> {
        self.history.clear();
        let kept = std::mem::take(&mut self.kept);
        self.current.take().into_iter().chain(kept).collect()
    }

    /// Its lines of the index.
    pub(super) fn index(&self, name: &str) -> Vec<IndexEntry> {
        let line = |version: &str, state: ModelState, reason: &str| IndexEntry {
            name: name.to_owned(),
            version: version.to_owned(),
            state,
            reason: reason.to_owned(),
        };
        let mut lines = Vec::new();
        if let Some(version) = &self.current {
            lines.push(line(&version.model.version, ModelState::Ready, ""));
        }
        for version in self.kept.iter().rev() {
            lines.push(line(&version.model.version, ModelState::Ready, "kept to go back to"));
        }
        for version in &self.retiring {
            let reason = "it finishes the queries that it took";
            lines.push(line(&version.model.version, ModelState::Unloading, reason));
        }
        if self.loading > 0 {
            lines.push(line("", ModelState::Loading, ""));
        } else if let Some(reason) = &self.unavailable {
            lines.push(line("", ModelState::Unavailable, reason));
        } else if lines.is_empty() {
            lines.push(line("", ModelState::Unavailable, "not loaded"));
        }
        lines
    }
}

impl State {
    /// The table of what is served now.
    pub(super) fn table(&self) -> Table {
        let versions = |entry: &Entry| Versions {
            current: entry.current.clone(),
            kept: entry.kept.clone(),
            retiring: entry.retiring.clone(),
        };
        let entries = self.entries.iter().map(|(name, entry)| (name.clone(), versions(entry)));
        Table {
            models: entries
                .filter(|(_, versions)| {
                    versions.current.is_some()
                        || !versions.kept.is_empty()
                        || !versions.retiring.is_empty()
                })
                .collect(),
        }
    }

    /// Counts a version's bytes as taken.
    pub(super) fn take_bytes(&mut self, version: &Version) {
        for (device, bytes) in &version.bytes {
            self.resident.entry(device.clone()).or_default().0 += bytes.0;
        }
    }

    /// Counts a version's bytes as free.
    pub(super) fn give_bytes(&mut self, bytes: &Budgets) {
        for (device, bytes) in bytes {
            let resident = self.resident.entry(device.clone()).or_default();
            resident.0 = resident.0.saturating_sub(bytes.0);
        }
    }
}
