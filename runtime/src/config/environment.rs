//! Keys that the environment sets.

use serde_json::Value;

use super::{ConfigError, ConfigFile};

/// What every variable that sets a key begins with.
const PREFIX: &str = "MPREC_";

/// Sections whose keys are fixed. Those of the others are names of the user's, which a variable cannot spell.
const SECTIONS: [&str; 14] = [
    "admin",
    "auth",
    "constraints",
    "log",
    "model",
    "objective",
    "profile",
    "queue",
    "record",
    "repository",
    "server",
    "serving",
    "shutdown",
    "tls",
];

impl ConfigFile {
    /// Sets the keys that variables such as `MPREC_SERVER_LISTEN` name: section and key in capitals. Values are written as in
    /// the file, texts with or without their quotes. Variables of other names are left alone.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Variable`] for a key that its section does not have, or a value of the wrong type.
    pub fn with_variables(
        self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut file = self;
        for (variable, value) in variables {
            let Some((section, key)) = key_of(&variable) else { continue };
            let fail = |error: serde_json::Error| ConfigError::Variable {
                variable: variable.clone(),
                value: value.clone(),
                message: error.to_string(),
            };
            let mut keys = serde_json::to_value(&file).map_err(fail)?;
            keys[section][&key] = read(&value);
            // A text may look like a number or a date.
            file = serde_json::from_value(keys.clone()).or_else(|error| {
                keys[section][&key] = Value::String(value.clone());
                serde_json::from_value(keys).map_err(|_| fail(error))
            })?;
        }
        Ok(file)
    }
}

/// Section and key of a variable that has some.
fn key_of(variable: &str) -> Option<(&'static str, String)> {
    let name = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
    SECTIONS.iter().find_map(|&section| {
        let key = name.strip_prefix(section)?.strip_prefix('_')?;
        (!key.is_empty()).then(|| (section, key.to_owned()))
    })
}

/// A value as TOML writes it, or else the text.
fn read(text: &str) -> Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}")).ok();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    let value = value.and_then(|value| serde_json::to_value(value).ok());
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<ConfigFile, ConfigError> {
        let text = "model.bundle = \"m\"\nconstraints.sla_ms = 5.0\nbudgets.cpu = \"1GiB\"";
        let owned = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        ConfigFile::parse(text, Path::new("mprec.toml")).unwrap().with_variables(owned)
    }

    #[test]
    fn variables_set_keys_as_the_file_does() {
        let file = with(&[
            ("MPREC_CONSTRAINTS_SLA_MS", "25.0"),
            ("MPREC_SERVER_LISTEN", "127.0.0.1:9"),
            ("MPREC_SERVING_PATHS", "[\"table@cpu\"]"),
            ("MPREC_SERVING_PIN_WORKERS", "true"),
            ("MPREC_MODEL_NAME", "\"ctr\""),
            ("MPREC_RECORD_FILE", "7"),
            ("MPREC_LOG", "debug"),
            ("MPREC_REQUIRE", "python"),
            ("HOME", "here"),
        ])
        .unwrap();
        assert_eq!(file.constraints.sla_ms, Some(25.0));
        assert_eq!(
            file.server.listen,
            Some(crate::config::OneOrMany::One("127.0.0.1:9".to_owned()))
        );
        assert_eq!(file.serving.paths, Some(vec!["table@cpu".to_owned()]));
        assert_eq!(file.serving.pin_workers, Some(true));
        assert_eq!(file.model.name.as_deref(), Some("ctr"));
        assert_eq!(file.model.bundle.as_deref(), Some(Path::new("m")), "the file's");
        assert_eq!(file.record.file.as_deref(), Some(Path::new("7")), "a file may be called so");
        assert_eq!(file.log.filter, None);
    }

    #[test]
    fn a_variable_of_no_key_or_a_wrong_value_is_refused_by_name() {
        for (variable, value, problem) in [
            ("MPREC_SERVER_PROT", "1", "unknown field `prot`"),
            ("MPREC_CONSTRAINTS_SLA_MS", "fast", "invalid type"),
            ("MPREC_SERVING_WORKERS", "-1", "invalid value"),
        ] {
            let error = with(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.contains(variable) && error.contains(problem), "{error}");
        }
    }
}
