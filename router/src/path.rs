//! Paths: a model variant on a backend, as the router sees it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::latency::ServiceCurve;

/// The most paths one router handles.
pub const MAX_PATHS: usize = 64;
/// The most workers one device may have.
pub const MAX_LANES: u32 = 256;
/// The most bytes in the name of a path, a variant or a device.
pub const MAX_NAME: usize = 128;
/// A batch limit that no profile states is the size beyond which batching saves less than this share of the time
/// per sample.
pub(crate) const BATCHING_GAIN: f64 = 0.02;

/// A path, by its place in [`Profiles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathId(pub u16);

/// Some of the paths of one router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathSet(u64);

impl PathSet {
    /// Every path.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether a path is among them.
    pub fn contains(self, path: PathId) -> bool {
        usize::from(path.0) < MAX_PATHS && (self.0 >> path.0) & 1 == 1
    }

    /// The set whose [`PathSet::bits`] these are.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// One bit per path, that of path 0 the lowest.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl FromIterator<PathId> for PathSet {
    /// # Panics
    ///
    /// If a path is not one of [`MAX_PATHS`].
    fn from_iter<T: IntoIterator<Item = PathId>>(paths: T) -> Self {
        let with = |set: u64, path: PathId| {
            assert!(usize::from(path.0) < MAX_PATHS, "path {} of {MAX_PATHS}", path.0);
            set | (1 << path.0)
        };
        Self(paths.into_iter().fold(0, with))
    }
}

/// A device, by the order in which [`Profiles`] first names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(pub u16);

/// Where a path's accuracy comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QualitySource {
    /// Measured on held-out rows, as recorded in the bundle.
    Measured,
    /// Stated in the configuration, with the place it was taken from. Shown as declared wherever
    /// it is reported.
    Declared(String),
}

impl fmt::Display for QualitySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured => formatter.write_str("measured"),
            Self::Declared(source) => write!(formatter, "declared ({source})"),
        }
    }
}

/// Whether a path can be given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It answers.
    Up,
    /// Its device failed, or it is being brought up or replaced.
    Down,
}

/// A path's measured speed, its memory and its quality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathProfile {
    /// How users write it: `table@cpu`.
    pub name: String,
    /// The model variant: `table`.
    pub variant: String,
    /// The device whose workers run it: `cpu`, `torch:cuda:0`. Paths that name the same device
    /// share its workers.
    pub device: String,
    /// Worker threads of that device; the same in every path on it.
    pub lanes: u32,
    /// Fraction of samples classified correctly, in `[0, 1]`.
    pub accuracy: f64,
    /// Where `accuracy` comes from.
    pub quality_source: QualitySource,
    /// Memory that the path holds while it is resident.
    pub bytes: u64,
    /// The most samples coalesced into one batch; a single larger query still runs whole. Left
    /// out, it is the size beyond which batching saves less than 2 % of the time per sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_batch: Option<u32>,
    /// Service time by batch size, on one worker.
    pub service: ServiceCurve,
}

impl PathProfile {
    /// The most samples in a batch of several queries: what the profile states, or what follows from its curve.
    pub fn batch_limit(&self) -> u32 {
        self.max_batch.unwrap_or_else(|| self.service.efficient_batch(BATCHING_GAIN))
    }
}

/// What makes a set of profiles unusable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// No path at all.
    #[error("there are no paths; profile one or more")]
    Empty,
    /// More than [`MAX_PATHS`].
    #[error("there are {paths} paths; the limit is {MAX_PATHS}")]
    TooManyPaths {
        /// How many there were.
        paths: usize,
    },
    /// A name that is empty, longer than [`MAX_NAME`], or holds control characters.
    #[error(
        "`{field}` of path {index} is empty, holds control characters or is over {MAX_NAME} bytes"
    )]
    Name {
        /// `name`, `variant` or `device`.
        field: &'static str,
        /// Which path, from 0.
        index: usize,
    },
    /// Two paths of one name.
    #[error("path `{path}` appears twice; names are unique")]
    Duplicate {
        /// The name.
        path: String,
    },
    /// An accuracy outside `[0, 1]`.
    #[error("`accuracy` of path `{path}` is {value}; it lies in [0, 1]")]
    Accuracy {
        /// Which path.
        path: String,
        /// What it was.
        value: f64,
    },
    /// No lanes, or more than [`MAX_LANES`].
    #[error("`lanes` of path `{path}` is {lanes}; it lies in 1..={MAX_LANES}")]
    Lanes {
        /// Which path.
        path: String,
        /// What it was.
        lanes: u32,
    },
    /// Two paths disagree about the workers of the device they share.
    #[error(
        "path `{path}` gives device `{device}` {lanes} lanes, another path {other}; a device has one number"
    )]
    LanesDiffer {
        /// The later path.
        path: String,
        /// The device.
        device: String,
        /// What the later path says.
        lanes: u32,
        /// What an earlier path says.
        other: u32,
    },
    /// A batch limit of 0.
    #[error("`max_batch` of path `{path}` is 0; leave it out or give 1 or more")]
    MaxBatch {
        /// Which path.
        path: String,
    },
}

/// A device as the profiles describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProfile {
    /// Its name: `cpu`.
    pub name: String,
    /// Its worker threads.
    pub lanes: u32,
    /// The paths that its workers serve.
    pub paths: Vec<PathId>,
}

/// The paths of one machine, checked against each other.
///
/// Serialises as the plain list of [`PathProfile`]s; reading checks it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<PathProfile>", into = "Vec<PathProfile>")]
pub struct Profiles {
    paths: Vec<PathProfile>,
    devices: Vec<DeviceProfile>,
    device_of: Vec<DeviceId>,
}

impl Profiles {
    /// Checks names, accuracies and lanes, and finds the devices.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] that names the path.
    pub fn new(paths: Vec<PathProfile>) -> Result<Self, ProfileError> {
        if paths.is_empty() {
            return Err(ProfileError::Empty);
        }
        if paths.len() > MAX_PATHS {
            return Err(ProfileError::TooManyPaths { paths: paths.len() });
        }
        let mut devices: Vec<DeviceProfile> = Vec::new();
        let mut device_of = Vec::with_capacity(paths.len());
        for (index, path) in paths.iter().enumerate() {
            check(path, index)?;
            if paths[..index].iter().any(|earlier| earlier.name == path.name) {
                return Err(ProfileError::Duplicate { path: path.name.clone() });
            }
            let known = devices.iter().position(|device| device.name == path.device);
            let at = known.unwrap_or_else(|| {
                let (name, lanes) = (path.device.clone(), path.lanes);
                devices.push(DeviceProfile { name, lanes, paths: Vec::new() });
                devices.len() - 1
            });
            let device = &mut devices[at];
            if device.lanes != path.lanes {
                return Err(ProfileError::LanesDiffer {
                    path: path.name.clone(),
                    device: path.device.clone(),
                    lanes: path.lanes,
                    other: device.lanes,
                });
            }
            // Both casts hold because there are at most MAX_PATHS paths, so as many devices.
            device.paths.push(PathId(index as u16));
            device_of.push(DeviceId(at as u16));
        }
        Ok(Self { paths, devices, device_of })
    }

    /// Every path, in [`PathId`] order.
    pub fn paths(&self) -> &[PathProfile] {
        &self.paths
    }

    /// Every device, in [`DeviceId`] order.
    pub fn devices(&self) -> &[DeviceProfile] {
        &self.devices
    }

    /// Every path's id.
    pub fn ids(&self) -> impl Iterator<Item = PathId> + use<> {
        (0..self.paths.len() as u16).map(PathId)
    }

    /// The profile of a path.
    ///
    /// # Panics
    ///
    /// If `path` is not from these profiles.
    pub fn path(&self, path: PathId) -> &PathProfile {
        &self.paths[usize::from(path.0)]
    }

    /// The device that runs a path.
    ///
    /// # Panics
    ///
    /// If `path` is not from these profiles.
    pub fn device_of(&self, path: PathId) -> DeviceId {
        self.device_of[usize::from(path.0)]
    }

    /// The path called `name`.
    pub fn find(&self, name: &str) -> Option<PathId> {
        self.paths.iter().position(|path| path.name == name).map(|at| PathId(at as u16))
    }

    /// The device called `name`.
    pub fn find_device(&self, name: &str) -> Option<DeviceId> {
        self.devices.iter().position(|device| device.name == name).map(|at| DeviceId(at as u16))
    }
}

impl TryFrom<Vec<PathProfile>> for Profiles {
    type Error = ProfileError;

    fn try_from(paths: Vec<PathProfile>) -> Result<Self, ProfileError> {
        Self::new(paths)
    }
}

impl From<Profiles> for Vec<PathProfile> {
    fn from(profiles: Profiles) -> Self {
        profiles.paths
    }
}

fn check(path: &PathProfile, index: usize) -> Result<(), ProfileError> {
    let names = [("name", &path.name), ("variant", &path.variant), ("device", &path.device)];
    for (field, name) in names {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(ProfileError::Name { field, index });
        }
    }
    let name = || path.name.clone();
    if !(0.0..=1.0).contains(&path.accuracy) {
        return Err(ProfileError::Accuracy { path: name(), value: path.accuracy });
    }
    if !(1..=MAX_LANES).contains(&path.lanes) {
        return Err(ProfileError::Lanes { path: name(), lanes: path.lanes });
    }
    if path.max_batch == Some(0) {
        return Err(ProfileError::MaxBatch { path: name() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str, device: &str, lanes: u32) -> PathProfile {
        PathProfile {
            name: name.into(),
            variant: "table".into(),
            device: device.into(),
            lanes,
            accuracy: 0.79,
            quality_source: QualitySource::Declared("a test".into()),
            bytes: 1,
            max_batch: None,
            service: ServiceCurve::from_medians(&[(1, 10.0)], 1.1, 1.2).unwrap(),
        }
    }

    #[test]
    fn paths_that_name_one_device_share_it() {
        let profiles = Profiles::new(vec![
            path("a@cpu", "cpu", 2),
            path("b@gpu", "gpu", 1),
            path("c@cpu", "cpu", 2),
        ])
        .unwrap();
        assert_eq!(profiles.devices().len(), 2);
        assert_eq!(profiles.devices()[0].paths, [PathId(0), PathId(2)]);
        assert_eq!(profiles.device_of(PathId(1)), DeviceId(1));
        assert_eq!(profiles.find("c@cpu"), Some(PathId(2)));
        assert_eq!(profiles.find("d@cpu"), None);
    }

    #[test]
    fn wrong_sets_are_named() {
        assert_eq!(Profiles::new(vec![]), Err(ProfileError::Empty));
        let twice = vec![path("a", "cpu", 2), path("a", "cpu", 2)];
        assert!(matches!(Profiles::new(twice), Err(ProfileError::Duplicate { .. })));
        let differ = vec![path("a", "cpu", 2), path("b", "cpu", 3)];
        assert!(matches!(Profiles::new(differ), Err(ProfileError::LanesDiffer { .. })));
        assert!(matches!(
            Profiles::new(vec![path("a", "cpu", 0)]),
            Err(ProfileError::Lanes { .. })
        ));
        assert!(matches!(Profiles::new(vec![path("", "cpu", 1)]), Err(ProfileError::Name { .. })));
        let wrong = PathProfile { accuracy: 1.5, ..path("a", "cpu", 1) };
        assert!(matches!(Profiles::new(vec![wrong]), Err(ProfileError::Accuracy { .. })));
        let wrong = PathProfile { max_batch: Some(0), ..path("a", "cpu", 1) };
        assert!(matches!(Profiles::new(vec![wrong]), Err(ProfileError::MaxBatch { .. })));
    }

    #[test]
    fn profiles_survive_json_and_are_checked_on_the_way_in() {
        let profiles = Profiles::new(vec![path("a@cpu", "cpu", 2)]).unwrap();
        let text = serde_json::to_string(&profiles).unwrap();
        assert!(text.contains(r#""quality_source":{"declared":"a test"}"#), "{text}");
        assert_eq!(serde_json::from_str::<Profiles>(&text).unwrap(), profiles);
        let unknown = text.replace("\"bytes\"", "\"byte\"");
        assert!(serde_json::from_str::<Profiles>(&unknown).is_err());
    }
}
