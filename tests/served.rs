//! The binary as a user runs it: commands, a bundle trained on real rows, and a server over it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

pub(crate) fn mprec(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mprec"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("MPREC_LOG")
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

/// Runs a command that must succeed, and parses the one JSON object that it prints.
pub(crate) fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = mprec(folder, &[arguments, &["--json", "--quiet"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/open_bandit")
}

/// A prepared folder and a bundle with these variants and `both`, the ensemble of the first two.
pub(crate) fn trained(variants: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows = sample().join("impressions.csv.xz");
    let table = format!("item_context={}", sample().join("item_context.csv").display());
    let prepare = [
        "data",
        "prepare",
        rows.to_str().unwrap(),
        "--layout",
        "open-bandit",
        "--out",
        "data",
        "--table",
        &table,
    ];
    let prepared = json(folder.path(), &prepare);
    assert_eq!(prepared["rows"], 60_000);
    assert_eq!(prepared["malformed_lines"], 0);
    let ensemble = format!("both={}", variants[..2].join("+"));
    let options = ["--data", "data", "--out", "model", "--small", "--epochs", "1", "--ensemble"];
    let train = [&["train"], variants, &options, &[ensemble.as_str()]].concat();
    let outcomes = json(folder.path(), &train);
    assert_eq!(outcomes.as_array().unwrap().len(), variants.len() + 1);
    folder
}

/// A running server, stopped when dropped.
pub(crate) struct Server(pub(crate) Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server, of which `command` says everything, and waits for its first line.
pub(crate) fn start(command: &mut Command) -> (Server, Value) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    // From here on it is stopped, whatever comes.
    let server = Server(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    (server, serde_json::from_str(&line).unwrap())
}

pub(crate) fn serve(folder: &Path, arguments: &[&str]) -> (Server, String) {
    let (server, started) = start(
        Command::new(env!("CARGO_BIN_EXE_mprec"))
            .args(["serve", "--bundle", "model", "--listen", "127.0.0.1:0", "--json", "--quiet"])
            .args(["--grpc-listen", "off"])
            .args(arguments)
            .current_dir(folder),
    );
    (server, started["url"].as_str().unwrap().to_owned())
}

pub(crate) fn post(url: &str, path: &str, body: &str) -> (u16, Value) {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
    let body = reply.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap())
}
