//! A workload that was unidentified and is not any more: its former artifact says where it went.
#![allow(clippy::unwrap_used)]

mod support;

use plimsoll_correlator_core::Event;
use plimsoll_schemas::events::{RuntimeUsage, RuntimeWorkload};
use support::{Compacted, T0, item, order, run, usage, workload};

const NOW_AT: &str = "image/sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn unidentified(until_ms: i64) -> RuntimeWorkload {
    RuntimeWorkload {
        application: String::new(),
        component: String::new(),
        component_version: String::new(),
        unidentified_reason: "docker is away".into(),
        ..workload("w", "", T0, until_ms, true)
    }
}

#[test]
fn the_former_artifact_says_where_its_workload_went() {
    let uses = RuntimeUsage {
        application: String::new(),
        component_version: String::new(),
        ..usage("w", "", vec![item("usr/bin/x", "executable", "loaded", T0 + 500)])
    };
    let before = [(Event::Workload(unidentified(T0 + 1_000)), order(0)), (Event::Usage(uses), order(0))];
    let compacted: Compacted = run(before.clone());
    let artifact = compacted.artifact();
    assert_eq!((artifact.moved_to.as_str(), artifact.live_workload_count), ("", 1));
    let moved = RuntimeWorkload { moved_to: NOW_AT.into(), ..unidentified(T0 + 2_000) };
    let compacted = run(before.into_iter().chain([(Event::Workload(moved), order(1))]));
    let artifact = compacted.artifact();
    assert_eq!(artifact.moved_to, NOW_AT);
    assert_eq!(artifact.unidentified_reason, "docker is away");
    assert_eq!((artifact.workload_count, artifact.live_workload_count), (1, 0), "it lives elsewhere");
    assert_eq!(artifact.component_count, 0, "and is no component's here");
}
