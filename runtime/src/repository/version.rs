//! A version that can answer, and the table in which queries find it.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use mprec_backends::Path;
use mprec_representations::bundle::{Architecture, Manifest};
use mprec_router::{PathProfile, Profiles};

use super::{Recipe, stamp::Stamp};
use crate::{
    config::Budgets,
    engine::Engine,
    service::{Model, Service as _},
};

/// A version of a model with an engine of its own.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) model: Arc<Model>,
    pub(super) engine: Engine,
    pub(super) recipe: Recipe,
    pub(super) manifest: Manifest,
    pub(super) profiles: Profiles,
    pub(super) stamp: Stamp,
    /// What its paths take, by device.
    pub(super) bytes: Budgets,
    pub(super) loaded: SystemTime,
    /// Holders of `model` that go with the version.
    own_holders: usize,
}

impl Version {
    /// `model` is held by the engine, by the version and by nobody else.
    pub(super) fn new(
        model: Arc<Model>,
        engine: Engine,
        recipe: Recipe,
        manifest: Manifest,
        profiles: Profiles,
        stamp: Stamp,
        bytes: Budgets,
    ) -> Self {
        let own_holders = Arc::strong_count(&model);
        let loaded = SystemTime::now();
        Self { model, engine, recipe, manifest, profiles, stamp, bytes, loaded, own_holders }
    }

    /// Whether it can answer now.
    pub(super) fn is_ready(&self) -> bool {
        self.engine.is_ready()
    }

    /// Whether no request holds on to it, so that none can come any more once no table has it.
    pub(super) fn is_released(&self) -> bool {
        Arc::strong_count(&self.model) <= self.own_holders
    }

    /// The measured profile of a path, if the same path of `manifest` under `recipe` does the same work: the same
    /// operations on tensors of the same shapes.
    pub(super) fn profile_for(
        &self,
        path: &Path,
        recipe: &Recipe,
        manifest: &Manifest,
    ) -> Option<&PathProfile> {
        let (ours, theirs) = (&self.recipe, recipe);
        let alike = ours.serving == theirs.serving
            && ours.declared.files.is_empty()
            && theirs.declared.files.is_empty()
            && self.manifest.schema == manifest.schema
            && same_shape(&self.manifest, manifest, path.variant());
        let id = self.profiles.find(&path.to_string()).filter(|_| alike)?;
        Some(self.profiles.path(id))
    }
}

/// Whether a variant of two bundles with one schema is the same computation with other numbers.
fn same_shape(one: &Manifest, other: &Manifest, variant: &str) -> bool {
    let (Ok(one_entry), Ok(other_entry)) = (one.variant(variant), other.variant(variant)) else {
        return false;
    };
    let tensors = one_entry.tensors.len() == other_entry.tensors.len()
        && one_entry.tensors.iter().zip(&other_entry.tensors).all(
            |((name, tensor), (other_name, other))| {
                name == other_name && tensor.dtype == other.dtype && tensor.shape == other.shape
            },
        );
    let members = match &one_entry.architecture {
        Architecture::Dlrm(_) => true,
        // Members are no ensembles themselves.
        Architecture::Ensemble { members } => {
            members.iter().all(|member| member != variant && same_shape(one, other, member))
        }
    };
    tensors && one_entry.architecture == other_entry.architecture && members
}

/// What is served at one moment, by name.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) models: HashMap<String, Versions>,
}

/// The versions of one model.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// The one that answers whoever names no version.
    pub(super) current: Option<Arc<Version>>,
    /// Earlier ones that can be asked for, the latest last.
    pub(super) kept: Vec<Arc<Version>>,
    /// Ones that finish what was meant for them.
    pub(super) retiring: Vec<Arc<Version>>,
}

impl Versions {
    /// The version that `model` was given out for.
    pub(super) fn of(&self, model: &Arc<Model>) -> Option<&Arc<Version>> {
        let all = self.current.iter().chain(self.kept.iter().rev()).chain(&self.retiring);
        all.into_iter().find(|version| Arc::ptr_eq(&version.model, model))
    }

    /// The version of this number that takes new queries.
    pub(super) fn numbered(&self, version: &str) -> Option<&Arc<Version>> {
        let open = self.current.iter().chain(self.kept.iter().rev());
        open.into_iter().find(|found| found.model.version == version)
    }
}
