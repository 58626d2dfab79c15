//! Taking over what a configuration says.

use super::{super::Repository, fixture::*};
use crate::{
    config::{Budgets, ByteSize},
    endpoint::{Control, ControlError},
    repository::Recipe,
    service::Service,
};

/// Reads a configuration of these recipes again, and of one more that comes last and tells when all of it is done.
fn reconcile(repository: &Repository, setup: &Setup, mut recipes: Vec<Recipe>, turn: u64) {
    let folder = setup.root.path().join(format!("zz-{turn}"));
    write(&folder, turn);
    let name = format!("zz-{turn}");
    recipes.push(Recipe { name: Some(name.clone()), ..recipe(&folder) });
    repository.reconcile(recipes).unwrap();
    until("all of the configuration is taken over", || repository.model(&name).is_some());
}

fn slower(setup: &Setup) -> Recipe {
    let same = recipe(&setup.folder());
    Recipe { sla: same.sla * 2, ..same }
}

#[test]
fn what_was_rolled_back_stays_until_its_bundle_changes() {
    let setup = Setup::new();
    write(&setup.folder().join("1"), 1);
    let repository = setup.start();
    write(&setup.folder().join("2"), 2);
    load(&repository).unwrap();
    rollback(&repository).unwrap();
    reconcile(&repository, &setup, vec![slower(&setup)], 1);
    assert_eq!(served(&repository), 1);
    reconcile(&repository, &setup, vec![slower(&setup)], 2);
    assert_eq!(served(&repository), 1);
    // Whoever asks for it gets it.
    load(&repository).unwrap();
    assert_eq!(served(&repository), 2);
    assert_eq!(repository.model("ctr").unwrap().sla, slower(&setup).sla);
}

#[test]
fn what_was_unloaded_by_command_stays_so_until_it_is_configured_otherwise() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    unload(&repository).unwrap();
    reconcile(&repository, &setup, vec![recipe(&setup.folder())], 1);
    assert!(repository.model("ctr").is_none());
    reconcile(&repository, &setup, vec![slower(&setup)], 2);
    assert_eq!(served(&repository), 1);
}

#[test]
fn what_goes_makes_room_for_what_comes() {
    let mut setup = Setup::new();
    write(&setup.folder(), 1);
    let bytes = recipe(&setup.folder()).try_out(&Budgets::new(), &Budgets::new()).unwrap().bytes;
    // Room for one.
    let room = |(device, bytes): (String, ByteSize)| (device, ByteSize(bytes.0 * 3 / 2));
    setup.options.budgets = bytes.into_iter().map(room).collect();
    let repository = setup.start();
    let folder = setup.root.path().join("new");
    write(&folder, 5);
    let new = Recipe { name: Some("new".into()), ..recipe(&folder) };
    repository.reconcile(vec![new]).unwrap();
    until("the new model is served", || repository.model("new").is_some());
    assert!(repository.model("ctr").is_none());
}

#[test]
fn what_is_not_configured_any_more_is_found_in_the_folder_or_nowhere() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    let elsewhere = tempfile::tempdir().unwrap();
    write(elsewhere.path(), 5);
    let ours = recipe(&setup.folder());
    let other = Recipe { name: Some("other".into()), ..recipe(elsewhere.path()) };
    reconcile(&repository, &setup, vec![ours.clone(), other], 1);
    assert!(repository.model("other").is_some());
    reconcile(&repository, &setup, vec![ours], 2);
    assert!(repository.model("other").is_none());
    let error = Control::load(&repository, "other", None).unwrap_err();
    assert!(matches!(error, ControlError::Unknown { .. }), "{error:?}");
    // One of that name in the folder is another matter.
    write(&setup.root.path().join("other"), 6);
    Control::load(&repository, "other", None).unwrap().blocking_recv().unwrap().unwrap();
    assert_eq!(repository.model("other").unwrap().version, "6");
}

#[test]
fn a_model_without_a_name_has_that_of_its_bundle() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    let before = repository.model("ctr").unwrap();
    let unnamed = Recipe { name: None, ..recipe(&setup.folder()) };
    reconcile(&repository, &setup, vec![unnamed.clone()], 1);
    assert_eq!(served(&repository), 1);
    drop(before);
    // Where that cannot be told, nothing changes.
    let lost = Recipe { folder: setup.root.path().join("nowhere"), ..unnamed };
    repository.reconcile(vec![lost]).unwrap();
    load(&repository).unwrap();
    assert_eq!(served(&repository), 1);
}
