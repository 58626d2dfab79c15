//! The end of a preparation: final ids, digests, and the manifest that makes a folder whole.

use std::path::Path;

use mprec_representations::Schema;

use super::{Progress, Stage};
use crate::{
    error::PrepareError,
    folder::{
        FORMAT_VERSION, Manifest, Preprocessing, Split, Splits, SyntheticOrigin,
        shard::ShardShape,
        writer::{open_shards, seal_shards, write_manifest},
    },
};

/// Everything of a manifest but what the shards' bytes decide.
pub(crate) struct Unsealed<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) name: String,
    pub(crate) synthetic: Option<SyntheticOrigin>,
    pub(crate) sources: Vec<String>,
    pub(crate) schema: Schema,
    pub(crate) preprocessing: Option<Preprocessing>,
    pub(crate) labelled: bool,
    pub(crate) splits: Splits,
    pub(crate) malformed_lines: u64,
    pub(crate) shard_rows: usize,
    /// Rows of every shard.
    pub(crate) shards: Vec<usize>,
    /// Final ids of the provisional ones, or nothing if ids are final.
    pub(crate) ids: Vec<Vec<u32>>,
}

/// Makes the ids final, takes digests, and writes the manifest.
pub(crate) fn finish(
    data: Unsealed<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Manifest, PrepareError> {
    let rows = data.shards.iter().sum::<usize>() as u64;
    let shape = ShardShape {
        rows: data.shard_rows,
        dense: data.schema.dense().len(),
        sparse: data.schema.sparse().len(),
        labelled: data.labelled,
    };
    let mut told = Progress {
        stage: Stage::Encoding,
        done: 0,
        total: data.shards.len() as u64,
        rows,
        malformed: data.malformed_lines,
    };
    let shards = seal_shards(data.folder, shape, &data.shards, &data.ids, |done| {
        told.done = done as u64;
        progress(told);
    })?;
    let mapped = open_shards(data.folder, shape, &data.shards)?;
    let positives = |split| {
        let range = data.splits.range(split);
        let labels = mapped.iter().flat_map(|shard| shard.labels());
        labels.skip(range.start).take(range.len()).map(|&label| u64::from(label)).sum()
    };
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        name: data.name,
        synthetic: data.synthetic,
        sources: data.sources,
        schema: data.schema,
        preprocessing: data.preprocessing,
        labelled: data.labelled,
        rows,
        splits: data.splits,
        positives: Splits {
            train: positives(Split::Train),
            test: positives(Split::Test),
            validation: positives(Split::Validation),
        },
        malformed_lines: data.malformed_lines,
        shard_rows: data.shard_rows as u64,
        shards,
    };
    write_manifest(data.folder, &manifest)?;
    Ok(manifest)
}
