use std::time::Duration;

use super::fixture::*;
use crate::service::Service;

#[test]
fn a_bundle_that_changes_is_loaded_when_it_is_whole() {
    let mut setup = Setup::new();
    setup.options.watch = Some(Duration::from_millis(20));
    write(&setup.folder(), 1);
    let repository = setup.start();

    // Written file by file by somebody who begins with the manifest.
    let ready = tempfile::tempdir().unwrap();
    write(ready.path(), 2);
    for entry in std::fs::read_dir(setup.folder()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let manifest = std::fs::read(ready.path().join("manifest.json")).unwrap();
    std::fs::write(setup.folder().join("manifest.json"), &manifest[..manifest.len() / 2]).unwrap();
    let metrics = crate::metrics::Metrics::new("test", &[], &[]);
    let failures = || {
        let page = metrics.render(&repository);
        let line = page.lines().find(|line| line.starts_with("mprec_model_load_failures_total{"));
        line.unwrap().rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    until("half a manifest is tried", || failures() == 1);
    assert_eq!(served(&repository), 1);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(failures(), 1, "it is not tried again before it changes");

    for entry in std::fs::read_dir(ready.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "manifest.json" {
            std::fs::copy(entry.path(), setup.folder().join(entry.file_name())).unwrap();
        }
    }
    std::fs::write(setup.folder().join("manifest.json"), &manifest).unwrap();
    until("the whole bundle is served", || repository.model("ctr").unwrap().version == "2");
    assert_eq!(served(&repository), 2);

    // As this project writes it.
    write(&setup.folder(), 3);
    until("the next is served", || repository.model("ctr").unwrap().version == "3");
}

#[test]
fn what_was_gone_back_from_stays_away_until_it_changes() {
    let mut setup = Setup::new();
    setup.options.watch = Some(Duration::from_millis(20));
    setup.options.keep_versions = 1;
    write(&setup.folder(), 1);
    let repository = setup.start();
    write(&setup.folder(), 2);
    until("the next is served", || repository.model("ctr").unwrap().version == "2");
    rollback(&repository).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(served(&repository), 1);
    write(&setup.folder(), 3);
    until("the one after is served", || repository.model("ctr").unwrap().version == "3");
}
