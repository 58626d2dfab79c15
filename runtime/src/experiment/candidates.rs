//! The paths that a machine could hold: every representation on every device, with its speed and where that comes from.
//!
//! A device is measured or modelled as a whole: once a profile file speaks for it, representations that the file lacks
//! are not modelled beside it, since a roofline of one processor and times of another do not compare.

use mprec_router::{PathProfile, QualitySource};
use serde::Serialize;

use super::{
    ExperimentError,
    hardware::{Hardware, Machine, Slot},
    quality::Quality,
    roofline,
    shape::{DHE, Representation, Work, resident_bytes},
};
use crate::{bench::Arch, profiler::ProfileFile};

/// How far the memory of a profiled path may be from that of the published model before the report says so.
const SAME_SHAPE: f64 = 0.1;

/// Where service times come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A profile file that says it was measured.
    Measured,
    /// The roofline, or a profile file that says it was modelled.
    Modelled,
}

impl Origin {
    /// In a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Modelled => "modelled",
        }
    }
}

/// A path that could be resident.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// What the router knows of it. Its bytes are the published model's.
    pub profile: PathProfile,
    /// Its representation.
    pub representation: Representation,
    /// Where its service times come from.
    pub speed: Origin,
    /// The same in words.
    pub speed_source: String,
    /// Whether that is a profile file.
    pub profiled: bool,
}

/// Every path that this machine could hold, by device, and what a reader should know about them.
///
/// # Errors
///
/// [`ExperimentError::Curve`] if the hardware file makes a time that is no time.
pub(super) fn candidates(
    hardware: &Hardware,
    machine: &Machine,
    arch: Arch,
    quality: &Quality,
    files: &[ProfileFile],
) -> Result<(Vec<Candidate>, Vec<String>), ExperimentError> {
    let mut candidates = Vec::new();
    let mut notes = Vec::new();
    for slot in &machine.devices {
        match measured(slot, arch, quality, files, &mut notes) {
            Some(measured) => candidates.extend(measured),
            None => candidates.extend(modelled(hardware, slot, arch, quality)?),
        }
    }
    Ok((candidates, notes))
}

/// The paths of the first profiled device that stands for this one, if there is one.
fn measured(
    slot: &Slot,
    arch: Arch,
    quality: &Quality,
    files: &[ProfileFile],
    notes: &mut Vec<String>,
) -> Option<Vec<Candidate>> {
    for device in &slot.measured_as {
        for file in files {
            let paths = file.paths.paths().iter().filter(|path| &path.device == device);
            let known = paths.filter_map(|path| Some((Representation::of(&path.variant)?, path)));
            let mut found: Vec<Candidate> = Vec::new();
            for (representation, path) in known {
                let Some(&accuracy) = quality.accuracy.get(&representation) else { continue };
                let candidate = from_profile(slot, arch, accuracy, representation, path, file);
                if found.iter().any(|other| other.profile.name == candidate.profile.name) {
                    notes.push(format!(
                        "`{}`: a second path of this representation and device, `{}`, is left out",
                        candidate.profile.name, path.name
                    ));
                    continue;
                }
                let published = candidate.profile.bytes as f64;
                if (path.bytes as f64 / published - 1.0).abs() > SAME_SHAPE {
                    notes.push(format!(
                        "`{}` was profiled at {} bytes; the published model takes {published:.0}, which is what budgets \
                         count: its measured times are those of another shape",
                        candidate.profile.name, path.bytes
                    ));
                }
                found.push(candidate);
            }
            if !found.is_empty() {
                let source = quality.router_source();
                found.iter_mut().for_each(|found| found.profile.quality_source = source.clone());
                return Some(found);
            }
        }
    }
    None
}

fn from_profile(
    slot: &Slot,
    arch: Arch,
    accuracy: f64,
    representation: Representation,
    path: &PathProfile,
    file: &ProfileFile,
) -> Candidate {
    let speed = if file.measured { Origin::Measured } else { Origin::Modelled };
    let profile = PathProfile {
        name: format!("{}@{}", representation.variant(), slot.name),
        variant: representation.variant().to_owned(),
        device: slot.name.clone(),
        accuracy,
        bytes: resident_bytes(arch, representation),
        ..path.clone()
    };
    let speed_source = format!(
        "{} as `{}` of model `{}` on {} with {} cores",
        speed.word(),
        path.name,
        file.model,
        file.machine.cpu,
        file.machine.cores
    );
    Candidate { profile, representation, speed, speed_source, profiled: true }
}

fn modelled(
    hardware: &Hardware,
    slot: &Slot,
    arch: Arch,
    quality: &Quality,
) -> Result<Vec<Candidate>, ExperimentError> {
    let device = hardware.device(slot);
    let mut candidates = Vec::new();
    for (&representation, &accuracy) in &quality.accuracy {
        let Some(work) = Work::count(arch, representation, DHE) else { continue };
        let quality_source: QualitySource = quality.router_source();
        let profile = PathProfile {
            name: format!("{}@{}", representation.variant(), slot.name),
            variant: representation.variant().to_owned(),
            device: slot.name.clone(),
            lanes: device.workers,
            accuracy,
            quality_source,
            bytes: resident_bytes(arch, representation),
            max_batch: None,
            service: roofline::curve(&work, device)?,
        };
        candidates.push(Candidate {
            profile,
            representation,
            speed: Origin::Modelled,
            speed_source: format!("roofline of {}", device.source),
            profiled: false,
        });
    }
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use mprec_router::{Profiles, ServiceCurve};

    use super::*;
    use crate::profiler::{Machine as Profiled, PROFILE_FORMAT};

    /// A profile file of these paths, given as `variant@device`.
    fn file(paths: &[&str]) -> ProfileFile {
        let path = |name: &&str| {
            let (variant, device) = name.split_once('@').unwrap();
            PathProfile {
                name: (*name).to_owned(),
                variant: variant.to_owned(),
                device: device.to_owned(),
                lanes: 3,
                accuracy: 0.5,
                quality_source: QualitySource::Measured,
                bytes: 1_000,
                max_batch: Some(77),
                service: ServiceCurve::from_medians(&[(1, 10.0), (128, 99.0)], 1.1, 1.2).unwrap(),
            }
        };
        ProfileFile {
            format: PROFILE_FORMAT,
            machine: Profiled { cpu: "a cpu".into(), cores: 3, memory_bytes: 0 },
            model: "m".into(),
            version: "1".into(),
            measured: true,
            measured_at_unix_seconds: None,
            paths: Profiles::new(paths.iter().map(path).collect()).unwrap(),
        }
    }

    fn find(files: &[ProfileFile], quality: &Quality) -> (Vec<Candidate>, Vec<String>) {
        let hardware = Hardware::example();
        candidates(&hardware, &hardware.machines[0], Arch::Kaggle, quality, files).unwrap()
    }

    fn names(candidates: &[Candidate]) -> Vec<&str> {
        candidates.iter().map(|candidate| candidate.profile.name.as_str()).collect()
    }

    #[test]
    fn without_profiles_everything_is_modelled() {
        let (found, notes) = find(&[], &Quality::declared(Arch::Kaggle));
        let expected = ["table@cpu", "dhe@cpu", "hybrid@cpu", "table@gpu", "dhe@gpu", "hybrid@gpu"];
        assert_eq!(names(&found), expected);
        assert!(found.iter().all(|candidate| candidate.speed == Origin::Modelled));
        assert!(notes.is_empty());
    }

    #[test]
    fn a_measured_device_is_measured_as_a_whole_and_says_what_differs() {
        let files = [file(&["dhe@cpu", "ensemble@cpu", "table-int8@cpu"])];
        let (found, notes) = find(&files, &Quality::declared(Arch::Kaggle));
        assert_eq!(names(&found), ["dhe@cpu", "table@gpu", "dhe@gpu", "hybrid@gpu"]);
        assert_eq!(found[0].speed, Origin::Measured);
        assert_eq!((found[0].profile.lanes, found[0].profile.accuracy), (3, 0.7894));
        assert!(notes[0].contains("another shape"), "{notes:?}");
    }

    #[test]
    fn a_table_in_8_bits_takes_part_where_its_speed_and_its_quality_were_measured() {
        let mut quality = Quality::declared(Arch::Kaggle);
        quality.accuracy.insert(Representation::TableInt8, 0.78);
        let (found, _) = find(&[file(&["table-int8@torch:cuda:0"])], &quality);
        assert_eq!(names(&found), ["table@cpu", "dhe@cpu", "hybrid@cpu", "table-int8@gpu"]);
        // 33.8 million rows of 16 bytes, a scale and an offset.
        let gigabytes = found[3].profile.bytes as f64 / 1e9;
        assert!((gigabytes - 0.812).abs() < 0.002, "{gigabytes}");
    }
}
