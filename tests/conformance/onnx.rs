//! The ONNX Runtime backend, where `MPREC_ONNX_LIBRARY` or the system has its library.

use std::path::PathBuf;

use mprec_backends::{Backend as _, BackendError, OnnxProvider, onnx::OnnxBackend};
use mprec_tests::{
    require,
    suite::{Runner, Tolerance},
};

/// ONNX Runtime's own kernels, and every other provider that its library has here.
fn runners() -> Vec<Runner> {
    let library = std::env::var_os("MPREC_ONNX_LIBRARY").map(PathBuf::from);
    let mut runners = Vec::new();
    for provider in OnnxProvider::ALL {
        match OnnxBackend::new(library.as_deref(), provider) {
            Ok(backend) => runners.push(Runner {
                name: backend.kind().to_string(),
                backend: Box::new(backend),
                tolerance: Tolerance::OTHER_ORDER,
                programs: 48,
                exceptions: &[],
            }),
            Err(error) if provider == OnnxProvider::Cpu => {
                require::skip("onnx", &error.to_string());
                break;
            }
            // Libraries are built with one or two of them.
            Err(_) => {}
        }
    }
    runners
}

mprec_tests::conformance!(runners);

#[test]
fn a_library_that_is_not_there_is_unavailable_with_a_remedy() {
    // Whether or not another one is loaded by now.
    let error =
        OnnxBackend::new(Some("/nonexistent/libonnxruntime.so".as_ref()), OnnxProvider::Cpu)
            .unwrap_err();
    assert!(matches!(error, BackendError::Unavailable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("pip download") && text.contains("MPREC_ONNX_LIBRARY"), "{text}");
}
