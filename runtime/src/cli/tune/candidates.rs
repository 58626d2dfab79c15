//! What may be kept resident: from a profile file, or measured now.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, ensure};
use mprec_backends::BackendKind;
use mprec_representations::Bundle;
use mprec_router::{
    PathProfile, Profiles,
    mapping::{Candidate, batch_limits},
};
use mprec_runtime::{
    config::Declared,
    paths::{Allowance, ResidentPath, bring_up, device},
    profiler::{ProfileFile, ProfileOptions},
};

use super::{
    super::{
        Failure, InputError as _, Output,
        inputs::{check_cache, hot_ids, inputs},
        profile,
    },
    Settings, Source,
};

/// Candidates, and where their figures come from.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) all: Vec<Candidate>,
    /// Model, version, machine, and whether speeds were measured; its paths are not of use.
    pub(super) origin: ProfileFile,
    /// The cache size of a set that does not say itself.
    pub(super) cache_bytes: u64,
}

impl Candidates {
    pub(super) fn gather(settings: &Settings, output: &Output) -> Result<Self, Failure> {
        let (paths, origin) = match &settings.source {
            Source::Profiles { profiles, .. } => {
                let origin = ProfileFile::load(profiles).or_bad_input()?;
                let of = |path: &PathProfile| (path.clone(), None);
                let paths: Vec<_> = origin.paths.paths().iter().map(of).collect();
                (filtered(paths, settings).map_err(Failure::input)?, origin)
            }
            Source::Bundle(folder) => {
                measured(&Bundle::open(folder).or_bad_input()?, settings, output)?
            }
        };
        let sla = settings.load.sla()?;
        let all = paths.into_iter().flat_map(|(path, cache_bytes)| {
            let limits = match path.max_batch {
                // What the profile states was meant.
                Some(limit) => vec![limit],
                None if settings.batch_limits => batch_limits(&path.service, sla),
                None => vec![path.batch_limit()],
            };
            limits.into_iter().map(move |limit| {
                let profile = PathProfile { max_batch: Some(limit), ..path.clone() };
                Candidate { profile, cache_bytes }
            })
        });
        // Of a bundle measured at several sizes, whoever has a cache says which.
        let cache_bytes = if settings.cache_sizes.len() == 1 { settings.cache_sizes[0] } else { 0 };
        Ok(Self { all: all.collect(), origin, cache_bytes })
    }
}

/// A path and the cache that it was measured under, if it has one at all.
type Measured = (PathProfile, Option<u64>);

fn filtered(paths: Vec<Measured>, settings: &Settings) -> anyhow::Result<Vec<Measured>> {
    if settings.paths.is_empty() {
        return Ok(paths);
    }
    let wanted: BTreeSet<String> = settings.paths.iter().map(ToString::to_string).collect();
    for name in &wanted {
        let known = paths.iter().any(|(path, _)| path.name == *name);
        ensure!(known, "the profiles have no path `{name}`");
    }
    Ok(paths.into_iter().filter(|(path, _)| wanted.contains(&path.name)).collect())
}

/// Every path, at every cache size where it has a cache.
fn measured(
    bundle: &Bundle,
    settings: &Settings,
    output: &Output,
) -> Result<(Vec<Measured>, ProfileFile), Failure> {
    let workers = profile::workers(settings.workers);
    let mut found: Vec<Measured> = Vec::new();
    let mut cached: BTreeSet<String> = BTreeSet::new();
    // The largest first: which paths have a cache shows where there may be one.
    for &bytes in settings.cache_sizes.iter().rev() {
        let cache_bytes = usize::try_from(bytes).or_bad_input()?;
        check_cache(cache_bytes).map_err(Failure::input)?;
        let hot = hot_ids(bundle, settings.data.as_deref(), cache_bytes)?;
        let allowance = Allowance { cache_bytes, hot, ..Allowance::default() };
        let mut resident = if settings.paths.is_empty() {
            profile::usable_paths(bundle, &[], &allowance, output)?
        } else {
            bring_up(bundle, &settings.paths, &Declared::default(), &allowance).or_bad_input()?
        };
        let first = found.is_empty();
        let has = |path: &ResidentPath| path.executable.cache().map(|cache| cache.bytes as u64);
        let held: BTreeMap<String, u64> =
            resident.iter().filter_map(|path| Some((path.path.to_string(), has(path)?))).collect();
        cached.extend(held.keys().cloned());
        resident.retain(|path| first || cached.contains(&path.path.to_string()));
        if resident.is_empty() {
            continue;
        }
        let rows = inputs(bundle, settings.data.as_deref(), output)?;
        let budget = profile::budget(None, resident.len());
        let options = ProfileOptions { budget, max_batch: None };
        let profiles = profile::measure_with_bar(&resident, workers, options, rows, output)?;
        for path in profiles.paths() {
            let mut path = path.clone();
            // The figure is that of one worker; the others have caches of their own.
            let others = u64::from(path.lanes - 1);
            path.bytes += others * held.get(&path.name).copied().unwrap_or(0);
            let cache =
                (settings.cache_sizes.len() > 1 && cached.contains(&path.name)).then_some(bytes);
            found.push((path, cache));
        }
    }
    let names: Vec<PathProfile> = {
        let mut seen = BTreeSet::new();
        let one = |(path, _): &Measured| seen.insert(path.name.clone()).then(|| path.clone());
        found.iter().filter_map(one).collect()
    };
    let origin = profile::profile_file(bundle, Profiles::new(names)?);
    Ok((found, origin))
}

/// Budgets by device: a budget may be written under the name of a backend (`torch:cuda:0`) too.
pub(super) fn by_device(
    written: &BTreeMap<String, u64>,
    candidates: &[Candidate],
) -> anyhow::Result<BTreeMap<String, u64>> {
    let devices: BTreeSet<&str> =
        candidates.iter().map(|one| one.profile.device.as_str()).collect();
    let mut budgets = BTreeMap::new();
    for (name, &bytes) in written {
        let known = if devices.contains(name.as_str()) {
            Some(name.clone())
        } else {
            let backend = name.parse::<BackendKind>().ok().map(device);
            backend.filter(|device| devices.contains(device.as_str()))
        };
        let device = known.ok_or_else(|| {
            let known: Vec<&str> = devices.iter().copied().collect();
            anyhow!(
                "there is a budget for `{name}`, but no path runs there; paths run on {}",
                known.join(", ")
            )
        })?;
        if let Some(other) = budgets.insert(device.clone(), bytes) {
            ensure!(other == bytes, "device `{device}` has two budgets, under two names");
        }
    }
    Ok(budgets)
}
