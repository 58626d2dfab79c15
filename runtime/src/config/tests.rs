use std::{path::Path, time::Duration};

use serde_json::Value;

use super::*;
use crate::{endpoint::Statuses, http::ListenOn};

const EXAMPLE: &str = include_str!("../../mprec.example.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    ConfigFile::parse(text, Path::new("mprec.toml"))?.check()
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The least that can be served, and `more`.
fn with(more: &str) -> String {
    let base = "model.bundle = \"m\"\nserving.paths = [\"table@cpu\", \"dhe@cpu\"]\n";
    format!("{base}{more}")
}

/// The example with every key that it shows commented out put in force.
fn uncommented() -> String {
    let is_key = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line.starts_with("[quality")
            || line.starts_with("[variants")
            || (line.contains(" = ") && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_key(rest) => rest,
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    // What is declared of a path asks for the path.
    text.replace("paths = [\"table@cpu\"", "paths = [\"theirs@onnx\", \"table@cpu\"")
}

fn missing(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(at.to_owned()),
        Value::Object(fields) => {
            assert!(!fields.is_empty(), "`{at}` shows no entry");
            fields.iter().for_each(|(key, value)| missing(&format!("{at}.{key}"), value, found));
        }
        _ => {}
    }
}

#[test]
fn the_example_shows_every_key() {
    let text = uncommented();
    let file = ConfigFile::parse(&text, Path::new("mprec.example.toml")).unwrap();
    let mut absent = Vec::new();
    missing("", &serde_json::to_value(&file).unwrap(), &mut absent);
    assert!(absent.is_empty(), "not in the example: {absent:?}");
    let config = file.check().unwrap();
    assert_eq!(config.declared().quality["hybrid@cpu"].accuracy, 0.7898);
    assert_eq!(config.serving().workers, Some(2));
    assert_eq!(config.budgets()["cpu"], ByteSize(32 << 30));
}

#[test]
fn the_example_states_the_defaults() {
    let example = parse(EXAMPLE).unwrap();
    let least = "model.bundle = \"model\"\nserving.paths = [\"table@cpu\", \"hybrid@cpu\"]";
    assert_eq!(example, parse(least).unwrap());
}

#[test]
fn unknown_keys_are_refused_with_their_line() {
    let message = refusal(&with("[constraints]\nsla_s = 1\n"));
    assert!(
        message.starts_with("in config `mprec.toml`, line 4: unknown field `sla_s`"),
        "{message}"
    );
    assert!(message.contains("sla_ms"), "{message}");
    let message = refusal(&with("[constraints]\nsla_ms = \"10\"\n"));
    assert!(message.contains("line 4") && message.contains("invalid type"), "{message}");
    assert!(refusal(&with("[sla]\nms = 10")).contains("unknown field `sla`"));
}

#[test]
fn a_refusal_names_the_key_and_says_what_to_write() {
    let cases = [
        ("", "`model.bundle` is missing; write for example `bundle = \"model\"`"),
        (
            "model.bundle = \"m\"",
            "`serving.paths` is missing; write for example `paths = [\"table@cpu\"]`",
        ),
        (&with("constraints.sla_ms = 0.0"), "`constraints.sla_ms` is 0; it must be 0.1 to 3600000"),
        (
            &with("constraints.sla_ms = nan"),
            "`constraints.sla_ms` is NaN; it must be 0.1 to 3600000",
        ),
        (
            &with("constraints.min_quality = 79.0"),
            "`constraints.min_quality` is 79; it must be 0 to 1",
        ),
        (&with("serving.workers = 0"), "`serving.workers` is 0; it must be 1 to 256"),
        (
            &with("budgets.gpu = \"1GB\""),
            "`budgets` is \"gpu\"; the devices of `serving.paths` are cpu",
        ),
        (
            &with("serving.cache_bytes = 100000000000"),
            "`serving.cache_bytes` is 100000000000; it must be 0 to 68719476736",
        ),
        (
            &with("server.listen = \"8000\""),
            "`server.listen` is \"8000\"; write address and port, for example \"127.0.0.1:8000\", or a socket, \
             for example \"unix:/run/mprec/http.sock\"",
        ),
        (&with("server.listen = []"), "`server.listen` is a list of 0; name 1 to 16 places"),
        (
            &with("server.listen = [\"unix:a\", \"unix:a\"]"),
            "`server.listen` is \"unix:a\" twice; name each place once",
        ),
        (
            &with("server.grpc = \"on\""),
            "`server.grpc` is \"on\"; write address and port, for example \"127.0.0.1:8001\", or \"off\"",
        ),
        (
            &with("server.listen = \"127.0.0.1:8001\""),
            "`server.grpc` is \"127.0.0.1:8001\"; let it differ from `server.listen`",
        ),
        (
            &with("server.metrics = \"8002\""),
            "`server.metrics` is \"8002\"; write address and port, for example \"127.0.0.1:8002\"",
        ),
        (
            &with("objective.policy = \"static:hash@cpu\""),
            "`objective.policy` is \"static:hash@cpu\"; `serving.paths` has table@cpu, dhe@cpu",
        ),
        (
            &with("variants.other = { onnx = \"other.onnx\" }"),
            "`variants` is \"other\"; name a path of it in `serving.paths`, such as \"other@onnx\", or leave it out",
        ),
        (
            &with("quality.hash = { accuracy = 0.7, source = \"us\" }"),
            "`quality` is \"hash\"; `serving.paths` has table@cpu, dhe@cpu",
        ),
        (
            &with("quality.dhe = { accuracy = 0.7, source = \" \" }"),
            "`quality.\"dhe\".source` is \" \"; say where the accuracy comes from, in at most 200 characters",
        ),
        (&with("model.name = \"a/b\""), "`model.name` is \"a/b\"; use 1 to 128 of `a-z 0-9 _ . -`"),
        (
            &with("queue.max_samples = 100"),
            "`queue.max_samples` is 100; let it hold at least one request of `server.max_samples` = 4096",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected);
    }
    assert!(refusal(&with("objective.policy = \"best\"")).contains("there is no policy `best`"));
    let twice = "model.bundle = \"m\"\nserving.paths = [\"a@cpu\", \"a@cpu\"]";
    assert_eq!(refusal(twice), "`serving.paths` is \"a@cpu\" twice; name each path once");
    for path in ["", "@", "table", "table@", "@cpu", "table@abacus"] {
        let message = refusal(&format!("model.bundle = \"m\"\nserving.paths = [{path:?}]"));
        assert!(message.starts_with(&format!("`serving.paths` is {path:?}; ")), "{message}");
    }
}

#[test]
fn grpc_can_be_switched_off() {
    assert_eq!(parse(&with("")).unwrap().server().grpc.unwrap().port(), 8001);
    assert_eq!(parse(&with("server.grpc = \"off\"")).unwrap().server().grpc, None);
    // Two free ports are never the same.
    let free = with("server = { listen = \"[::1]:0\", grpc = \"[::1]:0\" }");
    assert!(parse(&free).is_ok());
}

#[test]
fn the_endpoint_listens_in_one_place_or_several() {
    let listen = |text: &str| parse(&with(text)).unwrap().server().listen.clone();
    let tcp = |text: &str| ListenOn::Tcp(text.parse().unwrap());
    assert_eq!(listen(""), [tcp("127.0.0.1:8000")]);
    assert_eq!(listen("server.listen = \"[::1]:9\""), [tcp("[::1]:9")]);
    let both = listen("server.listen = [\"127.0.0.1:9\", \"unix:/run/m.sock\"]");
    assert_eq!(both, [tcp("127.0.0.1:9"), ListenOn::Unix("/run/m.sock".into())]);
    for text in ["unix:", "localhost:80", "127.0.0.1", ""] {
        assert!(parse(&with(&format!("server.listen = {text:?}"))).is_err(), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mprec.toml");
    std::fs::write(&path, with("server.listen = \"unix:m.sock\"")).unwrap();
    let config = ConfigFile::read(&path).unwrap().check().unwrap();
    assert_eq!(config.server().listen, [ListenOn::Unix(folder.path().join("m.sock"))]);
}

#[test]
fn statuses_are_ours_or_tritons() {
    assert_eq!(parse(&with("")).unwrap().server().errors, Statuses::Distinct);
    let triton = parse(&with("server.errors = \"triton\"")).unwrap();
    assert_eq!(triton.server().errors, Statuses::Triton);
    let message = refusal(&with("server.errors = \"http\""));
    assert!(message.contains("`distinct` or `triton`"), "{message}");
}

#[test]
fn flags_are_checked_like_keys() {
    let mut file = ConfigFile::parse(&with(""), Path::new("mprec.toml")).unwrap();
    file.constraints.sla_ms = Some(25.0);
    assert_eq!(file.clone().check().unwrap().constraints().sla, Duration::from_millis(25));
    file.constraints.sla_ms = Some(-1.0);
    assert!(file.check().is_err());
}

#[test]
fn names_of_files_are_taken_from_the_folder_of_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mprec.toml");
    std::fs::write(&path, with("profile.file = \"/etc/profile.json\"")).unwrap();
    let config = ConfigFile::read(&path).unwrap().check().unwrap();
    assert_eq!(config.model().bundle, folder.path().join("m"));
    assert_eq!(config.profile().file.as_deref(), Some(Path::new("/etc/profile.json")));
    let absent = ConfigFile::read(&folder.path().join("absent.toml")).unwrap_err();
    assert!(absent.to_string().ends_with("absent.toml`"), "{absent}");
    std::fs::write(&path, "#".repeat(2 << 20)).unwrap();
    assert!(matches!(ConfigFile::read(&path), Err(ConfigError::TooLarge { .. })));
}
