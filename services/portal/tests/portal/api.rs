//! Answers of the API over rows as the sink writes them.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::fixture::{self, *};

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn totals_and_cells_count_every_package_once() {
    let Some((_database, portal)) = fixture::start() else { return };
    let detail = portal.json(&format!("/api/v1{BASE}"));
    let total = APPLICATION_PACKAGES.len() + OS_PACKAGES.len();
    assert_eq!(detail["totals"]["package_count"], total);
    let cell = |kind: &str, vulnerable: &str, usage: &str| {
        detail["totals"]["cells"]
            .as_array()
            .unwrap()
            .iter()
            .find(|cell| cell["kind"] == kind && cell["vulnerable"] == vulnerable && cell["use"] == usage)
            .map_or(0, |cell| cell["package_count"].as_i64().unwrap())
    };
    for (kind, specs) in [("application", APPLICATION_PACKAGES), ("os", OS_PACKAGES)] {
        for vulnerable in ["yes", "no", "not_assessed"] {
            for usage in ["used", "unused", "not_measured", "not_measurable"] {
                let expect =
                    specs.iter().filter(|spec| spec.vulnerable == vulnerable && spec.usage == usage).count();
                assert_eq!(cell(kind, vulnerable, usage), expect as i64, "{kind} {vulnerable} {usage}");
            }
        }
    }
    assert_eq!(detail["totals"]["known_exploited_package_count"], 1);
    assert_eq!(detail["totals"]["recommendations"]["upgrade"], 3);
    assert_eq!(detail["totals"]["severities"]["critical"], 1);
    let keys: Vec<&str> =
        detail["artifacts"].as_array().unwrap().iter().map(|a| a["artifact"].as_str().unwrap()).collect();
    assert_eq!(keys, [ARTIFACT, HOST]);
    // The workloads stand under the component and under the host, and count once.
    assert_eq!((&detail["workload_count"], &detail["live_workload_count"]), (&json!(2), &json!(1)));
    assert_eq!(detail["alert_count"], 1);
    assert_eq!(detail["coverage"][0]["coverage"]["probes"], json!(["ebpf-files", "python-import"]));
}

#[test]
fn how_each_language_was_observed_counts_each_process_once() {
    let Some((database, portal)) = fixture::start() else { return };
    let observed = portal.json(&format!("/api/v1{BASE}"))["observed"].clone();
    let shown = |observed: &Value| -> Vec<(String, String, i64)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = observed.as_array().unwrap().iter();
        list.map(|one| (text(&one["ecosystem"]), text(&one["how"]), one["processes"].as_i64().unwrap()))
            .collect()
    };
    let expect = |jvms, refused, python| {
        [("maven", "attached", jvms), ("maven", "refused", refused), ("pypi", "at-start", python)]
            .map(|(ecosystem, how, processes)| (ecosystem.to_owned(), how.to_owned(), processes))
    };
    assert_eq!(shown(&observed), expect(2, 1, 3), "the artifact's and its host's are the same ones");
    assert_eq!(observed[0]["counts"]["classes-told"], 1204);
    assert!(observed[1]["reasons"][0].as_str().unwrap().contains("; start it with"), "{observed}");

    // An artifact of more components than it names: what its workloads say stands for it.
    database
        .execute("ALTER TABLE artifacts UPDATE component_count = 101 WHERE 1 SETTINGS mutations_sync = 1");
    let observed = portal.json(&format!("/api/v1{BASE}"))["observed"].clone();
    let of_workloads = [("pypi".to_owned(), "at-start".to_owned(), 6)];
    assert_eq!(shown(&observed), of_workloads);
}

#[test]
fn a_package_has_the_fields_of_the_contract() {
    let Some((_database, portal)) = fixture::start() else { return };
    let page = portal.json(&format!("/api/v1{BASE}/packages?q=jinja"));
    let package = &page["items"][0];
    assert_eq!(package["purl"], "pkg:pypi/jinja2@2.11.2");
    assert_eq!(
        package["vulnerabilities"][0],
        json!({"id": "CVE-2020-28493", "severity": "high", "fixed_in": ["2.11.3"], "known_exploited": false,
            "match_reason": reason("jinja2", "CVE-2020-28493"), "imports": ["example.org/module/<b>html</b>"]})
    );
    assert_eq!(package["use"], "used");
    assert_eq!(package["rung"], "loaded");
    assert_eq!(package["first_used"], "2026-01-01T00:00:00.000Z");
    assert_eq!(package["coverage"]["from_first_exec"], true);
    assert_eq!(package["recommendation"]["code"], "upgrade");
    assert_eq!(package["locations"][0]["path"], "venv/jinja2.dist-info");
    assert_eq!(package["file_count"], CHUNKED_FILES);
    assert_eq!(package["files_complete"], false);
    let unused = portal.json(&format!("/api/v1{BASE}/packages?q=six"));
    let unused = &unused["items"][0];
    assert_eq!(
        (&unused["rung"], &unused["first_used"], &unused["last_used"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(unused["files_complete"], true);
}

/// Wherever packages stand, each of their vulnerabilities says why it matched, in the words of its own finding.
#[test]
fn every_list_of_packages_says_why_they_match() {
    let Some((_database, portal)) = fixture::start() else { return };
    let artifact = plimsoll_schemas::identity::encode(ARTIFACT);
    let one = portal.json(&format!("/api/v1{BASE}/packages/{artifact}/{}", package_id("jinja2")));
    let report = portal.json(&format!("/api/v1{BASE}/report"));
    let lists = [
        portal.all_items(&format!("/api/v1{BASE}/packages?sort=severity"), 3),
        portal.all_items(&format!("/api/v1/artifacts/{artifact}/packages"), 100),
        portal.all_items("/api/v1/packages?purl=pkg%3Apypi%2Fjinja2", 100),
        report["packages"].as_array().unwrap().clone(),
        vec![one],
    ];
    for packages in &lists {
        let entries = packages.iter().flat_map(|package| {
            package["vulnerabilities"].as_array().unwrap().iter().map(move |entry| (&package["name"], entry))
        });
        let mut count = 0;
        for (name, entry) in entries {
            let expect = reason(name.as_str().unwrap(), entry["id"].as_str().unwrap());
            assert_eq!(entry["match_reason"], expect);
            count += 1;
        }
        assert!(count > 0, "{packages:?}");
    }
}

#[test]
fn files_are_paged_over_chunks_and_merged_in_the_report() {
    let Some((_database, portal)) = fixture::start() else { return };
    let artifact = plimsoll_schemas::identity::encode(ARTIFACT);
    let package = format!("/api/v1{BASE}/packages/{artifact}/{}", package_id("jinja2"));
    assert_eq!(portal.json(&package)["name"], "jinja2");
    let expect: Vec<String> = (0..CHUNKED_FILES).map(|n| format!("venv/jinja2/module_{n:03}.py")).collect();
    for limit in [7, 1_000] {
        let files = portal.all_items(&format!("{package}/files"), limit);
        let paths: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
        assert_eq!(paths, expect);
    }
    let found = portal.all_items(&format!("{package}/files?q=Module_12"), 3);
    assert_eq!(found.len(), 10, "{found:?}");
    let report = portal.json(&format!("/api/v1{BASE}/report"));
    let packages = report["packages"].as_array().unwrap();
    assert_eq!(packages.len(), APPLICATION_PACKAGES.len() + OS_PACKAGES.len());
    let jinja2 = packages.iter().find(|package| package["name"] == "jinja2").unwrap();
    assert_eq!(jinja2["files"].as_array().unwrap().len(), CHUNKED_FILES);
    assert_eq!(jinja2["files_complete"], true);
    assert!(report["generated_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(report["artifacts"].as_array().unwrap().len(), 2);
}

#[test]
fn pages_are_complete_without_duplicates() {
    let Some((_database, portal)) = fixture::start() else { return };
    let list = format!("/api/v1{HOSTILE_BASE}/packages");
    for (path, limit) in [
        (list.clone(), 100),
        (list.clone(), 1_000),
        (format!("{list}?sort=severity"), 501),
        (format!("/api/v1/artifacts/{IMAGE_ENCODED}/packages"), 333),
        (format!("/api/v1/artifacts/{IMAGE_ENCODED}/packages?sort=severity"), 1_000),
    ] {
        let items = portal.all_items(&path, limit);
        let ids: HashSet<&str> = items.iter().map(|item| item["package_id"].as_str().unwrap()).collect();
        assert_eq!((items.len(), ids.len()), (MANY, MANY), "{path}");
        if !path.contains("severity") {
            let names = names(&items);
            assert!(names.is_sorted(), "{path}");
        }
    }
    let used = portal.all_items(&format!("{list}?use=used"), 100);
    assert_eq!(used.len(), MANY.div_ceil(3));
    let alerts = portal.all_items("/api/v1/alerts", 5);
    let ids: HashSet<&str> = alerts.iter().map(|item| item["alert_id"].as_str().unwrap()).collect();
    assert_eq!((alerts.len(), ids.len()), (25, 25));
    let times: Vec<&str> = alerts.iter().map(|item| item["raised_at"].as_str().unwrap()).collect();
    assert!(times.iter().rev().is_sorted());
}

#[test]
fn filters_narrow_and_refuse_unknown_words() {
    let Some((_database, portal)) = fixture::start() else { return };
    let list = format!("/api/v1{BASE}/packages");
    let check = |query: &str, expect: &[&str]| {
        let page = portal.json(&format!("{list}?{query}"));
        assert_eq!(names(page["items"].as_array().unwrap()), expect, "{query}");
    };
    check("vulnerable=yes&use=used", &["jinja2", "libssl3", "pyyaml"]);
    check("vulnerable=yes&use=used&sort=severity", &["pyyaml", "jinja2", "libssl3"]);
    check("vulnerable=yes&use=used&kind=os", &["libssl3"]);
    check("vulnerable=not_assessed", &["internal-lib"]);
    check("use=not_measurable&kind=", &["colorama"]);
    check("severity=critical", &["pyyaml"]);
    check("recommendation=observe", &["colorama", "lxml"]);
    check("q=PKG%3Adeb&vulnerable=no", &["libc6", "tzdata"]);
    check("q=%27%20OR%201%3D1%20--", &[]);
    check("q=gone", &[]);
    let hostile = portal.json(&format!("/api/v1{HOSTILE_BASE}/packages?q={HOSTILE_ENCODED}"));
    assert_eq!(names(hostile["items"].as_array().unwrap()), [HOSTILE]);
    let quoted = portal.json(&format!(
        "/api/v1{HOSTILE_BASE}/packages?q=it%27s%20%5C%20%22quoted%22%20%7Bp0%3AString%7D%20%3F"
    ));
    assert_eq!(quoted["items"].as_array().unwrap().len(), 1);
    for query in ["use=maybe", "limit=0", "limit=1001", "limit=x", "cursor=AAAA", "colour=red", "sort=size"] {
        let answer = portal.get(&format!("{list}?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert!(!problem["remedy"].as_str().unwrap().is_empty() && problem["status"] == 400, "{problem}");
    }
    // A cursor of another question.
    let first = portal.json(&format!("{list}?limit=1"));
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(portal.get(&format!("{list}?limit=1&use=used&cursor={cursor}")).status, 400);
}

#[test]
fn applications_lead_to_components() {
    let Some((_database, portal)) = fixture::start() else { return };
    let page = portal.json("/api/v1/applications");
    let found: Vec<&str> =
        page["items"].as_array().unwrap().iter().map(|item| item["application"].as_str().unwrap()).collect();
    assert_eq!(found, [HOSTILE, APPLICATION]);
    let backend = &page["items"][1];
    assert_eq!(backend["vulnerable_package_count"], 4);
    assert_eq!(backend["vulnerable_used_package_count"], 2);
    assert_eq!(backend["alert_count"], 1);
    assert_eq!(backend["artifact_count"], 2);
    let detail = portal.json("/api/v1/applications/backend");
    let component = &detail["components"][0];
    assert_eq!((&component["component"], &component["version"]), (&json!(COMPONENT), &json!(VERSION)));
    let sum: i64 =
        component["cells"].as_array().unwrap().iter().map(|c| c["package_count"].as_i64().unwrap()).sum();
    assert_eq!(sum as usize, APPLICATION_PACKAGES.len() + OS_PACKAGES.len());
    for path in
        ["/api/v1/applications/nothing", "/api/v1/applications/backend/components/pythonapp/versions/9"]
    {
        let answer = portal.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/problem+json"));
    }
}

#[test]
fn artifacts_show_who_runs_them() {
    let Some((_database, portal)) = fixture::start() else { return };
    let list = portal.all_items("/api/v1/artifacts", 2);
    assert_eq!(list.len(), 4);
    let unscanned = portal.all_items("/api/v1/artifacts?scanned=no", 10);
    assert_eq!(unscanned.len(), 2);
    let key = plimsoll_schemas::identity::encode(ARTIFACT);
    let artifact = portal.json(&format!("/api/v1/artifacts/{key}"));
    assert_eq!(artifact["warnings"][0]["code"], "unreadable-directory");
    assert_eq!(artifact["cells"][0]["package_count"], 2);
    // One component of the correlator's list, and one that only a workload names.
    let components = portal.all_items(&format!("/api/v1/artifacts/{key}/components"), 1);
    assert_eq!(components.len(), 2);
    assert_eq!(
        (&components[0]["application"], &components[0]["workload_count"]),
        (&json!("backend"), &json!(2))
    );
    assert_eq!(
        (&components[1]["application"], &components[1]["workload_count"]),
        (&json!("frontend"), &json!(1))
    );
    let workloads = portal.all_items(&format!("/api/v1/artifacts/{key}/workloads"), 2);
    assert_eq!(workloads.len(), 3);
    assert_eq!(workloads[0]["labels"]["tier"], "web<1>");
    assert_eq!(workloads[1]["watched"][0]["probe"], "ebpf-files");
    let findings = portal.all_items(&format!("/api/v1/artifacts/{key}/findings"), 4);
    assert_eq!(findings.len(), 6);
    let package = &portal.json(&format!("/api/v1/artifacts/{key}/packages?q=jinja2"))["items"][0];
    assert_eq!((&package["licenses"], &package["component_count"]), (&json!(["MIT"]), &json!(1)));
    assert_eq!(package["files_complete"], false);
    // Not canonical, unknown kind, unknown artifact.
    for (key, status) in [("component%2Fa%2Fb", 400), ("vm%2Fx", 400), ("host%2Fnobody", 404)] {
        assert_eq!(portal.get(&format!("/api/v1/artifacts/{key}")).status, status, "{key}");
    }
}

#[test]
fn packages_and_vulnerabilities_lead_to_their_users() {
    let Some((_database, portal)) = fixture::start() else { return };
    let occurrences = |purl: &str| {
        let purl = plimsoll_schemas::identity::encode(purl);
        portal.all_items(&format!("/api/v1/packages?purl={purl}"), 10)
    };
    let found = occurrences("pkg:pypi/jinja2@2.11.2");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["artifact_names"], json!(["mydir/pythonapp"]));
    assert_eq!(found[0]["components"][0]["application"], "backend");
    assert_eq!(found[0]["components"][0]["use"], "used");
    // Without qualifiers, without a version; but no other name that begins alike.
    assert_eq!(occurrences("pkg:deb/debian/libssl3@3.0.15-1~deb12u1").len(), 1);
    assert_eq!(occurrences("pkg:deb/debian/libssl3").len(), 1);
    assert_eq!(occurrences("pkg:pypi/jinja").len(), 0);
    assert_eq!(portal.get("/api/v1/packages").status, 400);

    let found = portal.json("/api/v1/vulnerabilities/CVE-2020-28493");
    assert_eq!((&found["artifact_count"], &found["artifact_count_used"]), (&json!(1), &json!(1)));
    assert_eq!(found["items"][0]["components"][0]["use"], "used");
    assert_eq!(found["items"][0]["fixed_in"], json!(["2.11.3"]));
    assert_eq!(found["epss"], Value::Null);
    assert_eq!(portal.get("/api/v1/vulnerabilities/CVE-1999-0001").status, 404);

    let findings = portal.all_items(&format!("/api/v1{BASE}/findings?sort=priority"), 3);
    assert_eq!(findings.len(), 7);
    let priorities: Vec<i64> = findings.iter().map(|item| item["priority"].as_i64().unwrap()).collect();
    assert!(priorities.iter().rev().is_sorted());
    let used = portal.all_items(&format!("/api/v1{BASE}/findings?use=used&kind=os"), 10);
    assert_eq!((used.len(), &used[0]["vulnerability_id"]), (1, &json!("CVE-2024-13176")));
    let alerts = portal.all_items(&format!("/api/v1{BASE}/alerts"), 10);
    assert_eq!((alerts.len(), &alerts[0]["owners"][0]["name"]), (1, &json!("dash")));
    assert_eq!(portal.all_items("/api/v1/alerts?severity=low", 10).len(), 0);
}
