//! Which ids a cache of vectors should hold: policies against each other on real accesses.
//!
//! `cargo run --release -p mprec-runtime --example cache_policies -- <prepared folder> <bundle> [variant]`
//!
//! Every policy sees all rows in their order, in batches of 128, each id of a feature once per batch, and is judged by
//! the held-out rows at the end. `ours` is the cache of the `cpu` backend itself, which `variant` [default: dhe]
//! consults; `ours, cold` begins with the held-out rows. The others are simulated with as many entries:
//!
//! - `static`: the most frequent ids of the training rows, for ever (MP-Rec's encoder cache);
//! - `lru`: the least recently used of all entries leaves; `lru 8`, `clock 8`: within sets of eight;
//! - `best`: the entry whose next use is farthest leaves, or the newcomer stays out (Belady); no policy does better.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    io::Write,
    path::Path,
};

use mprec_backends::{Backend, CpuBackend, Executable};
use mprec_datasets::{Dataset, Split};
use mprec_representations::{Batch, Bundle};

const BATCH: usize = 128;
const BUDGETS: [usize; 8] =
    [64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20, 8 << 20];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, bundle, rest @ ..] = arguments.as_slice() else {
        return Err("usage: cache_policies <prepared folder> <bundle> [variant]".into());
    };
    let variant = rest.first().map_or("dhe", String::as_str);
    let dataset = Dataset::open(Path::new(folder))?;
    let program = Bundle::open(Path::new(bundle))?.program(variant)?;
    let batches = |split| -> Result<Vec<Batch>, Box<dyn Error>> {
        let parts = dataset.batches(dataset.rows(split), BATCH);
        parts.map(|part| Ok(part?.batch)).collect()
    };
    let (train, held_out) = (batches(Split::Train)?, batches(Split::HeldOut)?);
    let trace: Vec<u64> = train.iter().chain(&held_out).flat_map(keys).collect();
    let judged = train.iter().flat_map(keys).count();

    let mut out = std::io::stdout().lock();
    writeln!(out, "{} accesses, {} of them judged", trace.len(), trace.len() - judged)?;
    writeln!(
        out,
        "| bytes | entries | ours | ours, cold | static | lru | lru 8 | clock 8 | best |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for bytes in BUDGETS {
        let mut executable = CpuBackend::new().with_cache(bytes).prepare(&program)?;
        let entries = executable.cache().ok_or("the variant computes no vectors")?.slots;
        let mut cold = executable.another()?;
        rate(&mut *executable, &train)?;
        let rates = [
            rate(&mut *executable, &held_out)?,
            rate(&mut *cold, &held_out)?,
            fixed(&trace, judged, entries),
            sets(&trace, judged, 1, entries, true),
            sets(&trace, judged, entries / 8, 8, true),
            sets(&trace, judged, entries / 8, 8, false),
            best(&trace, judged, entries),
        ];
        let rates: Vec<String> =
            rates.iter().map(|rate| format!("{:.1} %", 100.0 * rate)).collect();
        writeln!(out, "| {} KiB | {entries} | {} |", bytes >> 10, rates.join(" | "))?;
    }
    Ok(())
}

/// What is looked up: every distinct id of every feature, in the order of its first occurrence.
fn keys(batch: &Batch) -> Vec<u64> {
    let mut seen = std::collections::HashSet::new();
    let features = (0..batch.features()).flat_map(|feature| {
        batch.bags(feature).ids().iter().map(move |id| ((feature as u64) << 40) | id)
    });
    features.filter(|key| seen.insert(*key)).collect()
}

/// Hit rate of an executable's cache over these batches.
fn rate(executable: &mut dyn Executable, batches: &[Batch]) -> Result<f64, Box<dyn Error>> {
    let before = executable.cache().unwrap_or_default();
    for batch in batches {
        executable.run(batch, &mut vec![0.0; batch.samples()])?;
    }
    let after = executable.cache().unwrap_or_default();
    let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
    Ok(hits as f64 / (hits + misses).max(1) as f64)
}

fn fixed(trace: &[u64], judged: usize, entries: usize) -> f64 {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for &key in &trace[..judged] {
        *counts.entry(key).or_default() += 1;
    }
    let mut keys: Vec<_> = counts.into_iter().map(|(key, count)| (count, key)).collect();
    keys.sort_unstable_by(|a, b| b.cmp(a));
    let held: BTreeSet<u64> = keys.iter().take(entries).map(|(_, key)| *key).collect();
    share(trace[judged..].iter().map(|key| held.contains(key)))
}

/// Sets of some ways each, by least recent use or by a clock's hand.
fn sets(trace: &[u64], judged: usize, count: usize, ways: usize, is_lru: bool) -> f64 {
    let mut place: HashMap<u64, usize> = HashMap::new();
    // By set: time of last use and key, in the order of leaving.
    let mut order: Vec<BTreeSet<(usize, u64)>> = vec![BTreeSet::new(); count];
    let mut clocks = vec![(0, vec![(u64::MAX, false); ways]); count];
    let hit = |(now, &key): (usize, &u64)| {
        let set = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize % count;
        if is_lru {
            let last = place.insert(key, now);
            let found = last.is_some_and(|last| order[set].remove(&(last, key)));
            order[set].insert((now, key));
            if order[set].len() > ways {
                order[set].pop_first();
            }
            return found;
        }
        let (hand, entries) = &mut clocks[set];
        if let Some(entry) = entries.iter_mut().find(|(held, _)| *held == key) {
            entry.1 = true;
            return true;
        }
        while std::mem::take(&mut entries[*hand].1) {
            *hand = (*hand + 1) % ways;
        }
        entries[*hand] = (key, false);
        *hand = (*hand + 1) % ways;
        false
    };
    share(trace.iter().enumerate().map(hit).collect::<Vec<_>>().into_iter().skip(judged))
}

/// Belady's choice, newcomers included.
fn best(trace: &[u64], judged: usize, entries: usize) -> f64 {
    let mut next = vec![usize::MAX; trace.len()];
    let mut later: HashMap<u64, usize> = HashMap::new();
    for (at, &key) in trace.iter().enumerate().rev() {
        next[at] = later.insert(key, at).unwrap_or(usize::MAX);
    }
    // Next uses of what is held; an access finds its own time there.
    let mut held: BTreeSet<(usize, u64)> = BTreeSet::new();
    let hit = |(now, &key): (usize, &u64)| {
        let found = held.remove(&(now, key));
        held.insert((next[now], key));
        if held.len() > entries {
            held.pop_last();
        }
        found
    };
    share(trace.iter().enumerate().map(hit).collect::<Vec<_>>().into_iter().skip(judged))
}

fn share(hits: impl ExactSizeIterator<Item = bool>) -> f64 {
    let all = hits.len();
    hits.filter(|hit| *hit).count() as f64 / all.max(1) as f64
}
