//! FULL_TRANSITIVE: each schema reads and is read by all its released versions and by the last committed one.
//!
//! `history/<schema>/<number>.avsc` are the released versions. They never change; a release that changed a schema adds
//! the next number.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Command;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use common::{codec, framed, list, read};
use plimsoll_schemas::codec::SchemaStore;
use plimsoll_schemas::event::Event;
use plimsoll_schemas::topics::TOPICS;
use serde_json::{Value, json};

/// Whether each reads what the other wrote; what is wrong otherwise.
fn compatible(one: &str, other: &str) -> Result<(), String> {
    let parse = |json: &str| Schema::parse_str(json).map_err(|error| error.to_string());
    let (one, other) = (parse(one)?, parse(other)?);
    let reads = |writer: &Schema, reader: &Schema| {
        SchemaCompatibility::can_read(writer, reader).map_err(|error| error.to_string())
    };
    reads(&one, &other)?;
    reads(&other, &one)
}

/// The schema as of the last commit; `None` where there is no git, or the schema is new.
fn committed(schema: &str) -> Option<String> {
    let object = format!("HEAD:schemas/avro/{schema}.avsc");
    let output =
        Command::new("git").arg("-C").arg(common::path("..")).args(["show", &object]).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn current_schemas_are_compatible_with_all_earlier_ones() {
    let mut compared = 0;
    for topic in TOPICS {
        let schema = topic.schema;
        let versions = list(&format!("history/{schema}"));
        let expected: Vec<String> = (1..=versions.len()).map(|number| format!("{number}.avsc")).collect();
        assert_eq!(versions, expected, "history/{schema} counts up from 1 without gaps");
        for version in &versions {
            let earlier = read(&format!("history/{schema}/{version}"));
            compatible(&earlier, topic.schema_json)
                .unwrap_or_else(|error| panic!("{schema} breaks version {version}: {error}"));
            compared += 1;
        }
        if let Some(earlier) = committed(schema) {
            compatible(&earlier, topic.schema_json)
                .unwrap_or_else(|error| panic!("{schema} breaks the last commit: {error}"));
            compared += 1;
        }
    }
    println!("{compared} pairs compared");
}

#[test]
fn no_history_is_kept_of_what_does_not_exist() {
    for schema in list("history").iter().filter(|name| *name != "README.md") {
        assert!(TOPICS.iter().any(|topic| topic.schema == schema), "history/{schema}: schemas never go");
    }
}

#[test]
fn breaking_changes_are_caught() {
    let base = json!({"type": "record", "name": "R", "namespace": "plimsoll.v1", "fields": [
        {"name": "a", "type": "string", "default": ""},
        {"name": "n", "type": "long", "default": 0},
        {"name": "list", "type": {"type": "array", "items": {"type": "record", "name": "Item", "fields": [
            {"name": "x", "type": "long", "default": 0}]}}, "default": []}]});
    let check = |what: &str, harmless: bool, change: &dyn Fn(&mut Value)| {
        let mut changed = base.clone();
        change(&mut changed);
        let outcome = compatible(&base.to_string(), &changed.to_string());
        assert_eq!(outcome.is_ok(), harmless, "{what}: {outcome:?}");
    };
    let add = |fields: &mut Value, field: Value| fields.as_array_mut().unwrap().push(field);
    check("nothing", true, &|_| {});
    check("a new field with a default", true, &|schema| {
        add(&mut schema["fields"], json!({"name": "new", "type": "string", "default": ""}));
    });
    check("a new field without a default", false, &|schema| {
        add(&mut schema["fields"], json!({"name": "new", "type": "string"}));
    });
    check("a new nested field without a default", false, &|schema| {
        let fields = &mut schema["fields"][2]["type"]["items"]["fields"];
        add(fields, json!({"name": "new", "type": "string"}));
    });
    check("another type", false, &|schema| schema["fields"][1]["type"] = json!("string"));
    check("a wider type, which old readers cannot read", false, &|schema| {
        schema["fields"][1]["type"] = json!("double");
    });
    check("another nested type", false, &|schema| {
        schema["fields"][2]["type"]["items"]["fields"][0]["type"] = json!("bytes");
    });
    check("a union that old readers do not know", false, &|schema| {
        schema["fields"][0]["type"] = json!(["null", "string"]);
        schema["fields"][0]["default"] = Value::Null;
    });
    check("another name of the record", false, &|schema| schema["name"] = json!("S"));
    check("a field that had a default goes", true, &|schema| {
        schema["fields"].as_array_mut().unwrap().remove(0);
    });
}

fn example<E: Event>(schema: &str) -> E {
    serde_json::from_str(&read(&format!("examples/{schema}/full.json"))).unwrap()
}

/// The current schema without its last `count` fields (but for the first six, which hold the key): as an earlier
/// version may have been. Fields that define a type used later stay.
fn earlier(schema: &str, count: usize) -> Option<String> {
    let mut json: Value = serde_json::from_str(schema).unwrap();
    let fields = json["fields"].as_array_mut().unwrap();
    if fields.len() < count + 6 {
        return None;
    }
    fields.truncate(fields.len() - count);
    Some(json.to_string())
}

/// `event` as a writer with the schema `json` would write it, through the reference implementation.
fn written_by<E: Event>(event: &E, json: &str) -> Vec<u8> {
    let (writer, current) = (Schema::parse_str(json).unwrap(), Schema::parse_str(E::SCHEMA).unwrap());
    let (codec, _) = codec();
    let value = codec.encode_value(event).unwrap();
    let tree = apache_avro::from_avro_datum(&current, &mut &value[5..], Some(&writer)).unwrap();
    apache_avro::to_avro_datum(&writer, tree).unwrap()
}

/// The fields of `event` that are in the schema `json`, all others at their defaults, within nested records too.
fn narrowed<E: Event>(event: &E, json: &str) -> E {
    let schema: Value = serde_json::from_str(json).unwrap();
    let mut value = serde_json::to_value(event).unwrap();
    narrow(&mut value, &schema, &mut BTreeMap::new());
    serde_json::from_value(value).unwrap()
}

/// `records` holds the records met so far: a later field may name one.
fn narrow(value: &mut Value, schema: &Value, records: &mut BTreeMap<String, Value>) {
    match schema {
        Value::String(name) => {
            if let Some(record) = records.get(name).cloned() {
                narrow(value, &record, records);
            }
        }
        Value::Array(union) => union.iter().skip(1).for_each(|inner| narrow(value, inner, records)),
        Value::Object(object) if object["type"] == "record" => {
            records.insert(schema["name"].as_str().unwrap().to_owned(), schema.clone());
            let fields = schema["fields"].as_array().unwrap();
            let Some(values) = value.as_object_mut() else { return };
            values.retain(|name, _| fields.iter().any(|field| field["name"] == name.as_str()));
            for field in fields {
                let value = values.get_mut(field["name"].as_str().unwrap());
                narrow(value.unwrap_or(&mut Value::Null), &field["type"], records);
            }
        }
        Value::Object(object) if object["type"] == "array" => match value.as_array_mut() {
            // An empty list may still hold the definition of a record.
            Some(list) if !list.is_empty() => {
                list.iter_mut().for_each(|item| narrow(item, &object["items"], records));
            }
            _ => narrow(&mut Value::Null, &object["items"], records),
        },
        _ => {}
    }
}

fn old_and_new_read_each_other<E: Event + PartialEq + Debug>(schema: &str) {
    let event: E = example(schema);
    let released = list(&format!("history/{schema}"));
    let mut versions: Vec<String> = (1..4).filter_map(|count| earlier(E::SCHEMA, count)).collect();
    versions.extend(released.iter().map(|version| read(&format!("history/{schema}/{version}"))));
    for old in versions {
        // Old records, new types.
        let (codec, registry) = codec();
        let id = registry.id_of("", &old).unwrap();
        let read: E = codec.decode_value(&framed(id, &written_by(&event, &old))).unwrap();
        assert_eq!(read, narrowed(&event, &old), "{schema}");

        // New records, old readers.
        let (old_schema, new_schema) =
            (Schema::parse_str(&old).unwrap(), Schema::parse_str(E::SCHEMA).unwrap());
        let value = codec.encode_value(&event).unwrap();
        let tree = apache_avro::from_avro_datum(&new_schema, &mut &value[5..], Some(&old_schema)).unwrap();
        assert_eq!(apache_avro::from_value::<E>(&tree).unwrap(), narrowed(&event, &old), "{schema}");
    }
}

#[test]
fn old_and_new_versions_read_each_other() {
    every_event!(old_and_new_read_each_other);
}

fn future_is_read<E: Event + PartialEq + Debug>(schema: &str) {
    let event: E = example(schema);
    let mut future: Value = serde_json::from_str(E::SCHEMA).unwrap();
    let fields = future["fields"].as_array_mut().unwrap();
    fields.insert(
        1,
        json!({"name": "novel_map", "type": {"type": "map", "values": "string"}, "default": {"k": "v"}}),
    );
    fields.push(json!({"name": "novel_text", "type": "string", "default": "new"}));
    fields.push(json!({"name": "novel_list", "default": [], "type": {"type": "array", "items": {
        "type": "record", "name": "Novel", "fields": [{"name": "x", "type": "double", "default": 0}]}}}));
    fields.push(json!({"name": "novel_union", "type": ["null", "Novel"], "default": null}));
    let future = future.to_string();
    compatible(&future, E::SCHEMA).unwrap();
    let (codec, registry) = codec();
    let id = registry.id_of("", &future).unwrap();
    let read: E = codec.decode_value(&framed(id, &written_by(&event, &future))).unwrap();
    assert_eq!(read, event, "{schema}");
}

#[test]
fn records_of_future_versions_are_read() {
    every_event!(future_is_read);
}

#[test]
fn records_of_another_event_are_refused() {
    use plimsoll_schemas::events::{ScanFindings, ScanPackage};
    let (codec, _) = codec();
    let value = codec.encode_value(&example::<ScanPackage>("scan_package")).unwrap();
    let error = codec.decode_value::<ScanFindings>(&value).unwrap_err();
    assert!(error.to_string().contains("the schema of another event"), "{error}");
    let unknown: Arc<str> =
        codec.decode_value::<ScanFindings>(&framed(99, &[])).unwrap_err().to_string().into();
    assert!(unknown.contains("schema id 99 is not in the registry"), "{unknown}");
}
