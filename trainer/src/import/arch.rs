//! What tensors cannot tell of a model: a preset for one of the Criteo data sets, or a file.

use std::{fs::File, io::Read, path::Path};

use mprec_datasets::synthetic::{CRITEO_KAGGLE, CRITEO_TERABYTE};
use mprec_representations::{
    Activation, Combination, OutOfVocabulary, Transform,
    bundle::{DenseTransform, Preprocessing},
    program::MAX_WIDTH,
    schema::MAX_FEATURES,
};
use serde::Deserialize;

use super::error::ArchError;

/// Largest architecture file.
pub const MAX_ARCH_BYTES: u64 = 1 << 20;

/// Features and choices of a model. What is not stated is found out from the checkpoint, where tensors tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Arch {
    pub(super) dense: Vec<String>,
    pub(super) sparse: Vec<Sparse>,
    pub(super) out_of_vocabulary: OutOfVocabulary,
    pub(super) preprocessing: Option<Preprocessing>,
    /// Widths from the dense features to the bottom net's vector.
    pub(super) bottom: Option<Vec<usize>>,
    /// Widths after the interaction.
    pub(super) top: Option<Vec<usize>>,
    pub(super) dim: Option<usize>,
    pub(super) interaction: Option<Meeting>,
    pub(super) self_interaction: Option<bool>,
    pub(super) quotient_remainder: Combination,
    pub(super) dhe: Dhe,
}

/// A sparse feature.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sparse {
    pub(super) name: String,
    /// Rows of its table, if that is not stated.
    #[serde(default)]
    pub(super) cardinality: Option<u64>,
    /// What torchrec calls its table.
    #[serde(default)]
    pub(super) table: Option<String>,
}

/// How the vectors meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Meeting {
    Dot,
    Cat,
    Cross,
}

/// Choices of DHEs, of which tensors show nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dhe {
    #[serde(default)]
    pub(super) transform: Transform,
    /// MP-Rec's artifact ends its decoders with a sigmoid unless told otherwise.
    #[serde(default = "sigmoid")]
    pub(super) activation: Activation,
    /// Names of the features that have a DHE where others have tables.
    #[serde(default)]
    pub(super) features: Option<Vec<String>>,
}

fn sigmoid() -> Activation {
    Activation::Sigmoid
}

impl Default for Dhe {
    fn default() -> Self {
        Self { transform: Transform::default(), activation: sigmoid(), features: None }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    dense: RawDense,
    sparse: Vec<Sparse>,
    #[serde(default)]
    out_of_vocabulary: OutOfVocabulary,
    #[serde(default)]
    preprocessing: Option<RawPreprocessing>,
    #[serde(default)]
    bottom: Option<Vec<usize>>,
    #[serde(default)]
    top: Option<Vec<usize>>,
    #[serde(default)]
    dim: Option<usize>,
    #[serde(default)]
    interaction: Option<Meeting>,
    #[serde(default)]
    self_interaction: Option<bool>,
    #[serde(default = "mult")]
    quotient_remainder: Combination,
    #[serde(default)]
    dhe: Dhe,
}

fn mult() -> Combination {
    Combination::Mult
}

/// Names of the dense features, or how many there are.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawDense {
    Count(usize),
    Names(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreprocessing {
    dense: DenseTransform,
    source: String,
}

impl Arch {
    /// Criteo Kaggle as `facebookresearch/dlrm` and MP-Rec's artifact prepare it: 13 dense features, 26 sparse ones with a
    /// row for every value, vectors of 16, bottom net 13-512-256-64-16, top net 512-256-1.
    pub fn kaggle() -> Self {
        Self::criteo("Kaggle", &CRITEO_KAGGLE, &[13, 512, 256, 64, 16], &[512, 256, 1])
    }

    /// Criteo Terabyte with values modulo 10,000,000: vectors of 64, bottom net 13-512-256-64, top net 512-512-256-1.
    pub fn terabyte() -> Self {
        Self::criteo("Terabyte", &CRITEO_TERABYTE, &[13, 512, 256, 64], &[512, 512, 256, 1])
    }

    fn criteo(set: &str, cardinalities: &[u64; 26], bottom: &[usize], top: &[usize]) -> Self {
        let sparse = cardinalities.iter().enumerate().map(|(at, &cardinality)| Sparse {
            name: format!("C{}", at + 1),
            cardinality: Some(cardinality),
            table: None,
        });
        Self {
            dense: (1..=13).map(|number| format!("I{number}")).collect(),
            sparse: sparse.collect(),
            out_of_vocabulary: OutOfVocabulary::Zero,
            preprocessing: Some(Preprocessing {
                dense: DenseTransform::Log1p,
                vocabulary_sha256: None,
                source: format!("Criteo {set}, as facebookresearch/dlrm prepares it (declared)"),
                raw: None,
            }),
            bottom: Some(bottom.to_vec()),
            top: Some(top.to_vec()),
            dim: bottom.last().copied(),
            interaction: None,
            self_interaction: None,
            quotient_remainder: mult(),
            dhe: Dhe::default(),
        }
    }

    /// Reads an architecture file: TOML, or JSON if its name ends in `.json`.
    ///
    /// # Errors
    ///
    /// [`ArchError`], with what the parser says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ArchError> {
        let path = path.as_ref();
        let io = |source| ArchError::Io { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(io)?;
        file.take(MAX_ARCH_BYTES + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_ARCH_BYTES {
            return Err(ArchError::TooLarge { path: path.to_owned(), limit: MAX_ARCH_BYTES });
        }
        let syntax = |line, message: String| ArchError::Syntax {
            path: path.to_owned(),
            line,
            message: message.replace('\n', ", "),
        };
        let json = path.extension().is_some_and(|extension| extension == "json");
        let raw: Raw = if json {
            serde_json::from_str(&text).map_err(|error| syntax(error.line(), error.to_string()))?
        } else {
            toml::from_str(&text).map_err(|error| {
                let start = error.span().map_or(0, |span| span.start.min(text.len()));
                let lines = text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count();
                syntax(1 + lines, error.message().to_owned())
            })?
        };
        raw.try_into()
    }
}

impl TryFrom<Raw> for Arch {
    type Error = ArchError;

    fn try_from(raw: Raw) -> Result<Self, ArchError> {
        let fail = |key, what: &str| Err(ArchError::Key { key, what: what.to_owned() });
        let dense = match raw.dense {
            // Before that many names are made.
            RawDense::Count(count) if count > MAX_FEATURES => {
                return fail("dense", "more features than a model may have");
            }
            RawDense::Count(count) => (1..=count).map(|number| format!("I{number}")).collect(),
            RawDense::Names(names) => names,
        };
        if raw.self_interaction == Some(true)
            && !matches!(raw.interaction, None | Some(Meeting::Dot))
        {
            return fail("self_interaction", "only `interaction = \"dot\"` has one");
        }
        let nets = [("bottom", &raw.bottom), ("top", &raw.top)];
        for (key, widths) in nets.into_iter().chain([("dim", &raw.dim.map(|dim| vec![dim]))]) {
            if !widths.iter().flatten().all(|width| (1..=MAX_WIDTH).contains(width)) {
                return fail(key, &format!("widths are 1 to {MAX_WIDTH}"));
            }
        }
        for name in raw.dhe.features.iter().flatten() {
            if !raw.sparse.iter().any(|feature| feature.name == *name) {
                return fail("dhe.features", &format!("there is no sparse feature `{name}`"));
            }
        }
        let preprocessing = raw.preprocessing.map(|raw| Preprocessing {
            dense: raw.dense,
            vocabulary_sha256: None,
            source: raw.source,
            raw: None,
        });
        Ok(Self {
            dense,
            sparse: raw.sparse,
            out_of_vocabulary: raw.out_of_vocabulary,
            preprocessing,
            bottom: raw.bottom,
            top: raw.top,
            dim: raw.dim,
            interaction: raw.interaction,
            self_interaction: raw.self_interaction,
            quotient_remainder: raw.quotient_remainder,
            dhe: raw.dhe,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Arch, ArchError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Arch::open(path)
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = "dense = 2\ninteraction = \"cat\"\nsparse = [{ name = \"a\", cardinality = 3 }, { name = \"b\" }]\n\
                    [dhe]\nactivation = \"mish\"\nfeatures = [\"b\"]";
        let json = r#"{"dense": ["I1", "I2"], "interaction": "cat", "sparse": [{"name": "a", "cardinality": 3},
                      {"name": "b"}], "dhe": {"activation": "mish", "features": ["b"]}}"#;
        let arch = read("a.toml", toml).unwrap();
        assert_eq!(arch, read("a.json", json).unwrap());
        assert_eq!(arch.dense, ["I1", "I2"]);
        assert_eq!((arch.interaction, arch.dhe.activation), (Some(Meeting::Cat), Activation::Mish));
    }

    #[test]
    fn wrong_files_are_refused_with_the_key() {
        let sparse = "sparse = [{ name = \"a\" }]";
        for (text, part) in [
            ("dense = 1".to_owned(), "sparse"),
            (format!("dense = 1\nrank = 3\n{sparse}"), "rank"),
            (format!("dense = 5000\n{sparse}"), "`dense`"),
            (format!("dense = 1\ndim = 9223372036854775807\n{sparse}"), "`dim`"),
            (format!("dense = 1\ntop = [4, 0]\n{sparse}"), "`top`"),
            (
                format!("dense = 1\ninteraction = \"cat\"\nself_interaction = true\n{sparse}"),
                "interaction = \"dot\"",
            ),
            (format!("dense = 1\n{sparse}\n[dhe]\nfeatures = [\"z\"]"), "`z`"),
        ] {
            let error = read("a.toml", &text).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
        let long = " ".repeat(MAX_ARCH_BYTES as usize + 1);
        assert!(matches!(read("a.toml", &long), Err(ArchError::TooLarge { .. })));
    }
}
