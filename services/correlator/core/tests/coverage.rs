//! What takes the right to say "unused" away from a watched workload, while its events are kept and once it is folded.

#![allow(clippy::unwrap_used)]

mod support;

use plimsoll_correlator_core::{Artifact, Event};
use plimsoll_schemas::events::{Loss, RuntimeWorkload, WatchedInterval};
use support::*;

const DAY_MS: i64 = 24 * 3_600_000;

/// The use of two packages that nothing was seen of, one of Python and one of the distribution, and why.
fn judged(workloads: &[RuntimeWorkload], folded: bool) -> [(String, String); 2] {
    let packages = [package("s", "py-idle", "application", &[]), package("s", "perl", "os", &[])];
    let mut events: Vec<Event> = packages.iter().cloned().map(Event::Package).collect();
    events.push(Event::Manifest(manifest("s", &packages)));
    for workload in workloads {
        let ended = RuntimeWorkload { stopped_at_ms: T0 + 60_000, ..workload.clone() };
        events.push(Event::Workload(if folded { ended } else { workload.clone() }));
    }
    if folded {
        events.push(Event::Tick { now_ms: T0 + 9 * DAY_MS });
    }
    let end = run(events.into_iter().enumerate().map(|(offset, event)| (event, order(offset as i64))));
    assert_eq!(end.state.keys().any(|(kind, _)| *kind == "workload"), !folded);
    ["py-idle", "perl"].map(|name| {
        let of_component = end.usage("web", name).unwrap();
        let package = end.package(name);
        assert_eq!((&of_component.r#use, &of_component.use_reason), (&package.r#use, &package.use_reason));
        (package.r#use.clone(), package.use_reason.clone())
    })
}

/// `expect`: the use of the Python package, of the distribution's, and what the reason of the first says.
#[track_caller]
fn check(change: fn(&mut RuntimeWorkload), expect: [&str; 3]) {
    let mut changed = workload("w", "web", T0, T0 + 60_000, true);
    change(&mut changed);
    for folded in [false, true] {
        let [python, os] = judged(std::slice::from_ref(&changed), folded);
        assert_eq!([python.0.as_str(), os.0.as_str()], expect[..2], "folded: {folded}: {}", python.1);
        // Of what is folded the right is kept, not each reason.
        assert!(folded || python.1.contains(expect[2]), "{}", python.1);
    }
}

fn lost(probe: &str, events_lost: i64, repaired: bool) -> Vec<Loss> {
    vec![Loss { probe: probe.into(), boot_id: "b".into(), events_lost, repaired }]
}

fn watch(probe: &str, from_first_exec: bool) -> WatchedInterval {
    let (from_ms, until_ms) = (T0 + 30_000, T0 + 60_000);
    WatchedInterval { probe: probe.into(), boot_id: "c".into(), from_ms, until_ms, from_first_exec }
}

fn unavailable(workload: &mut RuntimeWorkload, key: &str, reason: &str) {
    workload.unavailable_probes.insert(key.into(), reason.into());
}

#[test]
fn only_a_whole_watch_makes_unused() {
    let unused = |says| ["unused", "unused", says];
    let not_measured = |says| ["not_measured", "not_measured", says];
    check(|_| {}, unused("watched from the first exec"));
    check(|w| w.watched.clear(), not_measured("no workload was watched by ebpf-files or python-import"));
    check(|w| w.watched[0].from_first_exec = false, not_measured("began after the workload had started"));
    // An agent that came back later: what ran between is not known.
    check(
        |w| {
            w.watched[0].until_ms = T0 + 10_000;
            w.watched.push(watch("ebpf-files", false));
        },
        not_measured("was interrupted"),
    );
    check(|w| w.losses = lost("ebpf-files", 3, false), not_measured("events were lost"));
    check(|w| w.losses = lost("ebpf-files", 3, true), unused("watched from the first exec"));
    check(|w| w.losses = lost("ebpf-files", 0, false), unused("watched from the first exec"));
    // A loss of a probe that cannot see these packages is none of theirs.
    check(|w| w.losses = lost("jvmti", 3, false), unused("watched from the first exec"));
    check(
        |w| {
            w.losses = lost("ebpf-files", 3, false);
            unavailable(w, "ebpf-files", "the ring was full; give it more room");
        },
        not_measured("events were lost while ebpf-files or python-import watched: the ring was full"),
    );
    check(
        |w| {
            w.watched.clear();
            unavailable(w, "python-import", "it started with -I; start it without");
        },
        not_measured("it started with -I"),
    );
    check(|w| w.sandboxed = true, ["not_measurable", "not_measurable", "sandboxes"]);
}

#[test]
fn one_probe_that_saw_all_is_enough_for_what_it_can_see() {
    // Python's hook says nothing of the distribution's packages.
    check(
        |w| w.watched[0].probe = "python-import".into(),
        ["unused", "not_measured", "the hook does not see what a program reads as text"],
    );
    // What eBPF lost, the hook saw.
    check(
        |w| {
            w.watched.push(watch("python-import", true));
            w.losses = lost("ebpf-files", 3, false);
        },
        ["unused", "not_measured", "watched from the first exec"],
    );
    check(|w| w.watched[0].probe = "node-module".into(), ["not_measured", "not_measured", "no workload"]);
}

#[test]
fn what_cannot_be_measured_in_one_workload_is_unused_in_none() {
    let bundle = "a PyInstaller bundle ran; run it unpacked";
    check(
        |w| unavailable(w, "not-measurable:pypi", "a PyInstaller bundle ran; run it unpacked"),
        ["not_measurable", "unused", "a PyInstaller bundle ran"],
    );
    check(
        |w| unavailable(w, "not-measurable:npm", "a webpack bundle ran; run it unbundled"),
        ["unused", "unused", "watched from the first exec"],
    );
    let whole = workload("w", "web", T0, T0 + 60_000, true);
    let mut bundled = workload("v", "web", T0, T0 + 60_000, true);
    unavailable(&mut bundled, "not-measurable:pypi", bundle);
    for folded in [false, true] {
        for order in [[&whole, &bundled], [&bundled, &whole]] {
            let [python, os] = judged(&order.map(Clone::clone), folded);
            assert_eq!((python.0.as_str(), os.0.as_str()), ("not_measurable", "unused"), "{}", python.1);
        }
    }
    // Of several reasons the same one stays, whatever came first.
    let mut other = bundled.clone();
    other.workload_id = "u".into();
    unavailable(&mut other, "not-measurable:pypi", "Nuitka's program ran; run it unpacked");
    for folded in [false, true] {
        for order in [[&other, &bundled], [&bundled, &other]] {
            let [python, _] = judged(&order.map(Clone::clone), folded);
            assert_eq!(python.1, "Nuitka's program ran");
        }
    }
}

/// What one replica lost, another that was watched whole makes good: it ran the same packages.
#[test]
fn one_whole_watch_is_enough() {
    let whole = workload("w", "web", T0, T0 + 60_000, true);
    let mut lossy = workload("v", "web", T0, T0 + 60_000, true);
    lossy.losses = lost("ebpf-files", 3, false);
    let mut sandboxed = workload("u", "web", T0, T0 + 60_000, true);
    sandboxed.sandboxed = true;
    for folded in [false, true] {
        let [python, _] = judged(&[whole.clone(), lossy.clone(), sandboxed.clone()], folded);
        assert_eq!(python.0, "unused", "{}", python.1);
        assert!(
            python.1.contains("in 1 workload watched from the first exec; 2 more were not"),
            "{}",
            python.1
        );
        let [python, _] = judged(&[lossy.clone(), sandboxed.clone()], folded);
        assert_eq!(python.0, "not_measured", "{}", python.1);
    }
}

/// The scan and the run may have been of different directories: what was folded proves nothing about what was scanned.
#[test]
fn what_ran_on_other_packages_stays_unmeasured_once_folded() {
    let packages = [package("s", "py-idle", "application", &[])];
    let scanned = manifest("s", &packages).package_hash;
    let ran_on = |id: &str, root: &str| RuntimeWorkload {
        root_package_hash: root.into(),
        stopped_at_ms: T0 + 60_000,
        ..workload(id, "web", T0, T0 + 60_000, true)
    };
    for (roots, expect) in [
        (&["other"][..], "not_measured"),
        (&[""], "not_measured"),
        (&[scanned.as_str()], "unused"),
        (&["other", scanned.as_str()], "unused"),
    ] {
        let mut artifact = Artifact::new("component/shop/web/1.0");
        let mut events: Vec<Event> = packages.iter().cloned().map(Event::Package).collect();
        events.push(Event::Manifest(manifest("s", &packages)));
        let workloads = roots.iter().enumerate().map(|(id, root)| ran_on(&id.to_string(), root));
        events.extend(workloads.map(Event::Workload));
        events.push(Event::Tick { now_ms: T0 + 9 * DAY_MS });
        let mut end = Compacted::default();
        for (offset, event) in events.into_iter().enumerate() {
            artifact.apply(event, order(offset as i64)).unwrap();
            end.take(artifact.finish());
        }
        assert!(!end.state.keys().any(|(kind, _)| *kind == "workload"));
        let idle = end.package("py-idle");
        assert_eq!(idle.r#use, expect, "{roots:?}: {}", idle.use_reason);
    }
}
