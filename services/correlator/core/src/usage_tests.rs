use plimsoll_schemas::events::Coverage;

use super::*;

/// A case: the package, what was seen, what was watched.
struct Case {
    kind: &'static str,
    seen: &'static [Rung],
    workloads: i64,
    from_first_exec: i64,
    watched: bool,
    change: fn(&mut Known, &mut Facts, &mut PossibleUse<'static>),
}

const WATCHED: Case =
    Case { kind: "os", seen: &[], workloads: 1, from_first_exec: 1, watched: true, change: |_, _, _| {} };

fn check(case: Case, expect: (&str, &str, &str)) {
    let mut package = Known {
        id: "p",
        purl: "",
        name: "p",
        version: "1",
        kind: case.kind,
        ecosystem: if case.kind == "os" { "debian" } else { "pypi" },
        scan: None,
        observable_by: vec!["ebpf-files".into()].into(),
        not_measurable_reason: "",
        how_to_observe: "run it".into(),
    };
    let mut facts = Facts {
        coverage: Coverage {
            workload_count: case.workloads,
            workload_count_from_first_exec: case.from_first_exec,
            from_first_exec: case.from_first_exec > 0,
            ..Coverage::default()
        },
        watched: case.watched,
        ..Facts::default()
    };
    let mut possible = PossibleUse::Nothing;
    (case.change)(&mut package, &mut facts, &mut possible);
    let mut evidence = PackageEvidence::default();
    for (number, rung) in case.seen.iter().enumerate() {
        let first_ms = 100 + 10 * number as i64;
        evidence.rungs.insert(*rung as u8, Span { first_ms, last_ms: first_ms + 5 });
    }
    let got = judge(&package, &evidence, &facts, possible);
    assert!(got.reason.contains(expect.2), "{:?} lacks {:?}", got.reason, expect.2);
    assert_eq!((got.usage, got.rung), (expect.0, expect.1), "{}", got.reason);
    let lacks = got.usage == usage::NOT_MEASURED || got.usage == usage::NOT_MEASURABLE;
    assert_eq!(lacks, !got.remedy.is_empty(), "a remedy belongs to what was not measured");
    assert_eq!(got.first_used_ms != 0, got.usage == usage::USED);
}

#[test]
fn what_ran_as_a_bundle_cannot_be_measured() {
    fn bundled(_: &mut Known, facts: &mut Facts, _: &mut PossibleUse<'static>) {
        facts.not_measurable.insert("pypi".into(), "a bundle ran; run it unbundled".into());
    }
    let case = || Case { change: bundled, kind: "application", ..WATCHED };
    check(case(), ("not_measurable", "deployed", "a bundle ran"));
    check(Case { seen: &[Rung::Loaded], ..case() }, ("used", "loaded", "loaded"));
    check(Case { kind: "os", ..case() }, ("unused", "deployed", "none of its files"));
}

#[test]
fn where_only_tools_ran_nothing_is_unused() {
    fn linted(_: &mut Known, facts: &mut Facts, _: &mut PossibleUse<'static>) {
        facts.only_tools = "no application ran, only eslint; run it".into();
    }
    let python = || Case { change: linted, kind: "application", ..WATCHED };
    let alone = || Case { from_first_exec: 0, watched: false, ..python() };
    check(alone(), ("not_measured", "deployed", "only eslint"));
    check(Case { seen: &[Rung::Loaded], ..alone() }, ("used", "loaded", "loaded"));
    // Another workload of the same was watched, whole or late.
    check(python(), ("unused", "deployed", "none of its files was used in 1 workload"));
    check(Case { from_first_exec: 0, ..python() }, ("not_measured", "deployed", "began after"));
}

#[test]
fn table_of_use() {
    check(WATCHED, ("unused", "deployed", "none of its files was used in 1 workload"));
    check(Case { seen: &[Rung::Accessed], ..WATCHED }, ("used", "accessed", "read"));
    check(Case { seen: &[Rung::Accessed, Rung::Loaded], ..WATCHED }, ("used", "loaded", "loaded"));
    check(Case { seen: &[Rung::Executed], ..WATCHED }, ("used", "executed", "executing"));
    check(Case { seen: &[Rung::SymbolExecuted], ..WATCHED }, ("used", "symbol_executed", "vulnerable"));
    check(Case { seen: &[Rung::Deployed], ..WATCHED }, ("unused", "deployed", "none"));
    check(Case { workloads: 4, ..WATCHED }, ("unused", "deployed", "the first exec; 3 more were not"));
    let by = |change| Case { kind: "application", change, ..WATCHED };
    check(
        by(|_, facts, _| facts.coverage.probes = vec!["node-module".into()]),
        ("unused", "deployed", "the first exec; the hook does not see what a program reads as text"),
    );
    let python = Case { kind: "application", ..WATCHED };
    check(Case { seen: &[Rung::Accessed], ..python }, ("unused", "accessed", "only read"));
    check(
        Case { kind: "application", seen: &[Rung::Accessed, Rung::Loaded], ..WATCHED },
        ("used", "loaded", "loaded"),
    );
    check(
        Case { workloads: 0, from_first_exec: 0, watched: false, ..WATCHED },
        ("not_measured", "", "no workload"),
    );
    check(
        Case { from_first_exec: 0, watched: false, ..WATCHED },
        ("not_measured", "deployed", "no workload was watched by ebpf-files"),
    );
    check(
        Case { from_first_exec: 0, ..WATCHED },
        ("not_measured", "deployed", "began after the workload had started"),
    );
    check(
        Case { from_first_exec: 0, change: |_, facts, _| facts.lossy = true, ..WATCHED },
        ("not_measured", "deployed", "events were lost"),
    );
    let lossy = |change| Case { from_first_exec: 0, change, ..WATCHED };
    check(
        lossy(|_, facts, _| {
            facts.lossy = true;
            facts.lost_reason = "/java was killed".into();
        }),
        ("not_measured", "deployed", "events were lost while ebpf-files watched: /java was killed"),
    );
    check(
        lossy(|_, facts, _| {
            facts.lossy = true;
            facts.lost_reason = "12 classes have no code source; judge it yourself".into();
        }),
        ("not_measured", "deployed", "watched: 12 classes have no code source"),
    );
    check(
        Case {
            from_first_exec: 0,
            watched: false,
            change: |_, facts, _| facts.unavailable = "/java ended; keep the variable".into(),
            ..WATCHED
        },
        ("not_measured", "deployed", "no workload was watched by ebpf-files: /java ended"),
    );
    check(
        Case { from_first_exec: 0, change: |_, facts, _| facts.gap = true, ..WATCHED },
        ("not_measured", "deployed", "interrupted"),
    );
    check(
        Case { change: |_, facts, _| facts.overflow = 7, ..WATCHED },
        ("not_measured", "deployed", "7 uses were too many"),
    );
    check(
        Case { change: |_, _, possible| *possible = PossibleUse::Path, ..WATCHED },
        ("not_measured", "deployed", "owner could not be found out"),
    );
    check(
        Case { change: |_, _, possible| *possible = PossibleUse::Class("a.B"), ..WATCHED },
        ("not_measured", "deployed", "a.B was loaded from no file"),
    );
    check(
        Case { change: |_, _, possible| *possible = PossibleUse::Copy("a.B", "/tmp/*/x.jar"), ..WATCHED },
        ("not_measured", "deployed", "a.B was loaded from /tmp/*/x.jar, which no scan lists"),
    );
    check(
        Case {
            change: |package, _, _| package.not_measurable_reason = "it has only documentation",
            ..WATCHED
        },
        ("not_measurable", "deployed", "only documentation"),
    );
    check(
        Case { change: |package, _, _| package.observable_by.to_mut().clear(), ..WATCHED },
        ("not_measurable", "deployed", "no probe can see"),
    );
    check(
        Case { change: |_, facts, _| facts.sandboxed_count = 1, ..WATCHED },
        ("not_measurable", "deployed", "sandbox"),
    );
    // What was seen counts, whatever was watched.
    check(
        Case {
            seen: &[Rung::Loaded],
            from_first_exec: 0,
            watched: false,
            change: |package, facts, possible| {
                package.not_measurable_reason = "x";
                facts.overflow = 1;
                *possible = PossibleUse::Path;
            },
            ..WATCHED
        },
        ("used", "loaded", "loaded"),
    );
}

#[test]
fn thresholds() {
    for (kind, ecosystem, expect) in [
        ("os", "debian", Rung::Accessed),
        ("application", "pypi", Rung::Loaded),
        ("os", "unheard-of", Rung::Accessed),
        ("application", "unheard-of", Rung::Loaded),
    ] {
        assert_eq!(threshold(kind, ecosystem), expect);
    }
}
