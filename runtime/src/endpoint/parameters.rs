//! The `parameters` of a request or of a tensor: a map to strings, numbers and booleans.

use std::{fmt, num::NonZeroUsize, time::Duration};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::ApiError;

/// Most parameters in one map.
const MAX_PARAMETERS: usize = 64;

/// Parameters of a request that clients set: name, JSON type, meaning.
pub(crate) const REQUEST_PARAMETERS: [(&str, &str, &str); 7] = [
    ("sla_ms", "number", "Time budget from arrival to answer, in milliseconds"),
    (
        "timeout",
        "integer",
        "Triton's time budget, in microseconds; 0 is none. The smallest budget wins",
    ),
    ("min_quality", "number", "Least expected accuracy of the path that answers, from 0 to 1"),
    ("priority", "integer", "1 is the most important, 0 the default"),
    ("binary_data_output", "boolean", "Whether the outputs are sent in binary"),
    ("top_k", "integer", "How many of the best scores to send, with the samples they are of"),
    (
        USER_FEATURES,
        "string",
        "Sparse features that are the user's, with commas between their names: sent once, in `user_sparse`",
    ),
];

/// Name of the parameter that says what is sent once for all samples.
pub(crate) const USER_FEATURES: &str = "user_features";

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// Null, a list or a map: nothing that a parameter may be.
    Other,
}

/// A map of parameters, in the order in which they stood.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Parameters(Vec<(String, Scalar)>);

/// The parameters of a request that the endpoint acts on.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RequestParameters {
    /// The smaller of `sla_ms` and Triton's `timeout`.
    pub(crate) budget: Option<Duration>,
    pub(crate) min_quality: Option<f64>,
    pub(crate) priority: u32,
    pub(crate) binary_output: bool,
    /// How many of the best scores to send; all, and in the samples' order, if not given.
    pub(crate) top_k: Option<NonZeroUsize>,
    /// Names of sparse features, with commas between.
    pub(crate) user_features: Option<String>,
}

impl Parameters {
    /// Parameters from a protocol that has them in a map of its own.
    pub(crate) fn of(pairs: impl IntoIterator<Item = (String, Scalar)>) -> Result<Self, ApiError> {
        let mut entries = Vec::new();
        for (name, value) in pairs {
            if entries.len() == MAX_PARAMETERS {
                let problem = format!("is one of more than {MAX_PARAMETERS} parameters");
                return Err(bad(&name, &problem));
            }
            entries.push((name, value));
        }
        Ok(Self(entries))
    }

    /// The value of `name`; the last one, should it stand there twice.
    pub(crate) fn get(&self, name: &str) -> Option<&Scalar> {
        self.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// Names and values, in the order in which they stood.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Scalar)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The boolean `name`.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Scalar::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(bad(name, "must be true or false")),
        }
    }

    /// The size `name`, in bytes.
    pub(crate) fn size(&self, name: &str) -> Result<Option<usize>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Scalar::Integer(value)) => {
                usize::try_from(*value).map(Some).map_err(|_| bad(name, "must not be negative"))
            }
            Some(_) => Err(bad(name, "must be a whole number of bytes")),
        }
    }

    /// Reads these as the parameters of a request.
    ///
    /// An unknown name is an error, because a misspelt `min_quality` would otherwise be ignored;
    /// names that start with `triton_` are the protocol's own and pass.
    pub(crate) fn of_request(&self) -> Result<RequestParameters, ApiError> {
        let mut read = RequestParameters::default();
        for (name, value) in &self.0 {
            match name.as_str() {
                "sla_ms" => {
                    let duration = milliseconds(value)
                        .ok_or_else(|| bad(name, "must be a number of milliseconds above 0"))?;
                    read.budget = smaller(read.budget, duration);
                }
                "timeout" => match value {
                    // 0 is Triton's way to say none.
                    Scalar::Integer(0) => {}
                    Scalar::Integer(micros @ 1..) => {
                        let duration = Duration::from_micros(micros.unsigned_abs());
                        read.budget = smaller(read.budget, duration);
                    }
                    _ => return Err(bad(name, "must be a whole number of microseconds")),
                },
                "min_quality" => match number(value) {
                    Some(quality) if (0.0..=1.0).contains(&quality) => {
                        read.min_quality = Some(quality);
                    }
                    _ => return Err(bad(name, "must be a number from 0 to 1")),
                },
                "priority" => match value {
                    Scalar::Integer(priority) if u32::try_from(*priority).is_ok() => {
                        read.priority = *priority as u32;
                    }
                    _ => return Err(bad(name, "must be a whole number from 0 to 4294967295")),
                },
                "binary_data_output" => {
                    read.binary_output = self.flag(name)?.unwrap_or_default();
                }
                "top_k" => match value {
                    Scalar::Integer(count @ 1..) => {
                        // More than there can be samples are all.
                        let count = usize::try_from(*count).unwrap_or(usize::MAX);
                        read.top_k = NonZeroUsize::new(count);
                    }
                    _ => return Err(bad(name, "must be a whole number above 0")),
                },
                USER_FEATURES => match value {
                    Scalar::Text(names) => read.user_features = Some(names.clone()),
                    _ => return Err(bad(name, "must be names with commas between them")),
                },
                // What clients send to say that they are not in a sequence.
                "sequence_id" | "sequence_start" | "sequence_end" => match value {
                    Scalar::Integer(0) | Scalar::Bool(false) => {}
                    Scalar::Text(text) if text.is_empty() => {}
                    _ => return Err(bad(name, "is set, and sequences are not supported")),
                },
                other if other.starts_with("triton_") => {}
                _ => {
                    return Err(bad(
                        name,
                        "is unknown; known are `sla_ms`, `min_quality`, `timeout`, `priority`, \
                         `binary_data_output`, `top_k` and `user_features`",
                    ));
                }
            }
        }
        Ok(read)
    }
}

impl RequestParameters {
    /// The time budget is at most `budget`.
    pub(crate) fn limit(&mut self, budget: Duration) {
        self.budget = smaller(self.budget, budget);
    }
}

/// The smaller of two time budgets, where the first may be missing.
fn smaller(budget: Option<Duration>, other: Duration) -> Option<Duration> {
    Some(budget.map_or(other, |budget| budget.min(other)))
}

fn bad(name: &str, problem: &str) -> ApiError {
    ApiError::BadParameter { name: name.to_owned(), problem: problem.to_owned() }
}

fn number(value: &Scalar) -> Option<f64> {
    match value {
        Scalar::Integer(value) => Some(*value as f64),
        Scalar::Float(value) => Some(*value),
        _ => None,
    }
}

fn milliseconds(value: &Scalar) -> Option<Duration> {
    let milliseconds = number(value).filter(|&value| value > 0.0)?;
    Duration::try_from_secs_f64(milliseconds / 1e3).ok()
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Parameters;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "an object of at most {MAX_PARAMETERS} parameters")
            }

            fn visit_unit<E>(self) -> Result<Parameters, E> {
                Ok(Parameters::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if entries.len() == MAX_PARAMETERS {
                        return Err(serde::de::Error::invalid_length(entries.len() + 1, &self));
                    }
                    entries.push(entry);
                }
                Ok(Parameters(entries))
            }
        }

        deserializer.deserialize_any(Map)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl<'de> Visitor<'de> for Value {
            type Value = Scalar;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string, a number or a boolean")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Integer))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }

        deserializer.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<RequestParameters, ApiError> {
        serde_json::from_str::<Parameters>(json).unwrap().of_request()
    }

    #[test]
    fn the_smallest_budget_wins() {
        for (json, micros) in [
            ("{}", None),
            ("null", None),
            (r#"{"timeout": 0}"#, None),
            (r#"{"sla_ms": 2.5}"#, Some(2500)),
            (r#"{"sla_ms": 3, "timeout": 1000}"#, Some(1000)),
            (r#"{"timeout": 9000, "sla_ms": 3}"#, Some(3000)),
        ] {
            assert_eq!(read(json).unwrap().budget, micros.map(Duration::from_micros), "{json}");
        }
    }

    #[test]
    fn wrong_values_and_unknown_names_are_refused() {
        for json in [
            r#"{"sla_ms": 0}"#,
            r#"{"sla_ms": -1}"#,
            r#"{"sla_ms": "5"}"#,
            r#"{"sla_ms": 1e300}"#,
            r#"{"sla_ms": null}"#,
            r#"{"timeout": -5}"#,
            r#"{"timeout": 1.5}"#,
            r#"{"min_quality": 1.01}"#,
            r#"{"min_quality": [0.5]}"#,
            r#"{"priority": -1}"#,
            r#"{"priority": 4294967296}"#,
            r#"{"binary_data_output": 1}"#,
            r#"{"min_qualty": 0.7}"#,
            r#"{"sequence_id": 7}"#,
            r#"{"top_k": 0}"#,
            r#"{"top_k": -1}"#,
            r#"{"top_k": 1.5}"#,
            r#"{"user_features": ["a"]}"#,
        ] {
            assert!(matches!(read(json), Err(ApiError::BadParameter { .. })), "{json}");
        }
        assert!(read(r#"{"triton_enable_empty_final_response": true, "sequence_id": 0}"#).is_ok());
    }

    #[test]
    fn the_table_has_the_parameters_that_are_known() {
        let message = read(r#"{"x": 1}"#).unwrap_err().to_string();
        for (name, kind, _) in REQUEST_PARAMETERS {
            let value = match kind {
                "boolean" => "true",
                "string" => "\"a\"",
                _ => "1",
            };
            assert!(read(&format!("{{\"{name}\": {value}}}")).is_ok(), "{name}");
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
    }

    #[test]
    fn a_map_without_end_is_refused() {
        let many: Vec<_> = (0..=MAX_PARAMETERS).map(|at| format!("\"triton_{at}\":1")).collect();
        let json = format!("{{{}}}", many.join(","));
        assert!(serde_json::from_str::<Parameters>(&json).is_err());
    }
}
