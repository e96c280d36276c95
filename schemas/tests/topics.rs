//! The table of topics and the schemas as files: complete, documented, and without what breaks the contracts.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeSet;

use common::{list, read};
use plimsoll_schemas::event::Event;
use plimsoll_schemas::topics::{self, TOPICS};
use serde_json::Value;

const SERVICES: &[&str] =
    &["scanner", "cli", "package-resolver", "runtime-agent", "correlator", "sink", "portal", "subscribers"];

#[test]
fn every_schema_is_a_topic_and_every_topic_is_an_event() {
    let files: BTreeSet<String> = list("avro").iter().map(|file| file.replace(".avsc", "")).collect();
    let of_topics: BTreeSet<String> = TOPICS.iter().map(|topic| topic.schema.to_owned()).collect();
    assert_eq!(files, of_topics);
    assert_eq!(of_topics.len(), TOPICS.len(), "a schema belongs to one topic");
    let examples: BTreeSet<String> = list("examples").into_iter().collect();
    assert_eq!(files, examples);

    let mut seen = BTreeSet::new();
    fn name<E: Event>(schema: &str) -> (String, &'static str) {
        (schema.to_owned(), E::TOPIC)
    }
    macro_rules! collect {
        ($($event:ident = $schema:literal),*) => {{ $(seen.insert(name::<plimsoll_schemas::events::$event>($schema));)* }};
    }
    collect!(
        ScanRequest = "scan_request",
        ScanArtifact = "scan_artifact",
        ScanPackage = "scan_package",
        ScanFindings = "scan_findings",
        PackageOwnership = "package_ownership",
        RuntimeWorkload = "runtime_workload",
        RuntimeUsage = "runtime_usage",
        RuntimeAlert = "runtime_alert",
        CorrelationPackage = "correlation_package",
        CorrelationUsage = "correlation_usage",
        CorrelationFinding = "correlation_finding",
        CorrelationArtifact = "correlation_artifact",
        CorrelationAlert = "correlation_alert",
        CorrelatorState = "correlator_state"
    );
    let expected: BTreeSet<_> = TOPICS.iter().map(|topic| (topic.schema.to_owned(), topic.name)).collect();
    assert_eq!(seen, expected, "add a new event to every_event! in tests/common too");
}

#[test]
fn topics_say_who_what_and_how_long() {
    let mut names = BTreeSet::new();
    for topic in TOPICS {
        let name = topic.name;
        assert!(names.insert(name), "{name} is there twice");
        assert_eq!(topics::find(name), Some(topic));
        assert_eq!(topics::find_full("p.q", &topic.full_name("p.q")), Some(topic));
        assert!(!topic.producers.is_empty() && !topic.consumers.is_empty(), "{name}");
        for service in topic.producers.iter().chain(topic.consumers) {
            assert!(SERVICES.contains(service), "{name}: there is no service {service}");
        }
        assert_eq!(topic.compact, topic.retention_ms == -1, "{name}");
        assert!(
            topic.compact || topic.retention_ms >= 24 * 60 * 60 * 1000,
            "{name}: kept for less than a day"
        );
        let internal = name == "correlator.state";
        assert_eq!(topic.dead_letter, !internal, "{name}: what others write can be undecodable");
        let by_correlator = topic.producers == ["correlator"];
        assert_eq!(
            topic.compact, by_correlator,
            "{name}: inputs are events, outputs and state are compacted"
        );
    }
    assert_eq!(topics::find("scan"), None);
    assert_eq!(topics::find_full("p", "q.scan.packages.v1"), None);
    const { assert!(topics::DEVELOPMENT_PARTITION_COUNT <= topics::DEFAULT_PARTITION_COUNT) };
    const { assert!(topics::DELETE_RETENTION_MS >= 14 * 24 * 60 * 60 * 1000) };
}

/// Every record and field is documented, has a default, and is of our subset of Avro.
fn check_schema(schema: &Value, place: &str) {
    match schema {
        Value::Object(object) => match schema["type"].as_str() {
            Some("record") => {
                let place = format!("{place} {}", schema["name"]);
                check_doc(schema, &place);
                for field in schema["fields"].as_array().unwrap() {
                    let place = format!("{place}.{}", field["name"]);
                    check_doc(field, &place);
                    assert!(field.get("default").is_some(), "{place} has no default");
                    assert!(field.get("aliases").is_none(), "{place}: a renamed field is another field");
                    check_schema(&field["type"], &place);
                }
            }
            Some("array") => check_schema(&object["items"], place),
            Some("map") => check_schema(&object["values"], place),
            other => panic!("{place}: {other:?} is not in our subset"),
        },
        Value::Array(union) => union.iter().for_each(|branch| check_schema(branch, place)),
        Value::String(_) => {}
        other => panic!("{place}: {other}"),
    }
}

fn check_doc(item: &Value, place: &str) {
    let doc = item["doc"].as_str().unwrap_or_default();
    assert!(doc.len() > 10 && doc.ends_with('.'), "{place}: {doc:?} is no sentence");
}

#[test]
fn every_record_and_field_is_documented() {
    for file in list("avro") {
        check_schema(&serde_json::from_str(&read(&format!("avro/{file}"))).unwrap(), &file);
    }
}

/// A plan that is gone before its records are would let a group whose offset went back cut them anew, and insert them
/// twice.
#[test]
fn the_sinks_plans_outlive_the_records_that_they_cut() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let mut statements =
        plimsoll_schemas::migrations::MIGRATIONS.iter().flat_map(|migration| migration.statements());
    let about = |statement: &String| statement.contains("sink_plans") && statement.contains("TTL ");
    let newest = statements.rfind(about).expect("sink_plans has a TTL");
    let (_, interval) = newest.rsplit_once("INTERVAL ").unwrap();
    let days: i64 = interval.strip_suffix(" DAY").expect("in days").parse().unwrap();
    for topic in TOPICS.iter().filter(|topic| !topic.compact) {
        let kept = days * DAY_MS;
        assert!(kept >= topic.retention_ms + DAY_MS, "{}: plans are kept {days} days only", topic.name);
    }
}
