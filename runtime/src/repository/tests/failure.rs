use std::sync::atomic::Ordering::SeqCst;

use super::fixture::*;
use crate::{
    config::{Budgets, ByteSize},
    endpoint::{Control as _, ControlError, ModelConfig, ModelState},
    service::Service,
};

/// Tries to load, which must fail so, and leave version 1 served.
fn refused(repository: &super::super::Repository, reason: &str) {
    let error = load(repository).unwrap_err();
    assert!(matches!(&error, ControlError::Load { .. }), "{error:?}");
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(served(repository), 1);
    assert!(repository.is_ready());
    let index = repository.index();
    let line = index.iter().find(|line| line.state == ModelState::Unavailable).unwrap();
    assert!(line.reason.contains(reason), "{line:?}");
    assert!(index.iter().any(|line| line.state == ModelState::Ready && line.version == "1"));
}

#[test]
fn a_failed_load_leaves_what_is_served() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();

    // A byte of a tensor.
    write(&setup.folder(), 2);
    let file = tensors_of(&setup.folder());
    let good = std::fs::read(&file).unwrap();
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    refused(&repository, "does not match its digest");
    std::fs::write(&file, &good[..good.len() - 4]).unwrap();
    refused(&repository, "bytes");
    std::fs::remove_file(&file).unwrap();
    refused(&repository, "safetensors");

    // The manifest.
    write(&setup.folder(), 3);
    let manifest = setup.folder().join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"3\"", "\"4\"")).unwrap();
    refused(&repository, "manifest");
    std::fs::write(&manifest, "{}").unwrap();
    refused(&repository, "manifest");
    std::fs::remove_dir_all(setup.folder()).unwrap();
    refused(&repository, "ctr");

    // A version in the folder of another.
    write(&setup.folder().join("6"), 5);
    refused(&repository, "holds version `5`");

    // A bug on the way.
    write(&setup.folder(), 7);
    setup.rows.panics.store(true, SeqCst);
    refused(&repository, "panicked");
    setup.rows.panics.store(false, SeqCst);
    assert_eq!(load(&repository).unwrap().version.as_deref(), Some("7"));
    assert_eq!(served(&repository), 7);
}

#[test]
fn scores_that_are_no_probabilities_are_found_out_before_they_are_served() {
    let mut setup = Setup::new();
    setup.options.verify = false;
    write(&setup.folder(), 1);
    let repository = setup.start();
    write(&setup.folder(), 2);
    // All floats become NaN, which verifying would have found.
    let file = tensors_of(&setup.folder());
    let mut bytes = std::fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[header..].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    refused(&repository, "which is no probability");
}

#[test]
fn old_and_new_must_fit_the_budget_together() {
    let mut setup = Setup::new();
    write(&setup.folder(), 1);
    let bytes = {
        let repository = setup.start();
        let state = repository.shared.state();
        state.resident["cpu"].0
    };
    let budget = |bytes| Budgets::from([("cpu".to_owned(), ByteSize(bytes))]);
    setup.options.budgets = budget(bytes * 3 / 2);
    let repository = setup.start();
    write(&setup.folder(), 2);
    refused(&repository, "are left beside the versions that are resident");
    drop(repository);

    setup.options.budgets = budget(bytes * 2);
    write(&setup.folder(), 1);
    let repository = setup.start();
    for version in 2..=5 {
        write(&setup.folder(), version);
        load(&repository).unwrap();
        assert_eq!(served(&repository), version);
        until("the old version is freed", || repository.shared.state().resident["cpu"].0 == bytes);
    }
}

#[test]
fn names_lead_nowhere_but_into_the_folder() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let outside = tempfile::tempdir_in(setup.root.path().parent().unwrap()).unwrap();
    write(outside.path(), 2);
    let repository = setup.start();
    let outside = outside.path().file_name().unwrap().to_str().unwrap();
    for name in [
        "",
        ".",
        "..",
        "nothing",
        "ctr/",
        "ctr/../ctr",
        "/ctr",
        ".hidden",
        "CTR",
        "a\0b",
        format!("../{outside}").as_str(),
        "x".repeat(10_000).as_str(),
    ] {
        let error = crate::endpoint::Control::load(&repository, name, None).unwrap_err();
        assert!(matches!(error, ControlError::Unknown { .. }), "{name}: {error}");
    }
    assert_eq!(repository.index().len(), 1, "what was asked for is not remembered");
}

#[test]
fn a_version_of_another_configuration_than_expected_does_not_take_over() {
    let setup = Setup::new();
    write(&setup.folder(), 1);
    let repository = setup.start();
    write(&setup.folder(), 2);
    let error = load_expecting(&repository, r#"{"max_batch_size": 7}"#).unwrap_err().to_string();
    assert!(error.contains("`max_batch_size`"), "{error}");
    assert_eq!(served(&repository), 1);
    // Nothing is wrong with the bundle.
    assert!(repository.index().iter().all(|line| line.state == ModelState::Ready));

    let model = repository.model("ctr").unwrap();
    let own = serde_json::to_string(&ModelConfig::of(&model)).unwrap();
    drop(model);
    load_expecting(&repository, &own).unwrap();
    assert_eq!(served(&repository), 2);
    // Also where it is served already.
    let error = load_expecting(&repository, r#"{"backend": "python"}"#).unwrap_err().to_string();
    assert!(error.contains("`backend`"), "{error}");
    assert_eq!(served(&repository), 2);
}
