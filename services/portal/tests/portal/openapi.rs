//! The OpenAPI document against the routes, and every answer against the document.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fixture::{self, *};

/// Checks a value against a schema of the document; the words of JSON Schema that utoipa writes, and no others.
fn validate(document: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = schema.as_object().unwrap_or_else(|| panic!("{place}: no schema"));
    for (word, rule) in schema {
        match word.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                let target =
                    document.pointer(pointer).unwrap_or_else(|| panic!("{place}: {pointer} is missing"));
                validate(document, target, value, place);
            }
            "allOf" => {
                rule.as_array().unwrap().iter().for_each(|part| validate(document, part, value, place))
            }
            "oneOf" => {
                let mut fits = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|part| (part["type"] == "null") == value.is_null());
                let part = fits.next_back().unwrap_or_else(|| panic!("{place}: no variant"));
                validate(document, part, value, place);
            }
            "type" => {
                let types: Vec<&str> = match rule {
                    Value::Array(types) => types.iter().map(|name| name.as_str().unwrap()).collect(),
                    name => vec![name.as_str().unwrap()],
                };
                let fits = types.iter().any(|name| match *name {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("{place}: unknown type {other}"),
                });
                assert!(fits, "{place}: {value} is not of type {types:?}");
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    assert!(value.get(name.as_str().unwrap()).is_some(), "{place}: {name} is missing");
                }
            }
            "properties" => {
                for (name, part) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(name) {
                        validate(document, part, inner, &format!("{place}.{name}"));
                    }
                }
            }
            "items" => {
                for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
                    validate(document, rule, inner, &format!("{place}[{index}]"));
                }
            }
            "additionalProperties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    validate(document, rule, inner, &format!("{place}.{name}"));
                }
            }
            "minimum" => assert!(value.as_f64() >= rule.as_f64(), "{place}: {value} is below {rule}"),
            "propertyNames" | "default" | "description" | "format" | "example" | "examples" => {}
            other => panic!("{place}: the validator does not know {other:?}"),
        }
    }
}

/// Names of the properties that a schema knows, followed through references and allOf.
fn properties(document: &Value, schema: &Value, into: &mut BTreeSet<String>) {
    if let Some(pointer) = schema["$ref"].as_str() {
        properties(document, document.pointer(pointer.trim_start_matches('#')).unwrap(), into);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        properties(document, part, into);
    }
    into.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
}

#[test]
fn every_route_is_in_the_document() {
    let document = serde_json::to_value(plimsoll_portal::document()).unwrap();
    let paths: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let routes: BTreeSet<&str> = plimsoll_portal::PATHS.iter().copied().collect();
    assert_eq!(paths, routes);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let names: BTreeSet<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let in_path: BTreeSet<&str> =
                path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
            assert_eq!(names, in_path, "{method} {path}");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{method} {path}");
        }
    }
}

#[test]
fn answers_are_as_the_document_says() {
    let Some((_database, portal)) = fixture::start() else { return };
    let document = portal.json("/api/openapi.json");
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let key = plimsoll_schemas::identity::encode(ARTIFACT);
    let id = package_id("jinja2");
    let mut asked = BTreeSet::new();
    for template in plimsoll_portal::PATHS {
        if document["paths"][template]["get"].is_null() {
            continue;
        }
        let path = template
            .replace("{application}", APPLICATION)
            .replace("{component}", COMPONENT)
            .replace("{version}", VERSION)
            .replace("{artifact}", &key)
            .replace("{package_id}", &id)
            .replace("{id}", "CVE-2020-28493");
        let path = if path.ends_with("/packages") && path.matches('/').count() == 3 {
            format!("{path}?purl=pkg%3Apypi%2Fjinja2")
        } else {
            path
        };
        let answer = portal.json(&path);
        let schema =
            &document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        validate(&document, schema, &answer, &path);
        // Nothing is answered that the document does not name.
        let mut known = BTreeSet::new();
        properties(&document, schema, &mut known);
        for name in answer.as_object().unwrap().keys() {
            assert!(known.contains(name), "{path}: {name} is not in the document");
        }
        asked.insert(*template);
    }
    assert_eq!(asked.len(), plimsoll_portal::PATHS.len() - 1);
    let problem = portal.get("/api/v1/nothing").json();
    let schema = &document["components"]["schemas"]["Problem"];
    validate(&document, schema, &problem, "problem");
}
