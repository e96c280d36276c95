//! Pages as they leave the portal.

use crate::fixture::{self, *};

#[test]
fn hostile_names_are_escaped_everywhere() {
    let Some((_database, portal)) = fixture::start() else { return };
    let image = format!("/artifacts/{IMAGE_ENCODED}");
    let package = format!("{HOSTILE_BASE}/packages/{IMAGE_ENCODED}/{}", package_id(HOSTILE));
    for path in [
        "/".to_owned(),
        format!("/applications/{HOSTILE_ENCODED}"),
        HOSTILE_BASE.to_owned(),
        format!("{HOSTILE_BASE}?q={HOSTILE_ENCODED}&sort=name"),
        format!("{HOSTILE_BASE}/packages?sort=name"),
        format!("{HOSTILE_BASE}/findings?q={HOSTILE_ENCODED}"),
        format!("{HOSTILE_BASE}/alerts"),
        package,
        image.clone(),
        format!("{image}/packages?q={HOSTILE_ENCODED}"),
        format!("{image}/components"),
        format!("/packages?purl=pkg%3Adeb%2Fdebian%2F{HOSTILE_ENCODED}%401%3Farch%3Damd64"),
        format!("/artifacts?q={HOSTILE_ENCODED}"),
        format!("/alerts?q={HOSTILE_ENCODED}&application={HOSTILE_ENCODED}"),
        "/alerts".to_owned(),
        "/vulnerabilities/CVE-2020-28493".to_owned(),
    ] {
        let answer = portal.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        for raw in ["<script", "<secret>", "<b>", "<first>", "javascript:"] {
            assert!(!answer.body.contains(raw), "{path} holds {raw}");
        }
    }
    for path in [
        format!("/applications/{HOSTILE_ENCODED}x"),
        format!("/vulnerabilities/{HOSTILE_ENCODED}"),
        format!("/{HOSTILE_ENCODED}"),
        format!("/artifacts/{HOSTILE_ENCODED}"),
        format!("/alerts?severity={HOSTILE_ENCODED}"),
    ] {
        let answer = portal.get(&path);
        assert!([400, 404].contains(&answer.status), "{path}");
        assert!(!answer.body.contains("<script"), "{path}: {}", answer.body);
    }
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let Some((_database, portal)) = fixture::start() else { return };
    let mut seen = std::collections::BTreeSet::new();
    let mut waiting = vec!["/".to_owned(), BASE.to_owned(), "/artifacts".to_owned(), "/alerts".to_owned()];
    // Bound: the fixture's links are finite, but its pagers are long.
    while let Some(path) = waiting.pop().filter(|_| seen.len() < 150) {
        if !seen.insert(path.clone()) {
            continue;
        }
        let answer = portal.get(&path);
        // The fixture names packages and workloads of which it has no rows; these are told as such.
        assert!(matches!(answer.status, 200 | 404), "{path}: {} {}", answer.status, answer.body);
        if !answer.header("content-type").starts_with("text/html") {
            continue;
        }
        for part in answer.body.split("href=\"").skip(1) {
            let address = part.split('"').next().unwrap().replace("&amp;", "&");
            let address = address.split('#').next().unwrap().to_owned();
            if address.starts_with('/') && !address.contains("cursor=") && !address.contains("package-0") {
                waiting.push(address);
            }
        }
    }
    assert!(seen.len() > 40, "{seen:?}");
}

#[test]
fn pages_page_and_fold_without_cutting() {
    let Some((_database, portal)) = fixture::start() else { return };
    // All packages, by following "Next page".
    let mut path = format!("{HOSTILE_BASE}/packages?sort=name");
    let mut rows = 0;
    loop {
        let page = portal.get(&path);
        assert_eq!(page.status, 200);
        rows += page.body.matches("<th scope=\"row\">").count();
        let Some(next) = page.body.split("rel=\"next\" href=\"").nth(1) else { break };
        path = next.split('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!(rows, MANY);
    // A package with many files folds them, says how many, and leads to all.
    let dashboard = portal.get(BASE).body;
    assert!(dashboard.contains("130 files") && dashboard.contains("All 130, to be searched"), "{dashboard}");
    assert!(dashboard.contains("110 more are not listed here"), "{dashboard}");
    assert!(dashboard.contains("first seen <time datetime=\"2026-01-01T00:00:00.001Z\""), "{dashboard}");
    let mut path =
        format!("{BASE}/packages/{}/{}", plimsoll_schemas::identity::encode(ARTIFACT), package_id("jinja2"));
    let mut files = 0;
    loop {
        let page = portal.get(&path);
        files += page.body.matches("venv/jinja2/module_").count();
        let Some(next) = page.body.split("rel=\"next\" href=\"").nth(1) else { break };
        path = next.split('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!(files, CHUNKED_FILES);
    // The search needs no script: a form that leads to a page of its own.
    let package =
        format!("{BASE}/packages/{}/{}", plimsoll_schemas::identity::encode(ARTIFACT), package_id("jinja2"));
    let found = portal.get(&format!("{package}?q=MODULE_01")).body;
    assert_eq!(found.matches("venv/jinja2/module_").count(), 10);
    assert!(found.contains("10 of 130 contain “MODULE_01”"));
    let none = portal.get(&format!("{package}?q=nothing-of-that-name")).body;
    assert!(none.contains("None of the 130 fits."));
}

#[test]
fn pages_say_how_each_language_was_observed() {
    let Some((_database, portal)) = fixture::start() else { return };
    let dashboard = portal.get(BASE).body;
    for text in [
        "How each language was observed",
        "2 JVMs observed only after they had started",
        "1,204 classes told, 311 classes made at run time name no archive",
        "1 JVM could not be observed",
        "it was started with -XX:+DisableAttachMechanism; start it with `plimsoll run`",
        "3 Python processes observed from their start",
    ] {
        assert!(dashboard.contains(text), "{text} is not in {dashboard}");
    }
    let artifact = portal.get(&format!("/artifacts/{}", plimsoll_schemas::identity::encode(ARTIFACT))).body;
    assert!(artifact.contains("3 Python processes observed from their start (ebpf-files)"), "{artifact}");
}

#[test]
fn findings_name_the_affected_packages_of_a_module() {
    let Some((_database, portal)) = fixture::start() else { return };
    for path in ["/vulnerabilities/CVE-2020-28493".to_owned(), format!("{BASE}/findings")] {
        let page = portal.get(&path).body;
        let expect = "Affected packages: <code>example.org/module/&lt;b&gt;html&lt;/b&gt;</code>";
        assert!(page.contains(expect), "{path}: {page}");
    }
    let findings = portal.json(&format!("/api/v1{BASE}/findings"));
    assert_eq!(findings["items"][0]["imports"][0], "example.org/module/<b>html</b>");
}

#[test]
fn packages_say_why_they_match() {
    let Some((_database, portal)) = fixture::start() else { return };
    let package =
        format!("{BASE}/packages/{}/{}", plimsoll_schemas::identity::encode(ARTIFACT), package_id("jinja2"));
    for path in [package, BASE.to_owned(), format!("{BASE}/findings")] {
        let page = portal.get(&path).body;
        let expect = "jinja2 lies &lt;below&gt; the fixed version (CVE-2020-28493)";
        assert!(page.contains(expect), "{path}: {page}");
    }
}

#[test]
fn search_leads_to_the_page_that_knows() {
    let Some((_database, portal)) = fixture::start() else { return };
    let check = |query: &str, expect: &str| {
        let answer = portal.get(&format!("/search?q={query}"));
        assert_eq!((answer.status, answer.header("location")), (303, expect), "{query}");
    };
    check("cve-2020-28493", "/vulnerabilities/CVE-2020-28493");
    check("pkg%3Apypi%2Fsix", "/packages?purl=pkg%3Apypi%2Fsix");
    check("host%2F0af3", "/artifacts/host%2F0af3");
    check("", "/");
}
