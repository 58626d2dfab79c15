//! ONNX files that other tools wrote: a DLRM with the inputs that its PyTorch sources give it.
//!
//! `dense_x` is f32 `[samples, dense features]`. Bags are PyTorch's: `indices` int64 `[features, ids]`, every feature with the
//! same number of ids, and `offsets` int64 `[features, samples]`, where each bag starts; or one pair of vectors per feature,
//! `indices_0`, `offsets_0` and so on. The only output is f32, one score per sample.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use mprec_representations::{Batch, BatchShape};
use ort::{
    session::{Session, SessionInputValue},
    value::{TensorElementType, TensorRef, ValueType},
};

use super::session::{OnnxBackend, answer, device, integers, options, signed};
use crate::{
    backend::{Backend as _, Executable},
    error::BackendError,
};

const DENSE: &str = "dense_x";
const OFFSETS: &str = "offsets";
const INDICES: &str = "indices";

impl OnnxBackend {
    /// Opens an ONNX file for batches of this shape. Every worker's executable reads the file anew and has parameters of its
    /// own, but for those that the file keeps in another one, which ONNX Runtime maps.
    ///
    /// # Errors
    ///
    /// [`BackendError::File`] if it is no ONNX model, its inputs and output are not those above, or it cannot score.
    pub fn open_file(
        &self,
        file: &Path,
        shape: &BatchShape,
    ) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(FileExecutable::new(self.clone(), file.to_owned(), shape.clone())?))
    }
}

/// How a file takes bags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bags {
    /// All features in one matrix.
    Stacked,
    /// Two inputs per feature.
    Apart,
}

struct FileExecutable {
    session: Session,
    backend: OnnxBackend,
    file: PathBuf,
    bytes: usize,
    shape: BatchShape,
    bags: Bags,
    dense: Vec<f32>,
    offsets: Vec<i64>,
    indices: Vec<i64>,
    scores: Vec<f32>,
}

impl FileExecutable {
    fn new(backend: OnnxBackend, file: PathBuf, shape: BatchShape) -> Result<Self, BackendError> {
        let fail = |reason: String| BackendError::File { file: file.clone(), reason };
        let bytes = fs::metadata(&file).map_err(|error| fail(error.to_string()))?.len() as usize;
        let session = options(&backend)
            .and_then(|mut builder| builder.commit_from_file(&file))
            .map_err(|error| fail(error.to_string()))?;
        let bags = interface(&session, &shape).map_err(fail)?;
        let mut executable = Self {
            session,
            backend,
            bytes,
            bags,
            dense: Vec::new(),
            offsets: Vec::new(),
            indices: Vec::new(),
            scores: Vec::new(),
            shape: shape.clone(),
            file: file.clone(),
        };
        // Lengths that were fixed at export show when samples are of another number.
        for samples in [1, 3] {
            let ids = vec![0; samples * shape.features()];
            let batch = shape
                .from_rows(vec![0.0; samples * shape.dense_width()], &ids)
                .expect("zeros are within every schema");
            executable
                .score(&batch, &mut vec![0.0; samples])
                .map_err(|error| fail(format!("a batch of {samples} failed: {error}")))?;
        }
        Ok(executable)
    }

    /// Fills in offsets and ids, feature by feature. Where features differ in their number of ids and have to be stacked, a
    /// sample after the last takes ids of 0 until they do not.
    ///
    /// Returns the samples, and for each feature its number of ids.
    fn pack(&mut self, batch: &Batch) -> (usize, Vec<usize>) {
        self.offsets.clear();
        self.indices.clear();
        let mut counts: Vec<usize> =
            (0..batch.features()).map(|feature| batch.bags(feature).ids().len()).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        let pads = self.bags == Bags::Stacked && counts.iter().any(|&count| count != most);
        for (feature, count) in counts.iter_mut().enumerate() {
            let bags = batch.bags(feature);
            self.offsets.extend((0..bags.len()).map(|bag| bags.range(bag).start as i64));
            self.indices.extend_from_slice(signed(bags.ids()));
            if pads {
                self.offsets.push(*count as i64);
                self.indices.resize(self.indices.len() + most - *count, 0);
                *count = most;
            }
        }
        let samples = batch.samples() + usize::from(pads);
        self.dense.clear();
        self.dense.extend_from_slice(batch.dense());
        self.dense.resize(samples * batch.dense_width(), 0.0);
        (samples, counts)
    }

    fn score(&mut self, batch: &Batch, scores: &mut [f32]) -> ort::Result<()> {
        let (samples, counts) = self.pack(batch);
        let dense = TensorRef::from_array_view(([samples, batch.dense_width()], &self.dense[..]))?;
        let mut inputs: Vec<(String, SessionInputValue<'_>)> = vec![(DENSE.into(), dense.into())];
        match self.bags {
            Bags::Stacked => {
                let features = counts.len();
                let ids = counts.first().copied().unwrap_or(0);
                inputs.push((OFFSETS.into(), integers(&[features, samples], &self.offsets)?));
                inputs.push((INDICES.into(), integers(&[features, ids], &self.indices)?));
            }
            Bags::Apart => {
                let mut from = 0;
                for (feature, &count) in counts.iter().enumerate() {
                    let offsets = &self.offsets[feature * samples..][..samples];
                    let indices = &self.indices[from..][..count];
                    from += count;
                    inputs.push((format!("{OFFSETS}_{feature}"), integers(&[samples], offsets)?));
                    inputs.push((format!("{INDICES}_{feature}"), integers(&[count], indices)?));
                }
            }
        }
        self.scores.resize(samples, 0.0);
        answer(&mut self.session, inputs, &mut self.scores)?;
        scores.copy_from_slice(&self.scores[..batch.samples()]);
        Ok(())
    }
}

impl Executable for FileExecutable {
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        self.shape.check(batch)?;
        if scores.len() != batch.samples() {
            return Err(BackendError::Scores { got: scores.len(), samples: batch.samples() });
        }
        if batch.is_weighted() {
            let file = self.file.clone();
            return Err(BackendError::Weighted { file });
        }
        if batch.samples() == 0 {
            return Ok(());
        }
        self.score(batch, scores).map_err(|error| device(self.backend.kind(), error))
    }

    /// The file has no input for them.
    fn takes_weights(&self) -> bool {
        false
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        self.backend.open_file(&self.file, &self.shape)
    }

    /// Length of the file. What it keeps in others is not counted.
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Debug for FileExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileExecutable")
            .field("file", &self.file)
            .field("backend", &self.backend)
            .field("bags", &self.bags)
            .finish_non_exhaustive()
    }
}

/// Proves the model's inputs and output to be those of such a DLRM, or says what differs.
fn interface(session: &Session, shape: &BatchShape) -> Result<Bags, String> {
    use TensorElementType::{Float32, Int64};

    let found: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
    let bags = if found.contains(&INDICES) { Bags::Stacked } else { Bags::Apart };
    let features = shape.features() as i64;
    let mut wanted = vec![(DENSE.to_owned(), Float32, vec![-1, shape.dense_width() as i64])];
    match bags {
        Bags::Stacked => {
            for name in [OFFSETS, INDICES] {
                wanted.push((name.to_owned(), Int64, vec![features, -1]));
            }
        }
        Bags::Apart => {
            for name in [OFFSETS, INDICES] {
                let of = |feature| (format!("{name}_{feature}"), Int64, vec![-1]);
                wanted.extend((0..shape.features()).map(of));
            }
        }
    }
    for (name, element, lengths) in &wanted {
        let input = session.inputs().iter().find(|input| input.name() == name);
        let input = input.ok_or_else(|| {
            let found = found.join("`, `");
            format!("it lacks the input `{name}`; its inputs are `{found}`")
        })?;
        // An unknown length of the model, -1, may be any.
        let fits = matches!(input.dtype(), ValueType::Tensor { ty, shape, .. }
            if ty == element && shape.len() == lengths.len()
                && shape.iter().zip(lengths).all(|(&has, &wants)| has == -1 || has == wants));
        if !fits {
            let lengths: Vec<String> = lengths.iter().map(ToString::to_string).collect();
            return Err(format!(
                "its input `{name}` is {:?} and should be {element:?} [{}] (-1 is any length)",
                input.dtype(),
                lengths.join(", ")
            ));
        }
    }
    if let Some(other) = found.iter().find(|name| wanted.iter().all(|(known, ..)| known != *name)) {
        return Err(format!("it has an input `{other}` that nothing is known for"));
    }
    match session.outputs() {
        [only] if matches!(only.dtype(), ValueType::Tensor { ty: Float32, .. }) => Ok(bags),
        outputs => {
            let names: Vec<&str> = outputs.iter().map(|output| output.name()).collect();
            Err(format!("it should have one output of f32 scores; it has `{}`", names.join("`, `")))
        }
    }
}
