//! From what is served to what a configuration says.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Instant,
};

use mprec_representations::bundle::Bundle;

use super::{
    Recipe,
    loader::{RETIRING_LIMIT, announce, load, retract, unload},
    stamp::Stamp,
    state::Entry,
    store::Shared,
};

/// Unloads what is not among the recipes any more, and loads what is new or changed among them. Where one of them
/// cannot be told apart by its name, nothing is done.
pub(super) fn reconcile(shared: &Arc<Shared>, recipes: Vec<Recipe>) {
    let mut wanted = BTreeMap::new();
    for recipe in recipes {
        let Some(name) = name_of(shared, &recipe) else {
            let folder = recipe.folder.display();
            tracing::error!(%folder, "a model has no name: set `model.name`; models stay as they are");
            return;
        };
        // Outside the lock: disks may take their time.
        let newest = Stamp::newest(&recipe.folder).ok();
        wanted.insert(name, (recipe, newest));
    }
    let unwanted: Vec<String> = {
        let mut state = shared.state();
        let gone = state
            .entries
            .iter_mut()
            .filter(|(name, entry)| entry.is_configured && !wanted.contains_key(*name));
        let mut names = Vec::new();
        for (name, entry) in gone {
            entry.is_configured = false;
            if entry.current.is_some() {
                names.push(name.clone());
            }
        }
        names
    };
    // First, because what is loaded may need their memory.
    for name in &unwanted {
        unload(shared, name);
    }
    await_freed(shared, &unwanted);
    for (name, (recipe, newest)) in wanted {
        if !take_over(shared, &name, recipe, newest) {
            continue;
        }
        announce(shared, &name);
        // A failure is logged and stays in the index.
        let _ = load(shared, &name, true, None);
        retract(shared, &name);
    }
}

/// The name that a recipe's model has in URLs.
fn name_of(shared: &Shared, recipe: &Recipe) -> Option<String> {
    if recipe.name.is_some() {
        return recipe.name.clone();
    }
    let state = shared.state();
    let mut entries = state.entries.iter();
    // It is called what its first bundle was.
    let known = entries.find(|(_, entry)| {
        entry.is_configured && entry.recipe.name.is_none() && entry.recipe.folder == recipe.folder
    });
    if let Some((name, _)) = known {
        return Some(name.clone());
    }
    drop(state);
    let bundle = Bundle::open(&Stamp::newest(&recipe.folder).ok()?.folder).ok()?;
    Some(bundle.manifest().model.clone())
}

/// Makes it how the model is served from now on; returns whether its newest bundle has to be loaded for that.
fn take_over(shared: &Shared, name: &str, recipe: Recipe, newest: Option<Stamp>) -> bool {
    let mut state = shared.state();
    let Some(entry) = state.entries.get_mut(name) else {
        state.entries.insert(name.to_owned(), Entry::new(recipe, true));
        return true;
    };
    entry.is_configured = true;
    let is_changed = entry.recipe != recipe;
    entry.recipe = recipe;
    if entry.current.is_none() {
        // What was unloaded by command stays so, unless something about it is new.
        return is_changed || !entry.is_unloaded;
    }
    if newest.is_some() && entry.rolled_back == newest {
        if is_changed {
            tracing::warn!(
                model = name,
                "it was rolled back; its settings take effect with its next bundle, or by `mprec models load`"
            );
        }
        return false;
    }
    // What failed stays so until its bundle changes.
    is_changed || newest.is_some_and(|newest| entry.tried.as_ref() != Some(&newest))
}

/// Waits until these hold no memory any more, or for as long as that may take.
fn await_freed(shared: &Shared, names: &[String]) {
    let until = Instant::now() + RETIRING_LIMIT;
    let mut state = shared.state();
    loop {
        let versions = names.iter().filter_map(|name| state.entries.get(name));
        let is_freed =
            versions.map(|entry| entry.retiring.len() + entry.leaving).sum::<usize>() == 0;
        let left = until.saturating_duration_since(Instant::now());
        if is_freed || left.is_zero() || shared.is_stopping() {
            return;
        }
        state = shared.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}
