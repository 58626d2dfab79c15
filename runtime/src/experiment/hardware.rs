//! The machines of an experiment, from a file that users edit.
//!
//! `runtime/hardware.example.toml` documents every key and is what runs without `--hardware`. A file is checked
//! once, here: holding a [`Hardware`] means that every device exists, and that rates and shares are usable.

use std::{collections::BTreeSet, fs::File, io::Read, path::Path};

use serde::{Deserialize, Serialize};

use super::ExperimentError;

/// The file that documents every key.
const EXAMPLE: &str = include_str!("../../hardware.example.toml");
/// Largest hardware file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most machines, and most devices of one.
const MAX_MACHINES: usize = 16;

/// The device whose table is what the paper compares with.
pub const HOST: &str = "cpu";

/// Devices, and machines made of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// What machines are made of.
    pub devices: Vec<Device>,
    /// What is simulated.
    pub machines: Vec<Machine>,
}

/// A device as its data sheet describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its name in this file.
    pub name: String,
    /// Where peaks, bandwidth and memory come from.
    pub source: String,
    /// Memory bandwidth, 10⁹ bytes a second.
    pub memory_gb_per_s: f64,
    /// Share of it that streams reach, in (0, 1].
    pub stream_efficiency: f64,
    /// Share of it that lines at random places reach, in (0, 1].
    pub random_efficiency: f64,
    /// Peak of 32-bit floats, 10¹² operations a second.
    pub f32_tflops: f64,
    /// Peak of bfloat16, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bf16_tflops: Option<f64>,
    /// Peak of bytes, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8_tops: Option<f64>,
    /// Share of the peak that products reach, in (0, 1].
    pub compute_efficiency: f64,
    /// Which of the peaks products run at.
    pub precision: Products,
    /// Fixed time of a batch, microseconds.
    pub launch_us: f64,
    /// Link to the host in one direction, 10⁹ bytes a second; none where inputs are in the device's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_gb_per_s: Option<f64>,
    /// Memory, 10⁶ bytes.
    pub memory_mb: u64,
    /// Workers, each with an equal share.
    pub workers: u32,
    /// 95th percentile of service times over the median; 1 or more.
    pub p95_over_p50: f64,
    /// 99th percentile over the median; at least the 95th.
    pub p99_over_p50: f64,
}

/// The precision of a device's matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// 32-bit floats.
    F32,
    /// 16-bit brain floats.
    Bf16,
    /// Bytes.
    Int8,
}

/// A machine by its devices and their budgets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `HW-1`.
    pub name: String,
    /// In a few words.
    pub about: String,
    /// Its devices.
    pub devices: Vec<Slot>,
}

/// A device of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// What paths on it are called after the `@`.
    pub name: String,
    /// Which device.
    pub device: String,
    /// Memory for paths, 10⁶ bytes.
    pub budget_mb: u64,
    /// Devices of profile files that stand for this one.
    pub measured_as: Vec<String>,
}

impl Slot {
    /// Memory for paths.
    pub fn budget_bytes(&self) -> u64 {
        self.budget_mb * 1_000_000
    }
}

impl Device {
    /// The peak at this device's precision, operations a second over all workers.
    pub(super) fn peak(&self) -> Option<f64> {
        let tera = match self.precision {
            Products::F32 => Some(self.f32_tflops),
            Products::Bf16 => self.bf16_tflops,
            Products::Int8 => self.int8_tops,
        };
        tera.map(|tera| tera * 1e12)
    }
}

impl Hardware {
    /// The documented example: the paper's three machines as they are recalled.
    ///
    /// # Panics
    ///
    /// Never: a test reads the file.
    pub fn example() -> Self {
        Self::parse(EXAMPLE).expect("the example is valid")
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`], which says what is wrong.
    pub fn load(file: &Path) -> Result<Self, ExperimentError> {
        let fail = |source| ExperimentError::Read { file: file.to_owned(), source };
        let mut text = String::new();
        let handle = File::open(file).map_err(fail)?;
        handle.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(fail)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(wrong("file", &file.display().to_string(), "be at most 1 MiB"));
        }
        Self::parse(&text)
    }

    /// Reads and checks the text of a file.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`], which says what is wrong.
    pub fn parse(text: &str) -> Result<Self, ExperimentError> {
        let hardware: Self = toml::from_str(text).map_err(ExperimentError::HardwareFile)?;
        hardware.check()?;
        Ok(hardware)
    }

    /// The device of a slot.
    ///
    /// # Panics
    ///
    /// If the slot is of other hardware.
    pub fn device(&self, slot: &Slot) -> &Device {
        let named = self.devices.iter().find(|device| device.name == slot.device);
        named.expect("checked when the hardware was read")
    }

    fn check(&self) -> Result<(), ExperimentError> {
        unique("devices", self.devices.iter().map(|device| &device.name))?;
        unique("machines", self.machines.iter().map(|machine| &machine.name))?;
        self.devices.iter().try_for_each(check_device)?;
        if !(1..=MAX_MACHINES).contains(&self.machines.len()) {
            return Err(wrong("machines", &self.machines.len().to_string(), "be 1 to 16"));
        }
        self.machines.iter().try_for_each(|machine| self.check_machine(machine))
    }

    fn check_machine(&self, machine: &Machine) -> Result<(), ExperimentError> {
        let name = &machine.name;
        unique(name, machine.devices.iter().map(|slot| &slot.name))?;
        if machine.devices.len() > MAX_MACHINES {
            return Err(wrong(name, "machines.devices", "be at most 16"));
        }
        if !machine.devices.iter().any(|slot| slot.name == HOST) {
            return Err(wrong(name, "machines.devices", "hold one with the name `cpu`"));
        }
        for slot in &machine.devices {
            let known = self.devices.iter().find(|device| device.name == slot.device);
            let Some(device) = known else {
                return Err(wrong(name, &slot.device, "be the name of one of `devices`"));
            };
            if !(1..=device.memory_mb).contains(&slot.budget_mb) {
                let value = format!("budget_mb = {}", slot.budget_mb);
                return Err(wrong(name, &value, "be above 0 and at most the device's memory_mb"));
            }
        }
        Ok(())
    }
}

fn check_device(device: &Device) -> Result<(), ExperimentError> {
    let positive = [
        ("memory_gb_per_s", Some(device.memory_gb_per_s)),
        ("f32_tflops", Some(device.f32_tflops)),
        ("bf16_tflops", device.bf16_tflops),
        ("int8_tops", device.int8_tops),
        ("link_gb_per_s", device.link_gb_per_s),
    ];
    let shares = [
        ("stream_efficiency", device.stream_efficiency),
        ("random_efficiency", device.random_efficiency),
        ("compute_efficiency", device.compute_efficiency),
    ];
    let fail =
        |key: &str, value: f64, must| Err(wrong(&device.name, &format!("{key} = {value}"), must));
    for (key, value) in positive {
        if let Some(value) = value
            && !(value > 0.0 && value <= 1e9)
        {
            return fail(key, value, "be above 0 and at most 1e9");
        }
    }
    for (key, value) in shares {
        if !(value > 0.0 && value <= 1.0) {
            return fail(key, value, "be a share in (0, 1]");
        }
    }
    if !(0.0..=1e6).contains(&device.launch_us) {
        return fail("launch_us", device.launch_us, "be at least 0 and at most a second");
    }
    if !(1.0..=100.0).contains(&device.p95_over_p50) {
        return fail("p95_over_p50", device.p95_over_p50, "be in [1, 100]");
    }
    if !(device.p95_over_p50..=100.0).contains(&device.p99_over_p50) {
        return fail("p99_over_p50", device.p99_over_p50, "be in [p95_over_p50, 100]");
    }
    if !(1..=mprec_router::MAX_LANES).contains(&device.workers) {
        return fail("workers", device.workers.into(), "be in 1..=256");
    }
    if !(1..=1_000_000_000).contains(&device.memory_mb) {
        return fail("memory_mb", device.memory_mb as f64, "be in 1..=1000000000");
    }
    if device.peak().is_none() {
        let must = "have its peak stated (`bf16_tflops`, `int8_tops`)";
        return Err(wrong(&device.name, "precision", must));
    }
    Ok(())
}

fn unique<'n>(what: &str, names: impl Iterator<Item = &'n String>) -> Result<(), ExperimentError> {
    let mut seen = BTreeSet::new();
    for name in names {
        let usable = (1..=64).contains(&name.len()) && !name.chars().any(char::is_control);
        if !usable || !seen.insert(name) {
            return Err(wrong(what, name, "have names of 1 to 64 bytes that differ"));
        }
    }
    if seen.is_empty() {
        return Err(wrong(what, "nothing", "name one or more"));
    }
    Ok(())
}

fn wrong(of: &str, value: &str, must: &'static str) -> ExperimentError {
    ExperimentError::Hardware { of: of.to_owned(), value: value.to_owned(), must }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_valid_and_has_the_papers_three_machines() {
        let hardware = Hardware::example();
        let names: Vec<_> = hardware.machines.iter().map(|machine| &machine.name).collect();
        assert_eq!(names, ["HW-1", "HW-2", "HW-3"]);
        let budgets = hardware.machines[1].devices.iter().map(Slot::budget_bytes);
        assert_eq!(budgets.collect::<Vec<_>>(), [1_000_000_000, 200_000_000]);
    }

    #[test]
    fn wrong_files_are_refused_with_the_key() {
        for (from, to, expected) in [
            ("memory_gb_per_s = 76.8", "memory_gb_per_s = 0.0", "memory_gb_per_s"),
            ("memory_gb_per_s = 76.8", "memory_gb_per_s = inf", "memory_gb_per_s"),
            ("random_efficiency = 0.25", "random_efficiency = 1.5", "random_efficiency"),
            ("workers = 2", "workers = 0", "workers"),
            ("workers = 2", "wrokers = 2", "wrokers"),
            ("precision = \"f32\"", "precision = \"bf16\"", "bf16_tflops"),
            ("p99_over_p50 = 1.25", "p99_over_p50 = 1.0", "p99_over_p50"),
            ("budget_mb = 200\n", "budget_mb = 32_001\n", "budget_mb"),
            ("device = \"v100-sxm2-32gb\"", "device = \"v1000\"", "v1000"),
            ("name = \"cpu\"", "name = \"host\"", "`cpu`"),
            ("name = \"gpu\"", "name = \"cpu\"", "differ"),
        ] {
            let text = EXAMPLE.replacen(from, to, 1);
            assert_ne!(text, EXAMPLE, "{from}");
            let error = Hardware::parse(&text).unwrap_err();
            let error = format!("{:#}", anyhow::Error::from(error));
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
