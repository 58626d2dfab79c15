//! Writes the files of a prepared folder.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use memmap2::MmapMut;
use rayon::prelude::*;

use super::{
    FileEntry, MANIFEST, Manifest, ShardEntry, VOCABULARY,
    manifest::{shard_file, table_file},
    sha256_hex,
    shard::{Shard, ShardShape},
};
use crate::error::PrepareError;

/// The manifest while it is being written.
const MANIFEST_PART: &str = "manifest.json.part";

/// Makes `folder` an empty one. What it holds may go if `replace` says so and all of it was
/// written by a preparation.
pub(crate) fn empty_folder(folder: &Path, replace: bool) -> Result<(), PrepareError> {
    let fail = |source| PrepareError::Write { file: folder.into(), source };
    fs::create_dir_all(folder).map_err(fail)?;
    let names = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
        .map_err(fail);
    let mut names: Vec<_> = names?;
    let ours = |name: &str| {
        let between = |start: &str, end: &str| name.starts_with(start) && name.ends_with(end);
        name == MANIFEST
            || name == MANIFEST_PART
            || name == VOCABULARY
            || between("shard-", ".bin")
            || between("table-", ".csv")
    };
    if names.is_empty() {
        return Ok(());
    }
    if !replace || !names.iter().all(|name| name.to_str().is_some_and(ours)) {
        return Err(PrepareError::NotEmpty { folder: folder.into() });
    }
    // The manifest goes first: what is left of an interrupted replacement is not a data set.
    names.sort_by_key(|name| name != MANIFEST);
    names.iter().try_for_each(|name| fs::remove_file(folder.join(name))).map_err(fail)
}

/// Collects rows and writes a shard whenever one is full.
#[derive(Debug)]
pub(crate) struct ShardWriter {
    folder: PathBuf,
    shape: ShardShape,
    written: Vec<usize>,
    /// Rows not yet written, `[rows, dense]`.
    pub(crate) dense: Vec<f32>,
    /// Their ids, one column per feature.
    pub(crate) ids: Vec<Vec<u32>>,
    /// Their labels.
    pub(crate) labels: Vec<u8>,
}

impl ShardWriter {
    /// A writer of shards of `shape.rows` rows.
    pub(crate) fn new(folder: &Path, shape: ShardShape) -> Self {
        Self {
            folder: folder.into(),
            shape,
            written: Vec::new(),
            dense: Vec::new(),
            ids: vec![Vec::new(); shape.sparse],
            labels: Vec::new(),
        }
    }

    /// Writes all full shards among the collected rows.
    pub(crate) fn write_full(&mut self) -> Result<(), PrepareError> {
        while self.ids[0].len() >= self.shape.rows {
            self.write(self.shape.rows)?;
        }
        Ok(())
    }

    /// Writes the rest, and returns the rows of every shard.
    pub(crate) fn finish(mut self) -> Result<Vec<usize>, PrepareError> {
        self.write_full()?;
        let rest = self.ids[0].len();
        if rest > 0 {
            self.write(rest)?;
        }
        Ok(self.written)
    }

    fn write(&mut self, rows: usize) -> Result<(), PrepareError> {
        let shape = ShardShape { rows, ..self.shape };
        let path = self.folder.join(shard_file(self.written.len()));
        let fail = |source| PrepareError::Write { file: path.clone(), source };
        let places = shape.places().ok_or_else(|| fail(io::ErrorKind::FileTooLarge.into()))?;
        let labels = if shape.labelled { rows } else { 0 };
        let write = || -> io::Result<()> {
            let mut file = io::BufWriter::with_capacity(1 << 20, File::create(&path)?);
            file.write_all(&shape.header())?;
            file.write_all(bytemuck::cast_slice(&self.dense[..rows * shape.dense]))?;
            file.write_all(&[0; 64][..places.ids.start - places.dense.end])?;
            for column in &self.ids {
                file.write_all(bytemuck::cast_slice(&column[..rows]))?;
            }
            file.write_all(&[0; 64][..places.labels.start - places.ids.end])?;
            file.write_all(&self.labels[..labels])?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.flush()
        };
        write().map_err(fail)?;
        self.dense.drain(..rows * shape.dense);
        for column in &mut self.ids {
            column.drain(..rows);
        }
        self.labels.drain(..labels);
        self.written.push(rows);
        Ok(())
    }
}

/// Maps all shards just written, for reading.
pub(crate) fn open_shards(
    folder: &Path,
    shape: ShardShape,
    rows: &[usize],
) -> Result<Vec<Shard>, PrepareError> {
    rows.iter()
        .enumerate()
        .map(|(at, &rows)| {
            Ok(Shard::open(&folder.join(shard_file(at)), ShardShape { rows, ..shape })?)
        })
        .collect()
}

/// Replaces every id by what `ids` gives for it, if there is one map per feature, and takes the
/// digest of every shard. `done` is told how many shards are.
pub(crate) fn seal_shards(
    folder: &Path,
    shape: ShardShape,
    rows: &[usize],
    ids: &[Vec<u32>],
    mut done: impl FnMut(usize),
) -> Result<Vec<ShardEntry>, PrepareError> {
    let mut entries = Vec::with_capacity(rows.len());
    // Few at a time, so that progress can be told from this thread.
    for group in rows.chunks(rayon::current_num_threads()) {
        let first = entries.len();
        let sealed: Vec<_> = group
            .par_iter()
            .enumerate()
            .map(|(at, &rows)| {
                let name = shard_file(first + at);
                let shape = ShardShape { rows, ..shape };
                let path = folder.join(&name);
                let (bytes, sha256) = seal(&path, shape, ids)
                    .map_err(|source| PrepareError::Write { file: path, source })?;
                Ok(ShardEntry { file: name, rows: rows as u64, bytes, sha256 })
            })
            .collect::<Result<_, PrepareError>>()?;
        entries.extend(sealed);
        done(entries.len());
    }
    Ok(entries)
}

fn seal(path: &Path, shape: ShardShape, ids: &[Vec<u32>]) -> io::Result<(u64, String)> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // SAFETY: the file was written by this preparation into a folder that was empty, and nobody
    // else uses it before the manifest exists.
    let mut map = unsafe { MmapMut::map_mut(&file) }?;
    if !ids.is_empty() {
        let places = shape.places().ok_or(io::ErrorKind::FileTooLarge)?;
        let columns: &mut [u32] = bytemuck::cast_slice_mut(&mut map[places.ids]);
        for (column, ids) in columns.chunks_exact_mut(shape.rows).zip(ids) {
            for id in column {
                *id = ids[*id as usize];
            }
        }
        map.flush()?;
    }
    Ok((map.len() as u64, sha256_hex(&map)))
}

/// Writes a file and returns its entry.
pub(crate) fn write_file(
    folder: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<FileEntry, PrepareError> {
    let file = folder.join(name);
    fs::write(&file, bytes).map_err(|source| PrepareError::Write { file, source })?;
    Ok(FileEntry { file: name.into(), bytes: bytes.len() as u64, sha256: sha256_hex(bytes) })
}

/// Writes the text of a joined table.
pub(crate) fn write_table(
    folder: &Path,
    table: &str,
    text: &[u8],
) -> Result<FileEntry, PrepareError> {
    write_file(folder, &table_file(table), text)
}

/// Writes the manifest, which makes the folder a data set.
pub(crate) fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), PrepareError> {
    let mut text = serde_json::to_vec_pretty(manifest).map_err(|error| PrepareError::Write {
        file: folder.join(MANIFEST),
        source: error.into(),
    })?;
    text.push(b'\n');
    write_file(folder, MANIFEST_PART, &text)?;
    let file = folder.join(MANIFEST);
    fs::rename(folder.join(MANIFEST_PART), &file)
        .map_err(|source| PrepareError::Write { file, source })
}
