//! Files that were used at places which no scan lists, and that may be copies of packages' files: these are not known to be
//! unused.
#![allow(clippy::unwrap_used)]

mod support;

use plimsoll_correlator_core::Event;
use plimsoll_schemas::events::PackageOwnership;
use support::*;

const COPY: &str = "?=/pkg:npm/moment@1#0123456789ab";

/// The use of two packages of an image whose workload was watched from its first exec, and why the first has it.
fn uses(ownership: Option<PackageOwnership>, path: &str, rung: &str) -> ([String; 2], String) {
    let names = ["moment", "never"];
    let packages = names.map(|name| package("s1", name, "application", &[]));
    let mut events = vec![Event::Manifest(manifest("s1", &packages))];
    events.extend(packages.into_iter().map(Event::Package));
    events.extend(names.map(|name| Event::Findings(findings("s1", name, &[]))));
    events.push(Event::Workload(workload("w", "web", T0, T0 + 60_000, true)));
    events.push(Event::Usage(usage("w", "web", vec![item(path, "module", rung, T0 + 1)])));
    let numbered = |events: Vec<Event>| {
        run(events.into_iter().enumerate().map(|(offset, event)| (event, order(offset as i64))))
    };
    // Whichever comes first.
    let mut early = events.clone();
    early.splice(0..0, ownership.clone().map(Event::Ownership));
    events.extend(ownership.map(Event::Ownership));
    let (got, other) = (numbered(events), numbered(early));
    let used = names.map(|name| got.package(name).r#use.clone());
    assert_eq!(used, names.map(|name| other.package(name).r#use.clone()));
    let artifact = got.artifact();
    assert_eq!((artifact.unowned_path_count, artifact.unresolved_path_count), (0, 0));
    let moment = got.usage("web", "moment").unwrap();
    assert_eq!(moment.file_count, 0);
    (used, moment.use_reason.clone())
}

fn may_be(names: &[&str]) -> Option<PackageOwnership> {
    let owners: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &[][..])).collect();
    let reason = "/tmp/x/moment/index.js was used".to_owned();
    Some(PackageOwnership { state: "unresolved".into(), reason, ..shaded(COPY, &owners) })
}

#[test]
fn a_copy_holds_back_the_packages_that_it_may_be_of() {
    let (used, reason) = uses(may_be(&["moment"]), COPY, "loaded");
    assert_eq!(used, ["not_measured", "unused"]);
    assert!(reason.ends_with("which the scan does not list: /tmp/x/moment/index.js was used"), "{reason}");
    assert_eq!(uses(may_be(&["moment", "never"]), COPY, "loaded").0, ["not_measured", "not_measured"]);
}

#[test]
fn of_what_nobody_could_tell_it_may_be_all() {
    for path in [COPY, "?=/"] {
        assert_eq!(uses(None, path, "loaded").0, ["not_measured", "not_measured"], "{path}");
    }
}

#[test]
fn what_was_only_read_holds_nothing_back() {
    assert_eq!(uses(may_be(&["moment"]), COPY, "accessed").0, ["unused", "unused"]);
}

#[test]
fn what_a_volume_hides_is_not_known_to_be_unused() {
    let names = ["hidden", "other"];
    let check = |ecosystem: &str, location: &str, used: &str, expected: &str| {
        let mut packages = names.map(|name| package("s1", name, "application", &[]));
        for (package, path) in packages.iter_mut().zip([location, "opt/elsewhere"]) {
            package.ecosystem = ecosystem.into();
            package.locations[0].path = path.into();
        }
        let mut events = vec![Event::Manifest(manifest("s1", &packages))];
        events.extend(packages.into_iter().map(Event::Package));
        events.push(Event::Workload(workload("w", "web", T0, T0 + 60_000, true)));
        events.push(Event::Usage(usage("w", "web", vec![item(used, "module", "loaded", T0 + 1)])));
        let got = run(events.into_iter().enumerate().map(|(offset, event)| (event, order(offset as i64))));
        let found = names.map(|name| got.package(name).r#use.clone());
        assert_eq!(found, [expected, "unused"], "{ecosystem} {location} {used}");
    };
    check("golang", "srv/server", "?=/srv/server", "not_measured");
    check("golang", "srv/server", "?=/srv/other", "unused");
    check("pypi", "srv/lib/a-1.dist-info", "?=/srv/lib/a/", "not_measured");
    check("composer", "srv/vendor/a/a", "?=/srv/vendor/a/a/src/", "not_measured");
    check("composer", "srv/vendor/a/a", "?=/data/vendor/a/a/src/", "unused");
}
