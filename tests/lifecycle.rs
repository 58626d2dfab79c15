//! The server as an operator runs it: several models, loaded, unloaded and rolled back over HTTP, and a configuration that
//! is read again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

#[expect(dead_code, reason = "shared with tests that use more of it")]
#[path = "served.rs"]
mod served;
#[expect(dead_code, reason = "shared with tests that use more of it")]
#[path = "src/versioned.rs"]
mod versioned;

use served::{Server, mprec, post};
use versioned::{code, write};

const COMMON: &str = "
server.listen = \"127.0.0.1:0\"
admin.listen = \"127.0.0.1:0\"
repository = { folder = \"models\", keep_versions = 1 }
profile.budget_seconds = 1.0
shutdown.drain_seconds = 5.0
";

/// Writes the configuration: the common part, and `models` with `sla_ms` each.
fn configure(folder: &Path, models: &[&str], sla_ms: u32) {
    let entry = |name: &&str| format!("[[models]]\nname = \"{name}\"\nsla_ms = {sla_ms}.0\n");
    let models: String = models.iter().map(entry).collect();
    std::fs::write(folder.join("mprec.toml"), format!("{COMMON}{models}")).unwrap();
}

fn start(folder: &Path) -> (Server, Value) {
    served::start(
        Command::new(env!("CARGO_BIN_EXE_mprec"))
            .args([
                "serve",
                "--config",
                "mprec.toml",
                "--json",
                "--quiet",
                "--grpc-listen",
                "127.0.0.1:0",
            ])
            .current_dir(folder)
            .env_remove("MPREC_LOG"),
    )
}

fn infer(url: &str, model: &str) -> (u16, Value) {
    let request = json!({
        "inputs": [
            {"name": "dense", "datatype": "FP32", "shape": [1, 1], "data": [0.5]},
            {"name": "sparse", "datatype": "INT64", "shape": [1, 1], "data": [3]},
        ],
        "parameters": {"sla_ms": 30000.0},
    });
    post(url, &format!("/v2/models/{model}/infer"), &request.to_string())
}

/// The version that answers; its score must be that version's.
fn version(url: &str, model: &str) -> u64 {
    let (status, reply) = infer(url, model);
    assert_eq!(status, 200, "{reply}");
    let version: u64 = reply["model_version"].as_str().unwrap().parse().unwrap();
    let score = reply["outputs"][0]["data"][0].as_f64().unwrap();
    assert!((score - code(version)).abs() < 1e-5, "{score} is not of {version}");
    assert_eq!(reply["parameters"]["version"], reply["model_version"]);
    version
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < limit, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn models_are_loaded_unloaded_and_rolled_back_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let models = folder.join("models");
    write(&models.join("ctr").join("1"), 1);
    write(&models.join("second"), 5);
    write(&models.join("third"), 6);
    configure(folder, &["ctr", "second"], 1_000);
    let (_server, started) = start(folder);
    let (url, admin) = (started["url"].as_str().unwrap(), started["admin"].as_str().unwrap());
    assert_eq!(
        (&started["model"], &started["more"][0]["model"]),
        (&"ctr".into(), &"second".into())
    );
    assert_eq!((version(url, "ctr"), version(url, "second")), (1, 5));

    let change = |verb: &str, model: &str, body: &str| {
        post(admin, &format!("/v2/repository/models/{model}/{verb}"), body)
    };
    write(&models.join("ctr").join("2"), 2);
    let (status, reply) = change("load", "ctr", "");
    assert_eq!((status, &reply["version"]), (200, &"2".into()), "{reply}");
    assert_eq!(version(url, "ctr"), 2);
    let (status, index) = post(admin, "/v2/repository/index", "{\"ready\": true}");
    assert_eq!(status, 200);
    let ready: Vec<_> =
        index.as_array().unwrap().iter().map(|it| (&it["name"], &it["version"])).collect();
    let line =
        |name: &'static str, version: &'static str| (Value::from(name), Value::from(version));
    let expected = [line("ctr", "2"), line("ctr", "1"), line("second", "5")];
    assert_eq!(ready, expected.iter().map(|(name, version)| (name, version)).collect::<Vec<_>>());

    // A damaged version changes nothing.
    write(&models.join("ctr").join("3"), 3);
    std::fs::write(models.join("ctr/3/manifest.json"), "{}").unwrap();
    let (status, reply) = change("load", "ctr", "{}");
    assert_eq!((status, &reply["code"]), (400, &"load_failed".into()), "{reply}");
    assert_eq!(version(url, "ctr"), 2);
    let (_, index) = post(admin, "/v2/repository/index", "");
    let failed = index.as_array().unwrap().iter().find(|line| line["state"] == "UNAVAILABLE");
    assert!(failed.unwrap()["reason"].as_str().unwrap().contains("manifest"), "{index}");

    let (status, reply) = change("rollback", "ctr", "");
    assert_eq!((status, &reply["version"]), (200, &"1".into()), "{reply}");
    assert_eq!(version(url, "ctr"), 1);
    let (status, reply) = change("rollback", "ctr", "");
    assert_eq!((status, &reply["code"]), (404, &"unknown_version".into()), "{reply}");

    let by_hand = |verb: &str| served::json(folder, &["models", verb, "third", "--url", admin]);
    assert_eq!(by_hand("load"), json!({"name": "third", "version": "6"}));
    assert_eq!(version(url, "third"), 6);
    let (status, reply) =
        change("unload", "third", "{\"parameters\":{\"unload_dependents\":true}}");
    assert_eq!(status, 200, "{reply}");
    let (status, reply) = infer(url, "third");
    assert_eq!((status, &reply["code"]), (404, &"unknown_model".into()), "{reply}");
    assert_eq!(change("load", "third", "{}").0, 200);
    assert_eq!(version(url, "third"), 6);
    assert_eq!(by_hand("unload")["version"], Value::Null);
    let refused = mprec(folder, &["models", "rollback", "third", "--url", admin]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && text.contains("is not loaded"), "{text}");
    let list = mprec(folder, &["models", "list", "--url", admin]);
    let text = String::from_utf8_lossy(&list.stdout);
    assert!(text.contains("| third") && text.contains("unloaded"), "{text}");

    for (body, code) in [
        ("{\"parameters\":{\"config\":\"4\"}}", "bad_parameter"),
        ("{\"parameters\":{\"file:1/x\":\"AAAA\"}}", "bad_parameter"),
        ("not JSON", "bad_json"),
    ] {
        let (status, reply) = change("load", "ctr", body);
        assert_eq!((status, &reply["code"]), (400, &code.into()), "{body}: {reply}");
    }
    let other = "{\"parameters\":{\"config\":\"{\\\"max_batch_size\\\":4}\"}}";
    let (status, reply) = change("load", "second", other);
    assert_eq!((status, &reply["code"]), (400, &"load_failed".into()), "{reply}");
    assert!(reply["error"].as_str().unwrap().contains("`max_batch_size`"), "{reply}");
    for name in ["nothing", "%2e%2e", "..%2fctr"] {
        let (status, reply) = change("load", name, "");
        assert_eq!((status, &reply["code"]), (404, &"unknown_model".into()), "{name}: {reply}");
    }
    // Who scores cannot change what is served.
    let (status, reply) = post(url, "/v2/repository/models/ctr/unload", "{}");
    assert_eq!((status, &reply["code"]), (404, &"unknown_route".into()), "{reply}");
    assert_eq!(version(admin, "ctr"), 1, "where models are managed they answer too");
}

#[test]
fn a_signal_has_the_configuration_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let models = folder.join("models");
    write(&models.join("ctr"), 1);
    write(&models.join("second"), 5);
    configure(folder, &["ctr"], 1_000);
    let (mut server, started) = start(folder);
    let url = started["url"].as_str().unwrap();
    let hang_up = || kill_process(Pid::from_child(&server.0), Signal::HUP).unwrap();
    let answers = |model: &str| infer(url, model).0 == 200;

    configure(folder, &["ctr", "second"], 1_000);
    hang_up();
    until("the new model is served", || answers("second"));
    assert_eq!(version(url, "second"), 5);

    // A new bundle is looked for, too.
    write(&models.join("ctr"), 2);
    hang_up();
    until("the new version is served", || version(url, "ctr") == 2);

    std::fs::write(folder.join("mprec.toml"), "nonsense = 1\n").unwrap();
    hang_up();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((version(url, "ctr"), version(url, "second")), (2, 5), "all stays as it is");

    configure(folder, &["second"], 1_000);
    hang_up();
    until("the model that is gone is unloaded", || !answers("ctr"));
    assert_eq!(version(url, "second"), 5);

    kill_process(Pid::from_child(&server.0), Signal::TERM).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = server.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < limit, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn a_check_says_of_every_model_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("models/ctr"), 1);
    write(&folder.join("models/second"), 5);
    configure(folder, &["ctr", "second"], 100);
    let check = || mprec(folder, &["serve", "--config", "mprec.toml", "--check"]);
    let output = check();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(folder.join("models/ctr")).unwrap();
    std::fs::write(folder.join("models/second/manifest.json"), "{}").unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("model `ctr`") && text.contains("model `second`"), "{text}");
}
