//! Rows as the sink writes them: an application with every cell of the table, and hostile names.
//! Every count that the tests expect is made here.

use serde_json::{Value, json};

pub use crate::specs::{APPLICATION_PACKAGES, OS_PACKAGES, Spec};
use crate::support::{Database, RunningPortal};

pub const APPLICATION: &str = "backend";
pub const COMPONENT: &str = "pythonapp";
pub const VERSION: &str = "1.0";
pub const ARTIFACT: &str = "component/backend/pythonapp/1.0";
pub const HOST: &str = "host/0af3b1c2d4e5f60718293a4b5c6d7e8f";
pub const BASE: &str = "/applications/backend/components/pythonapp/versions/1.0";

pub const HOSTILE: &str = "<script>alert('x')</script>\"&";
pub const HOSTILE_ENCODED: &str = "%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E%22%26";
pub const IMAGE: &str = "image/sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub const IMAGE_ENCODED: &str =
    "image%2Fsha256%3A00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub const HOSTILE_BASE: &str = "/applications/%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E%22%26/components/a%2Fb/versions/1.0%20%C3%A9";
pub const UNIDENTIFIED: &str = "unidentified/0af3b1c2d4e5f60718293a4b5c6d7e8f/c0ffee";
/// Packages of the image, for paging.
pub const MANY: usize = 2_345;
/// Files of the package that has several chunks.
pub const CHUNKED_FILES: usize = 130;
const CHUNK: usize = 50;

const T0: i64 = 1_767_225_600_000;

fn coverage(from_first_exec: bool) -> String {
    json!({"probes": ["ebpf-files", "python-import"], "since_ms": T0, "until_ms": T0 + 7_200_000,
        "from_first_exec": from_first_exec, "watched_ms": 7_200_000, "workload_count": 2,
        "workload_count_from_first_exec": 1, "events_lost": 0, "unresolved_path_count": 1})
    .to_string()
}

fn file(path: &str, index: usize) -> Value {
    json!({"path": path, "kind": "module", "name": "", "rung": "loaded", "first_seen_ms": T0 + index as i64,
        "last_seen_ms": T0 + 3_600_000, "ambiguous": false})
}

/// The id that the fixture gives to a package.
pub fn package_id(name: &str) -> String {
    plimsoll_schemas::identity::package_id(name, None)
}

fn package_row(artifact: &str, kind: &str, ecosystem: &str, spec: &Spec) -> Value {
    let purl = match ecosystem {
        "debian" => format!("pkg:deb/debian/{}@{}?arch=amd64", spec.name, spec.version),
        _ => format!("pkg:pypi/{}@{}", spec.name, spec.version),
    };
    let vulnerabilities: Vec<Value> = spec
        .vulnerabilities
        .iter()
        .map(|(id, severity, fixed, exploited)| {
            json!({"id": id, "severity": severity, "fixed_in": fixed, "known_exploited": exploited})
        })
        .collect();
    let used = spec.usage == "used";
    let not_known = spec.usage.starts_with("not_");
    json!({
        "artifact": artifact, "package_id": package_id(spec.name), "purl": purl, "name": spec.name,
        "package_version": spec.version, "kind": kind, "ecosystem": ecosystem, "scanned": artifact != HOST,
        "vulnerable": spec.vulnerable, "severity": spec.severity,
        "not_assessed_reason": if spec.vulnerable == "not_assessed" { "no feed for this index; import one" } else { "" },
        "known_exploited": spec.vulnerabilities.iter().any(|entry| entry.3),
        "vulnerability_count": spec.vulnerabilities.len(), "vulnerabilities": Value::from(vulnerabilities).to_string(),
        "locations": json!([{"path": format!("venv/{}.dist-info", spec.name), "layer": "", "nested_path": ""}]).to_string(),
        "use": spec.usage, "use_reason": if not_known { "watching began late" } else { "" },
        "use_remedy": if not_known { "restart it under plimsoll run" } else { "" }, "rung": spec.rung,
        "first_used_ms": if used { T0 } else { 0 }, "last_used_ms": if used { T0 + 3_600_000 } else { 0 },
        "coverage": coverage(!not_known), "recommendation_code": spec.code, "recommendation_text": spec.text,
        "held_by": [], "emitted_at_ms": T0, "version": 10, "is_deleted": 0,
    })
}

fn with(mut row: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("an object") };
    row.as_object_mut().unwrap().extend(more);
    row
}

fn usage_row(row: Value, application: &str, component: &str, version: &str) -> Value {
    let used = row["use"] == "used";
    let path = format!("venv/{}/__init__.py", row["name"].as_str().unwrap());
    let files = if used { json!([file(&path, 0)]) } else { json!([]) };
    with(
        row,
        json!({"application": application, "component": component, "component_version": version,
        "chunk": 0, "chunk_count": 1, "file_count": i32::from(used), "class_count": 0,
        "files": files.to_string(), "classes": "[]"}),
    )
}

/// jinja2's files stand in several chunks.
fn chunked(row: Value) -> Vec<Value> {
    let files: Vec<Value> =
        (0..CHUNKED_FILES).map(|index| file(&format!("venv/jinja2/module_{index:03}.py"), index)).collect();
    let count = files.len().div_ceil(CHUNK);
    files
        .chunks(CHUNK)
        .enumerate()
        .map(|(chunk, part)| {
            with(
                row.clone(),
                json!({"chunk": chunk, "chunk_count": count, "file_count": CHUNKED_FILES,
                "files": Value::from(part.to_vec()).to_string()}),
            )
        })
        .collect()
}

fn component_summary(application: &str, component: &str, version: &str, workloads: i64, live: i64) -> Value {
    json!({"application": application, "component": component, "component_version": version,
        "workload_count": workloads, "live_workload_count": live, "first_seen_ms": T0, "last_seen_ms": T0 + 7_200_000})
}

fn artifact_row(key: &str, names: &[&str], components: &[Value], more: Value) -> Value {
    let row = json!({"artifact": key, "scanned": true, "scan_id": "scan-1", "source": "fs", "names": names,
        "scanner_version": "0.1.0", "database_version": "2026-01-01", "scanned_at_ms": T0,
        "component_count": components.len(), "components": Value::from(components.to_vec()).to_string(),
        "workload_count": 2, "live_workload_count": 1, "warnings": "[]", "version": 10, "is_deleted": 0});
    with(row, more)
}

/// Fills a database.
pub fn fill(database: &Database) {
    let mut usage = Vec::new();
    let mut packages = Vec::new();
    for (artifact, kind, ecosystem, specs) in
        [(ARTIFACT, "application", "pypi", APPLICATION_PACKAGES), (HOST, "os", "debian", OS_PACKAGES)]
    {
        for spec in specs {
            let row = package_row(artifact, kind, ecosystem, spec);
            packages.push(with(
                row.clone(),
                json!({"component_count": 1, "licenses": ["MIT"], "architecture": "amd64"}),
            ));
            let row = usage_row(row, APPLICATION, COMPONENT, VERSION);
            if spec.name == "jinja2" { usage.extend(chunked(row)) } else { usage.push(row) }
        }
    }
    // What FINAL must not show: an older state, and a package that a later scan no longer lists.
    usage.push(with(usage[2].clone(), json!({"version": 1, "use": "not_measured", "vulnerable": "no"})));
    let gone = with(
        usage_row(packages[0].clone(), APPLICATION, COMPONENT, VERSION),
        json!({"package_id": "gone", "name": "gone", "purl": "pkg:pypi/gone@1"}),
    );
    usage.push(without_artifact_columns(with(gone.clone(), json!({"version": 5, "is_deleted": 0}))));
    usage.push(without_artifact_columns(with(gone, json!({"version": 6, "is_deleted": 1}))));
    fill_image(&mut usage, &mut packages);
    database.insert("package_usage", &usage);
    database.insert("artifact_packages", &packages);
    database.insert("artifact_packages_by_purl", &packages);
    fill_findings(database, &packages);
    fill_artifacts(database);
    fill_alerts(database);
}

fn without_artifact_columns(mut row: Value) -> Value {
    for column in ["component_count", "licenses", "architecture"] {
        row.as_object_mut().unwrap().remove(column);
    }
    row
}

fn fill_image(usage: &mut Vec<Value>, packages: &mut Vec<Value>) {
    let base = &OS_PACKAGES[1];
    for index in 0..MANY {
        let name = match index {
            0 => HOSTILE.to_owned(),
            1 => "it's \\ \"quoted\" {p0:String} ?".to_owned(),
            _ => format!("package-{index:05}"),
        };
        let row = with(
            package_row(IMAGE, "os", "debian", base),
            json!({
                "name": name, "package_id": package_id(&name), "purl": format!("pkg:deb/debian/{name}@1?arch=amd64"),
                "use": if index % 3 == 0 { "used" } else { "unused" },
                "recommendation_text": format!("Consider removing {name}."),
            }),
        );
        packages.push(with(row.clone(), json!({"component_count": 1})));
        usage.push(usage_row(row, HOSTILE, "a/b", "1.0 é"));
    }
}

/// Why the fixture says that a package has a vulnerability.
pub fn reason(name: &str, vulnerability: &str) -> String {
    format!("{name} lies <below> the fixed version ({vulnerability})")
}

fn fill_findings(database: &Database, packages: &[Value]) {
    let mut findings = Vec::new();
    for package in packages {
        let vulnerabilities: Vec<Value> =
            serde_json::from_str(package["vulnerabilities"].as_str().unwrap()).unwrap();
        for entry in vulnerabilities {
            let mut row = json!({"vulnerability_id": entry["id"], "aliases": ["GHSA-xxxx-yyyy-zzzz"], "severity": entry["severity"],
                "cvss_vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", "cvss_score": 7.5,
                "known_exploited": entry["known_exploited"], "epss": null, "fixed_versions": entry["fixed_in"],
                "source": "osv", "match_reason": reason(package["name"].as_str().unwrap(), entry["id"].as_str().unwrap()),
                "imports": ["example.org/module/<b>html</b>"], "summary": "Something <b>bad</b>",
                "published_ms": T0, "modified_ms": T0,
                "priority": if package["use"] == "used" { 80 } else { 30 }, "priority_reason": "severity and use"});
            for column in [
                "artifact",
                "package_id",
                "purl",
                "name",
                "package_version",
                "kind",
                "ecosystem",
                "use",
                "use_reason",
                "rung",
                "first_used_ms",
                "last_used_ms",
                "version",
                "is_deleted",
            ] {
                row[column] = package[column].clone();
            }
            findings.push(row);
        }
    }
    database.insert("findings", &findings);
    database.insert("findings_by_vulnerability", &findings);
}

fn fill_artifacts(database: &Database) {
    let observed = json!([
        {"ecosystem": "maven", "probe": "jvmti", "how": "attached", "processes": 2, "workload_count": 1,
            "counts": {"classes-told": 1204, "classes-generated": 311}, "reasons": []},
        {"ecosystem": "maven", "probe": "jvmti", "how": "refused", "processes": 1, "workload_count": 1, "counts": {},
            "reasons": ["it was started with -XX:+DisableAttachMechanism; start it with `plimsoll run`"]},
        {"ecosystem": "pypi", "probe": "ebpf-files", "how": "at-start", "processes": 3, "workload_count": 2,
            "counts": {}, "reasons": []}]);
    let backend =
        with(component_summary(APPLICATION, COMPONENT, VERSION, 2, 1), json!({"observed": observed}));
    let cells = json!({"cells.kind": ["application", "application"], "cells.vulnerable": ["yes", "yes"],
        "cells.use": ["used", "unused"], "cells.package_count": [2, 2], "package_count": APPLICATION_PACKAGES.len(),
        "vulnerable_package_count": 5, "finding_count": 6, "alert_count": 1,
        "warnings": json!([{"code": "unreadable-directory", "subject": "venv/<secret>", "message": "permission denied",
            "remedy": "run the scan as a user who may read it"}]).to_string()});
    database.insert("artifacts", &[
        artifact_row(ARTIFACT, &["mydir/pythonapp"], std::slice::from_ref(&backend), cells),
        artifact_row(HOST, &[], &[backend], json!({"scanned": false, "source": "", "package_count": 3,
            "cells.kind": ["os"], "cells.vulnerable": ["yes"], "cells.use": ["used"], "cells.package_count": [1]})),
        artifact_row(IMAGE, &["registry.example/team/app:1.0"], &[component_summary(HOSTILE, "a/b", "1.0 é", 1, 0)],
            json!({"source": "image", "package_count": MANY, "os_pretty_name": "Debian GNU/Linux 12 (bookworm)",
                "platform_os": "linux", "platform_architecture": "amd64", "aliases": ["sha256:aaaa"]})),
        artifact_row(UNIDENTIFIED, &[], &[], json!({"scanned": false,
            "unidentified_reason": "the runtime's image store could not be read", "moved_to": ""})),
    ]);
    let workload = |artifact: &str, id: &str, more: Value| {
        with(
            json!({"artifact": artifact, "workload_id": id, "application": APPLICATION, "component": COMPONENT,
            "component_version": VERSION, "node_id": "0af3", "node_name": "node-1", "kind": "process",
            "labels": {"tier": "web<1>"}, "command": ["python", "run.py"], "started_at_ms": T0, "stopped_at_ms": 0,
            "watched": json!([{"probe": "ebpf-files", "from_ms": T0, "until_ms": T0 + 7_200_000, "from_first_exec": true}]).to_string(),
            "unavailable_probes": {"ld-audit": "not needed"},
            "observed": json!([{"ecosystem": "pypi", "probe": "ebpf-files", "how": "at-start", "processes": 3,
                "counts": {}}]).to_string(), "version": 10, "is_deleted": 0}),
            more,
        )
    };
    database.insert(
        "workloads",
        &[
            workload(ARTIFACT, "node-1/w1", json!({})),
            workload(ARTIFACT, "node-1/w2", json!({"stopped_at_ms": T0 + 60_000})),
            workload(HOST, "node-1/w1", json!({})),
            workload(
                ARTIFACT,
                "node-1/other",
                json!({"application": "frontend", "component": "other", "component_version": "2"}),
            ),
            workload(
                UNIDENTIFIED,
                "node-1/c0ffee",
                json!({"application": "", "component": "", "component_version": "",
            "kind": "container", "unidentified_reason": "the runtime's image store could not be read"}),
            ),
        ],
    );
}

fn fill_alerts(database: &Database) {
    let alert = |id: &str, artifact: &str, application: &str, raised: i64| {
        json!({"artifact": artifact, "alert_id": id, "workload_id": "node-1/w1", "application": application,
            "component": if application.is_empty() { "" } else { COMPONENT },
            "component_version": if application.is_empty() { "" } else { VERSION },
            "rule": "shell-from-server", "severity": "high", "title": format!("A shell was started <{id}>"),
            "process": json!({"pid": 42, "parent_pid": 7, "executable": "usr/bin/dash", "command": ["sh", "-c", "id"],
                "user_id": 0, "parent_executable": "usr/bin/python3", "started_at_ms": T0}).to_string(),
            "path": "usr/bin/dash", "evidence": {"parent": "python3"}, "raised_at_ms": raised,
            "owners": json!([{"package_id": "p", "purl": "pkg:deb/debian/dash@0.5.12", "name": "dash", "version": "0.5.12",
                "kind": "os", "ecosystem": "debian"}]).to_string(),
            "ownership_state": "owned", "vulnerable": "no", "vulnerabilities": "[]", "version": 10, "is_deleted": 0})
    };
    let mut alerts = vec![alert("first", ARTIFACT, APPLICATION, T0)];
    for index in 0..24 {
        // Two at a time bear the same time.
        alerts.push(alert(&format!("other-{index:02}"), UNIDENTIFIED, "", T0 + 1_000 + index / 2));
    }
    database.insert("alerts", &alerts);
}

/// A filled database with a portal over it; `None` (said aloud) without a ClickHouse.
pub fn start() -> Option<(Database, RunningPortal)> {
    let database = Database::create()?;
    fill(&database);
    let portal = RunningPortal::start(&database.url, &database.name, |_| {});
    Some((database, portal))
}
