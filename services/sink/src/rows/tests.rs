//! Golden rows: each example event of plimsoll-schemas, as the row that it becomes.

use std::path::PathBuf;

use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage,
    RuntimeAlert, RuntimeUsage, RuntimeWorkload, ScanArtifact,
};

use super::*;

const AT: Position = Position { partition: 3, offset: 41 };

fn example<E: Event>(schema: &str, name: &str) -> E {
    let schemas = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schemas/examples");
    let path = schemas.join(schema).join(name).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn state_row<E: StateEvent>(event: &E, deleted: bool) -> serde_json::Map<String, serde_json::Value> {
    let mut row = Shown::default();
    write_state(event, AT, deleted, &mut row);
    row.0
}

fn check_state<E: StateEvent + PartialEq + std::fmt::Debug>(schema: &str) {
    for name in ["full", "minimal"] {
        let event: E = example(schema, name);
        insta::assert_json_snapshot!(format!("{schema}.{name}"), state_row(&event, false));
    }
    // A tombstone's key gives the columns that the row is found by.
    let full: E = example(schema, "full");
    let of_key = E::from_key(full.artifact(), &full.entity()).unwrap();
    assert_eq!((of_key.artifact(), of_key.entity()), (full.artifact(), full.entity()));
    insta::assert_json_snapshot!(format!("{schema}.tombstone"), state_row(&of_key, true));
    // What the correlator closes a left-open transaction with: the tombstone of nothing.
    assert!(E::from_key(full.artifact(), &E::default().entity()).is_ok(), "{schema}");
    let wrong = [&full.entity()[..], b"\x1fone\x1ftwo\x1ftoo many"].concat();
    assert!(E::from_key(full.artifact(), &wrong).is_err());
}

fn check_history<E: HistoryEvent>(schema: &str) {
    for name in ["full", "minimal"] {
        let event: E = example(schema, name);
        let rows: Vec<_> = (0..event.row_count())
            .map(|index| {
                let mut row = Shown::default();
                event.columns(index, AT, &mut row);
                row.0
            })
            .collect();
        insta::assert_json_snapshot!(format!("{schema}.{name}"), rows);
    }
}

#[test]
fn examples_become_rows() {
    check_state::<CorrelationArtifact>("correlation_artifact");
    check_state::<CorrelationPackage>("correlation_package");
    check_state::<CorrelationFinding>("correlation_finding");
    check_state::<CorrelationUsage>("correlation_usage");
    check_state::<CorrelationAlert>("correlation_alert");
    check_state::<RuntimeWorkload>("runtime_workload");
    check_state::<ScanArtifact>("scan_artifact");
    check_history::<RuntimeUsage>("runtime_usage");
    check_history::<RuntimeAlert>("runtime_alert");
}

/// Fields of the schema that stand under other names, or not at all: the envelope of state, and what is taken apart.
const ELSEWHERE: &[&str] = &[
    "producer_id",
    "boot_id",
    "sequence",
    "version",
    "os",
    "platform",
    "cells",
    "finding",
    "items",
    "emitted_at_ms",
];

#[test]
fn no_field_is_left_out() {
    fn check<E: Event>(columns: &[Column]) {
        let event = serde_json::to_value(E::default()).unwrap();
        for field in event.as_object().unwrap().keys().filter(|field| !ELSEWHERE.contains(&field.as_str())) {
            assert!(columns.iter().any(|column| column.name == field), "{}: {field} has no column", E::TOPIC);
        }
    }
    fn check_state<E: StateEvent>() {
        check::<E>(&E::TABLE.columns());
    }
    check_state::<CorrelationArtifact>();
    check_state::<CorrelationPackage>();
    check_state::<CorrelationFinding>();
    check_state::<CorrelationUsage>();
    check_state::<CorrelationAlert>();
    check_state::<RuntimeWorkload>();
    check_state::<ScanArtifact>();
    check::<RuntimeUsage>(&HistoryTable::UsageEvents.columns());
    check::<RuntimeAlert>(&HistoryTable::AlertEvents.columns());
}

#[test]
fn versions_grow_with_the_offset() {
    let at = |offset| Position { partition: 0, offset }.row_version();
    assert_eq!(at(0), 1 << 48);
    assert!(at(7) < at(8));
}
