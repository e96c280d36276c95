//! A small world of one image: scans, owners, workloads, uses and alerts, as events with their orders.
//! It must stay free of anything random: the tests choose what varies.
#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses its part.

use std::collections::BTreeMap;

use plimsoll_correlator_core::{Artifact, Event, Finished, Order, Output};
use plimsoll_schemas::events::*;

pub const IMAGE: &str = "image/sha256:1111111111111111111111111111111111111111111111111111111111111111";
pub const T0: i64 = 1_700_000_000_000;

pub fn order(offset: i64) -> Order {
    Order { epoch: 0, offset }
}

/// Ecosystem of an application package, and what can see its use.
fn language(name: &str) -> (&'static str, &'static [&'static str]) {
    if name.starts_with("jv") { ("maven", &["jvmti"]) } else { ("pypi", &["ebpf-files", "python-import"]) }
}

fn location(name: &str) -> Location {
    let path = match language(name).0 {
        "maven" => "app/shaded.jar".to_owned(),
        _ => format!("app/site/{name}-1.dist-info"),
    };
    Location { path: path.into_bytes(), ..Location::default() }
}

pub fn package(scan: &str, name: &str, kind: &str, dependencies: &[&str]) -> ScanPackage {
    let os = kind == "os";
    ScanPackage {
        artifact: IMAGE.into(),
        emitted_at_ms: T0,
        scan_id: scan.into(),
        package_id: format!("id-{name}"),
        purl: format!("pkg:{}/{name}@1", if os { "deb/debian" } else { language(name).0 }),
        name: name.into(),
        version: "1".into(),
        kind: kind.into(),
        ecosystem: if os { "debian" } else { language(name).0 }.into(),
        locations: vec![location(name)],
        dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
        observable_by: if os {
            vec!["ebpf-files".into()]
        } else {
            language(name).1.iter().map(|probe| (*probe).to_owned()).collect()
        },
        ..ScanPackage::default()
    }
}

pub fn manifest(scan: &str, packages: &[ScanPackage]) -> ScanArtifact {
    use std::fmt::Write as _;
    let mut ids: Vec<&str> = packages.iter().map(|p| p.package_id.as_str()).collect();
    ids.sort_unstable();
    let digest = plimsoll_schemas::identity::Sha256Digest::of(ids.join("\n").as_bytes());
    let mut hash = String::new();
    write!(hash, "{digest}").unwrap();
    ScanArtifact {
        artifact: IMAGE.into(),
        application: "shop".into(),
        component: "web".into(),
        component_version: "1.0".into(),
        emitted_at_ms: T0 + 10,
        scan_id: scan.into(),
        source: "image".into(),
        names: vec!["registry/web:1".into()],
        package_count: packages.len() as i64,
        package_hash: hash.strip_prefix("sha256:").unwrap().to_owned(),
        completed_at_ms: T0 + 9,
        ..ScanArtifact::default()
    }
}

pub fn findings(scan: &str, name: &str, ids: &[&str]) -> ScanFindings {
    ScanFindings {
        artifact: IMAGE.into(),
        emitted_at_ms: T0 + 5,
        scan_id: scan.into(),
        package_id: format!("id-{name}"),
        assessed: true,
        database_version: "db-1".into(),
        findings: ids
            .iter()
            .map(|id| Finding {
                id: (*id).into(),
                severity: "high".into(),
                fixed_versions: vec!["2".into()],
                ..Finding::default()
            })
            .collect(),
        ..ScanFindings::default()
    }
}

pub fn owned(path: &str, identity: &str, name: &str, role: &str) -> PackageOwnership {
    let scan = package(
        "",
        name,
        if name.starts_with("py") || name.starts_with("jv") { "application" } else { "os" },
        &[],
    );
    PackageOwnership {
        artifact: IMAGE.into(),
        path: path.into(),
        file_identity: identity.into(),
        state: "owned".into(),
        owners: vec![Owner {
            package_id: scan.package_id,
            purl: scan.purl,
            name: scan.name,
            version: scan.version,
            kind: scan.kind,
            ecosystem: scan.ecosystem,
            class_prefixes: Vec::new(),
        }],
        role: role.into(),
        drift: "unchanged".into(),
        resolved_at_ms: T0 + 20,
        ..PackageOwnership::default()
    }
}

/// A path with several owners: name and class prefixes of each.
pub fn shaded(path: &str, owners: &[(&str, &[&str])]) -> PackageOwnership {
    let mut ownership = owned(path, "image", "x", "code");
    ownership.owners.clear();
    for (name, prefixes) in owners {
        let mut owner = owned(path, "image", name, "code").owners.remove(0);
        owner.class_prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        ownership.owners.push(owner);
    }
    ownership
}

pub fn class(path: &str, name: &str, first_seen_ms: i64) -> UsageItem {
    UsageItem { name: name.into(), probe: "jvmti".into(), ..item(path, "class", "loaded", first_seen_ms) }
}

pub fn not_owned(path: &str, state: &str) -> PackageOwnership {
    PackageOwnership { state: state.into(), owners: Vec::new(), ..owned(path, "image", "x", "") }
}

pub fn workload(
    id: &str,
    component: &str,
    from_ms: i64,
    until_ms: i64,
    from_first_exec: bool,
) -> RuntimeWorkload {
    RuntimeWorkload {
        artifact: IMAGE.into(),
        emitted_at_ms: until_ms,
        application: "shop".into(),
        component: component.into(),
        component_version: "1.0".into(),
        workload_id: id.into(),
        kind: "container".into(),
        image_name: "registry/web:1".into(),
        started_at_ms: T0,
        watched: vec![WatchedInterval {
            probe: "ebpf-files".into(),
            boot_id: "b".into(),
            from_ms,
            until_ms,
            from_first_exec,
        }],
        ..RuntimeWorkload::default()
    }
}

/// The workload with Java processes that a life of the agent observed.
pub fn observed(workload: RuntimeWorkload, boot_id: &str, how: &str, processes: i64) -> RuntimeWorkload {
    let observed = Observed {
        ecosystem: "maven".into(),
        probe: "jvmti".into(),
        how: how.into(),
        processes,
        counts: [("classes-hidden".to_owned(), 10 * processes)].into(),
        boot_id: String::new(),
    };
    RuntimeWorkload { boot_id: boot_id.into(), observed: vec![observed], ..workload }
}

pub fn item(path: &str, kind: &str, rung: &str, first_seen_ms: i64) -> UsageItem {
    UsageItem {
        kind: kind.into(),
        path: path.into(),
        file_identity: String::new(),
        mount: "root".into(),
        rung: rung.into(),
        first_seen_ms,
        last_seen_ms: first_seen_ms + 1000,
        probe: "ebpf-files".into(),
        ..UsageItem::default()
    }
}

pub fn usage(workload: &str, component: &str, items: Vec<UsageItem>) -> RuntimeUsage {
    RuntimeUsage {
        artifact: IMAGE.into(),
        emitted_at_ms: T0 + 2000,
        application: "shop".into(),
        component: component.into(),
        component_version: "1.0".into(),
        workload_id: workload.into(),
        items,
        ..RuntimeUsage::default()
    }
}

pub fn alert(id: &str, path: &str) -> RuntimeAlert {
    RuntimeAlert {
        artifact: IMAGE.into(),
        alert_id: id.into(),
        path: path.into(),
        rule: "shell-from-server".into(),
        raised_at_ms: T0 + 3000,
        ..RuntimeAlert::default()
    }
}

/// The streams of all topics, each in its order.
pub fn world() -> Vec<Vec<(Event, Order)>> {
    // Watched from the first exec, and nothing of it is seen but what may be its own.
    let idle = ScanPackage {
        observable_by: vec!["ebpf-files".into()],
        ..package("s1", "jv-idle", "application", &[])
    };
    let mut possible = owned("?!/org/idle", "image", "jv-idle", "code");
    possible.state = "unresolved".into();
    let first: Vec<ScanPackage> = vec![
        idle,
        package("s1", "libc", "os", &[]),
        package("s1", "bash", "os", &["libc", "libtinfo | libtinfo5"]),
        package("s1", "libtinfo", "os", &["libc"]),
        package("s1", "perl", "os", &["libc"]),
        package("s1", "old", "os", &[]),
        package("s1", "py-flask", "application", &["py-jinja"]),
        package("s1", "py-jinja", "application", &[]),
        package("s1", "py-never", "application", &[]),
        package("s1", "jv-app", "application", &[]),
        package("s1", "jv-log", "application", &[]),
        package("s1", "jv-core", "application", &[]),
        package("s1", "jv-twin", "application", &[]),
        package("s1", "py-copied", "application", &[]),
    ];
    // A copy of a package, which no scan lists.
    let mut copy = owned("work/copied.py", "image", "py-copied", "code");
    copy.owners[0].package_id = "id-py-copied-elsewhere".into();
    // The second scan lacks `old` and finds something new.
    let mut second: Vec<ScanPackage> = first
        .iter()
        .filter(|p| p.name != "old")
        .map(|p| ScanPackage { scan_id: "s2".into(), ..p.clone() })
        .collect();
    second.push(package("s2", "new", "os", &[]));
    let never = package("s3", "libc", "os", &[]);
    let mut incomplete = manifest("s3", std::slice::from_ref(&never));
    incomplete.package_count = 2;
    let mut vulnerable = Vec::new();
    for scan in [&first, &second] {
        for p in scan.iter() {
            let ids: &[&str] = match p.name.as_str() {
                "libc" => &["CVE-1", "CVE-2"],
                "py-never" => &["CVE-3"],
                // And so has its copy.
                "py-copied" => &["CVE-4"],
                _ => &[],
            };
            vulnerable.push(Event::Findings(findings(&p.scan_id, &p.name, ids)));
        }
    }
    // A newer database takes CVE-2 back.
    let mut again = findings("s2", "libc", &["CVE-1"]);
    again.database_version = "db-2".into();
    again.emitted_at_ms = T0 + 100_000;
    vulnerable.push(Event::Findings(again));
    let mut again = findings("s2", "py-copied", &["CVE-5"]);
    again.database_version = "db-2".into();
    vulnerable.push(Event::Findings(again));
    let mut modified = item("usr/lib/libc.so", "library", "loaded", T0 + 900);
    modified.file_identity = "sha256:ff".into();
    let mut volume = item("usr/bin/perl", "executable", "loaded", T0 + 900);
    volume.mount = "other".into();
    let mut stopped = workload("w1", "web", T0, T0 + 90_000, true);
    stopped.stopped_at_ms = T0 + 90_500;
    let mut lossy = workload("w2", "worker", T0 + 50, T0 + 200_000, false);
    lossy.losses =
        vec![Loss { probe: "ebpf-files".into(), boot_id: "b".into(), events_lost: 3, repaired: false }];
    // Only a linter ran at first, then an application; and a linter alone.
    let tool = |at_ms: i64, id: &str, component: &str, tool: &str| {
        let mut run = workload(id, component, T0 + 60, T0 + at_ms, true);
        if !tool.is_empty() {
            let reason = format!("no application ran, only {tool}; run it");
            run.unavailable_probes.insert("not-measured:pypi".into(), reason);
        }
        Event::Workload(run)
    };
    let topics: Vec<Vec<Event>> = vec![
        first.iter().chain(&second).chain([&never]).cloned().map(Event::Package).collect(),
        vec![
            Event::Manifest(manifest("s1", &first)),
            Event::Manifest(manifest("s2", &second)),
            Event::Manifest(incomplete),
        ],
        vulnerable,
        vec![
            Event::Ownership(not_owned("usr/lib/libc.so", "unresolved")),
            Event::Ownership(owned("usr/lib/libc.so", "image", "libc", "code")),
            Event::Ownership(owned("usr/lib/libc.so", "sha256:ff", "libc-2", "code")),
            Event::Ownership(owned("bin/bash", "image", "bash", "code")),
            // A replica that was gone too soon does not take the owner away again.
            Event::Ownership(not_owned("bin/bash", "unresolved")),
            Event::Ownership(owned("usr/bin/perl", "image", "perl", "code")),
            Event::Ownership(owned("app/site/flask.py", "image", "py-flask", "code")),
            Event::Ownership(owned("app/site/jinja.py", "image", "py-jinja", "code")),
            Event::Ownership(owned("app/site/never-1.dist-info/METADATA", "image", "py-never", "metadata")),
            Event::Ownership(not_owned("app/main.py", "unowned")),
            Event::Ownership(copy),
            Event::Ownership(not_owned("?!/org/idle", "unresolved")),
            Event::Ownership(possible),
            Event::Ownership(not_owned("?!/made", "unowned")),
            // First read as if one component were all of it.
            Event::Ownership(owned("app/shaded.jar", "image", "jv-app", "code")),
            Event::Ownership(shaded(
                "app/shaded.jar",
                &[
                    ("jv-app", &[]),
                    ("jv-log", &["org.log."]),
                    ("jv-core", &["org.log.core.", "org.twin."]),
                    ("jv-twin", &["org.twin."]),
                    ("jdk", &[]),
                ],
            )),
        ],
        vec![
            Event::Workload(observed(workload("w1", "web", T0, T0 + 30_000, true), "b", "at-start", 1)),
            Event::Workload(observed(
                workload("w2", "worker", T0 + 50, T0 + 100_000, false),
                "b",
                "attached",
                2,
            )),
            Event::Workload(observed(stopped, "b", "at-start", 3)),
            Event::Workload(observed(lossy, "later", "attached", 1)),
            tool(100, "w3", "build", "mypy"),
            tool(100, "w4", "lint", "mypy"),
            tool(200, "w3", "build", ""),
            tool(200, "w4", "lint", "mypy"),
        ],
        vec![
            Event::Usage(usage(
                "w1",
                "web",
                vec![
                    item("usr/lib/libc.so", "library", "loaded", T0 + 500),
                    item("bin/bash", "executable", "loaded", T0 + 400),
                    item("app/main.py", "file", "accessed", T0 + 600),
                    volume,
                ],
            )),
            Event::Usage(usage(
                "w1",
                "web",
                vec![
                    item("app/site/flask.py", "module", "loaded", T0 + 700),
                    item("work/copied.py", "module", "loaded", T0 + 700),
                    item("app/site/jinja.py", "file", "accessed", T0 + 700),
                    item("app/site/never-1.dist-info/METADATA", "file", "accessed", T0 + 700),
                ],
            )),
            Event::Usage(usage(
                "w1",
                "web",
                vec![
                    class("app/shaded.jar", "org.log.core.Layout", T0 + 800),
                    class("app/shaded.jar", "org.log.core.Layout$1", T0 + 810),
                    class("app/shaded.jar", "org.log.Logger", T0 + 790),
                    class("app/shaded.jar", "org.twin.Twin", T0 + 820),
                    class("app/shaded.jar", "Main", T0 + 700),
                    class("app/classes.dir", "org.app.Late", T0 + 900),
                    class("?!/org/idle", "org.idle.Defined", T0 + 910),
                    class("?!/made", "made.Up", T0 + 920),
                ],
            )),
            Event::Usage(usage(
                "w2",
                "worker",
                vec![class("app/shaded.jar", "org.log.core.Layout", T0 + 600)],
            )),
            Event::Usage(usage("w2", "worker", vec![modified, item("tmp/x", "file", "accessed", T0 + 9000)])),
        ],
        vec![Event::Alert(alert("a1", "bin/bash")), Event::Alert(alert("a2", "opt/unknown"))],
    ];
    topics
        .into_iter()
        .map(|events| events.into_iter().enumerate().map(|(n, event)| (event, order(n as i64))).collect())
        .collect()
}

/// What a state topic and the output topics hold after compaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compacted {
    pub state: BTreeMap<(&'static str, Vec<u8>), Vec<u8>>,
    pub outputs: BTreeMap<(&'static str, Vec<u8>), Output>,
}

impl Compacted {
    pub fn take(&mut self, finished: Finished) {
        for change in finished.changes {
            match change.body {
                Some(body) => drop(self.state.insert((change.kind, change.entity), body)),
                None => drop(self.state.remove(&(change.kind, change.entity))),
            }
        }
        for output in finished.outputs {
            let key = (output.topic(), output.entity());
            match output {
                Output::Tombstone { .. } => drop(self.outputs.remove(&key)),
                output => drop(self.outputs.insert(key, output)),
            }
        }
    }

    pub fn load(&self) -> Artifact {
        let entities =
            self.state.iter().map(|((kind, entity), body)| (*kind, entity.as_slice(), 1, body.as_slice()));
        Artifact::load(IMAGE, entities).unwrap()
    }

    pub fn package(&self, name: &str) -> &CorrelationPackage {
        let key = ("correlation.packages", format!("id-{name}").into_bytes());
        match self.outputs.get(&key) {
            Some(Output::Package(record)) => record,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn usage(&self, component: &str, name: &str) -> Option<&CorrelationUsage> {
        let key = format!("shop/{component}/1.0\x1fid-{name}\x1f0").into_bytes();
        match self.outputs.get(&("correlation.usage", key)) {
            Some(Output::Usage(record)) => Some(record),
            None => None,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn artifact(&self) -> &CorrelationArtifact {
        match self.outputs.get(&("correlation.artifacts", Vec::new())) {
            Some(Output::Artifact(record)) => record,
            other => panic!("{other:?}"),
        }
    }
}

/// Applies all events in one batch each, and gives what is left.
pub fn run(events: impl IntoIterator<Item = (Event, Order)>) -> Compacted {
    let mut artifact = Artifact::new(IMAGE);
    let mut compacted = Compacted::default();
    for (event, order) in events {
        artifact.apply(event, order).unwrap();
        compacted.take(artifact.finish());
    }
    compacted
}
