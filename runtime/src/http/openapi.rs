//! The OpenAPI document: what the endpoint takes and gives, from the tables that it works by.
//!
//! Paths come from [`ROUTES`], statuses and codes from those of [`ErrorCode`], inputs and parameters from the
//! endpoint's lists, and the shapes of replies from the types that are sent.

use std::{collections::BTreeMap, sync::LazyLock};

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    coding,
    handler::LOAD_FORMAT_HEADER,
    reply::Document,
    request::HEADER_LENGTH,
    route::{ROUTES, RouteRow, Shown},
};
use crate::{
    endpoint::{
        ErrorBody, ErrorCode, INDICES, INPUTS, ModelConfig, ModelMetadata, REQUEST_PARAMETERS,
        SCORES, SLA_HEADER, ServerMetadata, Statistics,
    },
    metrics::Label as _,
};

/// The document; the same for all servers of a version.
pub(super) fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(make);
    &DOCUMENT
}

fn make() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for row in ROUTES {
        let operation = operation(row, &mut schemas);
        for path in row.paths() {
            let entry = paths.entry(path.clone()).or_insert_with(|| json!({}));
            let mut operation = operation.clone();
            let has_version = path.contains("{model_version}");
            let suffix = if has_version { "OfVersion" } else { "" };
            operation["operationId"] = json!(format!("{}{suffix}", row.id));
            operation["parameters"] = parameters(row, &path);
            entry[row.verb.to_ascii_lowercase()] = operation;
        }
    }
    let mut components: Map<String, Value> = schemas.take_definitions(true);
    components.insert("InferenceRequest".to_owned(), inference_request());
    if let Some(code) = components.get_mut("Error").map(|error| &mut error["properties"]["code"]) {
        code["enum"] = json!(ErrorCode::NAMES);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mprec",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Scores of a click model, by a deadline",
            "description": "Open Inference Protocol with Triton's extensions. Every error has a stable code.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        // Wherever the document was read from.
        "servers": [{ "url": "/" }],
        "paths": paths,
        // Whether a key is needed is the server's configuration.
        "security": [{}, { "key": [] }],
        "components": {
            "schemas": components,
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(row: &RouteRow, schemas: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    let ok = match row.shown {
        Shown::Server => json_of::<ServerMetadata>(schemas),
        Shown::Model => json_of::<ModelMetadata>(schemas),
        Shown::ModelConfig => json_of::<ModelConfig>(schemas),
        Shown::Statistics => json_of::<Statistics>(schemas),
        Shown::Scores => {
            let mut content = json_of::<Document<'static>>(schemas);
            content["application/octet-stream"] = json!({ "schema": {
                "description": format!(
                    "The JSON of a reply, as many bytes as `{HEADER_LENGTH}` says, and the outputs, little-endian"
                ),
            }});
            content
        }
        Shown::Object => json!({ "application/json": { "schema": { "type": "object" } } }),
        Shown::Text => json!({ "text/plain": { "schema": { "type": "string" } } }),
    };
    responses.insert("200".to_owned(), json!({ "description": row.about, "content": ok }));
    let error = json_of::<ErrorBody>(schemas);
    for (status, codes) in codes_of(row) {
        let description = format!("code {}", codes.join(", "));
        responses.insert(status, json!({ "description": description, "content": error }));
    }
    let mut operation = json!({ "summary": row.about, "responses": responses });
    if matches!(row.shown, Shown::Scores) {
        operation["requestBody"] = json!({
            "required": true,
            "description": format!(
                "JSON, or JSON and binary tensors behind it; as it is or in one of the content codings {}",
                coding::SUPPORTED
            ),
            "content": {
                "application/json": {
                    "schema": { "$ref": "#/components/schemas/InferenceRequest" },
                },
                "application/octet-stream": { "schema": {
                    "description": format!(
                        "An inference request, as many bytes as `{HEADER_LENGTH}` says, and the inputs that state a \
                         `binary_data_size`, little-endian, in their order"
                    ),
                }},
            },
        });
    }
    operation
}

/// Codes of the errors that a route may answer with, by status.
fn codes_of(row: &RouteRow) -> BTreeMap<String, Vec<&'static str>> {
    let mut codes = BTreeMap::<_, Vec<_>>::new();
    for name in ErrorCode::NAMES {
        let Some(code) = ErrorCode::from_name(name) else { continue };
        // The document lists neither unknown URLs nor verbs.
        let possible = match code {
            ErrorCode::UnknownRoute | ErrorCode::WrongVerb => false,
            ErrorCode::UnknownModel | ErrorCode::UnknownVersion => {
                row.path.contains("{model_name}")
            }
            ErrorCode::Unauthenticated | ErrorCode::Forbidden => {
                !row.path.starts_with("/v2/health/")
            }
            _ => matches!(row.shown, Shown::Scores),
        };
        if possible {
            codes.entry(code.status().as_str().to_owned()).or_default().push(*name);
        }
    }
    codes
}

fn json_of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    json!({ "application/json": { "schema": schemas.subschema_for::<T>() } })
}

fn parameters(row: &RouteRow, path: &str) -> Value {
    let mut parameters = Vec::new();
    for (name, about) in [("model_name", "A model"), ("model_version", "Its version")] {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(json!({
                "name": name, "in": "path", "required": true, "description": about,
                "schema": { "type": "string" },
            }));
        }
    }
    if matches!(row.shown, Shown::Scores) {
        let headers = [
            (
                SLA_HEADER,
                json!({ "type": "number", "exclusiveMinimum": 0 }),
                "Time budget, in milliseconds",
            ),
            (
                HEADER_LENGTH,
                json!({ "type": "integer", "minimum": 1 }),
                "Bytes of JSON before binary tensors",
            ),
            (
                LOAD_FORMAT_HEADER,
                json!({ "enum": ["text", "json"] }),
                "Asks for a report of the load",
            ),
        ];
        for (name, schema, about) in headers {
            parameters.push(json!({
                "name": name, "in": "header", "required": false, "description": about,
                "schema": schema,
            }));
        }
    }
    Value::Array(parameters)
}

fn inference_request() -> Value {
    let parameters: Map<String, Value> = REQUEST_PARAMETERS
        .iter()
        .map(|&(name, kind, about)| {
            (name.to_owned(), json!({ "type": kind, "description": about }))
        })
        .collect();
    let inputs: Vec<Value> = INPUTS
        .iter()
        .map(|input| {
            json!({
                "title": input.name,
                "description": input.about,
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": { "const": input.name },
                    "datatype": { "enum": input.datatypes },
                    "shape": { "type": "array", "items": { "type": "integer", "minimum": 0 } },
                    "parameters": { "type": "object", "properties": {
                        "binary_data_size": { "type": "integer", "minimum": 0 },
                    }},
                    "data": { "type": "array", "description": "Flat, or nested like the shape" },
                },
            })
        })
        .collect();
    json!({
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": { "type": "string", "description": "Echoed" },
            "parameters": { "type": "object", "properties": parameters },
            "inputs": { "type": "array", "items": { "oneOf": inputs } },
            "outputs": { "type": "array", "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": { "enum": [SCORES, INDICES] },
                    "parameters": { "type": "object", "properties": {
                        "binary_data": { "type": "boolean" },
                    }},
                },
            }},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_code_of_an_error_is_there() {
        let infer = &document()["paths"]["/v2/models/{model_name}/infer"]["post"]["responses"];
        let text = infer.to_string();
        for name in ErrorCode::NAMES {
            let is_listed = text.contains(*name);
            assert_eq!(is_listed, !["unknown_route", "wrong_verb"].contains(name), "{name}");
        }
        assert!(infer["429"]["description"].as_str().unwrap().contains("overloaded"));
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let mut names = std::collections::BTreeSet::new();
        for operations in document()["paths"].as_object().unwrap().values() {
            for operation in operations.as_object().unwrap().values() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name), "{name}");
            }
        }
    }
}
