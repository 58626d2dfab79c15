//! What callers rely on beside scores.

use mprec_backends::BackendError;
use mprec_representations::{BatchShape, LayerFormat, Schema};

use super::{Runner, Tape, scores};

pub(super) fn wrong_batches_and_scores_are_refused(runner: &Runner) {
    let mut tape = Tape::new(&[2, 3]);
    let schema = tape.schema();
    let program = tape.variant(&schema, LayerFormat::F32);
    let batch = tape.batch(&schema, 2);
    let other = Schema::criteo(&[5; 26]).unwrap();
    let foreign = BatchShape::new(&other).from_rows(vec![0.0; 26], &[0; 52]).unwrap();
    let mut executable = runner.prepare(&program);
    let mut given = [9.0; 3];
    for room in [3, 1, 0] {
        let error = executable.run(&batch, &mut given[..room]).unwrap_err();
        let expected = matches!(error, BackendError::Scores { got, samples: 2 } if got == room);
        assert!(expected, "{}: {error}", runner.name);
    }
    let error = executable.run(&foreign, &mut given[..2]).unwrap_err();
    assert!(matches!(error, BackendError::Program(_)), "{}: {error}", runner.name);
    assert_eq!(given, [9.0; 3]);
    // It is none the worse for it.
    assert_eq!(scores(&mut *executable, &batch).len(), 2);
}

pub(super) fn another_executable_on_another_thread(runner: &Runner) {
    let mut tape = Tape::new(&[5, 4, 3, 2, 1, 4, 4, 4, 4, 4, 4]);
    let schema = tape.schema();
    let program = tape.variant(&schema, LayerFormat::F32);
    let batch = tape.batch(&schema, 33);
    let mut first = runner.prepare(&program);
    let mut second = first.another().unwrap();
    assert_eq!(first.bytes(), second.bytes(), "{}", runner.name);
    assert!(first.bytes() >= program.bytes(), "{}", runner.name);
    let here = scores(&mut *first, &batch);
    drop((first, program));
    let there =
        std::thread::scope(|scope| scope.spawn(|| scores(&mut *second, &batch)).join().unwrap());
    assert_eq!(here, there, "{}", runner.name);
}

pub(super) fn an_executable_stands_alone(runner: &Runner) {
    for seed in 0..4 {
        let choices: Vec<u32> = (0..60).map(|at| at * 37 + seed).collect();
        let mut tape = Tape::new(&choices);
        let schema = tape.schema();
        let program = tape.variant(&schema, LayerFormat::F32);
        let batch = tape.batch(&schema, 20);
        let expected = program.interpret(&batch).unwrap();
        let mut executable = runner.prepare(&program);
        drop(program);
        // Memory that the program gave back, if it did, holds something else now.
        let other = vec![f32::NAN; 1 << 16];
        for (got, expected) in scores(&mut *executable, &batch).iter().zip(&expected) {
            let off = (got - expected).abs();
            assert!(off <= runner.tolerance.floats, "{}: {got} {expected}", runner.name);
        }
        drop(other);
    }
}
