//! Prepares click logs, or makes rows up, and says how long each part took.
//!
//! ```text
//! cargo run --release -p mprec-datasets --example prepare -- files LAYOUT OUTPUT FILE…
//! cargo run --release -p mprec-datasets --example prepare -- synthetic ROWS SCALE OUTPUT
//! cargo run --release -p mprec-datasets --example prepare -- lines ROWS SCALE EXPONENT FILE
//! ```
#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::{
    error::Error,
    fs::{self, File},
    hint::black_box,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mprec_datasets::{
    AccessStatistics, Dataset, Layout, PrepareOptions, Progress, Split, Synthetic,
    SyntheticOptions, prepare, prepare_synthetic,
};
use rayon::prelude::*;

/// Rows made at a time.
const PIECE: u64 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let peak = watch_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let start = Instant::now();
    let mut stage = None;
    let tell = move |progress: Progress| {
        if stage.replace(progress.stage) != Some(progress.stage) {
            println!("{:8.2} s  {} …", start.elapsed().as_secs_f64(), progress.stage.name());
        }
    };
    let output: PathBuf = match arguments.as_slice() {
        ["files", layout, output, files @ ..] if !files.is_empty() => {
            let files = files.iter().map(PathBuf::from).collect();
            let mut options = PrepareOptions::new(files, output.into(), Layout::preset(layout)?);
            options.replace = true;
            let report = prepare(&options, tell)?;
            println!("{} lines, {} malformed", report.lines, report.manifest.malformed_lines);
            output.into()
        }
        ["synthetic", rows, scale, output] => {
            let mut options =
                SyntheticOptions::kaggle(rows.parse()?, scale.parse()?, 0, output.into());
            options.replace = true;
            let origin = prepare_synthetic(&options, tell)?.synthetic;
            println!("{origin:#?}");
            output.into()
        }
        ["lines", rows, scale, exponent, file] => {
            let mut options =
                SyntheticOptions::kaggle(rows.parse()?, scale.parse()?, 0, PathBuf::new());
            let exponent = exponent.parse()?;
            options.exponents = (exponent, exponent);
            let data = Synthetic::new(&options)?;
            let mut file = File::create(file)?;
            let starts: Vec<u64> = (0..data.rows()).step_by(PIECE as usize).collect();
            for some in starts.chunks(64) {
                let piece = |start: &u64| {
                    let mut text = Vec::new();
                    let rows = *start..data.rows().min(start + PIECE);
                    data.write_lines(rows, &mut text).map(|()| text)
                };
                for text in some.par_iter().map(piece).collect::<Result<Vec<_>, _>>()? {
                    file.write_all(&text)?;
                }
            }
            return Ok(());
        }
        _ => return Err("see the head of this program for its arguments".into()),
    };
    let took = start.elapsed().as_secs_f64();
    if let Some(peak) = peak() {
        println!("{:8.0} MB of memory at most, mapped files aside", peak as f64 / 1e3);
    }
    let dataset = Dataset::open(&output)?;
    let all = dataset.rows(Split::All);
    println!("{took:8.2} s  {} rows, {:.0} rows/s", all.len(), all.len() as f64 / took);
    for (what, batches) in [
        ("in order", &mut dataset.batches(all.clone(), 128) as &mut dyn Iterator<Item = _>),
        ("shuffled", &mut dataset.shuffled_batches(all.clone(), 128, 1)),
    ] {
        let mut times = Vec::new();
        let mut start = Instant::now();
        for batch in batches.take(20_000) {
            black_box(batch?);
            times.push(start.elapsed());
            start = Instant::now();
        }
        times.sort();
        let median = times[times.len() / 2].as_secs_f64() * 1e6;
        println!("{median:8.2} µs per batch of 128 rows {what}, median");
    }
    let start = Instant::now();
    let access = AccessStatistics::count(&dataset, all, &[128])?;
    println!("{:8.2} s  access statistics", start.elapsed().as_secs_f64());
    for feature in access.features {
        println!(
            "{:>6} {:>9} rows, {:>9} used, top {:?}",
            feature.name,
            feature.cardinality,
            feature.distinct,
            feature.top.iter().map(|top| (top.share * 1000.0).round() / 1000.0).collect::<Vec<_>>()
        );
    }
    Ok(())
}

/// Asks again and again how much memory is in use that no file backs, and returns what tells the
/// most so far, in thousands of bytes. Linux alone says it.
fn watch_memory() -> impl Fn() -> Option<u64> {
    let most = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&most);
    thread::spawn(move || {
        while let Ok(status) = fs::read_to_string("/proc/self/status") {
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            seen.fetch_max(kib.unwrap_or(0) * 1024 / 1000, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        }
    });
    move || Some(most.load(Ordering::Relaxed)).filter(|peak| *peak > 0)
}
