//! Generates the event types from `avro/*.avsc`, the topic table from `topics.yaml`, and the list of migrations.
//! It must never accept a schema that breaks our contracts (a missing default or doc, an enum): the build fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

mod migrations;
mod topics;

// Cargo reads what a build script prints.
#[allow(clippy::print_stdout)]
fn main() {
    println!("cargo:rerun-if-changed=avro");
    println!("cargo:rerun-if-changed=topics.yaml");
    println!("cargo:rerun-if-changed=clickhouse");
    println!("cargo:rerun-if-changed=build");
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it"));
    let topics = topics::read(&root.join("topics.yaml"));
    let code = generate_events(&root.join("avro"), &topics);
    std::fs::write(out.join("events.rs"), code).expect("OUT_DIR is writable");
    std::fs::write(out.join("topics.rs"), topics::generate(&topics)).expect("OUT_DIR is writable");
    let migrations = migrations::generate(&root.join("clickhouse"));
    std::fs::write(out.join("migrations.rs"), migrations).expect("OUT_DIR is writable");
}

/// The definition of each named record, to see that two files mean the same by one name.
#[derive(Default)]
struct Records {
    definitions: BTreeMap<String, Value>,
    code: String,
}

fn generate_events(directory: &Path, topics: &[topics::Topic]) -> String {
    let mut records = Records::default();
    let mut events = String::new();
    for topic in topics {
        let path = directory.join(format!("{}.avsc", topic.schema));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let schema: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        records.record(&schema, &path);
        let name = schema["name"].as_str().expect("a record has a name");
        event_impl(&mut events, name, topic, &path);
    }
    format!("{}\n{events}", records.code)
}

impl Records {
    fn record(&mut self, schema: &Value, path: &Path) -> String {
        let name = schema["name"].as_str().expect("a record has a name").to_owned();
        let mut plain = schema.clone();
        plain.as_object_mut().expect("a record").remove("namespace");
        if let Some(known) = self.definitions.get(&name) {
            assert!(*known == plain, "{}: record {name} differs from another file's", path.display());
            return name;
        }
        self.definitions.insert(name.clone(), plain);
        let doc = schema["doc"].as_str().unwrap_or_else(|| panic!("{}: {name} has no doc", path.display()));
        let mut fields = String::new();
        for field in schema["fields"].as_array().expect("a record has fields") {
            let field_name = field["name"].as_str().expect("a field has a name");
            let place = format!("{}: {name}.{field_name}", path.display());
            let doc = field["doc"].as_str().unwrap_or_else(|| panic!("{place} has no doc"));
            assert!(field.get("default").is_some(), "{place} has no default");
            let (rust, attribute) = self.rust_type(&field["type"], &place, path);
            check_default(&field["type"], &field["default"], &place);
            writeln!(fields, "    /// {doc}").expect("string");
            if !attribute.is_empty() {
                writeln!(fields, "    {attribute}").expect("string");
            }
            let keyword = if field_name == "use" { "r#" } else { "" };
            writeln!(fields, "    pub {keyword}{field_name}: {rust},").expect("string");
        }
        writeln!(
            self.code,
            "/// {doc}\n#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]\n\
             #[serde(default)]\npub struct {name} {{\n{fields}}}\n"
        )
        .expect("string");
        name
    }

    fn rust_type(&mut self, schema: &Value, place: &str, path: &Path) -> (String, &'static str) {
        match schema {
            Value::String(s) => match s.as_str() {
                "string" => ("String".into(), ""),
                "long" => ("i64".into(), ""),
                "int" => ("i32".into(), ""),
                "boolean" => ("bool".into(), ""),
                "double" => ("f64".into(), ""),
                "bytes" => ("Vec<u8>".into(), "#[serde(with = \"serde_bytes\")]"),
                name if self.definitions.contains_key(name) => (name.into(), ""),
                other => panic!("{place}: type {other} is not in our subset of Avro"),
            },
            Value::Array(union) => {
                assert!(union.len() == 2 && union[0] == "null", "{place}: unions are null and one other");
                let (inner, attribute) = self.rust_type(&union[1], place, path);
                assert!(attribute.is_empty(), "{place}: optional bytes are not in our subset");
                (format!("Option<{inner}>"), "")
            }
            Value::Object(o) => match o["type"].as_str() {
                Some("array") => {
                    let (inner, attribute) = self.rust_type(&o["items"], place, path);
                    assert!(attribute.is_empty(), "{place}: arrays of bytes are not in our subset");
                    (format!("Vec<{inner}>"), "")
                }
                Some("map") => {
                    let values = match o["values"].as_str() {
                        Some("string") => "String",
                        Some("long") => "i64",
                        _ => panic!("{place}: maps hold strings or longs"),
                    };
                    (format!("std::collections::BTreeMap<String, {values}>"), "")
                }
                Some("record") => (self.record(schema, path), ""),
                other => panic!("{place}: {other:?} is not in our subset; enums break FULL_TRANSITIVE"),
            },
            other => panic!("{place}: {other} is no type"),
        }
    }
}

/// `#[serde(default)]` gives Rust's defaults, so the schema's must be the same: zero, empty, false or null.
fn check_default(schema: &Value, default: &Value, place: &str) {
    let same = match schema {
        Value::String(s) => match s.as_str() {
            "string" | "bytes" => default == "",
            "long" | "int" => default.as_i64() == Some(0),
            "double" => default.as_f64() == Some(0.0),
            "boolean" => default == &Value::Bool(false),
            _ => false,
        },
        Value::Array(_) => default.is_null(),
        Value::Object(o) => match o["type"].as_str() {
            Some("array") => default.as_array().is_some_and(Vec::is_empty),
            Some("map") => default.as_object().is_some_and(serde_json::Map::is_empty),
            _ => false,
        },
        _ => false,
    };
    assert!(same, "{place}: the default must be zero, empty, false or null, as in Rust");
}

fn event_impl(out: &mut String, name: &str, topic: &topics::Topic, path: &Path) {
    let mut entity = String::new();
    for (index, part) in topic.entity.iter().enumerate() {
        if index > 0 {
            entity.push_str("        key.push(crate::key::SEPARATOR);\n");
        }
        let push = match part.as_str() {
            "path" | "entity" => format!("key.extend_from_slice(&self.{part});"),
            "chunk" => "key.extend_from_slice(self.chunk.to_string().as_bytes());".to_owned(),
            "component_key" => "key.extend_from_slice(crate::identity::component_path(&self.application, \
                                &self.component, &self.component_version).as_bytes());"
                .to_owned(),
            _ => format!("key.extend_from_slice(self.{part}.as_bytes());"),
        };
        writeln!(entity, "        {push}").expect("string");
    }
    let envelope = if topic.name == "correlator.state" {
        "None".to_owned()
    } else {
        "Some(crate::event::EnvelopeMut { producer_id: &mut self.producer_id, boot_id: &mut self.boot_id, \
         sequence: &mut self.sequence, emitted_at_ms: &mut self.emitted_at_ms })"
            .to_owned()
    };
    let body = if entity.is_empty() {
        "        Vec::new()\n".to_owned()
    } else {
        format!("        let mut key = Vec::with_capacity(128);\n{entity}        key\n")
    };
    writeln!(
        out,
        "impl crate::event::Event for {name} {{\n    const TOPIC: &'static str = {:?};\n    \
         const RECORD: &'static str = {name:?};\n    const SCHEMA: &'static str = include_str!({:?});\n    \
         fn artifact(&self) -> &str {{ &self.artifact }}\n    \
         fn entity(&self) -> Vec<u8> {{\n{body}    }}\n    \
         fn envelope_mut(&mut self) -> Option<crate::event::EnvelopeMut<'_>> {{ {envelope} }}\n}}\n",
        topic.name,
        path.display().to_string(),
    )
    .expect("string");
}
