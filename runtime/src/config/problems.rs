//! Everything that is wrong with a configuration, not only what is found first.

use serde_json::Value;

use super::{ConfigError, ConfigFile};

/// More than anybody corrects at once.
const MOST: usize = 32;

impl ConfigFile {
    /// Every problem that [`ConfigFile::check`] finds: the first, then the first of what is left without its key, and so on.
    pub fn problems(&self) -> Vec<ConfigError> {
        let mut problems = Vec::new();
        let mut file = self.clone();
        while problems.len() < MOST
            && let Err(error) = file.clone().check()
        {
            let rest = without(&file, &error);
            problems.push(error);
            let Some(rest) = rest.filter(|rest| *rest != file) else { break };
            file = rest;
        }
        problems
    }
}

/// The file without what an error is about.
fn without(file: &ConfigFile, error: &ConfigError) -> Option<ConfigFile> {
    let mut keys = serde_json::to_value(file).ok()?;
    match error {
        ConfigError::Missing { key: "model.bundle", .. } => {
            keys["model"]["bundle"] = Value::String("model".to_owned());
        }
        ConfigError::Missing { key, .. } if key.starts_with("tls.") => {
            keys["tls"] = Value::Object(serde_json::Map::new());
        }
        ConfigError::Value { key, .. } => {
            let (section, field) = key
                .split_once('.')
                .map_or((key.as_str(), None), |(section, field)| (section, Some(field)));
            let field_of = |section: &'_ mut Value, field: &str| {
                let known = section.get(field).is_some();
                if known {
                    section[field] = Value::Null;
                }
                known
            };
            let index = section.strip_prefix("models[").and_then(|rest| rest.strip_suffix(']'));
            let is_field = match (index.and_then(|index| index.parse::<usize>().ok()), field) {
                // A model without a name would be another problem.
                (Some(_), Some("name")) => return None,
                (Some(index), Some(field)) => field_of(&mut keys["models"][index], field),
                (None, Some(field)) => field_of(&mut keys[section], field),
                (_, None) => false,
            };
            if !is_field {
                let emptied = match keys.get(section)? {
                    Value::Array(_) => Value::Array(Vec::new()),
                    _ => Value::Object(serde_json::Map::new()),
                };
                keys[section] = emptied;
            }
        }
        _ => return None,
    }
    serde_json::from_value(keys).ok()
}
