//! Whole models, and programs that no model would have.

use mprec_representations::{
    Combination, CrossSpec, DheSpec, Dlrm, DlrmSpec, Interaction, LayerFormat, Precision,
    RepresentationSpec, RowFormat, Transform, op::Activation, quantize,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{Layers, Runner, Tape};
use crate::fixtures;

/// Calls `check` with random choices and numbers of samples.
pub(super) fn random(
    runner: &Runner,
    samples: impl Strategy<Value = usize>,
    check: impl Fn(&mut Tape<'_>, usize) -> Result<(), String>,
) {
    let config = Config { failure_persistence: None, ..Config::with_cases(runner.programs) };
    let choices = prop::collection::vec(any::<u32>(), 0..150);
    TestRunner::new(config)
        .run(&(choices, samples), |(choices, samples)| {
            check(&mut Tape::new(&choices), samples).map_err(TestCaseError::fail)
        })
        .unwrap();
}

/// Choices of a model of vectors of one element, with a batch of weighted bags whose terms cancel in the logit of sample
/// 16: backends were off by 1.8e-5 there, each by its own order of sums.
const CANCELLING: [u32; 47] = [
    2417392808, 2440215878, 948487851, 2646574076, 119967323, 3460821092, 3402690046, 3017431462,
    1662297390, 3721809276, 3977767699, 3023038623, 3398073278, 3272337681, 3990724596, 109116782,
    541770315, 1941928284, 2124476720, 1813823916, 2297925435, 529591903, 2864868044, 1985414873,
    680817841, 1650414283, 3423700381, 3669322376, 102751564, 629732007, 3306382495, 2584559311,
    2780735541, 2776692473, 3351596795, 3728436769, 2100657193, 3441840134, 543403020, 3399088324,
    3917927307, 3465814509, 4221895934, 3676776924, 429340689, 1465680185, 3328858625,
];

pub(super) fn random_variants(runner: &Runner) {
    let check = |tape: &mut Tape<'_>, samples| {
        let schema = tape.schema();
        let program = tape.variant(&schema, LayerFormat::F32);
        let batches = [samples, 3, samples].map(|samples| tape.batch(&schema, samples));
        runner.check(&program, &batches, Layers::Floats)
    };
    check(&mut Tape::new(&CANCELLING), 276).unwrap();
    let samples = prop_oneof![0..4_usize, 0..40_usize, Just(129), 100..300_usize];
    random(runner, samples, check);
}

pub(super) fn random_variants_with_int8_layers(runner: &Runner) {
    random_variants_with(runner, LayerFormat::Int8);
}

pub(super) fn random_variants_with_bf16_layers(runner: &Runner) {
    random_variants_with(runner, LayerFormat::BF16);
}

fn random_variants_with(runner: &Runner, layers: LayerFormat) {
    random(runner, prop_oneof![0..40_usize, Just(129)], |tape, samples| {
        let schema = tape.schema();
        let program = tape.variant(&schema, layers);
        let batches = [samples, 3].map(|samples| tape.batch(&schema, samples));
        runner.check(&program, &batches, Layers::Codes)
    });
}

pub(super) fn tangled_programs(runner: &Runner) {
    random(runner, prop_oneof![0..4_usize, Just(130)], |tape, samples| {
        let schema = tape.schema();
        let program = tape.tangle(&schema);
        let batches = [samples, 3].map(|samples| tape.batch(&schema, samples));
        runner.check(&program, &batches, Layers::Floats)
    });
}

/// Each alone, so that a failure names it.
pub(super) fn every_representation_at_every_precision(runner: &Runner) {
    let dim = 8;
    let schema = fixtures::schema(&[40, 7, 1]);
    let mut gaussian = DheSpec { transform: Transform::Gaussian, ..fixtures::dhe(12, 9, dim) };
    gaussian.normalised = true;
    let mish = DheSpec { activation: Activation::Mish, ..fixtures::dhe(6, 5, dim) };
    let uniform = |combination, dim| RepresentationSpec::QuotientRemainder {
        dim,
        collisions: 4,
        combination,
    };
    let representations = [
        RepresentationSpec::Table { dim },
        RepresentationSpec::Hash { dim, rows: 5 },
        uniform(Combination::Mult, dim),
        uniform(Combination::Add, dim),
        uniform(Combination::Concat, dim / 2),
        RepresentationSpec::Dhe(gaussian),
        RepresentationSpec::Dhe(mish.clone()),
        RepresentationSpec::Hybrid { dim, dhe: mish },
    ];
    let interactions =
        [Interaction::Dot { itself: false }, Interaction::Dot { itself: true }, Interaction::Cat];
    for (at, representation) in representations.iter().enumerate() {
        // Every interaction meets every representation and every precision, if not every pair of both.
        let interaction = interactions[at % 3];
        let mut spec = DlrmSpec::uniform(&schema, representation, interaction, &[8], &[8]);
        if interaction == Interaction::Cat {
            spec.cross = Some(CrossSpec { layers: 2, rank: 3 });
        }
        let weights = fixtures::weights(&schema, &spec, at as u64 + 1);
        for rows in
            [RowFormat::F32, RowFormat::F16, RowFormat::BF16, RowFormat::Int8, RowFormat::Int4]
        {
            for layers in [LayerFormat::F32, LayerFormat::BF16, LayerFormat::Int8] {
                let precision = Precision { rows, layers };
                let (spec, weights) = quantize(&schema, &spec, &weights, precision).unwrap();
                let program = Dlrm::load(&schema, &spec, &weights).unwrap().lower().unwrap();
                // The first choice is the form of the batch: see `Tape::batch`.
                let batches = [0, 1, 2, 3]
                    .map(|form| Tape::new(&[form, 1]).batch(&schema, 5 + form as usize));
                let layers = match layers {
                    LayerFormat::F32 => Layers::Floats,
                    LayerFormat::BF16 | LayerFormat::Int8 => Layers::Codes,
                };
                runner.check(&program, &batches, layers).unwrap_or_else(|error| {
                    panic!("{representation:?}, {interaction:?}, {precision:?}: {error}")
                });
            }
        }
    }
}
