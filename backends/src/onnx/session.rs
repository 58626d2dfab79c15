//! Running graphs: sessions of ONNX Runtime over parameters that stay where they are.

use std::{fmt, path::Path, ptr::NonNull, sync::Arc};

use mprec_representations::{Batch, Op, Program};
use ort::{
    AsPointer as _,
    memory::{Allocator, MemoryInfo},
    session::{
        Session, SessionInputValue,
        builder::{AutoDevicePolicy, GraphOptimizationLevel},
    },
    value::{DynValue, TensorRef},
};

use super::{
    graph::{Form, lower},
    library::Library,
    model::{ElementType, Model, Parameter, Place},
};
use crate::{
    backend::{Backend, Executable, check},
    error::BackendError,
    path::BackendKind,
};

/// Executes programs on ONNX Runtime's CPU provider, on the calling thread.
#[derive(Debug, Clone)]
pub struct OnnxBackend {
    library: Library,
}

impl OnnxBackend {
    /// With the library at this path, or at a well-known name where the system looks for libraries. A process loads one
    /// library and keeps it.
    ///
    /// # Errors
    ///
    /// [`BackendError::Unavailable`] if there is none, it is too old, or another one is loaded already.
    pub fn new(library: Option<&Path>) -> Result<Self, BackendError> {
        Ok(Self { library: Library::open(library)? })
    }

    /// What runs here, for listings.
    pub fn describe(&self) -> String {
        const CPU: &str = "CPUExecutionProvider";
        let mut others = self.library.providers();
        others.retain(|provider| provider != CPU);
        let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        let path = self.library.path.display();
        format!("{CPU} of {path}; other providers in this library, not used: {others}")
    }
}

impl Backend for OnnxBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Onnx
    }

    fn prepare(&self, program: &Program) -> Result<Box<dyn Executable>, BackendError> {
        let names: Vec<String> = (0..program.bounds().len()).map(|at| at.to_string()).collect();
        let graphs = Graphs {
            features: features(program),
            one_hot: lower(program, Form::OneHot, &names)?,
            bags: lower(program, Form::Bags, &names)?,
            program: program.clone(),
        };
        Ok(Box::new(OnnxExecutable::new(self.library.clone(), Arc::new(graphs))?))
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
    library: Library,
    /// Of every id of a feature, the sample.
    samples: Vec<Vec<i64>>,
    /// What ids weigh where nothing is weighted.
    ones: Vec<f32>,
}

impl OnnxExecutable {
    fn new(library: Library, graphs: Arc<Graphs>) -> Result<Self, BackendError> {
        let open = |model: &Model| {
            // SAFETY: the graphs, and with them the parameters, are kept beside the session and dropped after it.
            // Parameters are never written to.
            unsafe { session(&library, model) }.map_err(device)
        };
        let (one_hot, bags) = (open(&graphs.one_hot)?, open(&graphs.bags)?);
        let samples = vec![Vec::new(); graphs.features.len()];
        Ok(Self { one_hot, bags, graphs, library, samples, ones: Vec::new() })
    }

    fn run_one_hot(&mut self, batch: &Batch, scores: &mut [f32]) -> ort::Result<()> {
        let mut inputs = vec![dense(batch)?];
        for &feature in &self.graphs.features {
            inputs.push(integers(&[batch.samples(), 1], signed(batch.bags(feature).ids()))?);
        }
        answer(&mut self.one_hot, &inputs, scores)
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
        answer(&mut self.bags, &inputs, scores)
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
        result.map_err(device)
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(Self::new(self.library.clone(), Arc::clone(&self.graphs))?))
    }

    /// Parameters. ONNX Runtime does not tell how much scratch memory it holds, nor what it packed.
    fn bytes(&self) -> usize {
        self.graphs.program.bytes()
    }
}

impl fmt::Debug for OnnxExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxExecutable")
            .field("library", &self.library.path)
            .finish_non_exhaustive()
    }
}

fn device(error: ort::Error) -> BackendError {
    BackendError::Device { backend: BackendKind::Onnx, source: Box::new(error) }
}

/// Ids as ONNX has them. They lie below 2^40.
fn signed(ids: &[u64]) -> &[i64] {
    bytemuck::cast_slice(ids)
}

fn dense(batch: &Batch) -> ort::Result<SessionInputValue<'_>> {
    let shape = [batch.samples(), batch.dense_width()];
    Ok(TensorRef::from_array_view((shape, batch.dense()))?.into())
}

fn integers<'a>(shape: &[usize], values: &'a [i64]) -> ort::Result<SessionInputValue<'a>> {
    Ok(TensorRef::from_array_view((shape.to_vec(), values))?.into())
}

fn answer(
    session: &mut Session,
    inputs: &[SessionInputValue<'_>],
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

/// A session of the model on one thread, reading its large parameters where they are.
///
/// # Safety
///
/// The elements of the model's parameters must stay where they are, unchanged, as long as the session lives.
unsafe fn session(library: &Library, model: &Model) -> ort::Result<Session> {
    let mut builder = Session::builder(&library.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        // ort's own default would take an NPU, where a library brings one.
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        // The engine has one worker per core; threads of the runtime would fight them.
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        // Plans are kept per shape, and every batch of bags has a shape of its own.
        .with_memory_pattern(false)?
        // Without VNNI, products of 8-bit codes would saturate at 16 bits instead of being exact.
        .with_precise_qmm()?;
    for (name, parameter) in model.large() {
        // SAFETY: as this function asks.
        let value = unsafe { share(parameter) }?;
        builder = builder.with_external_initializer(name, Arc::new(value))?;
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
