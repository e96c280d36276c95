//! What must hold (issue 3), told as small stories over the core.

#![allow(clippy::unwrap_used)]

mod support;

use plimsoll_correlator_core::{Artifact, Event, Order};
use plimsoll_schemas::events::*;
use support::*;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

fn all() -> Compacted {
    run(world().into_iter().flatten())
}

fn numbered(events: Vec<Event>) -> Vec<(Event, Order)> {
    events.into_iter().enumerate().map(|(n, event)| (event, order(n as i64))).collect()
}

fn scan(id: &str, packages: &[ScanPackage]) -> Vec<Event> {
    let found = packages.iter().map(|p| Event::Findings(findings(id, &p.name, &[])));
    let listed = packages.iter().cloned().map(Event::Package);
    listed.chain(found).chain([Event::Manifest(manifest(id, packages))]).collect()
}

#[test]
fn the_whole_table() {
    let end = all();
    let check = |name: &str, vulnerable: &str, usage: &str, rung: &str, code: &str| {
        let record = end.package(name);
        let got = (
            record.vulnerable.as_str(),
            record.r#use.as_str(),
            record.rung.as_str(),
            record.recommendation_code.as_str(),
        );
        assert_eq!(got, (vulnerable, usage, rung, code), "{name}: {record:#?}");
    };
    check("libc", "yes", "used", "loaded", "upgrade");
    check("bash", "no", "used", "loaded", "no_action");
    // Only a volume's file of that path was used.
    check("perl", "no", "unused", "deployed", "remove");
    // Held by bash.
    check("libtinfo", "no", "unused", "deployed", "no_action");
    check("new", "no", "unused", "deployed", "remove");
    check("py-flask", "no", "used", "loaded", "no_action");
    // Only read, and held by flask.
    check("py-jinja", "no", "unused", "accessed", "no_action");
    // Only its metadata was read.
    check("py-never", "yes", "unused", "deployed", "remove");
    check("py-copied", "yes", "not_measured", "deployed", "observe");
    check("py-copied-elsewhere", "yes", "used", "loaded", "upgrade");
    // Classes of a shaded jar; what carries the jar was used by any of them.
    for name in ["jv-app", "jv-log", "jv-core", "jv-twin"] {
        check(name, "no", "used", "loaded", "no_action");
    }
    assert_eq!(end.package("jv-twin").ambiguous_with, ["pkg:maven/jv-core@1"]);
    // A class of its Java package came from nobody can tell where.
    check("jv-idle", "no", "not_measured", "deployed", "observe");
    check("jdk", "not_assessed", "used", "loaded", "no_feed");
    // Upgraded at run time in one replica.
    check("libc-2", "not_assessed", "used", "loaded", "no_feed");
    assert!(!end.package("libc-2").scanned);
    assert_eq!(end.package("libtinfo").held_by, ["bash"]);
    assert_eq!(end.package("libc").vulnerabilities.len(), 1, "the newer database took one back");
    let record = end.artifact();
    assert_eq!((record.package_count, record.vulnerable_package_count, record.finding_count), (17, 4, 4));
    assert_eq!(record.cells.iter().map(|cell| cell.package_count).sum::<i64>(), 17);
    assert_eq!((record.unowned_path_count, record.unresolved_path_count), (1, 2));
    assert_eq!((record.component_count, record.workload_count, record.live_workload_count), (4, 4, 3));
    assert_eq!(record.warnings[0].code, "scan-incomplete");
    assert_eq!(record.scan_id, "s2");
}

#[test]
fn each_component_has_its_own_use() {
    let end = all();
    let usage = |component: &str, name: &str| {
        let record = end.usage(component, name).unwrap();
        (record.r#use.clone(), record.file_count, record.class_count)
    };
    assert_eq!(usage("web", "libc"), ("used".into(), 1, 0));
    assert_eq!(usage("web", "py-flask"), ("used".into(), 0, 1));
    // The worker was watched late: what it did not use is not known.
    assert_eq!(usage("worker", "bash"), ("not_measured".into(), 0, 0));
    assert_eq!(usage("worker", "libc-2"), ("used".into(), 1, 0));
    // Of Python only a linter ran there; where it ran first, an application followed.
    assert_eq!(usage("lint", "py-never"), ("not_measured".into(), 0, 0));
    assert_eq!(usage("lint", "perl"), ("unused".into(), 0, 0));
    assert_eq!(usage("build", "py-never"), ("unused".into(), 0, 0));
    let record = end.usage("worker", "bash").unwrap();
    assert!(record.recommendation_text.starts_with("Observe first: "), "{}", record.recommendation_text);
    assert!(end.usage("web", "old").is_none(), "what vanished from the scan is gone");
}

#[test]
fn alerts_name_owners_and_their_vulnerabilities() {
    let end = all();
    let alert = |id: &str| match &end.outputs[&("correlation.alerts", id.as_bytes().to_vec())] {
        plimsoll_correlator_core::Output::Alert(record) => record.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(alert("a1").owners[0].name, "bash");
    assert_eq!((alert("a1").ownership_state.as_str(), alert("a1").vulnerable.as_str()), ("owned", "no"));
    assert_eq!(alert("a2").ownership_state, "unresolved");
    assert_eq!(alert("a2").vulnerable, "not_assessed");
}

#[test]
fn an_image_that_was_never_scanned_is_observed() {
    let end = run(numbered(vec![
        Event::Workload(workload("w", "web", T0, T0 + 1000, true)),
        Event::Usage(usage("w", "web", vec![item("bin/bash", "executable", "loaded", T0 + 5)])),
        Event::Ownership(owned("bin/bash", "image", "bash", "code")),
    ]));
    let record = end.package("bash");
    assert_eq!(
        (record.scanned, record.vulnerable.as_str(), record.r#use.as_str()),
        (false, "not_assessed", "used")
    );
    assert!(
        record.recommendation_text.contains("plimsoll scan -s image registry/web:1"),
        "{}",
        record.recommendation_text
    );
    assert!(!end.artifact().scanned);
    assert_eq!(end.usage("web", "bash").unwrap().files[0].path, b"bin/bash");
}

#[test]
fn a_container_that_names_no_component_counts_for_those_that_a_scan_named() {
    let nameless = |id: &str, stopped_at_ms: i64| {
        let none = String::new;
        let started = workload(id, "", T0, T0 + 1000, true);
        RuntimeWorkload { application: none(), component_version: none(), stopped_at_ms, ..started }
    };
    let mut event = usage("w", "", vec![item("bin/bash", "executable", "loaded", T0 + 5)]);
    (event.application, event.component_version) = (String::new(), String::new());
    let mut events = scan("s", &[package("s", "bash", "os", &[]), package("s", "perl", "os", &[])]);
    events.push(Event::Workload(workload("other", "worker", T0, T0 + 1000, false)));
    events.push(Event::Workload(nameless("w", T0 + 1000)));
    events.push(Event::Usage(event));
    events.push(Event::Ownership(owned("bin/bash", "image", "bash", "code")));
    let check = |end: &Compacted| {
        let of = |component: &str, name: &str| end.usage(component, name).unwrap().r#use.clone();
        assert_eq!((of("web", "bash"), of("web", "perl")), ("used".into(), "unused".into()));
        // No scan names it: what others do is not its own.
        assert_eq!(
            (of("worker", "bash"), of("worker", "perl")),
            ("not_measured".into(), "not_measured".into())
        );
        let shown = |name: &str| {
            let component = end.artifact().components.iter().find(|c| c.component == name).unwrap();
            (component.workload_count, component.last_seen_ms)
        };
        assert_eq!((shown("web"), shown("worker").0), ((1, T0 + 1000), 1));
    };
    let mut end = run(numbered(events.clone()));
    check(&end);
    // Folded, it is the same.
    let mut artifact = end.load();
    for (event, order) in numbered(vec![Event::Tick { now_ms: T0 + 9 * DAY_MS }]) {
        artifact.apply(event, order).unwrap();
    }
    end.take(artifact.finish());
    check(&end);
}

#[test]
fn a_package_of_a_host_that_was_upgraded_between_run_and_scan_is_not_unused() {
    let mut new = package("s", "bash-2", "os", &[]);
    (new.name, new.version) = ("bash".into(), "2".into());
    let mut events = scan("s", &[new, package("s", "perl", "os", &[])]);
    events.push(Event::Workload(workload("w", "web", T0, T0 + 1000, true)));
    events.push(Event::Usage(usage("w", "web", vec![item("bin/bash", "executable", "loaded", T0 + 5)])));
    events.push(Event::Ownership(owned("bin/bash", "image", "bash", "code")));
    for reversed in [false, true] {
        let mut artifact = Artifact::new("host/abc");
        let mut end = Compacted::default();
        if reversed {
            events.reverse();
        }
        for (event, order) in numbered(events.clone()) {
            artifact.apply(event, order).unwrap();
            end.take(artifact.finish());
        }
        let record = end.package("bash-2");
        assert_eq!(record.r#use, "not_measured", "{record:#?}");
        assert!(record.use_reason.contains("another version of it was used"), "{}", record.use_reason);
        assert_eq!((end.package("bash").scanned, end.package("perl").r#use.as_str()), (false, "unused"));
    }
    // What an image lists it has for ever: another version is a replica's own.
    assert_eq!(run(numbered(events)).package("bash-2").r#use, "unused");
}

#[test]
fn a_workload_that_lives_half_a_second_is_seen() {
    let mut short = workload("w", "web", T0, T0 + 500, true);
    short.stopped_at_ms = T0 + 500;
    let mut events = scan("s", &[package("s", "bash", "os", &[]), package("s", "perl", "os", &[])]);
    events.push(Event::Workload(short));
    events.push(Event::Usage(usage("w", "web", vec![item("bin/bash", "executable", "loaded", T0 + 5)])));
    events.push(Event::Ownership(owned("bin/bash", "image", "bash", "code")));
    let end = run(numbered(events));
    assert_eq!(end.package("bash").r#use, "used");
    assert_eq!(end.package("perl").r#use, "unused");
    assert_eq!(end.package("perl").coverage.as_ref().unwrap().watched_ms, 500);
}

#[test]
fn a_heartbeat_sends_the_packages_again_only_when_the_shown_time_moves() {
    let mut artifact = Artifact::new(IMAGE);
    let events = scan("s", &[package("s", "bash", "os", &[]), package("s", "perl", "os", &[])]);
    let heartbeats = (1..=18).map(|n| Event::Workload(workload("w", "web", T0, T0 + n * 10_000, true)));
    let mut sent = Vec::new();
    for (event, order) in numbered(events.into_iter().chain(heartbeats).collect()) {
        let beat = matches!(event, Event::Workload(_));
        artifact.apply(event, order).unwrap();
        let packages =
            artifact.finish().outputs.iter().filter(|o| o.topic() == "correlation.packages").count();
        sent.extend(beat.then_some(packages));
    }
    assert_eq!(sent, [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2]);
}

#[test]
fn a_tick_counts_paths_whose_owner_never_came_and_unused_is_not_claimed() {
    let mut events = scan("s", &[package("s", "bash", "os", &[])]);
    events.push(Event::Workload(workload("w", "web", T0, T0 + 1000, true)));
    events.push(Event::Usage(usage("w", "web", vec![item("bin/x", "executable", "loaded", T0 + 5)])));
    let before = run(numbered(events.clone()));
    assert_eq!(before.package("bash").r#use, "unused");
    events.push(Event::Tick { now_ms: T0 + 2 * MINUTE_MS });
    let late = run(numbered(events.clone()));
    assert_eq!(late.package("bash").r#use, "not_measured");
    assert_eq!(late.package("bash").coverage.as_ref().unwrap().unresolved_path_count, 1);
    events.push(Event::Ownership(not_owned("bin/x", "unowned")));
    assert_eq!(run(numbered(events)).package("bash").r#use, "unused");
}

#[test]
fn ticks_expire_fold_and_silence() {
    let mut artifact = Artifact::new(IMAGE);
    let mut compacted = Compacted::default();
    let mut step = |events: Vec<Event>| {
        for (event, order) in numbered(events) {
            artifact.apply(event, order).unwrap();
        }
        compacted.take(artifact.finish());
        compacted.clone()
    };
    let mut stopped = workload("w1", "web", T0, T0 + 1000, true);
    stopped.stopped_at_ms = T0 + 1000;
    let mut events = scan("s", &[package("s", "bash", "os", &[])]);
    events.push(Event::Package(package("never", "bash", "os", &[])));
    events.push(Event::Workload(stopped));
    events.push(Event::Workload(workload("w2", "web", T0, T0 + 1000, true)));
    let start = step(events);
    assert_eq!(start.artifact().live_workload_count, 1);
    assert!(start.state.keys().any(|(kind, _)| *kind == "open"));

    let minute = step(vec![Event::Tick { now_ms: T0 + MINUTE_MS }]);
    assert_eq!(minute, start, "a tick without an effect is not written");

    let silent = step(vec![Event::Tick { now_ms: T0 + 10 * MINUTE_MS }]);
    assert_eq!(silent.artifact().live_workload_count, 0);

    let scans = |c: &Compacted| c.state.keys().filter(|(kind, _)| *kind == "scan").count();
    assert_eq!(scans(&silent), 2);
    let day = step(vec![Event::Tick { now_ms: T0 + DAY_MS + MINUTE_MS }]);
    assert_eq!(scans(&day), 1);

    let folded = step(vec![Event::Tick { now_ms: T0 + 9 * DAY_MS }]);
    assert!(!folded.state.keys().any(|(kind, _)| *kind == "workload"));
    assert_eq!(folded.artifact().workload_count, 2);
    assert_eq!(folded.package("bash").r#use, "unused", "what was watched stays known");
    assert_eq!(folded.package("bash").coverage.as_ref().unwrap().workload_count_from_first_exec, 2);
}

#[test]
fn invalid_parts_are_refused_and_the_rest_is_taken() {
    let check = |event: Event, code: &str| {
        let refusal = Artifact::new(IMAGE).apply(event, order(0)).unwrap_err();
        assert_eq!(refusal.code, code);
    };
    check(Event::Package(ScanPackage::default()), "missing-field");
    check(Event::Ownership(not_owned("x", "perhaps")), "unknown-word");
    check(Event::Ownership(not_owned("/x", "unowned")), "bad-path");
    check(Event::Ownership(owned("x", "image", "bash", "poem")), "unknown-word");

    let mut artifact = Artifact::new(IMAGE);
    let items = vec![item("a", "file", "smelled", T0), item("bin/bash", "executable", "loaded", T0)];
    let refusal = artifact.apply(Event::Usage(usage("w", "web", items)), order(0)).unwrap_err();
    assert_eq!(refusal.code, "unknown-rung");
    artifact.apply(Event::Ownership(owned("bin/bash", "image", "bash", "code")), order(0)).unwrap();
    assert!(artifact.finish().outputs.iter().any(|o| o.topic() == "correlation.packages"));
}

#[test]
fn a_host_lists_for_a_component_only_what_it_used() {
    let host = "host/abc";
    let mut artifact = Artifact::new(host);
    let mut events = scan("s", &[package("s", "bash", "os", &[]), package("s", "perl", "os", &[])]);
    events.push(Event::Workload(workload("w", "web", T0, T0 + 1000, true)));
    events.push(Event::Usage(usage("w", "web", vec![item("bin/bash", "executable", "loaded", T0 + 5)])));
    events.push(Event::Ownership(owned("bin/bash", "image", "bash", "code")));
    for (event, order) in numbered(events) {
        artifact.apply(event, order).unwrap();
    }
    let mut end = Compacted::default();
    end.take(artifact.finish());
    assert!(end.usage("web", "bash").is_some());
    assert!(end.usage("web", "perl").is_none());
    assert_eq!(end.package("perl").r#use, "unused");
}

/// A linter or an installer alone proves nothing about its ecosystem's packages, now or once its workload is folded.
#[test]
fn a_workload_of_tools_alone_establishes_nothing_about_their_ecosystem() {
    let packages = [package("s", "bash", "os", &[]), package("s", "py-flask", "application", &[])];
    let run_of = |id: &str, tool: Option<&str>, at_ms: i64| {
        let mut run = workload(id, "web", T0, T0 + at_ms, true);
        let reason = |tool: &str| format!("no application ran, only {tool}; run the application");
        run.unavailable_probes =
            tool.map(|tool| ("not-measured:pypi".to_owned(), reason(tool))).into_iter().collect();
        run.stopped_at_ms = T0 + at_ms;
        Event::Workload(run)
    };
    for (runs, expect, reason, watched) in [
        (vec![run_of("w1", Some("pip"), 1000)], "not_measured", "only pip", 0),
        (
            vec![run_of("w1", Some("pip"), 1000), run_of("w2", Some("mypy"), 900)],
            "not_measured",
            "only mypy",
            0,
        ),
        (vec![run_of("w1", None, 1000)], "unused", "in 1 workload", 1),
        (vec![run_of("w1", Some("pip"), 1000), run_of("w2", None, 900)], "unused", "in 1 workload", 1),
        // pip, then the application, in one workload.
        (vec![run_of("w1", Some("pip"), 1000), run_of("w1", None, 2000)], "unused", "in 1 workload", 1),
    ] {
        for folded in [false, true] {
            let mut orders = vec![numbered(runs.clone())];
            orders.push(orders[0].iter().rev().cloned().collect());
            for order in orders {
                let mut artifact = Artifact::new(IMAGE);
                for (event, order) in numbered(scan("s", &packages)).into_iter().chain(order) {
                    artifact.apply(event, order).unwrap();
                }
                let mut end = Compacted::default();
                end.take(artifact.finish());
                if folded {
                    for (event, order) in numbered(vec![Event::Tick { now_ms: T0 + 9 * DAY_MS }]) {
                        artifact.apply(event, order).unwrap();
                    }
                    end.take(artifact.finish());
                    assert!(!end.state.keys().any(|(kind, _)| *kind == "workload"));
                }
                let flask = end.package("py-flask");
                let coverage = flask.coverage.as_ref().unwrap();
                assert_eq!(flask.r#use, expect, "{runs:?} folded: {folded}: {}", flask.use_reason);
                assert!(flask.use_reason.contains(reason), "{}", flask.use_reason);
                assert_eq!(coverage.workload_count_from_first_exec, watched, "{runs:?} folded: {folded}");
                assert_eq!(end.package("bash").r#use, "unused", "{runs:?}");
            }
        }
    }
}

/// The scan and the run may be of different directories: then nothing was watched using what was scanned.
#[test]
fn a_component_that_ran_on_other_packages_is_not_measured() {
    let packages = [package("s", "flask", "application", &[])];
    let scanned = manifest("s", &packages).package_hash;
    for (root, expect) in [(scanned.as_str(), "unused"), ("other", "not_measured"), ("", "not_measured")] {
        for scan_first in [true, false] {
            let mut artifact = Artifact::new("component/shop/web/1");
            let mut watched = workload("w", "web", T0, T0 + 1000, true);
            watched.root_package_hash = root.to_owned();
            let mut events = scan("s", &packages);
            let at = if scan_first { events.len() } else { 0 };
            events.insert(at, Event::Workload(watched));
            for (event, order) in numbered(events) {
                artifact.apply(event, order).unwrap();
            }
            let mut end = Compacted::default();
            end.take(artifact.finish());
            let flask = end.package("flask");
            assert_eq!(flask.r#use, expect, "root {root:?}: {}", flask.use_reason);
        }
    }
}

#[test]
fn what_was_used_as_a_copy_elsewhere_is_not_unused() {
    let packages =
        [package("s", "py-core", "application", &[]), package("s", "py-other", "application", &[])];
    let mut copy = owned("work/unpacked/core.py", "image", "py-core", "code");
    copy.owners[0].package_id = "id-py-core-unpacked".into();
    let mut runtime = vec![
        Event::Workload(workload("w", "web", T0, T0 + 1000, true)),
        Event::Usage(usage("w", "web", vec![item("work/unpacked/core.py", "module", "loaded", T0 + 100)])),
        Event::Ownership(copy),
    ];
    for scan_first in [true, false] {
        let mut events = scan("s", &packages);
        if scan_first {
            events.extend(runtime.clone());
        } else {
            events.splice(0..0, runtime.clone());
        }
        let end = run(numbered(events));
        let core = end.package("py-core");
        assert_eq!((core.r#use.as_str(), core.recommendation_code.as_str()), ("not_measured", "observe"));
        assert!(core.use_reason.contains("copy"), "{}", core.use_reason);
        assert_eq!(end.usage("web", "py-core").unwrap().r#use, "not_measured");
        assert_eq!(end.package("py-other").r#use, "unused");
    }
    // Once the copy is known to belong to nobody, what the scan found is judged by itself again.
    runtime.push(Event::Ownership(not_owned("work/unpacked/core.py", "unowned")));
    let end = run(numbered(scan("s", &packages).into_iter().chain(runtime).collect()));
    assert_eq!(end.package("py-core").r#use, "unused");
}

/// The resolver names both the package that a file was unpacked from and the copy that a scan of now would list.
#[test]
fn an_unpacked_copy_is_a_package_of_its_own_only_where_a_scan_lists_it() {
    let of_scan = |also: &[ScanPackage]| {
        let mut packages = vec![package("s", "py-core", "application", &[])];
        packages.extend_from_slice(also);
        scan("s", &packages)
    };
    let mut both = owned("work/unpacked/core.py", "image", "py-core", "code");
    let copy = Owner { package_id: "id-py-core-unpacked".into(), ..both.owners[0].clone() };
    both.owners.push(copy);
    let runtime = || {
        vec![
            Event::Workload(workload("w", "web", T0, T0 + 1000, true)),
            Event::Usage(usage(
                "w",
                "web",
                vec![item("work/unpacked/core.py", "module", "loaded", T0 + 100)],
            )),
            Event::Ownership(both.clone()),
        ]
    };
    let listed = ScanPackage {
        package_id: "id-py-core-unpacked".into(),
        ..package("s", "py-core", "application", &[])
    };
    for (also, is_listed) in [(&[][..], false), (&[listed][..], true)] {
        for scan_first in [true, false] {
            let (scanned, ran) = (of_scan(also), runtime());
            let events: Vec<Event> = if scan_first {
                scanned.into_iter().chain(ran).collect()
            } else {
                ran.into_iter().chain(scanned).collect()
            };
            let end = run(numbered(events));
            let core = end.usage("web", "py-core").unwrap();
            assert_eq!(
                (core.r#use.as_str(), core.use_reason == "code of it was loaded"),
                ("used", !is_listed)
            );
            let unpacked = end.usage("web", "py-core-unpacked");
            assert_eq!(unpacked.map(|row| row.r#use.clone()), is_listed.then(|| "used".to_owned()));
        }
    }
}

/// An archive that its server unpacks after the scan, say: the packages are the same, whatever their place.
#[test]
fn a_copy_that_no_scan_lists_is_assessed_as_the_package_that_it_is_a_copy_of() {
    let packages = [package("s", "py-core", "application", &[])];
    let mut copy = owned("work/unpacked/core.py", "image", "py-core", "code");
    copy.owners[0].package_id = "id-py-core-unpacked".into();
    let runtime = |copy: &PackageOwnership| {
        vec![
            Event::Workload(workload("w", "web", T0, T0 + 1000, true)),
            Event::Usage(usage(
                "w",
                "web",
                vec![item("work/unpacked/core.py", "module", "loaded", T0 + 100)],
            )),
            Event::Ownership(copy.clone()),
        ]
    };
    let found = || Event::Findings(findings("s", "py-core", &["CVE-1"]));
    let of_scan = || scan("s", &packages);
    let orders: [Vec<Event>; 3] = [
        of_scan().into_iter().chain([found()]).chain(runtime(&copy)).collect(),
        runtime(&copy).into_iter().chain(of_scan()).chain([found()]).collect(),
        // Its findings are the last to arrive.
        of_scan().into_iter().chain(runtime(&copy)).chain([found()]).collect(),
    ];
    for events in orders {
        let end = run(numbered(events));
        let unpacked = end.package("py-core-unpacked");
        assert_eq!(
            (unpacked.vulnerable.as_str(), unpacked.r#use.as_str(), unpacked.scanned),
            ("yes", "used", false)
        );
        assert_eq!(unpacked.severity, "high");
        assert_eq!(unpacked.vulnerabilities.len(), 1);
        assert_eq!(unpacked.recommendation_code, "upgrade");
        let whence = "The scan does not list this copy; it was assessed as the same package in app/site/py-core-1.dist-info.";
        assert!(unpacked.recommendation_text.ends_with(whence), "{}", unpacked.recommendation_text);
        assert_eq!(end.usage("web", "py-core-unpacked").unwrap().vulnerable, "yes");
        let finding = ("correlation.findings", b"id-py-core-unpacked\x1fCVE-1".to_vec());
        assert!(end.outputs.contains_key(&finding), "{:?}", end.outputs.keys());
        assert_eq!(end.package("py-core").recommendation_text.split(':').next(), Some("No run can tell"));
    }
    // Another version was not assessed, whatever is known of this one.
    copy.owners[0].purl = "pkg:pypi/py-core@2".into();
    let end = run(numbered(of_scan().into_iter().chain([found()]).chain(runtime(&copy)).collect()));
    let unpacked = end.package("py-core-unpacked");
    assert_eq!(unpacked.vulnerable, "not_assessed");
    assert!(
        unpacked.not_assessed_reason.contains("build the image with it"),
        "{}",
        unpacked.not_assessed_reason
    );
}

#[test]
fn an_unreadable_entity_is_an_error_not_a_guess() {
    let cases: [(&str, &[u8], i32, &[u8]); 3] =
        [("scan", b"s", 2, b""), ("scan", b"s", 1, b"\xc1"), ("new-kind", b"", 1, b"")];
    for (kind, entity, format, body) in cases {
        assert!(Artifact::load(IMAGE, [(kind, entity, format, body)]).is_err(), "{kind}");
    }
}

#[test]
fn owners_that_could_not_all_be_named_hold_back_what_may_be_one_of_them() {
    let packages = ["py-named", "py-left-out", "bash"]
        .map(|name| package("s", name, if name.starts_with("py") { "application" } else { "os" }, &[]));
    let path = String::from_utf8(packages[0].locations[0].path.clone()).unwrap();
    let path = format!("{}/tool", path.rsplit_once('/').unwrap().0);
    let cut = PackageOwnership { state: "unresolved".into(), ..owned(&path, "image", "py-named", "code") };
    let events = |ownership: &[PackageOwnership]| {
        let mut events = scan("s", &packages);
        events.push(Event::Workload(workload("w", "web", T0, T0 + 1000, true)));
        events.push(Event::Usage(usage("w", "web", vec![item(&path, "module", "loaded", T0 + 5)])));
        events.extend(ownership.iter().cloned().map(Event::Ownership));
        numbered(events)
    };
    let check = |ownership: &[PackageOwnership], expect: [&str; 3]| {
        let events = events(ownership);
        for events in [events.clone(), events.into_iter().rev().collect::<Vec<_>>()] {
            let end = run(events);
            let got = packages.clone().map(|package| end.package(&package.name).r#use.clone());
            assert_eq!(got, expect);
        }
    };
    check(&[owned(&path, "image", "py-named", "code")], ["used", "unused", "unused"]);
    check(std::slice::from_ref(&cut), ["used", "not_measured", "not_measured"]);
    // A file of the host in doubt: the operating system's database was read, so it is no package's of that.
    let doubted = PackageOwnership { role: "code".into(), ..not_owned(&path, "unresolved") };
    check(&[doubted], ["not_measured", "not_measured", "unused"]);
    check(&[not_owned(&path, "unresolved")], ["not_measured"; 3]);
    // Who could not look at all takes nothing back.
    check(&[cut, not_owned(&path, "unresolved")], ["used", "not_measured", "not_measured"]);
}

#[test]
fn what_was_read_and_may_be_code_is_not_known_to_be_unused() {
    for (kind, role, expected, files) in [
        ("module", "code", "not_measured", 1),
        ("module", "data", "not_measured", 1),
        ("module", "documentation", "unused", 0),
        ("file", "code", "unused", 1),
    ] {
        let packages = [package("s1", "six", "application", &[])];
        let mut events = vec![Event::Manifest(manifest("s1", &packages))];
        events.extend(packages.into_iter().map(Event::Package));
        events.push(Event::Ownership(owned("venv/bin/six", "image", "six", role)));
        events.push(Event::Workload(workload("w", "web", T0, T0 + 60_000, true)));
        events.push(Event::Usage(usage("w", "web", vec![item("venv/bin/six", kind, "accessed", T0 + 1)])));
        let got = run(events.into_iter().enumerate().map(|(offset, event)| (event, order(offset as i64))));
        let six = got.package("six");
        assert_eq!(six.r#use, expected, "{kind} {role}: {}", six.use_reason);
        let named = six.use_reason.contains("may be code: venv/bin/six");
        assert_eq!(named, expected == "not_measured", "{}", six.use_reason);
        let usage = got.usage("web", "six").unwrap();
        assert_eq!((usage.file_count, usage.class_count), (files, 0), "{kind} {role}");
    }
}
