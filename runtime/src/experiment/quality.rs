//! How accurate a representation is: one of two scenarios, which never meet in one simulation.

use std::collections::BTreeMap;

use mprec_representations::{Manifest, bundle::QualitySource as BundleQuality};
use mprec_router::QualitySource;
use serde::Serialize;

use super::{ExperimentError, shape::Representation};
use crate::bench::Arch;

/// Where accuracies come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// As recalled for the paper, unverified.
    Declared,
    /// Measured on held-out rows, as a bundle records it.
    Measured,
}

impl Scenario {
    /// In a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Measured => "measured",
        }
    }
}

/// Accuracies of one scenario for one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quality {
    /// Which scenario.
    pub scenario: Scenario,
    /// In words, with the data.
    pub source: String,
    /// Fraction of samples classified correctly. What is not here takes no part.
    pub accuracy: BTreeMap<Representation, f64>,
}

impl Quality {
    /// The accuracies that are recalled for the MP-Rec paper. Only the gaps between hybrid and table are backed by
    /// what could be read of it, its abstract.
    pub fn declared(arch: Arch) -> Self {
        let [table, dhe, hybrid] = match arch {
            Arch::Kaggle => [0.7879, 0.7894, 0.7898],
            Arch::Terabyte => [0.8081, 0.8099, 0.8103],
        };
        Self {
            scenario: Scenario::Declared,
            source: "recalled for the MP-Rec paper, unverified".to_owned(),
            accuracy: BTreeMap::from([
                (Representation::Table, table),
                (Representation::Dhe, dhe),
                (Representation::Hybrid, hybrid),
            ]),
        }
    }

    /// The accuracies that a bundle records as measured, of its variants `table`, `table-int8`, `dhe` and `hybrid`.
    ///
    /// # Errors
    ///
    /// [`ExperimentError::Useless`] if there is none.
    pub fn measured(arch: Arch, bundle: &Manifest) -> Result<Self, ExperimentError> {
        let mut accuracy = BTreeMap::new();
        let mut data = None;
        for entry in &bundle.variants {
            let Some(representation) = Representation::of(&entry.name) else { continue };
            let Some(quality) = &entry.quality else { continue };
            if quality.source == BundleQuality::Measured {
                accuracy.insert(representation, quality.accuracy);
                data.get_or_insert((quality.samples, &quality.dataset, &quality.split));
            }
        }
        let Some((samples, dataset, split)) = data else {
            return Err(ExperimentError::Useless {
                what: "the bundle",
                model: arch.name().to_owned(),
                reason: "it records no measured quality of `table`, `table-int8`, `dhe` or `hybrid`; run `mprec eval`",
            });
        };
        let source = format!("measured on {samples} rows of {dataset}, {split}");
        Ok(Self { scenario: Scenario::Measured, source, accuracy })
    }

    /// The same as the router's profiles say it.
    pub(super) fn router_source(&self) -> QualitySource {
        match self.scenario {
            Scenario::Declared => QualitySource::Declared(self.source.clone()),
            Scenario::Measured => QualitySource::Measured,
        }
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::{
        Quality as BundleFigures,
        bundle::{Architecture, VariantEntry},
    };

    use super::*;

    fn manifest(variants: &[(&str, BundleQuality, f64)]) -> Manifest {
        let variant = |&(name, source, accuracy): &(&str, BundleQuality, f64)| VariantEntry {
            name: name.to_owned(),
            architecture: Architecture::Ensemble { members: Vec::new() },
            file: None,
            bytes: 0,
            sha256: None,
            tensors: BTreeMap::new(),
            quality: Some(BundleFigures {
                source,
                dataset: "clicks".into(),
                split: "test".into(),
                samples: 77,
                auc: 0.8,
                logloss: 0.4,
                accuracy,
                ece: 0.01,
                normalised_entropy: 0.9,
            }),
        };
        Manifest {
            format: 1,
            model: "m".into(),
            version: "1".into(),
            schema: Arch::Kaggle.schema(1e9),
            preprocessing: None,
            variants: variants.iter().map(variant).collect(),
        }
    }

    #[test]
    fn measured_quality_takes_what_a_bundle_measured_and_nothing_declared() {
        let manifest = manifest(&[
            ("table", BundleQuality::Measured, 0.76),
            ("hash", BundleQuality::Measured, 0.99),
            ("dhe", BundleQuality::Declared, 0.99),
        ]);
        let quality = Quality::measured(Arch::Kaggle, &manifest).unwrap();
        assert_eq!(quality.accuracy, BTreeMap::from([(Representation::Table, 0.76)]));
        assert_eq!(quality.source, "measured on 77 rows of clicks, test");
    }

    #[test]
    fn a_bundle_that_measured_nothing_is_refused() {
        let manifest = manifest(&[("table", BundleQuality::Declared, 0.76)]);
        let error = Quality::measured(Arch::Kaggle, &manifest).unwrap_err().to_string();
        assert!(error.contains("mprec eval"), "{error}");
    }

    #[test]
    fn declared_gaps_between_hybrid_and_table_are_those_of_the_abstract() {
        for (arch, gap) in [(Arch::Kaggle, 0.0019), (Arch::Terabyte, 0.0022)] {
            let accuracy = Quality::declared(arch).accuracy;
            let found = accuracy[&Representation::Hybrid] - accuracy[&Representation::Table];
            assert!((found - gap).abs() < 1e-9, "{arch:?}: {found}");
        }
    }
}
