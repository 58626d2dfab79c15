//! Service times from data sheets: a roofline (Williams, Waterman and Patterson, "Roofline: an insightful visual
//! performance model for multicore architectures", CACM 52(4), 2009).
//!
//! A stage takes as long as the slower of its traffic and its arithmetic; stages follow each other:
//!
//! `t(n) = launch + n·link_bytes/link + Σ max((weights + n·stream)/(bandwidth·e_s) + n·random/(bandwidth·e_r),
//! n·operations/(peak·e_c))`
//!
//! with bandwidth and peak of one worker: the device's over its number of workers, since all are busy when it
//! counts. It is a model: caches, small products, clocks and software are in it only through the efficiencies that the
//! hardware file states, and an id that a batch repeats is computed each time, which the CPU backend does not do.
//! Everything computed with it is called modelled.

use mprec_router::{CurveError, ServiceCurve};

use super::{hardware::Device, shape::Work};
use crate::profiler::SIZES;

/// Median service time of a batch on one worker, microseconds.
///
/// # Panics
///
/// If the device states no peak at its precision, which [`Hardware`](super::Hardware) refuses.
pub fn service_us(work: &Work, device: &Device, samples: u32) -> f64 {
    let samples = f64::from(samples);
    let workers = f64::from(device.workers);
    let bandwidth = device.memory_gb_per_s * 1e9 / workers;
    let peak = device.peak().expect("checked when the hardware was read") / workers;
    let link = device.link_gb_per_s.map_or(0.0, |link| samples * work.link_bytes / (link * 1e9));
    let stages: f64 = work
        .stages
        .iter()
        .map(|stage| {
            let streamed = stage.weight_bytes + samples * stage.stream_bytes;
            let traffic = streamed / (bandwidth * device.stream_efficiency)
                + samples * stage.random_bytes / (bandwidth * device.random_efficiency);
            traffic.max(samples * stage.operations / (peak * device.compute_efficiency))
        })
        .sum();
    device.launch_us + 1e6 * (link + stages)
}

/// Service time by batch size, at the sizes that profiles measure.
///
/// # Errors
///
/// [`CurveError`] if a time is zero, or beyond a day.
pub fn curve(work: &Work, device: &Device) -> Result<ServiceCurve, CurveError> {
    let medians: Vec<_> =
        SIZES.into_iter().map(|samples| (samples, service_us(work, device, samples))).collect();
    ServiceCurve::from_medians(&medians, device.p95_over_p50, device.p99_over_p50)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            hardware::{Hardware, Products},
            shape::{DHE, Representation, Stage},
        },
        *,
    };
    use crate::bench::Arch;

    fn device() -> Device {
        Device {
            memory_gb_per_s: 100.0,
            stream_efficiency: 0.5,
            random_efficiency: 0.1,
            f32_tflops: 1.0,
            compute_efficiency: 0.5,
            precision: Products::F32,
            launch_us: 7.0,
            link_gb_per_s: Some(10.0),
            workers: 2,
            ..Hardware::example().devices[0].clone()
        }
    }

    fn stage(weight_bytes: f64, stream: f64, random: f64, operations: f64) -> Stage {
        Stage { name: "a", weight_bytes, stream_bytes: stream, random_bytes: random, operations }
    }

    #[test]
    fn a_batch_takes_the_formulas_time() {
        // A worker streams 25 GB/s, gathers 5 GB/s and computes 250 GFLOP/s.
        let work = Work {
            resident_bytes: 0.0,
            link_bytes: 1_000.0,
            stages: vec![stage(25e3, 250.0, 500.0, 1.0), stage(25e3, 0.0, 0.0, 250e3)],
        };
        // Launch 7, link 10 · 0.1, traffic 1 + 10 · 0.01 + 10 · 0.1, arithmetic 10 · 1.
        let expected = 7.0 + 1.0 + (1.0 + 0.1 + 1.0) + 10.0;
        assert!((service_us(&work, &device(), 10) - expected).abs() < 1e-9);
        // At one sample both stages wait for their weights or rows: 1.11 against 1.
        let expected = 7.0 + 0.1 + 1.11 + 1.0;
        assert!((service_us(&work, &device(), 1) - expected).abs() < 1e-9);
    }

    #[test]
    fn a_table_is_quicker_than_a_dhe_and_a_hybrid_slower_than_both() {
        let hardware = Hardware::example();
        for device in &hardware.devices {
            for arch in [Arch::Kaggle, Arch::Terabyte] {
                let time = |representation| {
                    let work = Work::count(arch, representation, DHE).unwrap();
                    service_us(&work, device, 128)
                };
                let [table, dhe, hybrid] =
                    [Representation::Table, Representation::Dhe, Representation::Hybrid].map(time);
                assert!(table < dhe && dhe < hybrid, "{}: {table} {dhe} {hybrid}", device.name);
            }
        }
    }
}
