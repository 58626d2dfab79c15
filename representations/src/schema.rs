//! What a sample consists of: its dense features, and its sparse features with their cardinalities.

use serde::{Deserialize, Serialize};

use crate::error::SchemaError;

/// Most features of either kind that a schema may name.
pub const MAX_FEATURES: usize = 4096;

/// Largest cardinality of one sparse feature.
pub const MAX_CARDINALITY: u64 = 1 << 40;

/// The features of one dataset, in the order in which every batch holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSchema")]
pub struct Schema {
    dense: Vec<String>,
    sparse: Vec<SparseFeature>,
    out_of_vocabulary: OutOfVocabulary,
}

/// One categorical feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseFeature {
    /// Its name, unique among the sparse features.
    pub name: String,
    /// Ids run from 0 to `cardinality - 1`. Row 0 counts, also where it stands for unknown ids.
    pub cardinality: u64,
}

/// What becomes of an id that is negative or not below its feature's cardinality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfVocabulary {
    /// It becomes id 0, the row that preprocessing trains on rare and unseen values.
    #[default]
    Zero,
    /// It becomes `id mod cardinality` (Euclidean, so negative ids wrap too).
    Modulo,
    /// The batch is refused with an error that names the id.
    Refuse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSchema {
    dense: Vec<String>,
    sparse: Vec<SparseFeature>,
    #[serde(default)]
    out_of_vocabulary: OutOfVocabulary,
}

impl Schema {
    /// A schema over named features.
    ///
    /// # Errors
    ///
    /// When there is no sparse feature, there are more than [`MAX_FEATURES`], a name repeats, or a
    /// cardinality is zero or above [`MAX_CARDINALITY`].
    pub fn new(
        dense: Vec<String>,
        sparse: Vec<SparseFeature>,
        out_of_vocabulary: OutOfVocabulary,
    ) -> Result<Self, SchemaError> {
        for (kind, count) in [("dense", dense.len()), ("sparse", sparse.len())] {
            if count > MAX_FEATURES {
                return Err(SchemaError::TooManyFeatures { kind, count });
            }
        }
        if sparse.is_empty() || dense.is_empty() {
            return Err(SchemaError::NoFeatures {
                kind: if dense.is_empty() { "dense" } else { "sparse" },
            });
        }
        for names in
            [dense.iter().collect::<Vec<_>>(), sparse.iter().map(|feature| &feature.name).collect()]
        {
            let mut seen = std::collections::BTreeSet::new();
            for name in names {
                if !seen.insert(name) {
                    return Err(SchemaError::Repeated { feature: name.clone() });
                }
            }
        }
        for feature in &sparse {
            if feature.cardinality == 0 || feature.cardinality > MAX_CARDINALITY {
                return Err(SchemaError::Cardinality {
                    feature: feature.name.clone(),
                    cardinality: feature.cardinality,
                });
            }
        }
        Ok(Self { dense, sparse, out_of_vocabulary })
    }

    /// Criteo's 13 dense (`I1`..) and 26 sparse (`C1`..) features with these cardinalities.
    ///
    /// # Errors
    ///
    /// As [`Schema::new`].
    pub fn criteo(cardinalities: &[u64; 26]) -> Result<Self, SchemaError> {
        Self::new(
            (1..=13).map(|number| format!("I{number}")).collect(),
            cardinalities
                .iter()
                .enumerate()
                .map(|(at, &cardinality)| SparseFeature {
                    name: format!("C{}", at + 1),
                    cardinality,
                })
                .collect(),
            OutOfVocabulary::Zero,
        )
    }

    /// Names of the dense features.
    pub fn dense(&self) -> &[String] {
        &self.dense
    }

    /// The sparse features.
    pub fn sparse(&self) -> &[SparseFeature] {
        &self.sparse
    }

    /// The rule for ids outside the cardinality.
    pub fn out_of_vocabulary(&self) -> OutOfVocabulary {
        self.out_of_vocabulary
    }

    /// Sum of the cardinalities: rows of a full set of tables.
    pub fn total_rows(&self) -> u64 {
        self.sparse.iter().map(|feature| feature.cardinality).sum()
    }
}

impl TryFrom<RawSchema> for Schema {
    type Error = SchemaError;

    fn try_from(raw: RawSchema) -> Result<Self, SchemaError> {
        Self::new(raw.dense, raw.sparse, raw.out_of_vocabulary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(name: &str, cardinality: u64) -> SparseFeature {
        SparseFeature { name: name.into(), cardinality }
    }

    #[test]
    fn a_schema_survives_json() {
        let schema = Schema::criteo(&[7; 26]).unwrap();
        let json = serde_json::to_string(&schema).unwrap();
        assert_eq!(serde_json::from_str::<Schema>(&json).unwrap(), schema);
        assert_eq!(schema.total_rows(), 182);
    }

    #[test]
    fn impossible_schemas_are_refused_by_name() {
        let dense = || vec!["x".to_owned()];
        let new = |dense, sparse| Schema::new(dense, sparse, OutOfVocabulary::Zero);
        assert!(matches!(new(dense(), vec![]), Err(SchemaError::NoFeatures { kind: "sparse" })));
        assert!(matches!(
            new(dense(), vec![feature("a", 1), feature("a", 2)]),
            Err(SchemaError::Repeated { feature }) if feature == "a"
        ));
        for cardinality in [0, MAX_CARDINALITY + 1, u64::MAX] {
            assert!(matches!(
                new(dense(), vec![feature("a", cardinality)]),
                Err(SchemaError::Cardinality { .. })
            ));
        }
    }
}
