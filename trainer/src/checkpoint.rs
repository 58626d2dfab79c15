//! Checkpoints: all that is needed to go on as if nothing had happened.
//!
//! ```text
//! folder/step-000001200/state.json           position, running figures, spec and options
//! folder/step-000001200/tensors.safetensors  dense values and moments, rows and their state
//! ```
//!
//! A checkpoint is written under another name and then renamed, so that a folder by the final name
//! is whole; older ones are removed after that. Tensors are written and read one at a time.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use mprec_representations::{DlrmSpec, Schema};
use safetensors::{Dtype, View, tensor::Metadata};
use serde::{Deserialize, Serialize};

use crate::{
    error::TrainError, model::Model, options::TrainOptions, progress::HistoryPoint,
    standardise::Standardisation,
};

/// Version of the folder's layout.
const VERSION: u32 = 1;
const STATE: &str = "state.json";
const TENSORS: &str = "tensors.safetensors";

/// Largest state that is read: a history of a million judgements fits.
const MAX_STATE: u64 = 1 << 28;

/// Where to keep checkpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoints {
    /// A folder of its own for this run. If it holds a checkpoint, training goes on from there.
    pub folder: PathBuf,
    /// Steps from one checkpoint to the next; one is also written when the caller stops training.
    pub every: u64,
}

/// What a checkpoint holds besides tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    pub(crate) run: Run,
    pub(crate) at: Position,
    pub(crate) standardisation: Option<Standardisation>,
}

/// What must agree for a run to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    schema: Schema,
    spec: DlrmSpec,
    options: TrainOptions,
    start: u64,
    end: u64,
    threads: u64,
}

/// How far a run has come. The order of samples follows from it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// Steps done.
    pub(crate) step: u64,
    /// Rows seen.
    pub(crate) rows: u64,
    /// Running loss.
    pub(crate) loss: Option<f64>,
    /// Averaged steps so far.
    pub(crate) averaged: u64,
    pub(crate) history: Vec<HistoryPoint>,
    /// Lowest validation log loss, and how many judgements ago.
    pub(crate) best: Option<(f64, u32)>,
}

/// Best weights so far, for early stopping: dense parameters, then tables.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Snapshot {
    pub(crate) dense: Vec<Vec<f32>>,
    pub(crate) rows: Vec<Vec<f32>>,
}

impl Run {
    pub(crate) fn new(
        schema: &Schema,
        spec: &DlrmSpec,
        options: &TrainOptions,
        rows: &std::ops::Range<usize>,
        threads: usize,
    ) -> Self {
        Self {
            schema: schema.clone(),
            spec: spec.clone(),
            options: options.clone(),
            start: rows.start as u64,
            end: rows.end as u64,
            threads: threads as u64,
        }
    }

    fn difference(&self, other: &Self) -> Option<String> {
        let parts = [
            ("schema", self.schema != other.schema),
            ("architecture", self.spec != other.spec),
            ("set of options", self.options != other.options),
            ("range of rows", (self.start, self.end) != (other.start, other.end)),
            ("number of threads", self.threads != other.threads),
        ];
        parts.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what.to_owned())
    }
}

impl Checkpoints {
    /// Writes a checkpoint and removes older ones.
    pub(crate) fn write(
        &self,
        run: &Run,
        at: &Position,
        model: &mut Model,
        best: Option<&Snapshot>,
    ) -> Result<(), TrainError> {
        let name = format!("step-{:09}", at.step);
        let partial = self.folder.join(format!("{name}.partial"));
        let place = self.folder.join(&name);
        let state = State {
            version: VERSION,
            run: run.clone(),
            at: at.clone(),
            standardisation: model.standardisation.clone(),
        };
        let json = serde_json::to_vec(&state).map_err(failed(&partial))?;
        remove(&partial)?;
        fs::create_dir_all(&partial).map_err(failed(&partial))?;
        fs::write(partial.join(STATE), json).map_err(failed(&partial))?;
        write_tensors(&partial.join(TENSORS), model, best)?;
        for file in [STATE, TENSORS] {
            let file = partial.join(file);
            File::open(&file).and_then(|open| open.sync_all()).map_err(failed(&file))?;
        }
        remove(&place)?;
        fs::rename(&partial, &place).map_err(failed(&place))?;
        // The rename is durable once the folder itself is; on systems where a folder cannot be
        // opened this way, a crash may bring back the previous checkpoint, which is whole too.
        if let Ok(folder) = File::open(&self.folder) {
            let _ = folder.sync_all();
        }
        for other in entries(&self.folder)? {
            if other.file_name() != place.file_name() {
                remove(&other)?;
            }
        }
        Ok(())
    }

    /// Reads the state of the latest checkpoint, if there is one. It must be of the same `run`.
    pub(crate) fn read_state(&self, run: &Run) -> Result<Option<(PathBuf, State)>, TrainError> {
        let whole = |path: &PathBuf| path.extension().is_none();
        let Some(path) = entries(&self.folder)?.into_iter().filter(whole).max() else {
            return Ok(None);
        };
        let file = path.join(STATE);
        let mut json = Vec::new();
        let open = File::open(&file).map_err(failed(&file))?;
        open.take(MAX_STATE).read_to_end(&mut json).map_err(failed(&file))?;
        let state: State = serde_json::from_slice(&json).map_err(failed(&file))?;
        let mismatch = |what: String| TrainError::CheckpointMismatch { path: path.clone(), what };
        if state.version != VERSION {
            return Err(mismatch(format!("version, {} instead of {VERSION}", state.version)));
        }
        match state.run.difference(run) {
            Some(what) => Err(mismatch(what)),
            None => Ok(Some((path, state))),
        }
    }
}

/// Fills `model` and `best` with the tensors of the checkpoint at `path`.
pub(crate) fn read_tensors(
    path: &Path,
    model: &mut Model,
    best: Option<&mut Snapshot>,
) -> Result<(), TrainError> {
    let path = path.join(TENSORS);
    let mut file = TensorFile::open(&path)?;
    for at in 0..model.net.parameters().len() {
        let mut values = model.dense.values(at)?;
        file.read(&format!("dense.{at}"), &mut values)?;
        model.dense.set(at, values)?;
        for (suffix, values) in model.dense.state(at) {
            file.read(&format!("dense.{at}{suffix}"), values)?;
        }
    }
    for table in &mut model.stored.tables {
        let name = table.name.clone();
        for (suffix, values) in table.state() {
            file.read(&format!("rows.{name}{suffix}"), values)?;
        }
    }
    if let Some(best) = best {
        for (at, values) in best.dense.iter_mut().chain(&mut best.rows).enumerate() {
            file.read(&format!("best.{at}"), values)?;
        }
    }
    Ok(())
}

fn write_tensors(
    path: &Path,
    model: &mut Model,
    best: Option<&Snapshot>,
) -> Result<(), TrainError> {
    let mut tensors: Vec<(String, Slice<'_>)> = Vec::new();
    let values = (0..model.net.parameters().len()).map(|at| model.dense.values(at));
    let values = values.collect::<candle_core::Result<Vec<_>>>()?;
    for (at, values) in values.iter().enumerate() {
        tensors.push((format!("dense.{at}"), Slice::new(values)));
    }
    for (at, states) in model.dense.states().into_iter().enumerate() {
        for (suffix, values) in states {
            tensors.push((format!("dense.{at}{suffix}"), Slice::new(values)));
        }
    }
    for table in &mut model.stored.tables {
        let name = table.name.clone();
        for (suffix, values) in table.state() {
            tensors.push((format!("rows.{name}{suffix}"), Slice::new(values)));
        }
    }
    for (at, values) in best.iter().flat_map(|best| best.dense.iter().chain(&best.rows)).enumerate()
    {
        tensors.push((format!("best.{at}"), Slice::new(values)));
    }
    safetensors::serialize_to_file(tensors, None, path).map_err(failed(path))
}

/// A flat tensor as it goes to a file.
struct Slice<'a> {
    values: &'a [f32],
    shape: [usize; 1],
}

impl<'a> Slice<'a> {
    fn new(values: &'a [f32]) -> Self {
        Self { values, shape: [values.len()] }
    }
}

impl View for Slice<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(self.values))
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// Reads tensors into memory that is already there, one at a time.
struct TensorFile {
    path: PathBuf,
    file: BufReader<File>,
    metadata: Metadata,
    /// Where tensors begin.
    start: u64,
}

impl TensorFile {
    fn open(path: &Path) -> Result<Self, TrainError> {
        let file = File::open(path).map_err(failed(path))?;
        let size = file.metadata().map_err(failed(path))?.len();
        let mut file = BufReader::new(file);
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(failed(path))?;
        let start = u64::from_le_bytes(length).saturating_add(8);
        if start > size {
            return Err(failed(path)("the header runs past the end of the file"));
        }
        // No longer than the file, by the check above.
        let mut header = vec![0; (start - 8) as usize];
        file.read_exact(&mut header).map_err(failed(path))?;
        let metadata = serde_json::from_slice(&header).map_err(failed(path))?;
        Ok(Self { path: path.into(), file, metadata, start })
    }

    fn read(&mut self, name: &str, values: &mut [f32]) -> Result<(), TrainError> {
        let fail = |message: String| failed(&self.path)(message);
        let Some(info) = self.metadata.info(name) else {
            return Err(fail(format!("tensor `{name}` is missing")));
        };
        let (start, end) = info.data_offsets;
        if info.dtype != Dtype::F32 || end.checked_sub(start) != Some(size_of_val(values)) {
            return Err(fail(format!("tensor `{name}` has another size")));
        }
        self.file.seek(SeekFrom::Start(self.start + start as u64)).map_err(failed(&self.path))?;
        self.file.read_exact(bytemuck::cast_slice_mut(values)).map_err(failed(&self.path))
    }
}

/// Finished and unfinished checkpoints in a folder, which need not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(folder))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("step-"));
        let number = number.map(|number| number.strip_suffix(".partial").unwrap_or(number));
        if number
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn remove(folder: &Path) -> Result<(), TrainError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(folder)(error)),
        _ => Ok(()),
    }
}

/// Makes an error of whatever went wrong with `path`.
fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    path: &Path,
) -> impl Fn(E) -> TrainError + use<E> {
    let path = path.to_owned();
    move |source| TrainError::Checkpoint { path: path.clone(), source: source.into() }
}
