//! Execution providers: what ONNX Runtime hands operations to.

use std::{collections::BTreeMap, ffi::CStr, num::NonZeroUsize, ptr, slice};

use ort::{
    AsPointer as _, ep,
    ep::ExecutionProviderDispatch,
    session::{Session, builder::SessionBuilder},
};

use super::{
    graph::Sums,
    model::{ElementType, Length, Model, Place},
};
use crate::path::OnnxProvider;

/// Makes a session record which provider got which operation.
const RECORD_ASSIGNMENT: &str = "session.record_ep_graph_assignment_info";

/// What would help where a provider is missing.
pub(super) const REMEDY: &str = "set `MPREC_ONNX_LIBRARY` to an ONNX Runtime 1.24 or newer that was built with this \
    provider (`onnxruntime-gpu` and `onnxruntime-openvino` on PyPI are such), its own libraries beside it";

/// ONNX Runtime's name of a provider.
pub(super) fn runtime_name(provider: OnnxProvider) -> &'static str {
    match provider {
        OnnxProvider::Cpu => "CPUExecutionProvider",
        OnnxProvider::Cuda => "CUDAExecutionProvider",
        OnnxProvider::TensorRt => "TensorrtExecutionProvider",
        OnnxProvider::MiGraphX => "MIGraphXExecutionProvider",
        OnnxProvider::OpenVino => "OpenVINOExecutionProvider",
        OnnxProvider::Dnnl => "DnnlExecutionProvider",
        OnnxProvider::Xnnpack => "XnnpackExecutionProvider",
        OnnxProvider::CoreMl => "CoreMLExecutionProvider",
        OnnxProvider::Qnn => "QNNExecutionProvider",
    }
}

/// The operation that adds up bags on this provider.
pub(super) fn sums(provider: OnnxProvider) -> Sums {
    match provider {
        // It does not read the other.
        OnnxProvider::OpenVino => Sums::Elements,
        _ => Sums::Rows,
    }
}

/// Has sessions offer their operations to the provider first.
///
/// Providers on the CPU get one thread: the engine has one worker per core. Reduced precision is switched off where
/// a provider would choose it by itself: precision is the variant's to choose.
///
/// # Errors
///
/// ONNX Runtime's, if it cannot load the provider.
pub(super) fn register(
    builder: SessionBuilder,
    provider: OnnxProvider,
) -> ort::Result<SessionBuilder> {
    let dispatch: ExecutionProviderDispatch = match provider {
        // Every session has it, last.
        OnnxProvider::Cpu => return Ok(builder),
        OnnxProvider::Cuda => ep::CUDA::default().with_tf32(false).build(),
        OnnxProvider::TensorRt => ep::TensorRT::default().build(),
        OnnxProvider::MiGraphX => ep::MIGraphX::default().build(),
        OnnxProvider::OpenVino => ep::OpenVINO::default()
            .with_device_type("CPU")
            .with_precision("FP32")
            .with_num_threads(1)
            .build(),
        OnnxProvider::Dnnl => ep::OneDNN::default().build(),
        OnnxProvider::Xnnpack => {
            ep::XNNPACK::default().with_intra_op_num_threads(NonZeroUsize::MIN).build()
        }
        OnnxProvider::CoreMl => ep::CoreML::default().build(),
        OnnxProvider::Qnn => ep::QNN::default().build(),
    };
    Ok(builder
        .with_config_entry(RECORD_ASSIGNMENT, "1")?
        .with_execution_providers([dispatch.error_on_failure()])?)
}

/// Opens a session of next to nothing: whether the provider's own libraries and its device are there.
pub(super) fn probe(builder: SessionBuilder, provider: OnnxProvider) -> ort::Result<()> {
    let mut model = Model::default();
    let shape = [Length::Any("batch".into())];
    let input = model.input("x".into(), ElementType::F32, &shape);
    model.named("Sigmoid", &[&input], &[], "y");
    model.output("y", ElementType::F32, &shape);
    register(builder, provider)?
        .commit_from_memory(&model.encode(Place::Beside("parameters")))
        .map(drop)
}

/// How many operations of a session each provider got, by ONNX Runtime's names. The session must have been made with
/// [`register`].
pub(super) fn assignment(session: &Session) -> ort::Result<BTreeMap<String, usize>> {
    let api = ort::api();
    let (mut parts, mut count) = (ptr::null(), 0);
    // SAFETY: the session is valid and both places are, for the call, which fills them in when it succeeds.
    let status =
        unsafe { (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut parts, &mut count) };
    // SAFETY: the status comes from the call above and is read once.
    unsafe { ort::Error::result_from_status(status) }?;
    let mut operations = BTreeMap::new();
    for &part in array(parts, count) {
        let (mut name, mut nodes, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the part was given by the session, which lives; the place is valid for the call.
        let status = unsafe { (api.EpAssignedSubgraph_GetEpName)(part, &mut name) };
        // SAFETY: as above.
        unsafe { ort::Error::result_from_status(status) }?;
        // SAFETY: as above, for both places.
        let status = unsafe { (api.EpAssignedSubgraph_GetNodes)(part, &mut nodes, &mut length) };
        // SAFETY: as above.
        unsafe { ort::Error::result_from_status(status) }?;
        // SAFETY: a call that succeeded gave a name that ends with a zero byte and lives as long as the session.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        *operations.entry(name).or_default() += length;
    }
    Ok(operations)
}

/// An array that ONNX Runtime owns.
fn array<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if first.is_null() {
        return &[];
    }
    // SAFETY: ONNX Runtime gave the array with its length, and keeps it as long as the session.
    unsafe { slice::from_raw_parts(first, count) }
}
