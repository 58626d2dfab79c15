use std::sync::{Arc, atomic::Ordering::SeqCst};

use super::fixture::*;
use crate::{
    endpoint::{ControlError, ModelState},
    metrics::Metrics,
    service::{Refusal, Service},
};

use ModelState::{Ready, Unavailable, Unloading};

fn line(version: &str, state: ModelState) -> (String, String, ModelState) {
    ("ctr".into(), version.into(), state)
}

#[test]
fn a_query_is_answered_by_the_version_that_it_was_parsed_for() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    let old = repository.model("ctr").unwrap();
    write(&setup.folder(), 2);
    assert_eq!(load(&repository).unwrap().version.as_deref(), Some("2"));
    assert_eq!(served(&repository), 2);
    // Its request is still being read, say, and keeps the version.
    assert_eq!(index(&repository), [line("2", Ready), line("1", Unloading)]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let answer = ask(&repository, &old).unwrap();
    assert_eq!((check(&answer), &*answer.version), (1, "1"));
    assert!(repository.version("ctr", "1").is_none(), "nobody new can ask for it");
    drop(old);
    until("the old version is freed", || index(&repository) == [line("2", Ready)]);
}

#[test]
fn earlier_versions_are_kept_asked_for_by_number_and_gone_back_to() {
    let mut setup = Setup::new();
    setup.options.keep_versions = 1;
    write(&setup.folder().join("1"), 1);
    let repository = setup.start();
    assert!(matches!(rollback(&repository), Err(ControlError::NoPrevious { .. })));
    for version in 2..=3 {
        write(&setup.folder().join(version.to_string()), version);
        load(&repository).unwrap();
    }
    until("version 1 is freed", || index(&repository) == [line("3", Ready), line("2", Ready)]);
    let kept = repository.version("ctr", "2").unwrap();
    assert_eq!(check(&ask(&repository, &kept).unwrap()), 2);
    drop(kept);
    assert_eq!(rollback(&repository).unwrap().version.as_deref(), Some("2"));
    assert_eq!(served(&repository), 2);
    // Version 1 is not kept any more, but its bundle is there.
    assert_eq!(rollback(&repository).unwrap().version.as_deref(), Some("1"));
    assert_eq!(served(&repository), 1);
    assert!(matches!(rollback(&repository), Err(ControlError::NoPrevious { .. })));
    // The newest is what a load means, whatever was gone back to.
    assert_eq!(load(&repository).unwrap().version.as_deref(), Some("3"));
    assert_eq!(served(&repository), 3);
}

#[test]
fn there_is_no_way_back_to_a_bundle_that_was_written_over() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    write(&setup.folder(), 2);
    load(&repository).unwrap();
    let error = rollback(&repository).unwrap_err().to_string();
    assert!(error.contains("version `1` is not in"), "{error}");
    assert_eq!(served(&repository), 2);
}

#[test]
fn an_unloaded_model_is_gone_until_it_is_loaded() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    let held = repository.model("ctr").unwrap();
    assert_eq!(unload(&repository).unwrap().version, None);
    assert!(repository.model("ctr").is_none() && repository.models().is_empty());
    assert_eq!(check(&ask(&repository, &held).unwrap()), 1);
    drop(held);
    until("it is freed", || index(&repository) == [line("", Unavailable)]);
    assert!(repository.is_ready(), "there is nothing that is not");
    assert!(matches!(unload(&repository), Err(ControlError::NotLoaded { .. })));
    assert!(matches!(rollback(&repository), Err(ControlError::NotLoaded { .. })));
    load(&repository).unwrap();
    assert_eq!(served(&repository), 1);
}

#[test]
fn a_model_that_was_held_for_too_long_is_refused() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let (one, other) = (setup.start(), setup.start());
    let foreign = other.model("ctr").unwrap();
    let refused = ask(&one, &foreign).unwrap_err();
    assert!(matches!(refused, Refusal::Unavailable { .. }), "{refused}");
}

#[test]
fn an_unchanged_bundle_is_not_loaded_again() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    let before = repository.model("ctr").unwrap();
    assert_eq!(load(&repository).unwrap().version.as_deref(), Some("1"));
    assert!(Arc::ptr_eq(&before, &repository.model("ctr").unwrap()));
}

#[test]
fn service_times_are_measured_once_for_one_shape() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    assert_eq!(setup.rows.measured.load(SeqCst), 1);
    write(&setup.folder(), 2);
    load(&repository).unwrap();
    assert_eq!(setup.rows.measured.load(SeqCst), 1, "only the numbers changed");
    write_shaped(&setup.folder(), 3, 6);
    load(&repository).unwrap();
    assert_eq!(setup.rows.measured.load(SeqCst), 2, "a layer is wider");
    assert_eq!(served(&repository), 3);
}

#[test]
fn models_of_the_folder_are_loaded_by_name_and_beside_each_other() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    write(&setup.root.path().join("other"), 7);
    let repository = setup.start();
    assert!(repository.model("other").is_none());
    assert!(index(&repository).contains(&("other".into(), String::new(), Unavailable)));
    let change = repository_load(&repository, "other");
    assert_eq!(change.unwrap().version.as_deref(), Some("7"));
    let other = repository.model("other").unwrap();
    assert_eq!(check(&ask(&repository, &other).unwrap()), 7);
    assert_eq!(served(&repository), 1);
    let names: Vec<String> = repository.models().iter().map(|model| model.name.clone()).collect();
    assert_eq!(names, ["ctr", "other"]);
}

fn repository_load(
    repository: &super::super::Repository,
    name: &str,
) -> Result<crate::endpoint::Changed, ControlError> {
    use crate::endpoint::Control;
    Control::load(repository, name, None)?.blocking_recv().unwrap()
}

#[test]
fn recipes_that_change_are_loaded_anew_and_those_that_are_gone_unloaded() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let elsewhere = tempfile::tempdir().unwrap();
    write(elsewhere.path(), 9);
    let repository = setup.start();
    let mut slower = recipe(&setup.folder());
    slower.sla *= 2;
    let mut new = recipe(elsewhere.path());
    new.name = Some("new".into());
    repository.reconcile(vec![slower.clone(), new]).unwrap();
    until("the new model is served", || repository.model("new").is_some());
    assert_eq!(repository.model("ctr").unwrap().sla, slower.sla);
    repository.reconcile(vec![slower]).unwrap();
    until("the model that is gone is unloaded", || repository.model("new").is_none());
    assert_eq!(served(&repository), 1);
}

#[test]
fn what_is_counted_does_not_fall_when_versions_go() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    let metrics = Metrics::new("test", &["table@cpu"], &[]);
    for version in 2..=4 {
        served(&repository);
        write(&setup.folder(), version);
        load(&repository).unwrap();
    }
    served(&repository);
    std::fs::write(setup.folder().join("manifest.json"), "{}").unwrap();
    load(&repository).unwrap_err();
    until("the old versions are freed", || index(&repository).len() == 2);
    let page = metrics.render(&repository);
    for line in [
        "mprec_batches_total{path=\"table@cpu\"} 4",
        "mprec_path_workers{path=\"table@cpu\"} 1",
        "mprec_path_up{path=\"table@cpu\"} 1",
        "mprec_model_info{model=\"ctr\",version=\"4\"} 1",
        "mprec_model_resident_versions{model=\"ctr\"} 1",
        "mprec_model_loads_total{model=\"ctr\"} 4",
        "mprec_model_load_failures_total{model=\"ctr\"} 1",
        "mprec_model_rollbacks_total{model=\"ctr\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
}
