//! The golden examples: each is encoded, decoded by our codec and by the reference implementation, and compared.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;

use common::{codec, list, read};
use plimsoll_schemas::event::Event;
use plimsoll_schemas::events::{PackageOwnership, RuntimeUsage};
use plimsoll_schemas::words::{java_package_of, ownership_state, possible_copy_of};
use serde_json::Value;

fn example<E: Event>(schema: &str, name: &str) -> (Value, E) {
    let file = format!("examples/{schema}/{name}.json");
    let json: Value = serde_json::from_str(&read(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let event = serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
    (json, event)
}

fn check<E: Event + PartialEq + Debug>(schema: &str) {
    let files = list(&format!("examples/{schema}"));
    for name in ["full.json", "minimal.json"] {
        assert!(files.iter().any(|file| file == name), "{schema} has no {name}");
    }
    let reference = apache_avro::Schema::parse_str(E::SCHEMA).unwrap();
    let (codec, _) = codec();
    for file in &files {
        let name = file.strip_suffix(".json").unwrap_or_else(|| panic!("examples/{schema}/{file}"));
        let (json, event) = example::<E>(schema, name);
        refuse_unknown(&json, &serde_json::to_value(&event).unwrap(), &format!("{schema}/{name}"));

        let record = codec.encode(&event).unwrap();
        assert_eq!(*record.topic, *format!("test.{}.v1", E::TOPIC));
        assert_eq!(record.partition, codec.partition(event.artifact()));
        let value = record.value.unwrap();
        assert_eq!(codec.decode::<E>(&record.key, &value).unwrap(), event, "{schema}/{name}");

        let tree = apache_avro::from_avro_datum(&reference, &mut &value[5..], None).unwrap();
        assert_eq!(apache_avro::from_value::<E>(&tree).unwrap(), event, "{schema}/{name} by apache-avro");
        let theirs = apache_avro::to_avro_datum(&reference, tree).unwrap();
        let theirs = common::framed(1, &theirs);
        assert_eq!(
            codec.decode::<E>(&record.key, &theirs).unwrap(),
            event,
            "{schema}/{name} from apache-avro"
        );
    }
}

/// serde passes unknown names over; in an example they are mistakes.
fn refuse_unknown(example: &Value, event: &Value, place: &str) {
    match (example, event) {
        (Value::Object(example), Value::Object(event)) => {
            for (name, value) in example {
                let known = event.get(name).unwrap_or_else(|| panic!("{place}: there is no field {name}"));
                refuse_unknown(value, known, &format!("{place}.{name}"));
            }
        }
        (Value::Array(example), Value::Array(event)) => {
            for (index, (one, other)) in example.iter().zip(event).enumerate() {
                refuse_unknown(one, other, &format!("{place}[{index}]"));
            }
        }
        _ => {}
    }
}

#[test]
fn encode_and_decode_alike() {
    every_event!(check);
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Whether each field, by its path without list positions, has another value than its default somewhere.
fn collect(value: &Value, path: &str, filled: &mut BTreeMap<String, bool>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                *filled.entry(path.clone()).or_default() |= !is_zero(value);
                collect(value, &path, filled);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, path, filled)),
        _ => {}
    }
}

fn is_full<E: Event>(schema: &str) {
    let (_, event) = example::<E>(schema, "full");
    let mut filled = BTreeMap::new();
    collect(&serde_json::to_value(&event).unwrap(), schema, &mut filled);
    let empty: Vec<&String> = filled.iter().filter(|(_, full)| !**full).map(|(path, _)| path).collect();
    assert!(empty.is_empty(), "examples/{schema}/full.json leaves out {empty:?}");
}

#[test]
fn full_examples_fill_every_field() {
    every_event!(is_full);
}

fn is_minimal<E: Event>(schema: &str) {
    let (json, event) = example::<E>(schema, "minimal");
    let full = serde_json::to_value(event).unwrap();
    let key_fields = json.as_object().unwrap().len();
    let filled = full.as_object().unwrap().values().filter(|value| !is_zero(value)).count();
    assert_eq!(filled, key_fields, "{schema}: a minimal example has key fields only");
}

#[test]
fn minimal_examples_have_keys_only() {
    every_event!(is_minimal);
}

/// Of classes that came from no archive that a scan lists, the path names their Java package, and the answer says whose
/// they may be without saying that they are.
#[test]
fn java_packages_of_classes_without_an_archive() {
    let (_, usage) = example::<RuntimeUsage>("runtime_usage", "java_package");
    let (_, ownership) = example::<PackageOwnership>("package_ownership", "java_package");
    for (item, directory, copy) in [
        (&usage.items[0], "org/example", None),
        (&usage.items[1], "org/example/log", Some("/tmp/jetty-*/webapp/WEB-INF/lib/log.jar")),
    ] {
        assert_eq!(java_package_of(&item.path), Some(directory.as_bytes()));
        assert_eq!(possible_copy_of(&item.path), copy.map(str::as_bytes));
        assert_eq!(item.name.rsplit_once('.').unwrap().0.replace('.', "/"), directory);
    }
    assert_eq!(
        (&ownership.path, &ownership.file_identity),
        (&usage.items[0].path, &usage.items[0].file_identity)
    );
    assert_eq!(ownership.state, ownership_state::UNRESOLVED);
    assert_eq!(ownership.owners.len(), 2);
}
