//! The ONNX Runtime backend, where `MPREC_ONNX_LIBRARY` or the system has its library.

use std::path::PathBuf;

use mprec_backends::{BackendError, onnx::OnnxBackend};
use mprec_tests::{
    require,
    suite::{Runner, Tolerance},
};

fn runners() -> Vec<Runner> {
    let library = std::env::var_os("MPREC_ONNX_LIBRARY").map(PathBuf::from);
    match OnnxBackend::new(library.as_deref()) {
        Ok(backend) => vec![Runner {
            name: "onnx".into(),
            backend: Box::new(backend),
            tolerance: Tolerance::OTHER_ORDER,
            programs: 48,
            exceptions: &[],
        }],
        Err(error) => {
            require::skip("onnx", &error.to_string());
            Vec::new()
        }
    }
}

mprec_tests::conformance!(runners);

#[test]
fn a_library_that_is_not_there_is_unavailable_with_a_remedy() {
    // Whether or not another one is loaded by now.
    let error = OnnxBackend::new(Some("/nonexistent/libonnxruntime.so".as_ref())).unwrap_err();
    assert!(matches!(error, BackendError::Unavailable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("pip download") && text.contains("MPREC_ONNX_LIBRARY"), "{text}");
}
