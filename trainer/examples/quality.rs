//! Trains recipes on a prepared folder with several seeds and judges them, and the ensemble of all
//! of them, on the rows after the training part. This is how the recipes' published figures are
//! made.
//!
//! ```text
//! cargo run --release -p mprec-trainer --example quality -- FOLDER SEEDS THREADS VARIANT…
//! ```
#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::{error::Error, ops::ControlFlow, time::Instant};

use mprec_datasets::{Dataset, Split};
use mprec_trainer::{Metrics, Recipe, Scorer, Shape, TrainOptions, train};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, seeds, threads, variants @ ..] = arguments.as_slice() else {
        return Err("see the head of this program for its arguments".into());
    };
    let (seeds, threads): (u64, usize) = (seeds.parse()?, threads.parse()?);
    let dataset = Dataset::open(folder.as_ref())?;
    let mut metrics = vec![Vec::new(); variants.len() + 1];
    for seed in 1..=seeds {
        let mut sums: Vec<f32> = Vec::new();
        let mut labels = Vec::new();
        for (at, name) in variants.iter().enumerate() {
            let recipe = Recipe::named(name, dataset.schema(), &Shape::default())
                .ok_or_else(|| format!("no recipe for `{name}`; try {:?}", Recipe::NAMES))?;
            let options = TrainOptions { seed, threads, ..recipe.options };
            let start = Instant::now();
            let variant = train(
                &dataset,
                dataset.rows(Split::Train),
                &recipe.spec,
                &options,
                None,
                &mut |_| ControlFlow::Continue(()),
            )?;
            let seconds = start.elapsed().as_secs_f64();
            let scorer = Scorer::new(dataset.schema(), &variant.spec, &variant.weights)?;
            let (logits, truth) = scorer.score(&dataset, dataset.rows(Split::HeldOut))?;
            let judged = Metrics::from_logits(&logits, &truth)?;
            let rate = variant.summary.rows_per_second;
            println!("{name:20} seed {seed}  {seconds:6.1} s  {rate:8.0} rows/s  {judged:?}");
            sums.resize(logits.len(), 0.0);
            for (sum, logit) in sums.iter_mut().zip(logits) {
                *sum += logit / variants.len() as f32;
            }
            metrics[at].push(judged);
            labels = truth;
        }
        metrics[variants.len()].push(Metrics::from_logits(&sums, &labels)?);
    }
    for (name, metrics) in variants.iter().map(String::as_str).chain(["ensemble"]).zip(&metrics) {
        print!("{name:20}");
        type Part = (&'static str, fn(&Metrics) -> f64);
        let parts: [Part; 5] = [
            ("auc", |m| m.auc),
            ("logloss", |m| m.logloss),
            ("accuracy", |m| m.accuracy),
            ("ece", |m| m.ece),
            ("normalised entropy", |m| m.normalised_entropy),
        ];
        for (part, of) in parts {
            let values = metrics.iter().map(of);
            let mean = values.clone().sum::<f64>() / metrics.len() as f64;
            let least = values.clone().fold(f64::INFINITY, f64::min);
            let most = values.fold(f64::NEG_INFINITY, f64::max);
            print!("  {part} {mean:.4} [{least:.4} {most:.4}]");
        }
        println!();
    }
    Ok(())
}
