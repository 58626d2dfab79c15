//! The reference backend is the interpreter, so nothing may differ.

use mprec_backends::ReferenceBackend;
use mprec_tests::suite::{Runner, Tolerance};

fn runners() -> Vec<Runner> {
    vec![Runner {
        name: "reference".into(),
        backend: Box::new(ReferenceBackend),
        tolerance: Tolerance { floats: 0.0, codes: 0.0 },
        programs: 16,
        exceptions: &[],
    }]
}

mprec_tests::conformance!(runners);
