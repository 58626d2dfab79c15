//! What the benchmarks share: shapes of real datasets, and the machine they run on.
//!
//! `cargo run --release -p mprec-benches --bin latency` checks the answer of one path against the
//! interpreter and prints its latency as JSON, in the same form as `torch_eager.py` does for PyTorch.

pub mod ids;
pub mod kaggle;
mod machine;

pub use machine::machine;

use mprec_backends::Executable;
use mprec_representations::{Batch, Program};

/// Scores of `batch`.
///
/// # Panics
///
/// If the executable refuses the batch.
pub fn run(executable: &mut dyn Executable, batch: &Batch) -> Vec<f32> {
    let mut scores = vec![f32::NAN; batch.samples()];
    executable.run(batch, &mut scores).expect("the batch is of the program's schema");
    scores
}

/// Panics unless `executable` scores as the interpreter does. At most `samples` samples are
/// compared, because the interpreter is slow.
///
/// # Panics
///
/// If it does not.
pub fn check(program: &Program, executable: &mut dyn Executable, batch: &Batch, samples: usize) {
    let got = run(executable, batch);
    let part = batch.slice(0..batch.samples().min(samples));
    let expected = program.interpret(&part).expect("the batch is of the program's schema");
    for (sample, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let close = (got - expected).abs() <= 1e-5;
        assert!(close, "fast but wrong: sample {sample} scores {got}, expected {expected}");
    }
}
