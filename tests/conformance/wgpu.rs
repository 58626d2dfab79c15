//! The wgpu backend, where it is compiled in, on the first adapter, software or not: these are tests of correctness.

use mprec_tests::suite::Runner;

/// The first adapter, if there is one.
#[cfg(feature = "wgpu")]
fn backend() -> Option<mprec_backends::wgpu::WgpuBackend> {
    use std::error::Error as _;

    mprec_backends::wgpu::WgpuBackend::new(Some("0"))
        .map_err(|error| {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            mprec_tests::require::skip("wgpu", &format!("{error}: {source}"));
        })
        .ok()
}

/// The adapter as it is, and as if it could bind no more than a few rows of a table, or of what is made of a batch.
#[cfg(feature = "wgpu")]
fn runners() -> Vec<Runner> {
    use mprec_tests::suite::{self, Tolerance};

    let runner = |name: &str, backend| Runner {
        name: name.into(),
        backend: Box::new(backend),
        // Sums have the interpreter's order, but products may be fused with them.
        tolerance: Tolerance::OTHER_ORDER,
        programs: 16,
        exceptions: suite::NO_PICK_LARGEST,
    };
    let Some(backend) = backend() else { return Vec::new() };
    vec![
        runner("wgpu, split tables", backend.clone().with_table_limit(64)),
        runner("wgpu, batches in blocks", backend.clone().with_value_limit(2048)),
        runner("wgpu", backend),
    ]
}

#[cfg(not(feature = "wgpu"))]
fn runners() -> Vec<Runner> {
    mprec_tests::require::skip("wgpu", "not compiled in; use `--features wgpu`");
    Vec::new()
}

mprec_tests::conformance!(runners);

#[cfg(feature = "wgpu")]
mod device {
    use std::time::{Duration, Instant};

    use mprec_backends::{Backend as _, BackendError};
    use mprec_representations::{
        Batch, BatchShape, Dlrm, DlrmSpec, Interaction, Jagged, Program, RepresentationSpec,
    };
    use mprec_tests::{
        fixtures,
        suite::{Tape, scores},
    };

    use super::backend;

    /// A variant of every representation, and a batch of weighted bags.
    fn variant(samples: usize) -> (Program, Batch) {
        let mut tape = Tape::new(&[5, 4, 3, 2, 1, 4, 4, 4, 4, 4, 4]);
        let schema = tape.schema();
        let program = tape.variant(&schema, mprec_representations::LayerFormat::F32);
        let batch = Tape::new(&[3, 1]).batch(&schema, samples);
        (program, batch)
    }

    #[test]
    fn a_batch_in_blocks_has_the_same_scores_in_less_memory() {
        let Some(backend) = backend() else { return };
        let (program, batch) = variant(700);
        let mut whole = backend.prepare(&program).unwrap();
        let mut parts = backend.with_value_limit(1024).prepare(&program).unwrap();
        let before = parts.bytes();
        assert_eq!(whole.bytes(), before);
        // The same bits: blocks change no sum's order.
        assert_eq!(scores(&mut *whole, &batch), scores(&mut *parts, &batch));
        let (whole, parts) = (whole.bytes() - before, parts.bytes() - before);
        assert!(4 * parts < whole, "{parts} bytes beside {whole}");
    }

    /// With 128 MiB to a binding, the codes of 32,768 ids by 1,024 hashes are all that one holds. For a GPU: `--ignored`.
    #[test]
    #[ignore = "half a minute on a software adapter; parts are tested with small limits above"]
    fn a_bag_beyond_what_common_adapters_bind_at_once() {
        let Some(backend) = backend() else { return };
        let schema = fixtures::schema(&[100_000]);
        let dhe = RepresentationSpec::Dhe(fixtures::dhe(1024, 4, 4));
        let spec = DlrmSpec::uniform(&schema, &dhe, Interaction::Cat, &[4], &[4]);
        let weights = fixtures::weights(&schema, &spec, 5);
        let program = Dlrm::load(&schema, &spec, &weights).unwrap().lower().unwrap();
        // One large bag after many small ones: its ids alone are too many.
        let lengths: Vec<u32> = (0..101).map(|at| if at == 100 { 33_000 } else { 2 }).collect();
        let count: u32 = lengths.iter().sum();
        let ids = (0..i64::from(count)).map(|at| at * 7919 % 100_000).collect();
        let jagged = Jagged { ids, lengths, weights: Some(vec![1e-3; count as usize]) };
        let batch = BatchShape::new(&schema).from_jagged(vec![0.5; 202], &jagged).unwrap();
        let got = scores(&mut *backend.prepare(&program).unwrap(), &batch);
        for (got, expected) in got.iter().zip(program.interpret(&batch).unwrap()) {
            assert!((got - expected).abs() <= 1e-4, "{got}, expected {expected}");
        }
    }

    #[test]
    fn kernels_take_some_of_the_batch_and_not_more() {
        let Some(backend) = backend() else { return };
        let (program, batch) = variant(300);
        for backend in [backend.clone().with_value_limit(512), backend] {
            let mut executable = backend.prepare(&program).unwrap();
            let expected = scores(&mut *executable, &batch);
            let mut got = vec![f32::MAX; batch.samples()];
            let started = Instant::now();
            let times = match executable.run_timed(&batch, &mut got) {
                Err(BackendError::NoKernelTimes { reason }) => {
                    return mprec_tests::require::skip("wgpu", reason);
                }
                times => times.unwrap(),
            };
            let wall = started.elapsed();
            assert_eq!(got, expected);
            let total: Duration = times.iter().map(|time| time.time).sum();
            assert!(total > Duration::ZERO && total <= wall, "{total:?} of {wall:?}: {times:?}");
            assert!(times.is_sorted_by(|one, next| one.time >= next.time), "{times:?}");
            let calls = |kernel| times.iter().find(|time| time.kernel == kernel).unwrap().calls;
            for kernel in ["bag_sum", "hash", "linear", "bag_reduce"] {
                assert!(calls(kernel) > 0, "{kernel}: {times:?}");
            }
        }
    }
}
