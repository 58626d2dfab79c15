//! The gRPC endpoint as its users reach it: Triton's Python client against the binary, beside HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

#[expect(unreachable_pub, reason = "shared with a crate, where it is public")]
#[path = "src/require.rs"]
mod require;
#[expect(dead_code, reason = "what other tests of a server need")]
mod served;

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use served::{json, mprec, start, trained};

/// Runs Python; `None` where there is none with Triton's client for gRPC.
fn python(arguments: &[&str]) -> Option<Output> {
    let named = std::env::var("MPREC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&named).args(["-c", "import tritonclient.grpc"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        require::skip("tritonclient", &format!("`{named}` has no `tritonclient[grpc]`"));
        return None;
    }
    Some(Command::new(named).args(arguments).output().unwrap())
}

#[test]
fn tritons_client_and_a_taken_port() {
    let folder = trained(&["table", "dhe"]);
    let folder = folder.path();
    json(folder, &["profile", "model", "--out", "profiles.json", "--seconds", "1"]);

    // A port that somebody has is an error that says what to do, not a server without gRPC.
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let options = ["--bundle", "model", "--profiles", "profiles.json", "--listen", "127.0.0.1:0"];
    let serve = [&["serve"], &options[..], &["--grpc-listen", &taken]].concat();
    let output = mprec(folder, &serve);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("--grpc-listen"), "{message}");
    assert!(message.contains(&taken), "{message}");
    drop(holder);

    let served = [&["serve"], &options[..], &["--grpc-listen", "127.0.0.1:0", "--json", "--quiet"]];
    let (_server, started) = start(
        Command::new(env!("CARGO_BIN_EXE_mprec"))
            .args(served.concat())
            .args(["--sla-ms", "60000"])
            .current_dir(folder),
    );
    let (url, grpc) = (started["url"].as_str().unwrap(), started["grpc"].as_str().unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/grpc_client.py");
    let Some(output) = python(&[script.to_str().unwrap(), grpc, url]) else { return };
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && stdout.contains("\"ok\": true"), "{stdout}\n{stderr}");
}
