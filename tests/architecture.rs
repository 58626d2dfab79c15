//! The crates of the workspace depend on each other in one direction only.

use std::{collections::BTreeMap, process::Command};

/// What each crate may use, by the design. Tests and benchmarks may use all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("mprec-representations", &[]),
    ("mprec-router", &[]),
    ("mprec-datasets", &["mprec-representations"]),
    ("mprec-trainer", &["mprec-representations", "mprec-datasets"]),
    ("mprec-backends", &["mprec-representations"]),
    (
        "mprec-runtime",
        &[
            "mprec-representations",
            "mprec-datasets",
            "mprec-trainer",
            "mprec-backends",
            "mprec-router",
        ],
    ),
];

#[test]
fn crate_arrows_run_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let may_use: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut checked = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = may_use.get(name) else {
            assert!(
                ["mprec-tests", "mprec-benches"].contains(&name),
                "{name} is not in the design"
            );
            continue;
        };
        checked += 1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            assert!(
                !used.starts_with("mprec-") || allowed.contains(&used),
                "{name} must not use {used}"
            );
        }
    }
    assert_eq!(checked, MAY_USE.len());
}
