//! Latency of one variant of the Kaggle model on the cpu backend, one thread, as JSON.
//!
//! `latency VARIANT BATCH [SECONDS] [LEVEL]`: prints the smallest, median and 95th-percentile time
//! per batch in microseconds over different batches in rotation, and the mean processor time, which
//! other programs on the machine disturb less.
#![expect(clippy::print_stdout, reason = "its output is the result")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use mprec_backends::{Backend, CpuBackend, Level};
use mprec_benches::{check, kaggle, machine};
use mprec_representations::{LayerFormat, Precision, RowFormat};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [variant, samples, rest @ ..] = &arguments[..] else {
        return Err("usage: latency VARIANT BATCH [SECONDS] [LEVEL]".into());
    };
    let samples: usize = samples.parse()?;
    let seconds: f64 = rest.first().map_or(Ok(2.0), |text| text.parse())?;
    let backend = match rest.get(1) {
        None => CpuBackend::new(),
        Some(name) => {
            let named = |level: &Level| level.to_string() == *name;
            let level = Level::available().into_iter().find(named).ok_or("no such level here")?;
            CpuBackend::with_level(level)?
        }
    };
    let (variant, precision) = match variant.strip_suffix("-int8") {
        Some(variant) => (variant, Precision { rows: RowFormat::Int8, layers: LayerFormat::Int8 }),
        None => (variant.as_str(), Precision::default()),
    };
    let representation = kaggle::representation(variant)
        .ok_or_else(|| format!("variant `{variant}` is none of {:?}", kaggle::VARIANTS))?;

    let schema = kaggle::schema();
    let program = kaggle::program(&schema, &representation, precision);
    // At least 64 Ki samples, so that rows do not stay in cache by repetition.
    let batches = kaggle::batches(&schema, samples, (65_536 / samples.max(1)).clamp(32, 4096));
    let mut executable = backend.prepare(&program)?;
    check(&program, &mut *executable, &batches[0], 8);

    let mut scores = vec![0.0; samples];
    let mut times = Vec::new();
    let mut at = 0;
    let mut measure = |times: &mut Vec<Duration>, seconds: f64| -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < seconds || times.len() < 12 {
            let before = Instant::now();
            executable.run(&batches[at % batches.len()], &mut scores)?;
            times.push(before.elapsed());
            at += 1;
        }
        Ok(())
    };
    measure(&mut times, seconds * 0.2)?;
    times.clear();
    let before = processor_time()?;
    measure(&mut times, seconds)?;
    let processor = (processor_time()? - before).as_secs_f64() * 1e6 / times.len() as f64;
    times.sort();
    let micros =
        |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let gflops = (program.flops_per_sample() * samples) as f64 / processor / 1e3;
    println!(
        "{{\"path\": \"{variant}@cpu\", \"level\": \"{}\", \"batch\": {samples}, \"min_us\": {:.1}, \
         \"p50_us\": {:.1}, \"p95_us\": {:.1}, \"cpu_us\": {processor:.1}, \"gflops\": {gflops:.1}, \"machine\": \"{}\"}}",
        backend.level(),
        micros(0.0),
        micros(0.5),
        micros(0.95),
        machine(),
    );
    Ok(())
}

/// Time that this thread has had a processor, from its first `schedstat` figure (nanoseconds).
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().ok_or("schedstat is empty")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}
