//! Which loads are simulated.

use mprec_router::sim::Sizes;
use serde::Serialize;

use super::setting::{Setting, log_normal};

/// The paper's rate, queries a second.
pub const PAPER_RATE: f64 = 1_000.0;
/// The paper's SLA.
pub const PAPER_SLA_MS: f64 = 10.0;
/// Two capacities that differ by less make one and the same grid.
const DIFFERENT: f64 = 1.25;
/// Sizes with what they are called.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeCase {
    /// In words.
    pub name: String,
    /// What is drawn from.
    pub sizes: Sizes,
    /// Their mean as it is drawn.
    pub mean: f64,
}

/// Loads, SLAs and sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Queries of a trace.
    pub queries: usize,
    /// Seed of traces and of service times.
    pub seed: u64,
    /// Rows of the grid, milliseconds.
    pub slas_ms: Vec<f64>,
    /// Columns of the grid, in capacities.
    pub loads: Vec<f64>,
    /// Sizes of the grid and of the sweep over SLAs.
    pub usual: SizeCase,
    /// The sweep over sizes.
    pub sizes: Vec<SizeCase>,
}

/// A series of loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sweep {
    /// SLA × load in capacities of the most accurate resident path.
    Accurate,
    /// SLA × load in capacities of the path that carries most, where that is another load.
    Cheapest,
    /// SLAs at the paper's rate.
    Sla,
    /// Sizes at the paper's rate and SLA.
    Size,
}

/// One load on one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Place of the setting.
    pub setting: usize,
    /// The series that it belongs to.
    pub sweep: Sweep,
    /// Time from arrival to deadline, milliseconds.
    pub sla_ms: f64,
    /// In capacities, in the two grids.
    pub load: Option<f64>,
    /// Queries a second.
    pub rate: f64,
    /// Queries of the trace.
    pub queries: usize,
    /// Their sizes.
    pub sizes: SizeCase,
}

impl SizeCase {
    fn new(name: String, sizes: Sizes) -> Self {
        const DRAWN: usize = 100_000;
        let mean = sizes.samples(1).take(DRAWN).map(f64::from).sum::<f64>() / DRAWN as f64;
        Self { name, sizes, mean }
    }

    fn log_normal(mean: f64, sigma: f64) -> Self {
        Self::new(format!("log-normal, mean {mean}, σ {sigma}"), log_normal(mean, sigma))
    }
}

impl Plan {
    /// The whole experiment.
    pub fn full(seed: u64) -> Self {
        let shapes = [(32.0, 0.5), (128.0, 0.2), (128.0, 0.5), (128.0, 1.0), (512.0, 0.5)];
        let mut sizes: Vec<SizeCase> =
            shapes.into_iter().map(|(mean, sigma)| SizeCase::log_normal(mean, sigma)).collect();
        sizes.push(SizeCase::new("MLPerf's quantiles, mean 270".to_owned(), Sizes::MlPerf));
        Self {
            queries: 10_000,
            seed,
            slas_ms: vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0],
            loads: vec![0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0],
            usual: SizeCase::log_normal(128.0, 0.5),
            sizes,
        }
    }

    /// Little of everything, in seconds: to see that all works.
    pub fn quick(seed: u64) -> Self {
        let usual = SizeCase::log_normal(128.0, 0.5);
        Self {
            queries: 400,
            seed,
            slas_ms: vec![2.0, 10.0, 50.0],
            loads: vec![0.3, 1.0, 3.0],
            sizes: vec![usual.clone()],
            usual,
        }
    }

    /// Every load on these settings.
    pub fn cells(&self, settings: &[Setting]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (at, setting) in settings.iter().enumerate() {
            let (accurate, cheapest) =
                (setting.accurate.samples_per_s, setting.cheapest.samples_per_s);
            let mut grids = vec![(Sweep::Accurate, accurate)];
            if cheapest > DIFFERENT * accurate {
                grids.push((Sweep::Cheapest, cheapest));
            }
            for (sweep, capacity) in grids {
                for &sla_ms in &self.slas_ms {
                    for &load in &self.loads {
                        let rate = load * capacity / self.usual.mean;
                        cells.push(self.cell(at, sweep, sla_ms, Some(load), rate, &self.usual));
                    }
                }
            }
            for &sla_ms in &self.slas_ms {
                cells.push(self.cell(at, Sweep::Sla, sla_ms, None, PAPER_RATE, &self.usual));
            }
            for sizes in &self.sizes {
                cells.push(self.cell(at, Sweep::Size, PAPER_SLA_MS, None, PAPER_RATE, sizes));
            }
        }
        cells
    }

    fn cell(
        &self,
        setting: usize,
        sweep: Sweep,
        sla_ms: f64,
        load: Option<f64>,
        rate: f64,
        sizes: &SizeCase,
    ) -> Cell {
        let (queries, sizes) = (self.queries, sizes.clone());
        Cell { setting, sweep, sla_ms, load, rate, queries, sizes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_normal_sizes_have_the_mean_that_they_are_called_by() {
        for case in Plan::full(1).sizes.iter().filter(|case| case.name.starts_with("log-normal")) {
            let SizeCase { name, mean, .. } = case;
            let stated: f64 = name.split([' ', ',']).nth(3).unwrap().parse().unwrap();
            // Truncation to whole samples takes half a sample, the clip a little more.
            assert!(*mean < stated && *mean > 0.97 * stated, "{name}: {mean}");
        }
    }
}
