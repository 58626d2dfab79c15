//! Training runs through the public interface, on a small planted model.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, ops::ControlFlow};

use mprec_representations::{
    AnyTensor, Batch, Interaction, OutOfVocabulary, Schema, SparseFeature, Weights,
};
use mprec_trainer::{
    Checkpoints, Examples, ExamplesError, MemoryExamples, Metrics, Recipe, Scorer, Shape,
    TrainError, TrainOptions, TrainedVariant, train,
};

const ROWS: usize = 3_000;

fn schema() -> Schema {
    let sparse = [("item", 300), ("user", 50), ("hour", 4)]
        .map(|(name, cardinality)| SparseFeature { name: name.into(), cardinality });
    Schema::new(vec!["age".into(), "price".into()], sparse.into(), OutOfVocabulary::Zero).unwrap()
}

/// A hash of its argument, spread over `0..1`.
fn noise(of: u64) -> f32 {
    let mixed = (of + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ (mixed >> 32)) >> 40) as f32 / (1 << 24) as f32
}

/// Clicks by a logistic model of the ids and of one dense feature.
fn examples() -> MemoryExamples {
    let (mut dense, mut ids, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..ROWS as u64 {
        let draw = |what: u64| noise(row * 16 + what);
        let item = (draw(0) * draw(0) * 300.0) as i64;
        let user = (draw(1) * 50.0) as i64;
        let age = 20.0 + 60.0 * draw(3);
        let logit = 5.0 * (noise(1_000_000 + item as u64) - 0.5)
            + 4.0 * (noise(2_000_000 + user as u64) - 0.5)
            + (age - 50.0) / 20.0;
        dense.extend([age, 7.0]);
        ids.extend([item, user, (draw(2) * 4.0) as i64]);
        labels.push(f32::from(u8::from(draw(4) < 1.0 / (1.0 + (-logit).exp()))));
    }
    MemoryExamples::new(schema(), dense, ids, labels).unwrap()
}

fn recipe(name: &str) -> Recipe {
    let mut recipe = Recipe::named(name, &schema(), &Shape::small()).unwrap();
    recipe.options = TrainOptions { batch: 64, threads: 2, ..recipe.options };
    recipe
}

fn run(recipe: &Recipe) -> TrainedVariant {
    let mut silent = |_: &_| ControlFlow::Continue(());
    train(&examples(), 0..2_400, &recipe.spec, &recipe.options, None, &mut silent).unwrap()
}

fn bits(weights: &Weights) -> Vec<(String, Vec<u8>)> {
    let bytes = |tensor: &AnyTensor| tensor.as_bytes().to_vec();
    weights.iter().map(|(name, tensor)| (name.to_owned(), bytes(tensor))).collect()
}

fn quality(variant: &TrainedVariant) -> Metrics {
    let scorer = Scorer::new(&schema(), &variant.spec, &variant.weights).unwrap();
    let (logits, labels) = scorer.score(&examples(), 2_400..ROWS).unwrap();
    Metrics::from_logits(&logits, &labels).unwrap()
}

#[test]
fn every_representation_learns_the_planted_model() {
    for name in Recipe::NAMES {
        for interaction in [Interaction::Dot { itself: false }, Interaction::Cat] {
            let shape = Shape { interaction, dhe: (64, vec![64]), ..Shape::small() };
            let mut recipe = Recipe::named(name, &schema(), &shape).unwrap();
            // A DHE's ids share all weights, so that its decoder needs more steps than rows do.
            let computed = ["dhe", "select"].contains(&name);
            recipe.options = TrainOptions {
                batch: 32,
                epochs: if computed { 9 } else { 4 },
                renew_rows: false,
                average_from: Some(0.75),
                ..recipe.options
            };
            let metrics = quality(&run(&recipe));
            assert!(metrics.auc > 0.72, "{name} {interaction:?}: {metrics:?}");
            assert!(metrics.normalised_entropy < 0.95, "{name} {interaction:?}: {metrics:?}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_bits_again_and_another_seed_gives_others() {
    for name in ["table", "hybrid"] {
        let mut recipe = recipe(name);
        let first = bits(&run(&recipe).weights);
        assert_eq!(first, bits(&run(&recipe).weights), "{name}");
        recipe.options.seed += 1;
        assert_ne!(first, bits(&run(&recipe).weights), "{name}");
    }
}

#[test]
fn an_interrupted_run_ends_with_the_bits_of_one_that_was_not() {
    for (name, patience) in [("table", None), ("quotient_remainder", None), ("hybrid", Some(9))] {
        let mut recipe = recipe(name);
        recipe.options.epochs = 3;
        recipe.options.average_from = Some(0.4);
        recipe.options.validation.share = 0.1;
        recipe.options.validation.per_epoch = 2;
        recipe.options.validation.patience = patience;
        let whole = run(&recipe);

        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints { folder: folder.path().join("run"), every: 7 };
        let (examples, spec, options) = (examples(), &recipe.spec, &recipe.options);
        // Stops before and after averaging begins, off and on the rhythm of checkpoints, and at
        // the end of an epoch (34 steps).
        for stop in [5, 34, 49, 90] {
            let mut stopping = |progress: &mprec_trainer::Progress| {
                if progress.step == stop {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let stopped =
                train(&examples, 0..2_400, spec, options, Some(&checkpoints), &mut stopping);
            assert!(
                matches!(stopped, Err(TrainError::Stopped { step, steps: 102 }) if step == stop),
                "{name}: {stopped:?}"
            );
        }
        let mut silent = |_: &_| ControlFlow::Continue(());
        let resumed =
            train(&examples, 0..2_400, spec, options, Some(&checkpoints), &mut silent).unwrap();
        assert_eq!(bits(&whole.weights), bits(&resumed.weights), "{name}");
        assert_eq!(whole.summary.history, resumed.summary.history, "{name}");
        assert_eq!(whole.summary.loss, resumed.summary.loss, "{name}");
        let left = fs::read_dir(&checkpoints.folder).unwrap().count();
        assert_eq!(left, 1, "older checkpoints are removed");
    }
}

#[test]
fn a_checkpoint_of_another_run_or_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints { folder: folder.path().into(), every: 10 };
    let (examples, recipe) = (examples(), recipe("table"));
    let attempt = |options: &TrainOptions, rows| {
        let mut stopping = |_: &_| ControlFlow::Break(());
        train(&examples, rows, &recipe.spec, options, Some(&checkpoints), &mut stopping)
    };
    assert!(matches!(attempt(&recipe.options, 0..2_400), Err(TrainError::Stopped { .. })));

    let other = TrainOptions { seed: 99, ..recipe.options.clone() };
    assert!(matches!(attempt(&other, 0..2_400), Err(TrainError::CheckpointMismatch { .. })));
    let rows = attempt(&recipe.options, 0..2_399);
    assert!(
        matches!(rows, Err(TrainError::CheckpointMismatch { what, .. }) if what.contains("rows"))
    );

    let path = folder.path().join("step-000000001");
    for file in ["tensors.safetensors", "state.json"] {
        let file = path.join(file);
        let whole = fs::read(&file).unwrap();
        for length in [0, 4, 9, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..length]).unwrap();
            let refused = attempt(&recipe.options, 0..2_400);
            assert!(matches!(refused, Err(TrainError::Checkpoint { .. })), "{length}: {refused:?}");
        }
        fs::write(&file, &whole).unwrap();
    }
    // A run that died while it wrote leaves a folder that does not count.
    fs::create_dir(folder.path().join("step-000000777.partial")).unwrap();
    assert!(matches!(attempt(&recipe.options, 0..2_400), Err(TrainError::Stopped { step: 2, .. })));
}

#[test]
fn training_stops_when_validation_no_longer_improves_and_keeps_the_best() {
    let mut recipe = recipe("table");
    recipe.options.epochs = 60;
    recipe.options.renew_rows = false;
    recipe.options.average_from = None;
    recipe.options.rows.learning_rate = 0.3;
    recipe.options.validation.share = 0.2;
    recipe.options.validation.patience = Some(2);
    let variant = run(&recipe);
    assert!(variant.summary.stopped_early);
    let losses: Vec<f64> =
        variant.summary.history.iter().map(|point| point.validation.unwrap().logloss).collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses[losses.len() - 3], best, "the best, then two that were not better");

    let scorer = Scorer::new(&schema(), &variant.spec, &variant.weights).unwrap();
    let (logits, labels) = scorer.score(&examples(), 1_920..2_400).unwrap();
    let kept = Metrics::from_logits(&logits, &labels).unwrap().logloss;
    assert!((kept - best).abs() < 1e-5, "{kept} {best}");
}

#[test]
fn progress_counts_steps_epochs_and_rows() {
    let mut recipe = recipe("hash");
    recipe.options.validation.share = 0.25;
    let mut seen = Vec::new();
    let mut note = |progress: &mprec_trainer::Progress| {
        seen.push((progress.step, progress.epoch, progress.rows, progress.validation.is_some()));
        assert_eq!((progress.steps, progress.epochs), (58, 2));
        ControlFlow::Continue(())
    };
    let examples = examples();
    train(&examples, 0..2_400, &recipe.spec, &recipe.options, None, &mut note).unwrap();
    assert_eq!(seen.len(), 58);
    assert_eq!(seen[0], (1, 1, 64, false));
    // 1,800 rows make 28 whole batches and one of 8.
    assert_eq!(seen[28], (29, 1, 1_800, true));
    assert_eq!(seen[57], (58, 2, 3_600, true));
}

#[test]
fn what_cannot_be_trained_is_refused_before_it_starts() {
    let (examples, recipe) = (examples(), recipe("dhe"));
    let attempt = |recipe: &Recipe, rows| {
        let mut never = |_: &_| panic!("training started");
        train(&examples, rows, &recipe.spec, &recipe.options, None, &mut never)
    };
    let outside = attempt(&recipe, 0..ROWS + 1);
    assert!(matches!(outside, Err(TrainError::Rows { rows: ROWS, .. })));
    assert!(matches!(attempt(&recipe, 5..5), Err(TrainError::Rows { .. })));

    let mut colliding = recipe.clone();
    colliding.options.hashes.prime = 299;
    let refused = attempt(&colliding, 0..100);
    assert!(matches!(refused, Err(TrainError::Prime { largest: 299, .. })), "{refused:?}");

    let mut narrow = recipe.clone();
    narrow.spec.top[0] += 1;
    assert!(matches!(attempt(&narrow, 0..100), Err(TrainError::Model(_))));
}

#[test]
fn a_loss_that_is_no_number_ends_the_run() {
    let mut recipe = recipe("table");
    recipe.options.dense.learning_rate = 1e30;
    let mut silent = |_: &_| ControlFlow::Continue(());
    let diverged = train(&examples(), 0..2_400, &recipe.spec, &recipe.options, None, &mut silent);
    assert!(matches!(diverged, Err(TrainError::Diverged { .. })), "{diverged:?}");
}

/// Claims a schema whose batches it does not give, and labels that are none.
struct Liar(MemoryExamples, Schema, Vec<f32>);

impl Examples for Liar {
    fn schema(&self) -> &Schema {
        &self.1
    }

    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn gather(&self, rows: &[usize]) -> Result<(Batch, Vec<f32>), ExamplesError> {
        let (batch, labels) = self.0.gather(rows)?;
        Ok((batch, if self.2.is_empty() { labels } else { self.2.clone() }))
    }
}

#[test]
fn rows_that_are_not_what_was_promised_are_errors() {
    let attempt = |examples: Liar| {
        let recipe = Recipe::table(examples.schema(), &Shape::small());
        let mut silent = |_: &_| ControlFlow::Continue(());
        let options = TrainOptions { standardise: false, ..recipe.options };
        train(&examples, 0..100, &recipe.spec, &options, None, &mut silent)
    };
    let mut sparse = schema().sparse().to_vec();
    sparse[0].cardinality = 10;
    let other = Schema::new(schema().dense().to_vec(), sparse, OutOfVocabulary::Zero).unwrap();
    assert!(matches!(attempt(Liar(examples(), other, vec![])), Err(TrainError::Model(_))));
    for labels in [vec![1.0], vec![0.5; 100]] {
        let refused = attempt(Liar(examples(), schema(), labels));
        assert!(matches!(refused, Err(TrainError::Examples(_))), "{refused:?}");
    }
}
