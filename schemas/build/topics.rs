//! Reads `topics.yaml` and writes it as a Rust table.
//! It must never let a topic pass whose schema, cleanup or retention is not said.

use std::fmt::Write as _;
use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

pub struct Topic {
    pub name: String,
    pub schema: String,
    pub entity: Vec<String>,
    compact: bool,
    retention_ms: i64,
    producers: Vec<String>,
    consumers: Vec<String>,
    dead_letter: bool,
    delete_retention_ms: i64,
    dead_letter_retention_ms: i64,
    partitions: (i64, i64),
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub fn read(path: &Path) -> Vec<Topic> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let documents = YamlLoader::load_from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let table = &documents[0];
    let number =
        |yaml: &Yaml, what: &str| yaml.as_i64().unwrap_or_else(|| panic!("topics.yaml: {what} is no number"));
    let partitions = (
        number(&table["partitions"]["default"], "partitions.default"),
        number(&table["partitions"]["development"], "partitions.development"),
    );
    let delete_retention_ms = DAY_MS * number(&table["delete_retention_days"], "delete_retention_days");
    let dead_letter_retention_ms =
        DAY_MS * number(&table["dead_letter_retention_days"], "dead_letter_retention_days");
    let topics = table["topics"].as_vec().expect("topics.yaml: topics is a list");
    topics
        .iter()
        .map(|topic| {
            let name = topic["name"].as_str().expect("topics.yaml: a topic has a name").to_owned();
            let text = |key: &str| {
                topic[key].as_str().unwrap_or_else(|| panic!("topics.yaml: {name} lacks {key}")).to_owned()
            };
            let list = |key: &str| -> Vec<String> {
                let list = topic[key].as_vec().unwrap_or_else(|| panic!("topics.yaml: {name} lacks {key}"));
                list.iter().map(|item| item.as_str().expect("topics.yaml: names").to_owned()).collect()
            };
            let compact = match text("cleanup").as_str() {
                "compact" => true,
                "delete" => false,
                other => panic!("topics.yaml: {name}: cleanup {other} is neither compact nor delete"),
            };
            Topic {
                schema: text("schema"),
                entity: list("entity"),
                compact,
                retention_ms: if compact {
                    -1
                } else {
                    DAY_MS * number(&topic["retention_days"], "retention_days")
                },
                producers: list("producers"),
                consumers: list("consumers"),
                dead_letter: topic["dead_letter"]
                    .as_bool()
                    .expect("topics.yaml: dead_letter is true or false"),
                delete_retention_ms,
                dead_letter_retention_ms,
                partitions,
                name,
            }
        })
        .collect()
}

pub fn generate(topics: &[Topic]) -> String {
    let first = &topics[0];
    let mut out = format!(
        "/// Partitions of every topic unless configured otherwise at creation.\n\
         pub const DEFAULT_PARTITION_COUNT: u32 = {};\n\
         /// Partitions of every topic in development.\n\
         pub const DEVELOPMENT_PARTITION_COUNT: u32 = {};\n\
         /// How long tombstones stay in compacted topics, in milliseconds.\n\
         pub const DELETE_RETENTION_MS: i64 = {};\n\
         /// How long dead letters are kept, in milliseconds.\n\
         pub const DEAD_LETTER_RETENTION_MS: i64 = {};\n\
         /// Every topic of the pipeline, in the order of `topics.yaml`.\n\
         pub const TOPICS: &[Topic] = &[\n",
        first.partitions.0, first.partitions.1, first.delete_retention_ms, first.dead_letter_retention_ms
    );
    for topic in topics {
        writeln!(
            out,
            "    Topic {{ name: {:?}, schema: {:?}, schema_json: include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \
             \"/avro/{}.avsc\")), compact: {}, retention_ms: {}, producers: &{:?}, consumers: &{:?}, dead_letter: {} }},",
            topic.name, topic.schema, topic.schema, topic.compact, topic.retention_ms, topic.producers,
            topic.consumers, topic.dead_letter
        )
        .expect("string");
    }
    out.push_str("];\n");
    out
}
