//! What waits for an artifact, and what is lost meanwhile.

use super::*;
use plimsoll_schemas::words::Rung;

pub(super) fn observation(path: &str, inode: u64) -> Observation {
    Observation {
        kind: "library",
        rung: Rung::Loaded,
        path: path.into(),
        mount: "root",
        inode,
        name: String::new(),
        origin: Origin::default(),
    }
}

pub(super) fn workload() -> Workload {
    Workload::new("m/c".into(), WorkloadKind::Container("c".into()), RuntimeWorkload::default(), 0)
}

fn add(workload: &mut Workload, path: &str, inode: u64, time_ms: i64) {
    workload.add(observation(path, inode), "ebpf-files", String::new(), time_ms, 0, None);
}

#[test]
fn holds_back_until_identified() {
    let mut workload = workload();
    add(&mut workload, "usr/lib/a.so", 1, 10);
    assert!(workload.take_pending().is_empty());
    assert!(workload.events().is_empty());
    workload.identified(vec![ArtifactView { key: "image/x".into(), root: Vec::new() }]);
    let taken = workload.take_pending();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].1.item.path, b"usr/lib/a.so");
    assert_eq!(workload.events()[0].artifact, "image/x");
}

#[test]
fn java_packages_are_asked_of_the_artifacts_that_may_have_them() {
    for (path, roots, expected) in [
        ("?!/org/x", &["srv/app", ""][..], &[0, 1][..]),
        ("?/tmp/*/x.jar!/org/x", &["srv/app", ""], &[0]),
        ("?/srv/app/cache/x.tmp!/org/x", &["srv/app", ""], &[0]),
        ("?/tmp/x.jar!/org/x", &[""], &[0]),
        ("tmp/x.jar", &["srv/app", ""], &[1]),
    ] {
        let mut workload = workload();
        let view = |root: &&str| ArtifactView { key: "a".into(), root: root.as_bytes().to_vec() };
        workload.identified(roots.iter().map(view).collect());
        assert_eq!(workload.is_outside(path.as_bytes()), roots.len() > 1, "{path}");
        add(&mut workload, path, 0, 1);
        let placed: Vec<usize> = workload.take_pending().into_iter().map(|(index, _)| index).collect();
        assert_eq!(placed, expected, "{path}");
    }
}

#[test]
fn unidentified_is_published_and_published_again() {
    let mut workload = workload();
    add(&mut workload, "a", 1, 10);
    workload.unidentified("unidentified/m/c".into(), "docker is away".into());
    assert_eq!(workload.take_pending().len(), 1);
    assert_eq!(workload.events()[0].unidentified_reason, "docker is away");
    add(&mut workload, "b", 2, 11);
    workload.identified(vec![ArtifactView { key: "image/x".into(), root: Vec::new() }]);
    let paths: Vec<_> = workload.take_pending().into_iter().map(|(_, item)| item.item.path).collect();
    assert_eq!(paths, [b"b".to_vec(), b"a".to_vec()]);
    assert_eq!(workload.events()[0].formerly_artifact, "unidentified/m/c");
    assert_eq!(workload.events()[0].unidentified_reason, "");
    let moved = workload.take_move().unwrap();
    assert_eq!((moved.artifact.as_str(), moved.moved_to.as_str()), ("unidentified/m/c", "image/x"));
    assert_eq!(moved.unidentified_reason, "docker is away");
    assert!(workload.take_move().is_none(), "said once");
    assert!(workload.events().iter().all(|event| event.moved_to.is_empty()));
}

#[test]
fn what_cannot_be_held_until_identified_is_lost() {
    let mut workload = workload();
    let probe = probe::EBPF_FILES;
    let boot_id = "b".to_owned();
    workload.watches.push(Watch { probe, boot_id, from_ms: 0, until_ms: 0, from_first_exec: true });
    workload.unidentified("unidentified/m/c".into(), "docker is away".into());
    for number in 0..=HELD_MAX_ITEMS {
        if number == HELD_MAX_ITEMS {
            assert_eq!(workload.take_pending().len(), HELD_MAX_ITEMS);
            assert!(workload.event().losses.is_empty());
        }
        add(&mut workload, &format!("{number}.so"), 1, 10);
    }
    assert_eq!(workload.take_pending().len(), 1);
    assert_eq!(workload.event().losses[0].events_lost, 1);
}

#[test]
fn one_use_per_flush() {
    let mut workload = workload();
    for (inode, time_ms) in [(1, 20), (1, 10), (1, 30), (2, 40)] {
        add(&mut workload, "a", inode, time_ms);
    }
    workload.identified(vec![ArtifactView { key: "image/x".into(), root: Vec::new() }]);
    let taken = workload.take_pending();
    let times: Vec<_> =
        taken.iter().map(|(_, p)| (p.inode, p.item.first_seen_ms, p.item.last_seen_ms)).collect();
    assert_eq!(times, [(1, 10, 30), (2, 40, 40)], "a replaced file is another use");
}

#[test]
fn a_tree_has_two_artifacts() {
    let mut workload = workload();
    workload.identified(vec![
        ArtifactView { key: "component/a/b/1".into(), root: b"srv/app".to_vec() },
        ArtifactView { key: "host/m".into(), root: Vec::new() },
    ]);
    add(&mut workload, "srv/app/lib/x.py", 1, 1);
    add(&mut workload, "usr/lib/libc.so.6", 2, 1);
    add(&mut workload, "?!/org/example", 0, 1);
    let placed: Vec<_> = workload
        .take_pending()
        .into_iter()
        .map(|(index, item)| (index, String::from_utf8(item.item.path).unwrap()))
        .collect();
    let expected = [(0, "lib/x.py"), (1, "usr/lib/libc.so.6"), (0, "?!/org/example"), (1, "?!/org/example")];
    assert_eq!(placed, expected.map(|(index, path)| (index, path.to_owned())));
}

#[test]
fn modules_are_repeated_while_their_program_runs() {
    let mut workload = workload();
    workload.identified(vec![ArtifactView { key: "image/x".into(), root: Vec::new() }]);
    for (path, image) in [("a.py", 1), ("b.py", 2)] {
        workload.remember_module(&observation(path, 1), image, "python3");
    }
    for (live, expected) in [(vec![1, 2], 2), (vec![2], 1), (vec![1, 2], 1), (vec![], 0)] {
        workload.repeat_modules(&live.into_iter().collect(), 5);
        assert_eq!(workload.take_pending().len(), expected);
    }
}

#[test]
fn losses_only_grow() {
    let mut workload = workload();
    assert!(!workload.set_loss("ebpf-files", "b", 0));
    assert!(workload.set_loss("ebpf-files", "b", 5));
    assert!(!workload.set_loss("ebpf-files", "b", 3));
    assert_eq!(workload.losses.values().sum::<u64>(), 5);
}
