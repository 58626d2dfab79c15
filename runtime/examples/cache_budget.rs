//! What a cache of vectors saves, by its byte budget, on real rows.
//!
//! `cargo run --release -p mprec-runtime --example cache_budget -- <prepared folder> <bundle> [variant]...`
//!
//! For every variant, and for published DHEs with random weights over the same ids: the time of a batch of 128 held-out
//! rows without a cache, with caches that have seen the training rows, and with every vector stored. A batch's time is
//! the least of seven rounds, each with the caches as they were after the training rows; the median over batches is shown.

use std::{error::Error, io::Write, path::Path, time::Instant};

use mprec_backends::{Backend, CpuBackend, Executable};
use mprec_datasets::{Dataset, Split};
use mprec_representations::{Batch, Bundle, Precision, Program};
use mprec_runtime::bench::Arch;

const BATCH: usize = 128;
const ROUNDS: usize = 7;
const BUDGETS: [usize; 6] = [0, 64 << 10, 256 << 10, 1 << 20, 2 << 20, 8 << 20];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, bundle, variants @ ..] = arguments.as_slice() else {
        return Err("usage: cache_budget <prepared folder> <bundle> [variant]...".into());
    };
    let dataset = Dataset::open(Path::new(folder))?;
    let bundle = Bundle::open(Path::new(bundle))?;
    let batches = |split| -> Result<Vec<Batch>, Box<dyn Error>> {
        let parts = dataset.batches(dataset.rows(split), BATCH);
        parts.map(|part| Ok(part?.batch)).collect()
    };
    let (train, held_out) = (batches(Split::Train)?, batches(Split::HeldOut)?);
    let held_out: Vec<Batch> = held_out.into_iter().filter(|it| it.samples() == BATCH).collect();

    let mut programs: Vec<(String, Program)> = Vec::new();
    for variant in variants {
        programs.push((variant.clone(), bundle.program(variant)?));
    }
    for name in ["dhe-small", "dhe", "table"] {
        let program = Arch::Kaggle.program(dataset.schema(), name, Precision::default());
        let program = program.ok_or("the architectures have these variants")??;
        programs.push((format!("kaggle {name}"), program));
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "| variant | cache | hits | p50 µs | speed-up |\n|---|---|---|---|---|")?;
    for (name, program) in &programs {
        let mut executables = Vec::new();
        for bytes in BUDGETS {
            let mut executable = CpuBackend::new().with_cache(bytes).prepare(program)?;
            if executable.cache().is_some() {
                for batch in &train {
                    executable.run(batch, &mut vec![0.0; batch.samples()])?;
                }
            } else if bytes > 0 {
                // There is nothing to compute per id.
                break;
            }
            executables.push((bytes, executable, vec![f64::INFINITY; held_out.len()], None));
        }
        // Budgets take turns, so that what else the machine does hits all alike.
        for _ in 0..ROUNDS {
            for (_, executable, least, hits) in &mut executables {
                *hits = round(&**executable, &held_out, least)?;
            }
        }
        let mut without = None;
        for (bytes, _, mut least, hits) in executables {
            least.sort_by(f64::total_cmp);
            let p50 = least[least.len() / 2];
            let speed_up = *without.get_or_insert(p50) / p50;
            let hits = hits.map_or("-".into(), |hits: f64| format!("{:.1} %", 100.0 * hits));
            writeln!(out, "| {name} | {} KiB | {hits} | {p50:.0} | {speed_up:.2} |", bytes >> 10)?;
        }
    }
    Ok(())
}

/// Lowers `least`, microseconds by batch, to the times of one more round, and says the cache's hit rate.
fn round(
    executable: &dyn Executable,
    batches: &[Batch],
    least: &mut [f64],
) -> Result<Option<f64>, Box<dyn Error>> {
    let mut executable = executable.another()?;
    let mut scores = vec![0.0; BATCH];
    // The first run brings weights into the processor's caches, and finds few new ids.
    executable.run(&batches[0], &mut scores)?;
    for (batch, least) in batches.iter().zip(least) {
        let start = Instant::now();
        executable.run(batch, &mut scores)?;
        *least = least.min(start.elapsed().as_secs_f64() * 1e6);
    }
    let rate = |hits: u64, misses: u64| hits as f64 / (hits + misses).max(1) as f64;
    Ok(executable.cache().map(|cache| rate(cache.hits, cache.misses)))
}
