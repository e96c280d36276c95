//! Roots that want to harm: links out of them, pipes, devices, depth, width, unreadable databases, vanished roots.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{IMAGE, OpenRoot, Stage, brief, debian, write};
use rustix::fs::{CWD, FileType, Mode};

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn links_pipes_depth_and_width() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let upper = directory.path().join("upper");
    let lower = directory.path().join("lower");
    write(directory.path(), "outside/secret", "secret");
    debian(&root, &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("../../../../outside/secret", root.join("climb")).unwrap();
    symlink(directory.path().join("outside/secret"), root.join("absolute")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/usr/lib/libz.so.1", root.join("in-root")).unwrap();
    // A chain of links, each in the directory of the one before.
    for step in 0..60 {
        symlink(format!("step{}", step + 1), root.join(format!("step{step}"))).unwrap();
    }
    let fifo = |path: &Path| rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0);
    fifo(&root.join("fifo")).unwrap();
    for directory in [&upper, &lower] {
        std::fs::create_dir_all(directory.join("x")).unwrap();
        // In the place of a file: must not be waited for.
        fifo(&directory.join("x/pipe")).unwrap();
    }
    write(&root, "x/pipe", "a file in the root");
    let deep = "d/".repeat(1_500) + "f";
    let mut at = root.clone();
    for _ in 0..200 {
        at.push("d");
    }
    std::fs::create_dir_all(&at).unwrap();
    for number in 0..20_000 {
        std::fs::write(root.join(format!("usr/lib/wide{number}")), "").unwrap();
    }
    common::settle();

    let stage = Stage::new();
    let mut agent = stage.agent();
    let (root, upper, lower) = (text(&root), text(&upper), text(&lower));
    agent.open(OpenRoot {
        artifact: IMAGE,
        workload: "w",
        root: &root,
        upper: Some(&upper),
        layers: &[&lower],
        component: false,
    });
    let mut check = |path: &str, expect: &str| {
        let answer = agent.one(IMAGE, "w", path);
        assert_eq!(brief(&answer), expect, "{path}: {}", answer.reason);
        answer
    };
    check("lib/libz.so.1", "owned libz1@1 image unchanged");
    check("in-root", "owned libz1@1 image unchanged");
    check("usr/lib/../lib/./libz.so.1", "owned libz1@1 image unchanged");
    check("../../usr/lib/libz.so.1", "owned libz1@1 image unchanged");
    for path in ["climb", "absolute", "magic"] {
        let answer = check(path, "unowned  image new");
        assert!(answer.reason.contains("gone"), "{path}: {}", answer.reason);
    }
    for path in ["loop", "step0"] {
        let answer = check(path, "unresolved  image unknown");
        assert!(answer.reason.contains("symbolic links"), "{path}: {}", answer.reason);
    }
    check("fifo", "unowned  image unchanged");
    check("x/pipe", "unowned  image unknown");
    check("usr/lib/wide19999", "unowned  image unchanged");
    check(&deep, "unowned  image new");
    let answer = check("", "unresolved  image unknown");
    assert!(answer.reason.contains("empty"));
    let long = "a".repeat(5_000);
    check(&long, "unresolved  image unknown");
    check("a\0b", "unresolved  image unknown");
    let odd = agent.resolve_bytes(IMAGE, "w", &[b"usr/lib/\xff\xfe\n", b"//", b"."]);
    assert!(odd.iter().all(|answer| answer.state == "unowned"), "{odd:?}");
    // What no event may carry is answered and not published.
    assert!(stage.published().iter().all(|event| !event.path.is_empty() && event.path.len() <= 4096));
}

#[test]
fn damaged_and_unreadable_databases() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::new();
    let mut agent = stage.agent();
    let open = |agent: &mut common::Agent, name: &str| {
        let root = directory.path().join(name);
        debian(&root, &[("libz1", "1", &["usr/lib/libz.so.1"]), ("other", "2", &["usr/bin/other"])]);
        let artifact = format!("host/{name}");
        agent.open(OpenRoot { artifact: &artifact, workload: "w", root: &text(&root), ..Default::default() });
        (artifact, root)
    };

    // Garbage in the middle hides no other package.
    let (artifact, root) = open(&mut agent, "garbage");
    let status = std::fs::read(root.join("var/lib/dpkg/status")).unwrap();
    let middle = status.windows(2).position(|two| two == b"\n\n").unwrap() + 2;
    let damaged = [&status[..middle], b"\xff\x00garbage\n\n".as_slice(), &status[middle..]].concat();
    std::fs::write(root.join("var/lib/dpkg/status"), damaged).unwrap();
    assert_eq!(brief(&agent.one(&artifact, "w", "usr/bin/other")), "owned other@2 image unknown");
    assert_eq!(brief(&agent.one(&artifact, "w", "usr/lib/libz.so.1")), "owned libz1@1 image unknown");

    // A pipe in the database's place is not waited for, and nothing is called unowned.
    let (artifact, root) = open(&mut agent, "pipe");
    std::fs::remove_file(root.join("var/lib/dpkg/status")).unwrap();
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, root.join("var/lib/dpkg/status"), FileType::Fifo, mode, 0).unwrap();
    let answer = agent.one(&artifact, "w", "usr/bin/other");
    assert_eq!(brief(&answer), "unresolved  image unknown", "{}", answer.reason);
    assert!(answer.reason.contains("status"), "{}", answer.reason);

    if !rustix::process::geteuid().is_root() {
        let (artifact, root) = open(&mut agent, "forbidden");
        std::fs::set_permissions(root.join("var/lib/dpkg/status"), PermissionsExt::from_mode(0o000)).unwrap();
        assert_eq!(agent.one(&artifact, "w", "usr/bin/other").state, "unresolved");
    }

    // A root that was removed below its descriptor.
    let (artifact, root) = open(&mut agent, "removed");
    std::fs::remove_dir_all(&root).unwrap();
    let answer = agent.one(&artifact, "w", "usr/bin/other");
    assert_eq!(brief(&answer), "unresolved  image unknown", "{}", answer.reason);

    // A root that is no directory.
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    agent.open(OpenRoot { artifact: IMAGE, workload: "file", root: &text(&file), ..Default::default() });
    let answer = agent.one(IMAGE, "file", "usr/bin/other");
    assert_eq!(brief(&answer), "unresolved  image unknown", "{}", answer.reason);
}

#[test]
fn a_database_that_cannot_be_seen_is_not_looked_for_at_every_question() {
    let directory = tempfile::tempdir().unwrap();
    debian(directory.path(), &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    common::settle();
    let stage = Stage::new();
    let mut agent = stage.agent();
    agent.open(OpenRoot {
        artifact: "host/m",
        workload: "w",
        root: &text(directory.path()),
        ..Default::default()
    });
    // Its directory is gone, or lies where container engines keep their files.
    let path = "var/lib/docker/overlay2/x/merged/usr/lib/python3/site-packages/a.py";
    write(directory.path(), path, "");
    for number in 0..50 {
        let answer = agent.one("host/m", "w", &path.replace("a.py", &format!("{number}.py")));
        assert_eq!(answer.state, "unresolved", "{}", answer.reason);
    }
    assert!(stage.metric("index_builds_total") <= 2.0, "{}", stage.metric("index_builds_total"));
    // A new environment is found as soon as it may be looked for.
    let site = "srv/venv/lib/python3.11/site-packages";
    write(directory.path(), &format!("{site}/late.py"), "");
    write(directory.path(), &format!("{site}/late-2.0.dist-info/METADATA"), "Name: late\nVersion: 2.0\n");
    write(directory.path(), &format!("{site}/late-2.0.dist-info/RECORD"), "late.py,,\n");
    let deadline = std::time::Instant::now() + common::SOON;
    loop {
        match brief(&agent.one("host/m", "w", &format!("{site}/late.py"))).as_str() {
            "owned late@2.0 image unknown" => break,
            other => assert_eq!(other, "unresolved  image unknown"),
        }
        assert!(std::time::Instant::now() < deadline, "the new environment is not found");
    }
}
