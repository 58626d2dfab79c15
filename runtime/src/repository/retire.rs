//! How a version goes: when no request can reach it any more it is drained, then freed.

use std::{
    sync::{
        Arc, MutexGuard, Weak,
        atomic::{Ordering::Acquire, fence},
    },
    time::{Duration, Instant},
};

use super::{
    state::State,
    store::Shared,
    version::{Table, Version},
};

/// How long requests that were read for a version may keep it. As long as a client may take to send a body, twice.
const RELEASE_LIMIT: Duration = Duration::from_secs(60);

/// How often that is looked at, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Publishes the state without `leaving`, which finish what was meant for them, and end on threads of their own.
pub(super) fn begin(
    shared: &Arc<Shared>,
    mut state: MutexGuard<'_, State>,
    name: &str,
    leaving: Vec<Arc<Version>>,
) {
    if let Some(entry) = state.entries.get_mut(name) {
        entry.retiring.extend(leaving.iter().cloned());
    }
    shared.publish(&mut state);
    let tables = state.tables.clone();
    drop(state);
    for version in leaving {
        let (shared, name, tables) = (Arc::clone(shared), name.to_owned(), tables.clone());
        // Taken out again if there is no thread for it.
        let work = Arc::new(std::sync::Mutex::new(Some(version)));
        let body = {
            let work = Arc::clone(&work);
            move || {
                let version = work.lock().ok().and_then(|mut version| version.take());
                if let Some(version) = version {
                    see_off(&shared, &name, version, &tables);
                }
            }
        };
        let spawned = std::thread::Builder::new().name("retire".to_owned()).spawn(body.clone());
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to end a version on; the loader waits for it");
            body();
        }
    }
}

fn see_off(shared: &Shared, name: &str, version: Arc<Version>, tables: &[Weak<Table>]) {
    let released = wait(RELEASE_LIMIT, shared, || is_dead(tables) && version.is_released());
    if !released && !shared.is_stopping() {
        tracing::warn!(
            model = name,
            version = version.model.version,
            "requests still hold on to a version that shall go; it ends without them"
        );
    }
    let drained = version.engine.shutdown(shared.options.drain);
    if drained.refused > 0 {
        tracing::warn!(
            model = name,
            refused = drained.refused,
            "queries did not finish before their version ended"
        );
    }
    let mut state = shared.state();
    state.past.add(&version.engine.stats());
    if let Some(entry) = state.entries.get_mut(name) {
        entry.retiring.retain(|retiring| !Arc::ptr_eq(retiring, &version));
        entry.leaving += 1;
    }
    shared.publish(&mut state);
    let tables = state.tables.clone();
    drop(state);
    // Not on a thread that happens to look something up: unmapping and freeing take long.
    wait(PAUSES.1 * 20, shared, || is_dead(&tables));
    let (bytes, number) = (version.bytes.clone(), version.model.version.clone());
    drop(version);
    let mut state = shared.state();
    state.give_bytes(&bytes);
    if let Some(entry) = state.entries.get_mut(name) {
        entry.leaving -= 1;
    }
    drop(state);
    shared.freed.notify_all();
    tracing::info!(model = name, version = number, "the version is freed");
}

/// Whether nobody looks anything up in one of these tables any more.
fn is_dead(tables: &[Weak<Table>]) -> bool {
    let dead = tables.iter().all(|table| table.strong_count() == 0);
    // What its last reader did before letting go of it, such as taking a model, is seen by who reads on here.
    fence(Acquire);
    dead
}

/// Waits until it holds, at most for `limit` and until the repository stops.
fn wait(limit: Duration, shared: &Shared, holds: impl Fn() -> bool) -> bool {
    let until = Instant::now() + limit;
    let mut pause = PAUSES.0;
    loop {
        if holds() {
            return true;
        }
        if shared.is_stopping() || Instant::now() >= until {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}
