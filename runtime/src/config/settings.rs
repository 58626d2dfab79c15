//! The settings in force, for people to look at.

use std::path::Path;

use serde_json::Value;

use super::ConfigFile;

/// Every key at its default, as a test holds it to be; keys without one are commented out.
const DEFAULTS: &str = include_str!("../../mprec.example.toml");

/// A key that has one of these in its last part has a value that is not shown.
const SECRET: &[&str] = &["key", "secret", "token", "password", "credential", "private", "auth"];

/// What is shown instead.
const HIDDEN: &str = "(hidden)";

impl ConfigFile {
    /// Every key that is in force, written or by default, with its value as text.
    ///
    /// Values of keys that sound like a secret are hidden. Of files only the last part of the name is shown: where
    /// they lie is the machine's affair.
    pub fn settings(&self) -> Vec<(String, String)> {
        let defaults = Self::parse(DEFAULTS, Path::new("mprec.example.toml"));
        let defaults = defaults.expect("a test parses the example");
        let of = |file: &Self| serde_json::to_value(file).expect("keys are strings");
        let mut value = of(&defaults);
        overlay(&mut value, of(self));
        let mut settings = Vec::new();
        flatten("", &value, &mut settings);
        settings
    }
}

fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (below, above) => *below = above,
    }
}

fn flatten(at: &str, value: &Value, settings: &mut Vec<(String, String)>) {
    let text = match value {
        Value::Null => return,
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                flatten(&key, value, settings);
            }
            return;
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{at}[{index}]"), item, settings);
            }
            return;
        }
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(", "),
        other => scalar(other),
    };
    let last = at.rsplit('.').next().unwrap_or(at).to_ascii_lowercase();
    let is_secret = SECRET.iter().any(|word| last.contains(word));
    let text = if is_secret { HIDDEN.to_owned() } else { text };
    settings.push((at.to_owned(), text));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.starts_with('/') || text.contains("../") => {
            let name = Path::new(text).file_name().unwrap_or_default();
            format!("…/{}", name.to_string_lossy())
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_shown_and_what_was_written_wins() {
        let text = "model.bundle = \"/srv/secret-place/model\"\nserving.paths = [\"a@cpu\", \"b@cpu\"]\n\
                    constraints.sla_ms = 25.0\n[quality.\"a@cpu\"]\naccuracy = 0.75\nsource = \"us\"";
        let file = ConfigFile::parse(text, Path::new("mprec.toml")).unwrap();
        let settings = file.settings();
        let shown = |key: &str| {
            settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
        };
        assert_eq!(shown("constraints.sla_ms"), Some("25.0"));
        assert_eq!(shown("objective.policy"), Some("multi-path"));
        assert_eq!(shown("serving.paths"), Some("a@cpu, b@cpu"));
        assert_eq!(shown("model.bundle"), Some("…/model"));
        assert_eq!(shown("quality.a@cpu.accuracy"), Some("0.75"));
        assert_eq!(shown("model.name"), None, "it has no default");
        assert!(!format!("{settings:?}").contains("secret-place"));
    }

    #[test]
    fn lists_of_tables_are_shown_key_by_key() {
        let value = serde_json::json!({
            "models": [{ "name": "a", "bundle": "/srv/secret-place/a" }, { "name": "b", "token": "abc" }],
        });
        let mut settings = Vec::new();
        flatten("", &value, &mut settings);
        let text = format!("{settings:?}");
        assert!(!text.contains("secret-place") && !text.contains("abc"), "{text}");
        assert!(settings.contains(&("models[0].bundle".into(), "…/a".into())), "{text}");
    }

    #[test]
    fn secrets_are_hidden_by_their_name() {
        let value = serde_json::json!({
            "server": { "api_keys": ["abc"], "tls_private": "abc", "token": "abc", "listen": "x" },
        });
        let mut settings = Vec::new();
        flatten("", &value, &mut settings);
        assert_eq!(settings.len(), 4);
        assert!(!format!("{settings:?}").contains("abc"), "{settings:?}");
        assert!(settings.contains(&("server.listen".into(), "x".into())));
    }
}
