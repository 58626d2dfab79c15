//! What every backend is held to: the interpreter, over programs and batches of every kind.
//!
//! A backend's tests are one function that makes its [`Runner`]s and [`conformance!`](crate::conformance), which makes
//! a test of every case. A new case reaches all backends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bags;
mod clustered;
mod condition;
mod contract;
mod groups;
mod operations;
mod tape;
mod variants;

use std::cell::LazyCell;

use mprec_backends::{Backend, Executable};
use mprec_representations::{Batch, Program};

pub use groups::grouped;
pub use tape::{Tape, cache_budgets};

/// A backend under test.
#[derive(Debug)]
pub struct Runner {
    /// What failures call it.
    pub name: String,
    /// The backend.
    pub backend: Box<dyn Backend>,
    /// How far scores may be off.
    pub tolerance: Tolerance,
    /// Random programs per case: fewer where preparing takes long.
    pub programs: u32,
    /// Cases that it does not pass.
    pub exceptions: &'static [Exception],
}

/// Largest difference of a score from the interpreter's, beside what rounding alone makes of its inputs.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Of programs whose layers are 32-bit floats.
    pub floats: f32,
    /// Of programs with layers of 8 or 16 bits.
    pub codes: f32,
}

impl Tolerance {
    /// Of backends that agree in integers and in layers of 8 bits, and sum products of floats in another order.
    ///
    /// An 8-bit layer alone gives the same bits everywhere. But its inputs come from sums of floats, and where one of them
    /// lies between two codes, the last bit decides which of them it becomes: one part in 255 of the row's range. Likewise
    /// between two values of 16 bits.
    pub const OTHER_ORDER: Self = Self { floats: 1e-5, codes: 2e-2 };
}

/// A case that a backend does not pass, and why that is accepted.
#[derive(Debug)]
pub struct Exception {
    /// The case.
    pub case: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// The exceptions of a backend without [`Op::PickLargest`](mprec_representations::Op::PickLargest), which it reports when it
/// prepares.
pub const NO_PICK_LARGEST: &[Exception] = &[
    Exception { case: "the_largest_picks_its_row", reason: "`pick_largest` is unsupported" },
    Exception { case: "the_nearest_of_centroids", reason: "`pick_largest` is unsupported" },
];

/// Whether a program has layers of 8 or 16 bits, which decides the tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layers {
    Floats,
    Codes,
}

type Case = fn(&Runner);

/// Every case by name. The macro [`conformance!`](crate::conformance) lists them too; a test compares the lists.
pub const CASES: &[(&str, Case)] = &[
    ("every_operation", operations::every_operation),
    ("rows_of_every_format_by_every_index", operations::rows_of_every_format_by_every_index),
    ("hashes_are_exact", operations::hashes_are_exact),
    ("layers_of_8_bits_are_exact", operations::layers_of_8_bits_are_exact),
    ("the_largest_picks_its_row", clustered::the_largest_picks_its_row),
    ("the_nearest_of_centroids", clustered::the_nearest_of_centroids),
    ("every_representation_at_every_precision", variants::every_representation_at_every_precision),
    ("random_variants", variants::random_variants),
    ("random_variants_with_int8_layers", variants::random_variants_with_int8_layers),
    ("random_variants_with_bf16_layers", variants::random_variants_with_bf16_layers),
    ("tangled_programs", variants::tangled_programs),
    ("batches_of_any_size", bags::batches_of_any_size),
    ("bags_of_any_size", bags::bags_of_any_size),
    ("groups_score_as_their_plain_form", groups::groups_score_as_their_plain_form),
    ("wrong_groups_are_refused", groups::wrong_groups_are_refused),
    ("wrong_batches_and_scores_are_refused", contract::wrong_batches_and_scores_are_refused),
    ("another_executable_on_another_thread", contract::another_executable_on_another_thread),
    ("an_executable_stands_alone", contract::an_executable_stands_alone),
];

/// Runs a case on every runner, but for their exceptions.
///
/// # Panics
///
/// If the case fails or is not known.
#[expect(clippy::print_stderr, reason = "what is not tested must be said")]
pub fn run(case: &str, runners: Vec<Runner>) {
    let (_, body) = CASES.iter().find(|(name, _)| *name == case).expect("the case is listed");
    for runner in runners {
        match runner.exceptions.iter().find(|exception| exception.case == case) {
            Some(exception) => {
                eprintln!("EXCEPTION, {case} on {}: {}", runner.name, exception.reason);
            }
            None => body(&runner),
        }
    }
}

/// Makes a test of every case of the suite, given a function that makes the runners.
#[macro_export]
macro_rules! conformance {
    ($runners:path) => {
        $crate::conformance! { $runners:
            every_operation
            rows_of_every_format_by_every_index
            hashes_are_exact
            layers_of_8_bits_are_exact
            the_largest_picks_its_row
            the_nearest_of_centroids
            every_representation_at_every_precision
            random_variants
            random_variants_with_int8_layers
            random_variants_with_bf16_layers
            tangled_programs
            batches_of_any_size
            bags_of_any_size
            groups_score_as_their_plain_form
            wrong_groups_are_refused
            wrong_batches_and_scores_are_refused
            another_executable_on_another_thread
            an_executable_stands_alone
        }
    };
    ($runners:path: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::suite::run(stringify!($case), $runners());
            }
        )*

        #[test]
        fn no_case_is_left_out() {
            let made = [$(stringify!($case)),*];
            let cases: Vec<&str> = $crate::suite::CASES.iter().map(|(name, _)| *name).collect();
            assert_eq!(made[..], cases);
        }
    };
}

impl Runner {
    fn prepare(&self, program: &Program) -> Box<dyn Executable> {
        self.backend.prepare(program).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Holds one executable to the interpreter over all batches: what an earlier one left behind must not show.
    fn check(&self, program: &Program, batches: &[Batch], layers: Layers) -> Result<(), String> {
        self.check_within(program, batches, self.tolerance_of(layers))
    }

    fn tolerance_of(&self, layers: Layers) -> f32 {
        match layers {
            Layers::Floats => self.tolerance.floats,
            Layers::Codes => self.tolerance.codes,
        }
    }

    fn check_within(
        &self,
        program: &Program,
        batches: &[Batch],
        tolerance: f32,
    ) -> Result<(), String> {
        let mut executable = self.prepare(program);
        for batch in batches {
            let got = scores(&mut *executable, batch);
            self.compare(program, batch, &got, tolerance)?;
        }
        Ok(())
    }

    /// Holds scores to the interpreter.
    fn compare(
        &self,
        program: &Program,
        batch: &Batch,
        got: &[f32],
        tolerance: f32,
    ) -> Result<(), String> {
        let expected = program.interpret(batch).unwrap();
        let rounding = LazyCell::new(|| condition::rounding(program, batch));
        for (sample, (&got, &expected)) in got.iter().zip(&expected).enumerate() {
            let off = |tolerance: f32| {
                let close = (got - expected).abs() <= tolerance;
                let both_nan = got.is_nan() && expected.is_nan();
                !(close || both_nan)
            };
            // Bounded too: a backend that is exact (0) stays so, and a wrong score is still told from a rounded one.
            let widened = || tolerance + rounding[sample].min(100.0 * tolerance).min(1e-3);
            if off(tolerance) && off(widened()) {
                let tolerance = widened();
                return Err(format!(
                    "{}, sample {sample} of {}: {got}, expected {expected} ± {tolerance}",
                    self.name,
                    batch.samples()
                ));
            }
        }
        Ok(())
    }
}

/// Scores of a batch.
///
/// # Panics
///
/// If it cannot be run.
pub fn scores(executable: &mut dyn Executable, batch: &Batch) -> Vec<f32> {
    // Not NaN: what is left unwritten must not pass for a NaN that is expected.
    let mut scores = vec![f32::MAX; batch.samples()];
    executable.run(batch, &mut scores).unwrap();
    scores
}
