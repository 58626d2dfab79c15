//! Running graphs: sessions of ONNX Runtime over parameters that stay where they are.

use std::{fmt, path::Path, ptr::NonNull, sync::Arc};

use mprec_representations::{Batch, Op, Program};
use ort::{
    AsPointer as _,
    memory::{Allocator, MemoryInfo},
    session::{
        Session, SessionInputValue, SessionInputs,
        builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder},
    },
    value::{DynValue, TensorRef},
};

use super::{
    graph::{Codes, Form, Sums, lower},
    library::{self, Library},
    model::{ElementType, Model, Parameter, Place},
    provider,
};
use crate::{
    backend::{Backend, Executable, check},
    error::BackendError,
    path::{BackendKind, OnnxProvider},
};

/// Executes programs on ONNX Runtime, with one of its execution providers. What computes on the CPU does so on the
/// calling thread, unless there are to be more.
#[derive(Debug, Clone)]
pub struct OnnxBackend {
    library: Library,
    provider: OnnxProvider,
    threads: u16,
}

impl OnnxBackend {
    /// With the library at this path, or at a well-known name where the system looks for libraries. A process loads one
    /// library and keeps it.
    ///
    /// # Errors
    ///
    /// [`BackendError::Unavailable`] if there is none, it is too old, another one is loaded already, it was built
    /// without the provider, or what the provider needs is missing.
    pub fn new(library: Option<&Path>, provider: OnnxProvider) -> Result<Self, BackendError> {
        let backend = BackendKind::Onnx(provider);
        let unavailable = |reason, remedy| BackendError::Unavailable { backend, reason, remedy };
        let library =
            Library::open(library).map_err(|reason| unavailable(reason, library::REMEDY))?;
        let name = provider::runtime_name(provider);
        let lacking = |reason: String| unavailable(reason, provider::REMEDY);
        if !library.providers().iter().any(|known| known == name) {
            return Err(lacking(format!("this ONNX Runtime was built without {name}")));
        }
        let probe = || provider::probe(Session::builder(&library.environment)?, provider);
        probe().map_err(|error| lacking(error.to_string()))?;
        Ok(Self { library, provider, threads: 1 })
    }

    /// With so many threads for each operation on the CPU, at least one. Every executable has its own.
    #[must_use]
    pub fn with_threads(mut self, threads: u16) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// What runs here, for listings.
    pub fn describe(&self) -> String {
        format!("{} of {}", provider::runtime_name(self.provider), self.library.path.display())
    }
}

impl Backend for OnnxBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Onnx(self.provider)
    }

    fn prepare(&self, program: &Program) -> Result<Box<dyn Executable>, BackendError> {
        let names: Vec<String> = (0..program.bounds().len()).map(|at| at.to_string()).collect();
        let graphs = Graphs {
            features: features(program),
            one_hot: lower(program, Form::OneHot, &names, Sums::Rows, Codes::Signed)?,
            bags: lower(program, Form::Bags, &names, provider::sums(self.provider), Codes::Signed)?,
            program: program.clone(),
        };
        let executable = OnnxExecutable::new(self.clone(), Arc::new(graphs))?;
        if self.provider != OnnxProvider::Cpu {
            executable.check_assignment()?;
        }
        Ok(Box::new(executable))
    }
}

/// A program's graphs, and the parameters that the sessions of all its executables read.
#[derive(Debug)]
struct Graphs {
    program: Program,
    features: Vec<usize>,
    one_hot: Model,
    bags: Model,
}

/// One session per form of input.
struct OnnxExecutable {
    // Sessions read the graphs' parameters where they are, so they are declared, and dropped, before them.
    one_hot: Session,
    bags: Session,
    graphs: Arc<Graphs>,
    backend: OnnxBackend,
    /// Of every id of a feature, the sample.
    samples: Vec<Vec<i64>>,
    /// What ids weigh where nothing is weighted.
    ones: Vec<f32>,
}

impl OnnxExecutable {
    fn new(backend: OnnxBackend, graphs: Arc<Graphs>) -> Result<Self, BackendError> {
        let open = |model: &Model| {
            // SAFETY: the graphs, and with them the parameters, are kept beside the session and dropped after it.
            // Parameters are never written to.
            unsafe { session(&backend, model) }.map_err(|error| device(backend.kind(), error))
        };
        let (one_hot, bags) = (open(&graphs.one_hot)?, open(&graphs.bags)?);
        let samples = vec![Vec::new(); graphs.features.len()];
        Ok(Self { one_hot, bags, graphs, backend, samples, ones: Vec::new() })
    }

    /// Says how many operations the provider got; none at all is an error, as nobody asked for the CPU.
    fn check_assignment(&self) -> Result<(), BackendError> {
        let backend = self.backend.kind();
        let name = provider::runtime_name(self.backend.provider);
        for (form, session) in [("one-hot", &self.one_hot), ("bags", &self.bags)] {
            let operations =
                provider::assignment(session).map_err(|error| device(backend, error))?;
            tracing::info!(%backend, form, ?operations, "ONNX Runtime assigned the operations");
            if operations.get(name).is_none_or(|&count| count == 0) {
                let what = "any operation of this program";
                return Err(BackendError::Unsupported { backend, what });
            }
        }
        Ok(())
    }

    fn run_one_hot(&mut self, batch: &Batch, scores: &mut [f32]) -> ort::Result<()> {
        let mut inputs = vec![dense(batch)?];
        for &feature in &self.graphs.features {
            inputs.push(integers(&[batch.samples(), 1], signed(batch.bags(feature).ids()))?);
        }
        answer(&mut self.one_hot, &inputs[..], scores)
    }

    fn run_bags(&mut self, batch: &Batch, scores: &mut [f32]) -> ort::Result<()> {
        let mut longest = 0;
        for (&feature, samples) in self.graphs.features.iter().zip(&mut self.samples) {
            let bags = batch.bags(feature);
            samples.clear();
            for bag in 0..bags.len() {
                samples.resize(bags.range(bag).end, bag as i64);
            }
            longest = longest.max(samples.len());
        }
        if self.ones.len() < longest {
            self.ones.resize(longest, 1.0);
        }
        let mut inputs = vec![dense(batch)?];
        for (&feature, samples) in self.graphs.features.iter().zip(&self.samples) {
            let bags = batch.bags(feature);
            let count = bags.ids().len();
            let weights = bags.weights().unwrap_or(&self.ones[..count]);
            inputs.push(integers(&[count], signed(bags.ids()))?);
            inputs.push(integers(&[count], samples)?);
            inputs.push(TensorRef::from_array_view((vec![count], weights))?.into());
        }
        answer(&mut self.bags, &inputs[..], scores)
    }
}

impl Executable for OnnxExecutable {
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        check(&self.graphs.program, batch, scores)?;
        if batch.samples() == 0 {
            return Ok(());
        }
        let result = if batch.is_one_hot() {
            self.run_one_hot(batch, scores)
        } else {
            self.run_bags(batch, scores)
        };
        result.map_err(|error| device(self.backend.kind(), error))
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(Self::new(self.backend.clone(), Arc::clone(&self.graphs))?))
    }

    /// Parameters. ONNX Runtime does not tell how much scratch memory it holds, nor what it packed.
    fn bytes(&self) -> usize {
        self.graphs.program.bytes()
    }
}

impl fmt::Debug for OnnxExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxExecutable").field("backend", &self.backend).finish_non_exhaustive()
    }
}

pub(super) fn device(backend: BackendKind, error: ort::Error) -> BackendError {
    BackendError::Device { backend, source: Box::new(error) }
}

/// Ids as ONNX has them. They lie below 2^40.
pub(super) fn signed(ids: &[u64]) -> &[i64] {
    bytemuck::cast_slice(ids)
}

fn dense(batch: &Batch) -> ort::Result<SessionInputValue<'_>> {
    let shape = [batch.samples(), batch.dense_width()];
    Ok(TensorRef::from_array_view((shape, batch.dense()))?.into())
}

pub(super) fn integers<'a>(
    shape: &[usize],
    values: &'a [i64],
) -> ort::Result<SessionInputValue<'a>> {
    Ok(TensorRef::from_array_view((shape.to_vec(), values))?.into())
}

/// Runs the session and copies its first output, one score per sample.
pub(super) fn answer<'i, 'v: 'i, const N: usize>(
    session: &mut Session,
    inputs: impl Into<SessionInputs<'i, 'v, N>>,
    scores: &mut [f32],
) -> ort::Result<()> {
    let outputs = session.run(inputs)?;
    let (_, values) = outputs[0].try_extract_tensor::<f32>()?;
    if values.len() != scores.len() {
        let message = format!("{} scores came back for {} samples", values.len(), scores.len());
        return Err(ort::Error::new(message));
    }
    scores.copy_from_slice(values);
    Ok(())
}

/// Sparse features that a program reads, in the order in which its graphs declare their inputs: that of the operations.
fn features(program: &Program) -> Vec<usize> {
    let mut features = Vec::new();
    for op in program.ops() {
        let feature = match op {
            Op::BagSum { feature, .. }
            | Op::HashEncode { feature, .. }
            | Op::BagReduce { feature, .. } => *feature,
            _ => continue,
        };
        if !features.contains(&feature) {
            features.push(feature);
        }
    }
    features
}

/// What every session of the backend is opened with: its threads, and the provider first.
pub(super) fn options(backend: &OnnxBackend) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(&backend.library.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        // ort's own default would take an NPU, where a library brings one.
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        .with_intra_threads(usize::from(backend.threads))?
        .with_inter_threads(1)?
        // Threads that spin for work would fight the engine's workers.
        .with_intra_op_spinning(false)?
        // Plans are kept per shape, and every batch of bags has a shape of its own.
        .with_memory_pattern(false)?
        // Without VNNI, products of 8-bit codes would saturate at 16 bits instead of being exact.
        .with_precise_qmm()?;
    provider::register(builder, backend.provider)
}

/// A session of the model, reading its large parameters where they are.
///
/// # Safety
///
/// The elements of the model's parameters must stay where they are, unchanged, as long as the session lives.
unsafe fn session(backend: &OnnxBackend, model: &Model) -> ort::Result<Session> {
    let mut builder = options(backend)?;
    for (name, parameter) in model.large() {
        // SAFETY: as this function asks.
        let value = Arc::new(unsafe { share(parameter) }?);
        builder = builder.with_external_initializer(name, Arc::clone(&value))?;
        // The former alone takes the value for the model's and copies it into the session; this has it read where it is. For
        // other devices it must be copied.
        if backend.provider.is_on_cpu() {
            builder = builder.with_initializer(name, value)?;
        }
    }
    builder.commit_from_memory(&model.encode(Place::Beside("parameters")))
}

/// A parameter as ONNX Runtime sees it, without a copy.
///
/// # Safety
///
/// The elements must stay where they are, unchanged, as long as the value lives.
unsafe fn share(parameter: &Parameter) -> ort::Result<DynValue> {
    use ort::sys::ONNXTensorElementDataType as Type;

    let shape: Vec<i64> = parameter.shape().iter().map(|&length| length as i64).collect();
    let element = match parameter.element() {
        ElementType::F32 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        ElementType::F16 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        ElementType::BF16 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        ElementType::U8 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        ElementType::I8 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        ElementType::I32 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        ElementType::I64 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
    };
    let bytes = parameter.bytes();
    let memory = MemoryInfo::default();
    let mut value = std::ptr::null_mut();
    // SAFETY: the pointers are valid for the call, shape and element type describe `bytes` exactly, and the caller keeps
    // the elements. They are never written: ONNX Runtime takes initializers as constants.
    let status = unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
            shape.as_ptr(),
            shape.len(),
            element,
            &mut value,
        )
    };
    // SAFETY: the status comes from the call above and is read once.
    unsafe { ort::Error::result_from_status(status) }?;
    let value = NonNull::new(value).expect("a call that succeeded made a value");
    // SAFETY: the value was just made and is owned by nobody else. It does not own its elements, so no allocator frees
    // them; the default one is what it asks for.
    Ok(unsafe { DynValue::from_ptr(value, Some(&Allocator::default())) })
}
