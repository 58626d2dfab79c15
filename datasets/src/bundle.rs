//! A prepared folder's preprocessing inside the bundle of a model that was trained on it.

use mprec_representations::bundle::{self, Bundle, DenseTransform, MANIFEST};

use crate::{
    Preprocessor,
    error::DatasetError,
    folder::{Manifest, Preprocessing, damaged},
    layout::DenseKind,
};

/// How a prepared folder's raw values became features, as a bundle states it; its files have their names in the folder.
pub fn bundle_preprocessing(manifest: &Manifest) -> bundle::Preprocessing {
    let preprocessing = manifest.preprocessing.as_ref();
    // Made-up rows are made as if they had been.
    let is_log = preprocessing.is_none_or(|preprocessing| {
        preprocessing.layout.fields().dense.iter().all(|dense| dense.kind == DenseKind::LogInteger)
    });
    let json = "names, numbers and text are JSON";
    bundle::Preprocessing {
        dense: if is_log { DenseTransform::Log1p } else { DenseTransform::None },
        vocabulary_sha256: preprocessing
            .and_then(|preprocessing| preprocessing.vocabulary.as_ref())
            .map(|vocabulary| vocabulary.sha256.clone()),
        source: manifest.label(),
        raw: preprocessing.map(|preprocessing| bundle::RawRows {
            layout: serde_json::to_value(&preprocessing.layout).expect(json),
            coding: serde_json::to_value(&preprocessing.coding).expect(json),
            vocabulary: preprocessing.vocabulary.clone(),
            tables: preprocessing.tables.clone(),
        }),
    }
}

impl Preprocessor {
    /// The preprocessing that a bundle carries; `None` if it carries none. Digests are checked.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] when what it carries contradicts itself or the bundle's features, or a file is damaged.
    pub fn of_bundle(bundle: &Bundle) -> Result<Option<Self>, DatasetError> {
        let manifest = bundle.manifest();
        let raw = manifest.preprocessing.as_ref().and_then(|stated| stated.raw.as_ref());
        let Some(raw) = raw else { return Ok(None) };
        let place = bundle.folder().join(MANIFEST);
        let wrong = |error: serde_json::Error| damaged(&place, error.to_string());
        let preprocessing = Preprocessing {
            layout: serde_json::from_value(raw.layout.clone()).map_err(wrong)?,
            coding: serde_json::from_value(raw.coding.clone()).map_err(wrong)?,
            vocabulary: raw.vocabulary.clone(),
            tables: raw.tables.clone(),
        };
        preprocessing.check_features(&manifest.schema).map_err(|reason| damaged(&place, reason))?;
        Self::of_files(bundle.folder(), &manifest.schema, &preprocessing).map(Some)
    }
}
