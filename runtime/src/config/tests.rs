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
            "model.bundle = \"m\"\nserving.paths = []",
            "`serving.paths` is empty; name at least one, such as \"table@cpu\", or leave it out",
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
        (
            &with("model.name = \"a/b\""),
            "`model.name` is \"a/b\"; use 1 to 128 of `a-z 0-9 _ . -`, not beginning with `.`",
        ),
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
    assert_eq!(config.models()[0].bundle, folder.path().join("m"));
    assert_eq!(config.profile().file.as_deref(), Some(Path::new("/etc/profile.json")));
    let absent = ConfigFile::read(&folder.path().join("absent.toml")).unwrap_err();
    assert!(absent.to_string().ends_with("absent.toml`"), "{absent}");
    std::fs::write(&path, "#".repeat(2 << 20)).unwrap();
    assert!(matches!(ConfigFile::read(&path), Err(ConfigError::TooLarge { .. })));
}

/// The example's block of several models, in place of `[model]`.
fn example_of_several() -> String {
    let block = EXAMPLE.lines().skip_while(|line| *line != "# [[models]]");
    let block = block.take_while(|line| line.starts_with('#')).map(|line| &line[2..]);
    block.collect::<Vec<_>>().join("\n")
}

#[test]
fn several_models_take_what_they_leave_out_from_the_common_sections() {
    let example = example_of_several();
    let text = format!(
        "constraints.sla_ms = 20.0\n{example}\n[[models]]\nname = \"b\"\nbundle = \"there\""
    );
    let file = ConfigFile::parse(&text, Path::new("mprec.toml")).unwrap();
    let shown = serde_json::to_value(&file.models[0]).unwrap();
    let mut absent = Vec::new();
    missing("models", &shown, &mut absent);
    assert!(absent.is_empty(), "not in the example: {absent:?}");
    let config = file.check().unwrap();
    let [first, second] = config.models() else { panic!("{:?}", config.models()) };
    assert_eq!(first.constraints.sla, Duration::from_millis(10));
    assert_eq!(second.constraints.sla, Duration::from_millis(20));
    assert_eq!((second.name.as_deref(), second.serving.workers), (Some("b"), None));
    assert!(second.serving.paths.is_empty() && second.profile.file.is_none());
}

#[test]
fn models_that_contradict_each_other_are_refused() {
    let two = "repository.folder = \"all\"\n[[models]]\nname = \"a\"\n[[models]]\nname = \"b\"\n";
    let models = parse(two).unwrap();
    assert_eq!(models.models()[1].bundle, Path::new("all/b"));
    assert!(parse("repository.folder = \"all\"").unwrap().models().is_empty());
    for (text, expected) in [
        ("[model]\nbundle = \"m\"\n[[models]]\nname = \"a\"\nbundle = \"a\"", "not both"),
        ("[[models]]\nname = \"a\"", "`models.bundle` is missing"),
        ("[[models]]\nbundle = \"a\"", "`models.name` is missing"),
        (&format!("{two}[[models]]\nname = \"a\""), "`models[2].name` is \"a\" twice"),
        (&format!("{two}workers = 0"), "`models[1].workers` is 0"),
        (&format!("{two}sla_ms = 0.0"), "`models[1].sla_ms` is 0"),
        (&format!("{two}paths = [\"table\"]"), "`models[1].paths` is \"table\""),
        (&format!("{two}policy = \"best\""), "`models[1].policy` is \"best\""),
        (&format!("profile.file = \"p.json\"\n{two}"), "a profile is of one model"),
        (&format!("record.file = \"log\"\n{two}"), "decisions of one model"),
        (&with("repository.keep_versions = 99"), "it must be 0 to 16"),
        (&with("repository.watch_seconds = 0.0"), "it must be 0.1 to 86400"),
        (&with("admin.listen = \"0.0.0.0:8003\""), "admin.allow_remote"),
        (&with("admin.grpc = \"[::]:8004\""), "`admin.grpc` is \"[::]:8004\""),
        (
            &with("admin = { listen = \"[::1]:8003\", grpc = \"[::1]:8003\" }"),
            "let it differ from `admin.listen`",
        ),
        (&with("model.name = \".hidden\""), "not beginning with `.`"),
    ] {
        let message = refusal(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
    assert!(parse(&with("admin = { listen = \"0.0.0.0:8003\", allow_remote = true }")).is_ok());
}

#[test]
fn the_effective_configuration_says_every_default_and_checks_to_itself() {
    for text in [with(""), uncommented(), example_of_several()] {
        let config = parse(&text).unwrap();
        let effective = config.effective();
        let written = toml::to_string(&effective).unwrap();
        assert!(written.contains("sla_ms = 10.0"), "{written}");
        assert_eq!(parse(&written).unwrap(), config, "{written}");
    }
}

#[test]
fn every_problem_is_found_at_once() {
    let text = "[model]\nname = \"a b\"\n[constraints]\nsla_ms = 0.0\n[queue]\nmax_queries = 0\n\
                [budgets]\ngpu = 1\n[serving]\nworkers = 0\n[admin]\nlisten = \"8003\"";
    let file = ConfigFile::parse(text, Path::new("mprec.toml")).unwrap();
    let problems: Vec<String> = file.problems().iter().map(ToString::to_string).collect();
    for key in [
        "`model.bundle` is missing",
        "`model.name` is \"a b\"",
        "`constraints.sla_ms` is 0",
        "`queue.max_queries` is 0",
        "`budgets` is \"gpu\"",
        "`serving.workers` is 0",
        "`admin.listen` is \"8003\"",
    ] {
        let found = problems.iter().filter(|problem| problem.starts_with(key)).count();
        assert_eq!(found, 1, "{key} in {problems:#?}");
    }
    assert_eq!(problems.len(), 7, "{problems:#?}");
    let several = "[[models]]\nname = \"a\"\nbundle = \"a\"\nsla_ms = 0.0\nworkers = 0";
    let file = ConfigFile::parse(several, Path::new("mprec.toml")).unwrap();
    assert_eq!(file.problems().len(), 2);
    let good = ConfigFile::parse(&with(""), Path::new("mprec.toml")).unwrap();
    assert!(good.problems().is_empty());
}

#[cfg(feature = "tls")]
#[test]
fn certificates_and_keys_are_named_whole_or_not_at_all() {
    assert_eq!(*parse(&with("")).unwrap().security(), SecurityConfig::default());
    for (text, expected) in [
        ("tls.certificate = \"a\"", "`tls.key` is missing; write for example `key = \"key.pem\"`"),
        ("tls.key = \"a\"", "`tls.certificate` is missing"),
        ("tls.client_ca = \"a\"", "`tls.certificate` is missing"),
        ("tls.certificates = \"a\"", "unknown field `certificates`"),
        ("auth.keys = \"a\"", "unknown field `keys`"),
    ] {
        let message = refusal(&with(text));
        assert!(message.contains(expected), "{text}: {message}");
    }
    let text = with("constraints.sla_ms = 0.0\ntls.key = \"a\"");
    let file = ConfigFile::parse(&text, Path::new("mprec.toml")).unwrap();
    assert_eq!(file.problems().len(), 2, "{:?}", file.problems());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mprec.toml");
    let text = "tls = { certificate = \"c.pem\", key = \"/k.pem\", client_ca = \"ca.pem\" }\n\
                auth.keys_file = \"keys.txt\"";
    std::fs::write(&path, with(text)).unwrap();
    let file = ConfigFile::read(&path).unwrap();
    let settings = file.settings();
    let shown = |key: &str| settings.iter().find(|(name, _)| name == key).unwrap().1.as_str();
    assert_eq!((shown("tls.key"), shown("auth.keys_file")), ("(hidden)", "(hidden)"));
    assert_eq!(shown("tls.certificate"), "…/c.pem");
    let config = file.check().unwrap();
    let SecurityConfig { tls, keys } = config.security();
    let tls = tls.as_ref().unwrap();
    assert_eq!((&tls.certificate, &*tls.key), (&folder.path().join("c.pem"), Path::new("/k.pem")));
    assert_eq!(tls.client_ca.as_ref(), Some(&folder.path().join("ca.pem")));
    assert_eq!(keys.as_ref(), Some(&folder.path().join("keys.txt")));
    let problems = config.security().problems();
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(problems[0].contains("c.pem") && problems[1].contains("keys.txt"), "{problems:?}");
}
