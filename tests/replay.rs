//! A server that is recorded, watched and simulated, and its decisions made once more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

#[expect(dead_code, reason = "what other tests of a server need")]
mod served;

use std::{fs, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use served::{Server, json, mprec, serve, trained};

/// Longer than anything here takes, also on a busy machine.
const LONG_MS: &str = "2000";

/// Asks a server to stop, and waits until it has.
fn stop(mut server: Server) {
    kill_process(Pid::from_child(&server.0), Signal::TERM).unwrap();
    for _ in 0..3_000 {
        if let Some(status) = server.0.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the server does not stop");
}

/// A light load, and the simulation of it.
fn load(folder: &Path, url: &str, more: &[&str]) -> Value {
    let load =
        ["load", "--url", url, "--qps", "60", "--sizes", "lognormal:3,0.5", "--seconds", "2"];
    json(folder, &[&load[..], &["--sla-ms", LONG_MS], more].concat())
}

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
fn recorded_decisions_are_made_again_and_simulated_ones_come_close() {
    let folder = trained(&["table", "dhe"]);
    let folder = folder.path();
    let profile = ["profile", "model", "--out", "profiles.json", "--seconds", "1"];
    json(folder, &[&profile[..], &["--backends", "cpu"]].concat());
    let record = ["--profiles", "profiles.json", "--sla-ms", LONG_MS, "--record", "decisions.log"];
    let (server, url) = serve(folder, &record);

    // Simulated and served, the same trace.
    let loaded = load(folder, &url, &["--compare-profiles", "profiles.json"]);
    let simulated = &loaded["simulated"];
    for report in [&loaded, simulated] {
        let ends = ["answered", "refused", "failed"].map(|name| count(report, name));
        assert_eq!(count(report, "offered"), ends.iter().sum::<u64>());
    }
    assert_eq!(count(&loaded, "offered"), count(simulated, "offered"));
    assert_eq!(simulated["simulated"], true);
    let ratio = loaded["goodput_ratio"].as_f64().unwrap();
    assert!((0.5..1.5).contains(&ratio), "a light load with much time: {loaded}");

    // The live view, once.
    let viewed = json(folder, &["top", "--url", &url, "--once", "--interval", "0.2"]);
    let paths = viewed["paths"].as_array().unwrap();
    assert_eq!(paths.len(), 3, "{viewed}");
    assert!(paths.iter().all(|path| path["up"] == true && path["load"].is_number()));
    assert_eq!(viewed["is_recording"], true);
    let table = mprec(folder, &["top", "--url", &url, "--once", "--interval", "0.2"]);
    assert!(String::from_utf8(table.stdout).unwrap().contains("table@cpu"));
    let gone = mprec(folder, &["top", "--url", "http://127.0.0.1:1", "--once"]);
    assert_eq!(gone.status.code(), Some(2));

    stop(server);
    let again = mprec(folder, &[&["serve", "--bundle", "model"], &record[..]].concat());
    assert_eq!(again.status.code(), Some(2), "a log is never written over");

    let replayed = json(folder, &["replay", "decisions.log"]);
    assert_eq!((&replayed["equal"], &replayed["ending"]), (&Value::from(true), &"stopped".into()));
    assert_eq!(count(&replayed, "decisions"), count(&loaded, "offered"));
    let measured = &replayed["served"];
    assert_eq!(measured["simulated"], false);
    assert_eq!(count(measured, "answered"), count(&loaded, "answered"));

    let other = ["replay", "decisions.log", "--policy", "fastest", "--policy", "mp-rec"];
    let other = json(folder, &other);
    let runs = other["simulated"].as_array().unwrap();
    let names: Vec<&str> = runs.iter().map(|run| run["policy"].as_str().unwrap()).collect();
    assert_eq!(names, ["multi-path", "fastest", "mp-rec"]);
    assert!(runs.iter().all(|run| count(run, "offered") == count(measured, "offered")));
    assert_eq!(
        other,
        json(folder, &["replay", "decisions.log", "--policy", "fastest", "--policy", "mp-rec"])
    );

    // A log that was cut off, and one that was tampered with.
    let bytes = fs::read(folder.join("decisions.log")).unwrap();
    fs::write(folder.join("cut.log"), &bytes[..bytes.len() - 40]).unwrap();
    let cut = json(folder, &["replay", "cut.log"]);
    assert_eq!((&cut["equal"], &cut["ending"]), (&Value::from(true), &"cut-off".into()));
    let mut damaged = bytes;
    // Magic, version, length, digest, header, and the first block's length and checksums.
    let header = u32::from_le_bytes(damaged[12..16].try_into().unwrap()) as usize;
    damaged[8 + 8 + 32 + header + 12 + 3] ^= 1;
    fs::write(folder.join("damaged.log"), damaged).unwrap();
    let damaged = mprec(folder, &["replay", "damaged.log"]);
    assert_eq!(damaged.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("damaged at byte"));
    fs::write(folder.join("foreign.log"), "something else").unwrap();
    assert_eq!(mprec(folder, &["replay", "foreign.log"]).status.code(), Some(2));

    // A server that is killed leaves a log that ends without an end, and replays.
    let serving = ["--profiles", "profiles.json", "--sla-ms", LONG_MS, "--record", "killed.log"];
    let (server, url) = serve(folder, &serving);
    let loaded = load(folder, &url, &[]);
    // The writer looks every 10 ms; without its last looks there is a little less to replay.
    std::thread::sleep(Duration::from_millis(100));
    drop(server);
    let replayed = json(folder, &["replay", "killed.log"]);
    assert_eq!((&replayed["equal"], &replayed["ending"]), (&Value::from(true), &"cut-off".into()));
    assert!((1..=count(&loaded, "offered")).contains(&count(&replayed, "decisions")));
}
