//! `mprec bench`: latency and throughput of one path, beside the machine's limits.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use mprec_backends::{BackendError, Path, registry};
use mprec_representations::{
    Bundle, LayerFormat, Precision, Program, ResidentRows, RowFormat, Schema,
};
use mprec_runtime::bench::{
    self, Arch, BenchError, Distribution, KernelReport, VARIANTS, batches, kernel_times, measure,
};
use serde::Serialize;

use super::{Failure, InputError as _, Output, Run, inputs::check_cache, output};

/// Batches in rotation hold at least so many samples together: rows do not stay in cache by repetition.
const SAMPLES: usize = 65_536;
/// Most samples of a batch.
const MAX_BATCH: usize = 65_536;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mprec bench --arch kaggle --path table@cpu --batch 128 --precision int8\n  \
    mprec bench --bundle model --path hybrid@cpu --batch 2048 --threads 2\n\n\
    Peak and bandwidth are measured in the same run. The scores are compared with the definition first."
)]
pub(super) struct Bench {
    /// A published architecture with random parameters.
    #[arg(long, value_enum, conflicts_with = "bundle", required_unless_present = "bundle")]
    arch: Option<Shape>,
    /// A bundle's folder, instead of an architecture.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// What runs: a variant of the bundle, or one of table, hash, dhe-small, dhe, hybrid, on a backend.
    #[arg(long, default_value = "table@cpu")]
    path: Path,
    /// Format of rows and weights of an architecture; a bundle's variants have their own.
    #[arg(long, value_enum, default_value_t = Format::F32, conflicts_with = "bundle")]
    precision: Format,
    /// Samples per batch.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Threads, each pinned to a core with an executable of its own.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How ids are distributed.
    #[arg(long, value_enum, default_value_t = Ids::Zipf)]
    dist: Ids,
    /// How long to measure.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Divides the cardinalities of an architecture: whole tables take 2.2 GB (kaggle) or 12.6 GB (terabyte).
    #[arg(long, default_value_t = 1.0, conflicts_with = "bundle")]
    scale_down: f64,
    /// Copy tables to memory of their own first, in large pages where the system grants them.
    #[arg(long)]
    resident_tables: bool,
    /// Memory of each thread's cache of vectors, if the path has a DHE; 0 is none.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    cache: usize,
    /// Tell what each kind of kernel takes of a batch, by the device's clock: for `wgpu`, where the adapter has timestamp
    /// queries.
    #[arg(long)]
    kernel_times: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shape {
    Kaggle,
    Terabyte,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    F32,
    /// Rows and layers in bfloat16.
    Bf16,
    Int8,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ids {
    Zipf,
    Uniform,
}

#[derive(Serialize)]
struct Report {
    path: String,
    batch: usize,
    threads: usize,
    #[serde(flatten)]
    measured: bench::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_times: Option<KernelReport>,
}

impl Bench {
    pub(super) fn run(&self, output: &Output) -> Run {
        self.check().map_err(Failure::input)?;
        output.note("building the model and the batches …");
        let (program, schema) = self.program()?;
        let distribution = match self.dist {
            Ids::Zipf => Distribution::Zipf,
            Ids::Uniform => Distribution::Uniform,
        };
        let program = if self.resident_tables {
            let copied = ResidentRows::new().program(&program);
            drop(program);
            copied.context("no memory for a copy of the tables")?
        } else {
            program
        };
        let count = (SAMPLES / self.batch).clamp(16, 4096);
        let batches = batches(&schema, distribution, self.batch, count);
        let resources = registry::Resources { cache_bytes: self.cache, ..Default::default() };
        let backend = registry::open_with(self.path.backend(), resources).or_bad_input()?;
        let kernel_times = self
            .kernel_times
            .then(|| kernel_times(&program, &*backend, &batches))
            .transpose()
            .map_err(|error| match error {
                BackendError::NoKernelTimes { .. } => Failure::input(error),
                other => other.into(),
            })?;
        let measured = measure(&program, &*backend, &batches, self.threads, self.seconds);
        let measured = measured.map_err(|error| match error {
            BenchError::Backend(BackendError::CacheTooSmall { .. }) => Failure::input(error),
            other => other.into(),
        })?;
        let report = Report {
            path: self.path.to_string(),
            batch: self.batch,
            threads: self.threads,
            measured,
            kernel_times,
        };
        output.result(&report, || text(&report))
    }

    fn check(&self) -> anyhow::Result<()> {
        check_cache(self.cache)?;
        anyhow::ensure!((1..=MAX_BATCH).contains(&self.batch), "--batch must be 1 to {MAX_BATCH}");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        anyhow::ensure!(
            (1..=cores).contains(&self.threads),
            "--threads must be 1 to {cores}, the cores of this machine"
        );
        anyhow::ensure!((0.01..=600.0).contains(&self.seconds), "--seconds must be 0.01 to 600");
        anyhow::ensure!(
            (1.0..=1e6).contains(&self.scale_down),
            "--scale-down must be 1 to 1000000"
        );
        Ok(())
    }

    fn program(&self) -> Result<(Program, Schema), Failure> {
        let variant = self.path.variant();
        if let Some(folder) = &self.bundle {
            let bundle = Bundle::open(folder).or_bad_input()?;
            let schema = bundle.manifest().schema.clone();
            return Ok((bundle.program(variant).or_bad_input()?, schema));
        }
        let arch = match self.arch {
            Some(Shape::Terabyte) => Arch::Terabyte,
            _ => Arch::Kaggle,
        };
        let precision = match self.precision {
            Format::F32 => Precision::default(),
            Format::Bf16 => Precision { rows: RowFormat::BF16, layers: LayerFormat::BF16 },
            Format::Int8 => Precision { rows: RowFormat::Int8, layers: LayerFormat::Int8 },
        };
        let schema = arch.schema(self.scale_down);
        let program = arch.program(&schema, variant, precision).ok_or_else(|| {
            Failure::input(anyhow::anyhow!("`{variant}` is none of {}", VARIANTS.join(", ")))
        })?;
        Ok((program?, schema))
    }
}

fn text(report: &Report) -> String {
    let Report { path, batch, threads, measured, kernel_times } = report;
    let bench::Report { min_us, p50_us, p99_us, samples_per_second, .. } = measured;
    let peak = match (measured.fraction_of_peak, measured.peak_gflops) {
        (Some(fraction), Some(peak)) => {
            format!("{:.0} % of the {peak:.0} that a core can do", 100.0 * fraction)
        }
        _ => "the peak of this machine is not known".to_owned(),
    };
    format!(
        "{path}, batch {batch}, {threads} thread{}, {} runs\n{}\n{:.1} G operations/s: {peak}\n\
         one core reads {:.1} GB/s from memory; the path takes {}{}{}",
        if *threads == 1 { "" } else { "s" },
        measured.runs,
        output::table(
            ["min µs", "p50 µs", "p99 µs", "samples/s"],
            [[
                format!("{min_us:.1}"),
                format!("{p50_us:.1}"),
                format!("{p99_us:.1}"),
                format!("{samples_per_second:.0}")
            ]]
        ),
        measured.gflops,
        measured.read_gbytes_per_second,
        output::bytes(measured.bytes as u64),
        measured.cache_hit_rate.map_or(String::new(), |rate| {
            format!("\nits cache held {:.1} % of the distinct ids asked for", 100.0 * rate)
        }),
        kernel_times.as_ref().map_or(String::new(), kernels),
    )
}

fn kernels(report: &KernelReport) -> String {
    let total: f64 = report.kernels.iter().map(|share| share.us).sum();
    let row = |kernel: &str, calls: String, us: f64| {
        let share = format!("{:.0} %", 100.0 * us / report.batch_us);
        [kernel.to_owned(), calls, format!("{us:.1}"), share]
    };
    let shares = report.kernels.iter();
    let rows = shares.map(|share| row(share.kernel, format!("{:.0}", share.calls), share.us));
    let rest = row("the rest", String::new(), report.batch_us - total);
    format!(
        "\nkernels by the device's clock, in batches of {:.1} µs with it\n{}",
        report.batch_us,
        output::table(["kernel", "calls", "µs", "share"], rows.chain([rest]))
    )
}
