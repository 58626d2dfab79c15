//! The wgpu backend, where it is compiled in, on the first adapter, software or not: these are tests of correctness.

use mprec_tests::suite::Runner;

/// The adapter as it is, and as if it could bind no more than a few rows of a table at once.
#[cfg(feature = "wgpu")]
fn runners() -> Vec<Runner> {
    use std::error::Error as _;

    use mprec_backends::wgpu::WgpuBackend;
    use mprec_tests::{require, suite::Tolerance};

    let runner = |name: &str, backend| Runner {
        name: name.into(),
        backend: Box::new(backend),
        // Sums have the interpreter's order, but products may be fused with them.
        tolerance: Tolerance::OTHER_ORDER,
        programs: 16,
        exceptions: &[],
    };
    match WgpuBackend::new(Some("0")) {
        Ok(backend) => vec![
            runner("wgpu, split tables", backend.clone().with_binding_limit(64)),
            runner("wgpu", backend),
        ],
        Err(error) => {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            require::skip("wgpu", &format!("{error}: {source}"));
            Vec::new()
        }
    }
}

#[cfg(not(feature = "wgpu"))]
fn runners() -> Vec<Runner> {
    mprec_tests::require::skip("wgpu", "not compiled in; use `--features wgpu`");
    Vec::new()
}

mprec_tests::conformance!(runners);
