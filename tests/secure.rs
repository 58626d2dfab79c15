//! A server with TLS and keys as an operator runs it: made, asked, and rotated by a signal.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use mprec_runtime::{
    load::{Access, metrics_text},
    security::TlsFiles,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[path = "../runtime/src/security/made.rs"]
mod made;
#[expect(dead_code, reason = "shared with tests that use more of it")]
#[path = "served.rs"]
mod served;
#[expect(dead_code, reason = "shared with tests that use more of it")]
#[path = "src/versioned.rs"]
mod versioned;

use made::Authority;
use served::{Server, json, mprec};

const CONFIG: &str = "
model.bundle = \"model\"
constraints.sla_ms = 5000.0
server = { listen = \"127.0.0.1:0\", grpc = \"127.0.0.1:0\", metrics = \"127.0.0.1:0\" }
admin.listen = \"127.0.0.1:0\"
tls = { certificate = \"chain.pem\", key = \"key.pem\" }
auth.keys_file = \"keys.txt\"
profile.budget_seconds = 1.0
log.filter = \"trace\"
";

/// Serves; the log goes to `log.txt`.
fn start(folder: &Path) -> (Server, Value) {
    served::start(
        Command::new(env!("CARGO_BIN_EXE_mprec"))
            .args(["serve", "--config", "mprec.toml", "--json", "--quiet"])
            .current_dir(folder)
            .env_remove("MPREC_LOG")
            .stderr(File::create(folder.join("log.txt")).unwrap()),
    )
}

/// Puts a certificate where the server looks for its own.
fn install(folder: &Path, files: &TlsFiles) {
    fs::copy(&files.certificate, folder.join("chain.pem")).unwrap();
    fs::copy(&files.key, folder.join("key.pem")).unwrap();
}

/// A new key, in `<name>.key`, and its line.
fn new_key(folder: &Path, name: &str, scope: &str) -> (String, String) {
    let made = json(folder, &["key", "new", name, "--scope", scope]);
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    fs::write(folder.join(format!("{name}.key")), format!("{}\n", text("key"))).unwrap();
    (text("key"), text("line"))
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < limit, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a command that must fail in this way.
#[track_caller]
fn fails(folder: &Path, arguments: &[&str], code: i32, message: &str) {
    let output = mprec(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(text.contains(message), "{arguments:?}: {text}");
}

#[test]
fn a_server_with_tls_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    versioned::write(&folder.join("model"), 1);
    let authority = Authority::new(folder, "one");
    install(folder, &authority.sign("server"));
    let (web, web_line) = new_key(folder, "web", "infer");
    let (ops, ops_line) = new_key(folder, "ops", "admin");
    fs::write(folder.join("keys.txt"), format!("# who may ask\n{web_line}\n{ops_line}\n")).unwrap();
    fs::write(folder.join("mprec.toml"), CONFIG).unwrap();
    let check = mprec(folder, &["serve", "--config", "mprec.toml", "--check"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    assert!(check.stderr.is_empty(), "{}", String::from_utf8_lossy(&check.stderr));
    let permit =
        |mode| fs::set_permissions(folder.join("key.pem"), fs::Permissions::from_mode(mode));
    permit(0o644).unwrap();
    let check = mprec(folder, &["serve", "--config", "mprec.toml", "--check"]);
    let text = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success() && text.contains("may read the private key"), "{text}");
    permit(0o600).unwrap();

    let (mut server, started) = start(folder);
    let (url, admin) = (started["url"].as_str().unwrap(), started["admin"].as_str().unwrap());
    let metrics_url = started["metrics_url"].as_str().unwrap();
    assert!(url.starts_with("https://"), "{started}");
    assert!(admin.starts_with("http://") && metrics_url.starts_with("http://"), "{started}");
    let metrics = || metrics_text(metrics_url, &Access::default()).unwrap();

    let health = |ca: &str| mprec(folder, &["health", "--url", url, "--ca", ca]).status.success();
    assert!(health(authority.file().to_str().unwrap()), "health needs no key");
    fails(folder, &["health", "--url", url], 2, "--ca");
    let plain = url.replace("https", "http");
    fails(folder, &["health", "--url", &plain], 1, "/v2/health/ready");

    let load = |key: &'static str| {
        let url = url.to_owned();
        move |ca: &'static str| -> Vec<String> {
            let key_file = format!("{key}.key");
            let all = ["load", "--url", &url, "--ca", ca, "--key-file", &key_file];
            let rate = ["--qps", "50", "--seconds", "0.3", "--sla-ms", "5000"];
            all.iter().chain(&rate).map(|argument| (*argument).to_owned()).collect()
        }
    };
    let loads = |key, ca| {
        let arguments = load(key)(ca);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        mprec(folder, &[&arguments[..], &["--json", "--quiet"]].concat())
    };
    let answered = |key, ca| {
        let output = loads(key, ca);
        let report = serde_json::from_slice::<Value>(&output.stdout);
        report.is_ok_and(|report| report["answered"].as_u64().unwrap_or(0) > 0)
    };
    let output = loads("web", "one-ca.pem");
    assert!(answered("web", "one-ca.pem"), "{}", String::from_utf8_lossy(&output.stderr));
    fails(folder, &["load", "--url", url, "--ca", "one-ca.pem", "--seconds", "1"], 2, "--key-file");

    // Models are managed with a key that is good for that, and the page of metrics is not for everybody.
    let list = |more: &[&'static str]| [&["models", "list", "--url", admin], more].concat();
    fails(folder, &list(&[]), 2, "a key is needed");
    fails(folder, &list(&["--key-file", "web.key"]), 2, "scope `admin`");
    assert!(mprec(folder, &list(&["--key-file", "ops.key"])).status.success());
    let top = ["top", "--once", "--interval", "0.2", "--url", url, "--ca", "one-ca.pem"];
    fails(folder, &top, 2, "--key-file");
    assert!(mprec(folder, &[&top[..], &["--key-file", "web.key"]].concat()).status.success());
    let page = metrics();
    assert!(page.contains("mprec_requests_by_key_total{key=\"ops\"} 1\n"), "{page}");
    assert!(page.contains("mprec_requests_unauthenticated_total{reason=\"scope\"} 1\n"), "{page}");

    // Both are rotated, and a mistake in the config does not keep a key alive that was taken back.
    let hang_up = || kill_process(Pid::from_child(&server.0), Signal::HUP).unwrap();
    let second = Authority::new(folder, "two");
    install(folder, &second.sign("server"));
    let (next, next_line) = new_key(folder, "next", "infer");
    fs::write(folder.join("keys.txt"), format!("{next_line}\n{web_line}\n")).unwrap();
    hang_up();
    until("the new certificate is shown", || health("two-ca.pem"));
    assert!(!health("one-ca.pem"));
    until("both keys are good", || answered("web", "two-ca.pem") && answered("next", "two-ca.pem"));
    fails(folder, &list(&["--key-file", "ops.key"]), 2, "none of this server's");
    fs::write(folder.join("keys.txt"), &next_line).unwrap();
    fs::write(folder.join("mprec.toml"), "nonsense = 1").unwrap();
    hang_up();
    until("the old key is refused", || !answered("web", "two-ca.pem"));
    assert!(answered("next", "two-ca.pem"));

    // What cannot be used changes nothing, and is said without being quoted.
    let log = || fs::read_to_string(folder.join("log.txt")).unwrap();
    fs::write(folder.join("keys.txt"), format!("{web}\n")).unwrap();
    install(folder, &TlsFiles { key: authority.sign("other").key, ..second.sign("server") });
    hang_up();
    until("the mistakes are logged", || {
        log().contains("keys.txt`, line 1: ") && log().contains("is not that of the certificate")
    });
    assert!(answered("next", "two-ca.pem") && health("two-ca.pem"));
    fs::write(folder.join("mprec.toml"), CONFIG).unwrap();
    let check = ["serve", "--config", "mprec.toml", "--check"];
    fails(folder, &check, 2, "is not that of the certificate");
    fails(folder, &check, 2, "line 1");
    fails(folder, &["serve", "--config", "mprec.toml", "--quiet"], 2, "certificate");

    let page = metrics();
    kill_process(Pid::from_child(&server.0), Signal::TERM).unwrap();
    assert!(server.0.wait().unwrap().success());
    let log = log();
    assert!(log.contains("a request had no key"), "the log is at its most talkative");
    let digests = [&web_line, &ops_line, &next_line].map(|line| line.split(' ').nth(1).unwrap());
    for secret in [&web, &ops, &next].map(String::as_str).into_iter().chain(digests) {
        let secret = secret.trim_start_matches("sha256:").trim_start_matches("mprec_");
        assert!(!log.contains(secret) && !page.contains(secret));
    }
}

#[test]
fn a_key_with_a_name_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fails(folder.path(), &["key", "new", "a b"], 2, "is no name of a key");
    let output = mprec(folder.path(), &["key", "new", "web"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("mprec_") && text.contains("web sha256:"), "{text}");
}
