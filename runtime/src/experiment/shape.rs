//! What a batch of a published model moves and computes.
//!
//! Counted from the shapes, as the MP-Rec artifact's own cost model counts (`get_sizes`, `get_flops`), so that its
//! figures come out: an encoder of `k` hashes takes `4k` operations for hashing and `4k` for the transform and keeps
//! 16 bytes a hash; a layer takes `2 · in · out` operations and keeps `(in + 1) · out` floats. Ids are one-hot, as
//! Criteo's are.
//!
//! A **stage** is what runs between two trips through memory: its weights are read once a batch, its inputs and
//! outputs once a sample. A cache that keeps a layer's values makes a real device faster than that; a product that is
//! too small for the device makes it slower.

use serde::Serialize;

use crate::bench::Arch;

/// Sparse features of both Criteo data sets.
const FEATURES: f64 = 26.0;
/// Dense features of both.
const DENSE: usize = 13;
/// What one random access brings in.
const LINE: f64 = 64.0;
/// The DHE of the paper's most accurate models, most likely: `k` hashes and two hidden layers.
pub const DHE: DheShape = DheShape { hashes: 2048, hidden: [512, 256] };

/// How a model's features become vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Representation {
    /// A row per id.
    Table,
    /// A row per id in 8 bits; only where it was measured.
    TableInt8,
    /// Computed vectors.
    Dhe,
    /// Both.
    Hybrid,
}

impl Representation {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Table, Self::TableInt8, Self::Dhe, Self::Hybrid];

    /// The name of such a variant in bundles and profiles.
    pub fn variant(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::TableInt8 => "table-int8",
            Self::Dhe => "dhe",
            Self::Hybrid => "hybrid",
        }
    }

    /// The representation of a variant of that name.
    pub fn of(variant: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|representation| representation.variant() == variant)
    }
}

/// The DHE of every feature: hashes and hidden layers before the vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DheShape {
    /// Hashes of an id.
    pub hashes: usize,
    /// Widths of hidden layers.
    pub hidden: [usize; 2],
}

/// What happens between two trips through memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// `lookup`, `encode`, `decode`, `nets`.
    pub name: &'static str,
    /// Weights, bytes a batch.
    pub weight_bytes: f64,
    /// Inputs and outputs, bytes a sample.
    pub stream_bytes: f64,
    /// Rows at random places, bytes a sample in whole lines.
    pub random_bytes: f64,
    /// Operations a sample.
    pub operations: f64,
}

/// Memory of a resident path of this model: [`Work::resident_bytes`], and of a table in 8 bits, whose rows carry a
/// scale and an offset of 4 bytes each.
pub fn resident_bytes(arch: Arch, representation: Representation) -> u64 {
    let bytes = match Work::count(arch, representation, DHE) {
        Some(work) => work.resident_bytes,
        None => arch.rows() as f64 * (arch.dim() + 8) as f64 + nets(arch, 27).weight_bytes,
    };
    bytes as u64
}

/// What a model in one representation takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Work {
    /// Memory of a resident path.
    pub resident_bytes: f64,
    /// What crosses the link to a device, both ways, bytes a sample.
    pub link_bytes: f64,
    /// What runs, in order.
    pub stages: Vec<Stage>,
}

impl Work {
    /// Counts a model in a representation whose rows are 32-bit floats.
    ///
    /// Nothing for [`Representation::TableInt8`], which is taken from measurements only: how fast bytes become
    /// floats on a device is not on its data sheet.
    pub fn count(arch: Arch, representation: Representation, dhe: DheShape) -> Option<Self> {
        let dim = arch.dim();
        let (stored, computed) = match representation {
            Representation::Table => (true, false),
            Representation::Dhe => (false, true),
            Representation::Hybrid => (true, true),
            Representation::TableInt8 => return None,
        };
        let mut stages = Vec::new();
        let mut resident_bytes = 0.0;
        if stored {
            resident_bytes += 4.0 * arch.rows() as f64 * dim as f64;
            stages.push(lookup(dim));
        }
        if computed {
            let layers = [dhe.hashes, dhe.hidden[0], dhe.hidden[1], dim];
            for stage in [encode(dhe.hashes), per_feature(net("decode", &layers))] {
                resident_bytes += stage.weight_bytes;
                stages.push(stage);
            }
        }
        let vectors = 1 + 26 * (usize::from(stored) + usize::from(computed));
        let nets = nets(arch, vectors);
        resident_bytes += nets.weight_bytes;
        stages.push(nets);
        // Dense values as floats and ids as 64-bit integers go there, a score comes back.
        let link_bytes = 4.0 * DENSE as f64 + 8.0 * FEATURES + 4.0;
        Some(Self { resident_bytes, link_bytes, stages })
    }

    /// Operations a sample, over all stages.
    pub fn operations(&self) -> f64 {
        self.stages.iter().map(|stage| stage.operations).sum()
    }
}

fn lookup(dim: usize) -> Stage {
    let row = 4.0 * dim as f64;
    Stage {
        name: "lookup",
        weight_bytes: 0.0,
        // Ids in, vectors out.
        stream_bytes: FEATURES * (8.0 + row),
        random_bytes: FEATURES * (row / LINE).ceil() * LINE,
        operations: 0.0,
    }
}

fn encode(hashes: usize) -> Stage {
    let hashes = hashes as f64;
    Stage {
        name: "encode",
        weight_bytes: FEATURES * 16.0 * hashes,
        stream_bytes: FEATURES * (8.0 + 4.0 * hashes),
        random_bytes: 0.0,
        operations: FEATURES * 8.0 * hashes,
    }
}

/// Layers one after another, each with its bias.
fn net(name: &'static str, widths: &[usize]) -> Stage {
    let mut stage =
        Stage { name, weight_bytes: 0.0, stream_bytes: 0.0, random_bytes: 0.0, operations: 0.0 };
    for pair in widths.windows(2) {
        let (input, output) = (pair[0] as f64, pair[1] as f64);
        stage.weight_bytes += 4.0 * (input + 1.0) * output;
        stage.stream_bytes += 4.0 * (input + output);
        stage.operations += 2.0 * input * output;
    }
    stage
}

fn per_feature(stage: Stage) -> Stage {
    Stage {
        name: stage.name,
        weight_bytes: FEATURES * stage.weight_bytes,
        stream_bytes: FEATURES * stage.stream_bytes,
        random_bytes: FEATURES * stage.random_bytes,
        operations: FEATURES * stage.operations,
    }
}

/// Both nets, and the dot products of all pairs of vectors between them.
fn nets(arch: Arch, vectors: usize) -> Stage {
    let dim = arch.dim();
    let pairs = vectors * (vectors - 1) / 2;
    let (bottom_hidden, top_hidden) = arch.hidden();
    let bottom: Vec<usize> =
        [DENSE].into_iter().chain(bottom_hidden.iter().copied()).chain([dim]).collect();
    let top: Vec<usize> =
        [pairs + dim].into_iter().chain(top_hidden.iter().copied()).chain([1]).collect();
    let (bottom, top) = (net("nets", &bottom), net("nets", &top));
    let interaction = (vectors * dim) as f64;
    Stage {
        name: "nets",
        weight_bytes: bottom.weight_bytes + top.weight_bytes,
        stream_bytes: bottom.stream_bytes + top.stream_bytes + 4.0 * interaction,
        random_bytes: 0.0,
        operations: bottom.operations + top.operations + 2.0 * (pairs * dim) as f64,
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::{
        Activation, DheSpec, DlrmSpec, Interaction, RepresentationSpec, Transform, weights::DType,
    };

    use super::*;

    const SMALLER: DheShape = DheShape { hashes: 1024, hidden: [512, 256] };

    fn count(arch: Arch, representation: Representation, dhe: DheShape) -> Work {
        Work::count(arch, representation, dhe).unwrap()
    }

    fn sum(work: &Work, names: &[&str], of: fn(&Stage) -> f64) -> f64 {
        work.stages.iter().filter(|stage| names.contains(&stage.name)).map(of).sum()
    }

    #[test]
    fn a_dhe_takes_the_operations_and_bytes_of_the_artifacts_cost_model() {
        // Million operations a sample and megabytes, as in section 1.4 of the facts about the paper.
        for (arch, shape, operations, megabytes) in [
            (Arch::Kaggle, SMALLER, 34.5, 69.1),
            (Arch::Kaggle, DHE, 62.0, 124.0),
            (Arch::Terabyte, SMALLER, 35.1, 70.4),
            (Arch::Terabyte, DHE, 62.6, 125.3),
        ] {
            let work = count(arch, Representation::Dhe, shape);
            let dhe = |of| sum(&work, &["encode", "decode"], of) / 1e6;
            assert!((dhe(|stage| stage.operations) - operations).abs() < 0.05, "{arch:?}");
            assert!((dhe(|stage| stage.weight_bytes) - megabytes).abs() < 0.05, "{arch:?}");
        }
    }

    #[test]
    fn tables_and_hybrids_have_the_published_sizes() {
        for (arch, table, hybrid) in
            [(Arch::Kaggle, 2.161, 2.285), (Arch::Terabyte, 12.576, 12.702)]
        {
            let embeddings = |representation| {
                let work = count(arch, representation, DHE);
                (work.resident_bytes - sum(&work, &["nets"], |stage| stage.weight_bytes)) / 1e9
            };
            assert!((embeddings(Representation::Table) - table).abs() < 5e-4);
            assert!((embeddings(Representation::Hybrid) - hybrid).abs() < 1e-3);
        }
    }

    #[test]
    fn the_nets_of_a_table_model_take_about_a_million_operations() {
        // 0.95 M for both nets of Kaggle, and 27 · 26 / 2 products of 16 between them.
        let work = count(Arch::Kaggle, Representation::Table, DHE);
        assert_eq!(work.operations(), 948_736.0 + 351.0 * 32.0);
        let terabyte = count(Arch::Terabyte, Representation::Table, DHE);
        assert_eq!(terabyte.operations(), 2.0 * 760_064.0 + 351.0 * 128.0);
    }

    #[test]
    fn weights_are_those_of_the_model_that_the_product_builds() {
        for arch in [Arch::Kaggle, Arch::Terabyte] {
            let dim = arch.dim();
            let dhe = DheSpec {
                hashes: DHE.hashes,
                transform: Transform::Uniform,
                hidden: DHE.hidden.to_vec(),
                dim,
                activation: Activation::Sigmoid,
                normalised: false,
            };
            for (representation, spec) in [
                (Representation::Table, RepresentationSpec::Table { dim }),
                (Representation::Dhe, RepresentationSpec::Dhe(dhe.clone())),
                (Representation::Hybrid, RepresentationSpec::Hybrid { dim, dhe: dhe.clone() }),
            ] {
                let schema = arch.schema(1.0);
                let (bottom, top) = arch.hidden();
                let dot = Interaction::Dot { itself: false };
                let spec = DlrmSpec::uniform(&schema, &spec, dot, bottom, top);
                let floats = spec.tensors(&schema).into_iter();
                let floats = floats.filter(|tensor| tensor.dtype == DType::F32);
                let floats = floats.map(|tensor| tensor.shape.iter().product::<usize>());
                let bytes = 4.0 * floats.sum::<usize>() as f64;
                let work = count(arch, representation, DHE);
                let hashes = sum(&work, &["encode"], |stage| stage.weight_bytes);
                assert_eq!(work.resident_bytes - hashes, bytes, "{arch:?} {representation:?}");
            }
        }
    }
}
