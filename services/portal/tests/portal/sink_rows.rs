//! Rows exactly as the sink makes them from the golden events (the sink's own snapshots), read by the portal.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Database, RunningPortal};

/// A row of the sink's snapshot of a golden event.
fn row(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sink/src/rows/snapshots");
    let file = folder.join(format!("plimsoll_sink__rows__tests__{name}.snap"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let body = text.splitn(3, "---\n").nth(2).unwrap();
    serde_json::from_str(body).unwrap()
}

fn changed(mut row: Value, column: &str, value: Value) -> Value {
    row[column] = value;
    row
}

#[test]
fn the_sinks_rows_read_back() {
    let Some(database) = Database::create() else { return };
    for kind in ["full", "minimal"] {
        let named = |name: &str| row(&format!("{name}.{kind}"));
        database.insert("artifacts", &[named("correlation_artifact")]);
        database.insert("artifact_packages", &[named("correlation_package")]);
        database.insert("artifact_packages_by_purl", &[named("correlation_package")]);
        database.insert(
            "package_usage",
            &[
                changed(named("correlation_usage"), "chunk", json!(0)),
                changed(named("correlation_usage"), "chunk", json!(1)),
            ],
        );
        database.insert("findings", &[named("correlation_finding")]);
        database.insert("findings_by_vulnerability", &[named("correlation_finding")]);
        database.insert("workloads", &[named("runtime_workload")]);
        database.insert("alerts", &[named("correlation_alert")]);
    }
    let portal = RunningPortal::start(&database.url, &database.name, |_| {});
    let artifact = row("correlation_artifact.full")["artifact"].as_str().unwrap().to_owned();
    let key = plimsoll_schemas::identity::encode(&artifact);
    let base = "/api/v1/applications/backend/components/pythonapp/versions/1.0";

    let found = portal.json(&format!("/api/v1/artifacts/{key}"));
    assert_eq!(found["warnings"][0]["code"], "unreadable-directory");
    assert_eq!(
        found["cells"][0],
        json!({"kind": "os", "vulnerable": "yes", "use": "used", "package_count": 1})
    );
    assert_eq!((&found["os"]["codename"], &found["platform"]["variant"]), (&json!("bookworm"), &json!("v8")));

    let package = &portal.json(&format!("{base}/packages?q=libssl3"))["items"][0];
    assert_eq!((&package["name"], &package["coverage"]["watched_ms"]), (&json!("libssl3"), &json!(18_000)));
    assert_eq!(package["files"][0]["path"], "usr/lib/x86_64-linux-gnu/libssl.so.3");
    assert_eq!(package["files_complete"], false);
    let report = portal.json(&format!("{base}/report"));
    let merged =
        report["packages"].as_array().unwrap().iter().find(|item| item["name"] == "libssl3").unwrap();
    assert_eq!(merged["files"].as_array().unwrap().len(), 2);
    assert_eq!(merged["classes"][1]["name"], "org.example.Main");

    let workload = &portal.json(&format!("/api/v1/artifacts/{key}/workloads"))["items"][0];
    assert_eq!((&workload["losses"][1]["events_lost"], &workload["sandboxed"]), (&json!(4), &json!(true)));
    assert_eq!(workload["watched"][0]["probe"], "ebpf-files");
    assert_eq!(workload["observed"][1]["counts"]["classes-generated"], 311);
    let observed = portal.json(base)["observed"].clone();
    assert_eq!((&observed[0]["how"], &observed[0]["processes"]), (&json!("attached"), &json!(2)));
    assert!(observed[1]["reasons"][0].as_str().unwrap().contains("DisableAttachMechanism"), "{observed}");
    assert_eq!(report["observed"], observed);
    let alert = &portal.json(&format!("{base}/alerts"))["items"][0];
    assert_eq!((&alert["process"]["pid"], &alert["evidence"]["drift"]), (&json!(4711), &json!("new")));
    let id = row("correlation_finding.full")["vulnerability_id"].as_str().unwrap().to_owned();
    let detail = portal.json(&format!("/api/v1/vulnerabilities/{id}"));
    assert_eq!(detail["items"][0]["components"][0]["application"], "backend");
    for path in ["/api/v1/artifacts", "/api/v1/alerts", "/", "/artifacts", "/alerts"] {
        assert_eq!(portal.get(path).status, 200, "{path}");
    }

    // A tombstone takes the row away.
    database
        .insert("artifacts", &[changed(row("correlation_artifact.tombstone"), "version", json!(u64::MAX))]);
    database.insert("alerts", &[changed(row("correlation_alert.tombstone"), "version", json!(u64::MAX))]);
    assert_eq!(portal.get(&format!("/api/v1/artifacts/{key}")).status, 404);
    assert_eq!(portal.json(&format!("{base}/alerts"))["items"], json!([]));
}
