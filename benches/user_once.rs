//! One user and many candidates: the plain form beside forms that hold what is the user's once, on the native backend.
//!
//! The Kaggle model (26 sparse features, vectors of 16, nets 13-512-256-64-16 and 512-256-1), its larger tables cut to
//! 100,000 rows. Every other sparse feature is the user's, and in the last form the dense values too. What comes first
//! is not the same query: as many samples, each of a user of its own, to show what the backend makes of ids that repeat. Forms
//! are timed in turn, round by round, because a busy machine changes between one measurement and the next; what is printed is
//! the quickest round of each, and the ratio of the plain form's to it.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{sync::Arc, time::Instant};

use mprec_backends::{Backend as _, CpuBackend, Executable};
use mprec_representations::{
    Activation, BatchShape, DheSpec, Dlrm, DlrmSpec, GroupedBatch, Interaction, LayerFormat,
    Precision, Program, RepresentationSpec, RowFormat, Schema, Sharing, Tensor, Transform, Weights,
    quantize, weights::DType,
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// Criteo Kaggle, cut.
const CARDINALITIES: [u64; 26] = [
    1_460, 583, 100_000, 100_000, 305, 24, 12_517, 633, 3, 93_145, 5_683, 100_000, 3_194, 27,
    14_992, 100_000, 10, 5_652, 2_173, 4, 100_000, 18, 15, 100_000, 105, 100_000,
];
const DENSE: usize = 13;
const DIM: usize = 16;
const ROUNDS: usize = 25;

fn dhe() -> RepresentationSpec {
    RepresentationSpec::Dhe(DheSpec {
        hashes: 1024,
        transform: Transform::Uniform,
        hidden: vec![512, 256],
        dim: DIM,
        activation: Activation::Sigmoid,
        normalised: false,
    })
}

fn program(schema: &Schema, representation: &RepresentationSpec, precision: Precision) -> Program {
    let dot = Interaction::Dot { itself: false };
    let spec = DlrmSpec::uniform(schema, representation, dot, &[512, 256, 64], &[512, 256]);
    let mut random = SmallRng::seed_from_u64(1);
    let mut weights = Weights::new();
    for tensor in spec.tensors(schema) {
        let count = tensor.shape.iter().product();
        match tensor.dtype {
            DType::I64 => {
                let mut below = |bound| random.random_range(1..bound);
                let row = |_| [below(1_000_003), below(1_000_003), 1_000_003, 1_000_000];
                let rows: Vec<i64> = (0..tensor.shape[0]).flat_map(row).collect();
                weights.insert(tensor.name, Tensor::new(&tensor.shape, rows));
            }
            _ => {
                // Outputs of a layer have about the size of its inputs.
                let scale = 1.5 / (*tensor.shape.last().unwrap_or(&1) as f32).sqrt();
                let values = (0..count).map(|_| random.random_range(-scale..scale)).collect();
                weights.insert(tensor.name, Tensor::new(&tensor.shape, values));
            }
        }
    }
    let (spec, weights) =
        quantize(schema, &spec, &weights, precision).expect("the model can be stored so");
    Dlrm::load(schema, &spec, &weights)
        .expect("the weights are the model's")
        .lower()
        .expect("the model is a program")
}

/// Samples of many users; samples of one user: plain, with the user's ids once, with ids and dense values once.
fn forms(schema: &Schema, samples: u32) -> [GroupedBatch; 4] {
    let mut random = SmallRng::seed_from_u64(u64::from(samples));
    let dense: Vec<f32> = (0..DENSE).map(|_| random.random_range(0.0..4.0)).collect();
    let user: Vec<i64> =
        CARDINALITIES.iter().map(|&rows| random.random_range(0..rows as i64)).collect();
    let mut batch = |of_user: &dyn Fn(usize) -> Option<i64>| {
        let mut ids = Vec::new();
        for _ in 0..samples {
            ids.extend(CARDINALITIES.iter().enumerate().map(|(feature, &rows)| {
                of_user(feature).unwrap_or_else(|| random.random_range(0..rows as i64))
            }));
        }
        BatchShape::new(schema)
            .from_rows(dense.repeat(samples as usize), &ids)
            .expect("the ids are the schema's")
    };
    let many = batch(&|_| None);
    let plain = batch(&|feature| feature.is_multiple_of(2).then(|| user[feature]));
    let sparse: Vec<bool> = (0..CARDINALITIES.len()).map(|feature| feature % 2 == 0).collect();
    let [ids, all] = [false, true].map(|dense| {
        let sharing = Arc::new(Sharing::new(&sparse, dense));
        GroupedBatch::of(&plain, sharing, &[samples]).expect("one group of all samples")
    });
    [many.into(), plain.into(), ids, all]
}

/// Milliseconds of a run.
fn time(run: &mut dyn FnMut()) -> f64 {
    let begin = Instant::now();
    run();
    begin.elapsed().as_secs_f64() * 1e3
}

fn measure(name: &str, executable: &mut dyn Executable, schema: &Schema, samples: u32) {
    let forms = forms(schema, samples);
    let mut scores = vec![f32::NAN; samples as usize];
    let mut run = |batch: &GroupedBatch| {
        executable.run_grouped(batch, &mut scores).expect("the batch is the program's");
        scores.clone()
    };
    let expected = run(&forms[1]);
    for form in &forms[2..] {
        for (got, expected) in run(form).iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-5, "{name}: {got}, {expected}");
        }
    }
    // A cheap run is repeated, so that a round takes some milliseconds.
    let once = time(&mut || drop(run(&forms[1])));
    let repeat = (5.0 / once).ceil().clamp(1.0, 100.0) as usize;
    let mut best = [f64::MAX; 4];
    for _ in 0..ROUNDS {
        for (form, best) in forms.iter().zip(&mut best) {
            let round = time(&mut || (0..repeat).for_each(|_| drop(run(form))));
            *best = best.min(round / repeat as f64);
        }
    }
    let [many, plain, ids, all] = best;
    let (ids_ratio, all_ratio) = (plain / ids, plain / all);
    println!(
        "{name:10} n={samples:5}  users of their own {many:8.3} ms  plain {plain:8.3} ms  ids once {ids:8.3} ms \
         ({ids_ratio:.2}x)  ids and dense once {all:8.3} ms ({all_ratio:.2}x)"
    );
}

fn main() {
    let schema = Schema::criteo(&CARDINALITIES).expect("26 cardinalities of at least one");
    let floats = Precision { rows: RowFormat::F32, layers: LayerFormat::F32 };
    let codes = Precision { rows: RowFormat::Int8, layers: LayerFormat::Int8 };
    let table = RepresentationSpec::Table { dim: DIM };
    for (name, representation, precision) in [
        ("table", &table, floats),
        ("table-int8", &table, codes),
        ("dhe", &dhe(), floats),
        ("dhe-int8", &dhe(), Precision { rows: RowFormat::F32, ..codes }),
    ] {
        let program = program(&schema, representation, precision);
        let mut executable =
            CpuBackend::new().prepare(&program).expect("the native backend runs it");
        for samples in [128, 1024] {
            measure(name, &mut *executable, &schema, samples);
        }
    }
}
