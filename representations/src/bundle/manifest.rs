//! The manifest: everything about a bundle but its parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::BundleError;
use crate::{dlrm::DlrmSpec, schema::Schema};

/// Version of the bundle format that this build reads and writes.
pub const FORMAT: u32 = 1;

/// Most variants that a bundle may hold.
const MAX_VARIANTS: usize = 256;

/// The manifest of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`]
    pub format: u32,
    /// The model's name, as clients ask for it.
    pub model: String,
    /// The model's version: digits, as clients ask for it.
    pub version: String,
    /// Features of a sample.
    pub schema: Schema,
    /// How raw values became features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    /// The variants, in the order in which they are listed to people.
    pub variants: Vec<VariantEntry>,
}

/// How raw values became features. What is served must be prepared in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Applied to every dense value.
    pub dense: DenseTransform,
    /// SHA-256 of the vocabulary that turned tokens into ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary_sha256: Option<String>,
    /// The dataset and its preparation, for people.
    pub source: String,
    /// All of it, so that whoever has the bundle can turn raw rows into features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawRows>,
}

/// How raw rows become features, with the files that it takes. What `layout` and `coding` may hold is known to the crate
/// of data sets and described in `docs/bundle.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRows {
    /// The columns of a raw row, and what becomes of each.
    pub layout: serde_json::Value,
    /// How tokens become ids.
    pub coding: serde_json::Value,
    /// The tokens behind the ids, unless ids are hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<FileEntry>,
    /// Tables that the layout joins, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<FileEntry>,
}

/// A file beside a manifest that holds no tensors: of a bundle, or of a prepared folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name in the manifest's own folder.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Digest of its content, in lower-case hexadecimal.
    pub sha256: String,
}

/// What was applied to every dense value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenseTransform {
    /// Nothing.
    None,
    /// `ln(max(x, 0) + 1)`, missing values as 0.
    Log1p,
}

/// One variant of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantEntry {
    /// Its name, the part of a path before the `@`.
    pub name: String,
    /// What it computes.
    pub architecture: Architecture,
    /// File of its tensors. An ensemble has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Size of the file.
    #[serde(default)]
    pub bytes: u64,
    /// Digest of the file, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Every tensor in the file.
    #[serde(default)]
    pub tensors: BTreeMap<String, TensorEntry>,
    /// How good it is, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

/// What a variant computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "snake_case")]
pub enum Architecture {
    /// A DLRM with parameters of its own.
    Dlrm(DlrmSpec),
    /// The mean of the logits of other variants of the bundle, whose parameters it shares.
    Ensemble {
        /// Names of at least two variants that are not ensembles themselves.
        members: Vec<String>,
    },
}

/// What the manifest says about one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorEntry {
    /// Element type as safetensors names it: `F32`, `F16`, `BF16`, `I64`, `I8` or `U8`.
    pub dtype: String,
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// Digest of the elements' bytes, in lower-case hexadecimal.
    pub sha256: String,
}

/// How good a variant's predictions are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Where the figures come from.
    pub source: QualitySource,
    /// The dataset, by name.
    pub dataset: String,
    /// Which part of it.
    pub split: String,
    /// Samples judged.
    pub samples: u64,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Mean log loss in nats.
    pub logloss: f64,
    /// Fraction of samples whose rounded score is the label.
    pub accuracy: f64,
    /// Expected calibration error over 15 bins of equal width.
    pub ece: f64,
    /// Log loss divided by the entropy of the click rate (1 is a constant's).
    pub normalised_entropy: f64,
}

/// Where quality figures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualitySource {
    /// Measured by scoring that split with this variant.
    Measured,
    /// Stated by somebody; `dataset` says by whom.
    Declared,
}

impl Manifest {
    /// Refuses what no bundle can mean.
    ///
    /// # Errors
    ///
    /// [`BundleError::Format`] or [`BundleError::Inconsistent`].
    pub fn check(&self) -> Result<(), BundleError> {
        if self.format != FORMAT {
            return Err(BundleError::Format { found: self.format, supported: FORMAT });
        }
        let fail = |what: String| Err(BundleError::Inconsistent(what));
        if !is_name(&self.model) {
            return fail(format!("model name {:?} must match [a-z0-9_.-]+", self.model));
        }
        if self.version.is_empty()
            || self.version.len() > 20
            || !self.version.bytes().all(|byte| byte.is_ascii_digit())
        {
            return fail(format!("version {:?} must be 1 to 20 digits", self.version));
        }
        if self.variants.is_empty() || self.variants.len() > MAX_VARIANTS {
            return fail(format!(
                "{} variants; 1 to {MAX_VARIANTS} are allowed",
                self.variants.len()
            ));
        }
        for (at, variant) in self.variants.iter().enumerate() {
            if self.variants[..at].iter().any(|other| other.name == variant.name) {
                return fail(format!("variant `{}` is listed twice", variant.name));
            }
            variant.check(self)?;
        }
        match &self.preprocessing {
            Some(preprocessing) => preprocessing.check(),
            None => Ok(()),
        }
    }

    /// The files that turn raw rows into features.
    pub fn raw_files(&self) -> impl Iterator<Item = &FileEntry> {
        let raw = self.preprocessing.iter().filter_map(|preprocessing| preprocessing.raw.as_ref());
        raw.flat_map(|raw| raw.vocabulary.iter().chain(&raw.tables))
    }

    /// The variant of this name.
    ///
    /// # Errors
    ///
    /// [`BundleError::NoVariant`], which lists the names there are.
    pub fn variant(&self, name: &str) -> Result<&VariantEntry, BundleError> {
        self.variants.iter().find(|variant| variant.name == name).ok_or_else(|| {
            BundleError::NoVariant {
                variant: name.to_owned(),
                known: self.variants.iter().map(|variant| variant.name.clone()).collect(),
            }
        })
    }
}

impl Preprocessing {
    fn check(&self) -> Result<(), BundleError> {
        let fail = |what: String| Err(BundleError::Inconsistent(what));
        let Some(raw) = &self.raw else { return Ok(()) };
        let vocabulary = raw.vocabulary.as_ref();
        if vocabulary.map(|entry| &entry.sha256) != self.vocabulary_sha256.as_ref() {
            return fail("its vocabulary is not that of `vocabulary_sha256`".to_owned());
        }
        for entry in vocabulary.into_iter().chain(&raw.tables) {
            if !is_file_name(&entry.file) {
                return fail(format!("file {:?} must lie in the bundle's own folder", entry.file));
            }
        }
        Ok(())
    }
}

impl VariantEntry {
    fn check(&self, manifest: &Manifest) -> Result<(), BundleError> {
        let fail =
            |what: &str| Err(BundleError::Inconsistent(format!("variant `{}` {what}", self.name)));
        if !is_name(&self.name) {
            return fail("must have a name that matches [a-z0-9_.-]+");
        }
        if let Some(quality) = &self.quality {
            let unit = [quality.auc, quality.accuracy, quality.ece];
            let positive = [quality.logloss, quality.normalised_entropy];
            let possible = unit.iter().all(|value| (0.0..=1.0).contains(value))
                && positive.iter().all(|value| value.is_finite() && *value >= 0.0);
            if !possible {
                return fail("has quality figures outside their range");
            }
        }
        match (&self.architecture, &self.file) {
            (Architecture::Dlrm(_), Some(file)) => {
                if !is_file_name(file) {
                    return fail("must name a file in the bundle's own folder");
                }
                if self.sha256.is_none() {
                    return fail("has no `sha256`");
                }
            }
            (Architecture::Dlrm(_), None) => return fail("has no `file`"),
            (Architecture::Ensemble { .. }, Some(_)) => {
                return fail("is an ensemble and cannot have a `file` of its own");
            }
            (Architecture::Ensemble { members }, None) => {
                if members.len() < 2 {
                    return fail("is an ensemble of fewer than two members");
                }
                for member in members {
                    let member = manifest.variant(member)?;
                    if matches!(member.architecture, Architecture::Ensemble { .. }) {
                        return fail("is an ensemble of an ensemble");
                    }
                }
            }
        }
        Ok(())
    }
}

/// A plain name: nothing outside the folder can be reached through a manifest.
fn is_file_name(name: &str) -> bool {
    is_name(name) && !name.starts_with('.')
}

/// Whether `name` can stand in a URL, a path and a file system unchanged: `[a-z0-9_.-]+`, at most
/// 128 bytes.
pub fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte)
        })
}
