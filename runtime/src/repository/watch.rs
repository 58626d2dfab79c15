//! Looks for bundles that changed.
//!
//! A bundle is loaded when it is another than at the last attempt, by its manifest or by the names, sizes and times of its
//! files, and was found the same twice in a row: so one that is being written or copied is left alone as long as it
//! grows from look to look, and what else is wrong, verifying finds. A bundle that cannot be loaded is tried again when it
//! changes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    LoadError,
    loader::{Job, announce, retract},
    stamp::Stamp,
    store::Shared,
};

/// How often the thread looks whether it shall end.
const TICK: Duration = Duration::from_millis(50);

/// Starts the thread. It ends when the repository stops.
pub(super) fn spawn(shared: Arc<Shared>, every: Duration) -> Result<(), LoadError> {
    let work = move || {
        let mut seen = BTreeMap::new();
        let mut next = Instant::now() + every;
        while !shared.is_stopping() {
            if Instant::now() >= next {
                look(&shared, &mut seen);
                next = Instant::now() + every;
            }
            std::thread::sleep(TICK.min(every));
        }
    };
    let spawned = std::thread::Builder::new().name("watch".to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| LoadError::Internal { message: error.to_string() })
}

/// Looks at the bundles of the models that are served. `seen` is what was found the last time.
fn look(shared: &Shared, seen: &mut BTreeMap<String, Stamp>) {
    let served: Vec<_> = {
        let state = shared.state();
        let served =
            state.entries.iter().filter(|(_, entry)| entry.current.is_some() && entry.loading == 0);
        served
            .map(|(name, entry)| (name.clone(), entry.recipe.folder.clone(), entry.tried.clone()))
            .collect()
    };
    for (name, folder, tried) in served {
        // Being written, or gone: what is served is not touched by that.
        let Ok(found) = Stamp::newest(&folder) else {
            seen.remove(&name);
            continue;
        };
        if tried.is_some_and(|tried| tried == found) {
            seen.remove(&name);
            continue;
        }
        let is_stable = seen.get(&name) == Some(&found);
        seen.insert(name.clone(), found);
        if is_stable {
            seen.remove(&name);
            tracing::info!(model = name, "its bundle has changed");
            announce(shared, &name);
            let job = Job::Load { name: name.clone(), done: None, force: false, expected: None };
            if shared.jobs.send(job).is_err() {
                // Too many changes wait: it is found again.
                retract(shared, &name);
            }
        }
    }
}
