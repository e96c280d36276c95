//! Containers of one image: shared indexes, drift against the layers, and one that upgraded a package at run time.
//! Overlays are real where this may mount them (root); the same cases run on plain directories everywhere.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::{Path, PathBuf};

use common::{IMAGE, OpenRoot, Stage, brief, debian, settle, write};

/// One container's directories.
struct Container {
    root: PathBuf,
    upper: PathBuf,
    /// Where a write of the container ends up.
    write_to: PathBuf,
}

const SITE: &str = "usr/local/lib/python3.11/site-packages";

const PACKAGES: &[(&str, &str, &[&str])] = &[
    ("libz1", "1.2", &["usr/lib/libz.so.1", "usr/share/doc/libz1/copyright"]),
    ("app", "3.0", &["usr/bin/app", "usr/share/app/data"]),
];

/// What runs in every container here.
fn scenario(lower: &Path, first: &Container, second: &Container, change: impl FnOnce()) {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (lower, roots) = (text(lower), [first, second].map(|c| (text(&c.root), text(&c.upper))));
    for (workload, (root, upper)) in ["a", "b"].into_iter().zip(&roots) {
        agent.open(OpenRoot {
            artifact: IMAGE,
            workload,
            root,
            upper: Some(upper),
            layers: &[&lower],
            component: false,
        });
    }
    let library = "usr/lib/libz.so.1";
    settle();
    for workload in ["a", "b"] {
        let answers =
            agent.resolve(IMAGE, workload, &[library, "usr/bin/app", "opt/nobody", "etc/os-release"]);
        assert_eq!(brief(&answers[0]), "owned libz1@1.2 image unchanged");
        assert_eq!((answers[0].method.as_str(), answers[0].role.as_str()), ("dpkg", "code"));
        assert_eq!(brief(&answers[1]), "owned app@3.0 image unchanged");
        assert_eq!(brief(&answers[2]), "unowned  image unchanged");
        assert_eq!(answers[3].state, "unowned");
    }
    assert_eq!(stage.metric("index_builds_total"), 1.0, "two containers of one image share its index");
    let before = agent.one(IMAGE, "a", library).owners[0].package_id.clone();

    // Bytecode beside the modules changes no package.
    write(&first.write_to, &format!("{SITE}/tool/__pycache__/x.cpython-311.pyc"), "bytecode");
    let module = format!("{SITE}/tool/x.py");
    assert_eq!(brief(&agent.one(IMAGE, "a", &module)), "owned tool@1.0 image unchanged");
    assert_eq!(stage.metric("index_builds_total"), 1.0);

    change();
    settle();
    let upgraded = agent.one(IMAGE, "b", library);
    assert_eq!(brief(&upgraded), "owned libz1@1.3 sha256 modified");
    let digest = plimsoll_schemas::identity::Sha256Digest::of(b"libz1 1.3\n");
    assert_eq!(upgraded.file_identity, digest.to_string());
    assert_ne!(upgraded.owners[0].package_id, before);
    // Same contents in both versions, yet another owner than the image's.
    assert_eq!(brief(&agent.one(IMAGE, "b", "usr/share/app/data")), "owned app@3.0 image unchanged");
    assert_eq!(brief(&agent.one(IMAGE, "b", "tmp/dropped")), "unowned  sha256 new");
    assert_eq!(brief(&agent.one(IMAGE, "b", "usr/bin/app")), "owned app@3.0 sha256 modified");
    let late = format!("{SITE}/late/__init__.py");
    assert_eq!(brief(&agent.one(IMAGE, "b", &late)), "owned late@2.0 sha256 new");
    assert_eq!(brief(&agent.one(IMAGE, "b", "tmp/gone")), "unowned  image new");
    // The other one is as it was.
    let unchanged = agent.one(IMAGE, "a", library);
    assert_eq!(
        (brief(&unchanged).as_str(), &unchanged.owners[0].package_id),
        ("owned libz1@1.2 image unchanged", &before)
    );
    assert_eq!(stage.metric("index_builds_total"), 2.0);

    // A third one without a root, after these were closed: known from the same image, else unresolved.
    assert_eq!(brief(&agent.one(IMAGE, "c", library)), "owned libz1@1.2 image unknown");
    let unknown = agent.one(IMAGE, "c", "tmp/dropped");
    assert_eq!(brief(&unknown), "unresolved  image unknown");
    assert!(unknown.reason.contains("not open"), "{}", unknown.reason);

    assert_eq!(stage.resolver.flush(common::SOON), 0);
    let published = stage.published();
    let of = |path: &str| -> Vec<String> {
        published.iter().filter(|event| event.path == path.as_bytes()).map(brief).collect()
    };
    assert_eq!(of(library), ["owned libz1@1.2 image unchanged", "owned libz1@1.3 sha256 modified"]);
    assert_eq!(of("opt/nobody"), ["unowned  image unchanged"]);
    assert!(published.iter().all(|event| event.producer_id.starts_with("plimsoll-package-resolver-")));
    let sequences: Vec<i64> = published.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=i64::try_from(published.len()).unwrap()).collect::<Vec<_>>());
}

fn image(lower: &Path) {
    debian(lower, PACKAGES);
    write(lower, "opt/nobody", "x");
    write(lower, &format!("{SITE}/tool/x.py"), "");
    write(lower, &format!("{SITE}/tool-1.0.dist-info/METADATA"), "Name: tool\nVersion: 1.0\n");
    write(lower, &format!("{SITE}/tool-1.0.dist-info/RECORD"), "tool/x.py,,\n");
}

/// What the second container does, in the directory where it sees its root.
fn upgrade(root: &Path) {
    let mut packages = PACKAGES.to_vec();
    packages[0].1 = "1.3";
    debian(root, &packages);
    write(root, "usr/bin/app", "patched");
    write(root, "tmp/dropped", "a program");
    write(root, &format!("{SITE}/late/__init__.py"), "");
    write(root, &format!("{SITE}/late-2.0.dist-info/METADATA"), "Name: late\nVersion: 2.0\n");
    write(root, &format!("{SITE}/late-2.0.dist-info/RECORD"), "late/__init__.py,,\n");
}

#[test]
fn replicas_on_a_real_overlay() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let Some(_mount) = Mount::new("tmpfs", base, "") else { return };
    image(&base.join("lower"));
    let mut mounts = Vec::new();
    let containers = ["a", "b"].map(|name| {
        let (root, upper, work) =
            (base.join(name), base.join(format!("{name}.upper")), base.join(format!("{name}.work")));
        for directory in [&root, &upper, &work] {
            std::fs::create_dir(directory).unwrap();
        }
        let lower = base.join("lower");
        let options =
            format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mounts.push(Mount::new("overlay", &root, &options).expect("tmpfs could be mounted, an overlay not"));
        Container { write_to: root.clone(), root, upper }
    });
    let [first, second] = &containers;
    scenario(&base.join("lower"), first, second, || upgrade(&second.root));
}

#[test]
fn replicas_on_plain_directories() {
    // What an overlay would merge is written twice here: the root holds the lower's files, the upper the changed ones.
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let containers = ["a", "b"].map(|name| {
        let (root, upper) = (base.join(name), base.join(format!("{name}.upper")));
        image(&root);
        std::fs::create_dir(&upper).unwrap();
        Container { write_to: upper.clone(), root, upper }
    });
    image(&base.join("lower"));
    let [first, second] = &containers;
    scenario(&base.join("lower"), first, second, || {
        upgrade(&second.root);
        upgrade(&second.upper);
    });
}

#[test]
fn without_layers_or_without_an_upper_directory() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    for name in ["a", "b", "b.upper"] {
        image(&base.join(name));
    }
    upgrade(&base.join("b"));
    std::fs::create_dir_all(base.join("a.upper")).unwrap();
    let path = |name: &str| base.join(name).to_str().unwrap().to_owned();
    let (a, a_upper, b, b_upper) = (path("a"), path("a.upper"), path("b"), path("b.upper"));
    let library = "usr/lib/libz.so.1";

    // No layers: the image's database says whether there was a file.
    let stage = Stage::new();
    let mut agent = stage.agent();
    let open =
        OpenRoot { artifact: IMAGE, workload: "b", root: &b, upper: Some(&b_upper), ..Default::default() };
    agent.open(open);
    assert_eq!(brief(&agent.one(IMAGE, "b", library)), "owned libz1@1.3 sha256 unknown");
    agent.open(OpenRoot { workload: "a", root: &a, upper: Some(&a_upper), ..open });
    assert_eq!(brief(&agent.one(IMAGE, "a", library)), "owned libz1@1.2 image unchanged");
    assert_eq!(brief(&agent.one(IMAGE, "b", library)), "owned libz1@1.3 sha256 modified");

    // No upper directory either: the first one stands for the image, one with other packages is told apart.
    let stage = Stage::new();
    let mut agent = stage.agent();
    agent.open(OpenRoot { workload: "a", upper: None, root: &a, ..open });
    agent.open(OpenRoot { workload: "b", upper: None, ..open });
    assert_eq!(brief(&agent.one(IMAGE, "a", library)), "owned libz1@1.2 image unknown");
    assert_eq!(brief(&agent.one(IMAGE, "b", library)), "owned libz1@1.3 sha256 unknown");
    assert_eq!(brief(&agent.one(IMAGE, "b", "usr/bin/app")), "owned app@3.0 image unknown");
}

/// What leaves some owners unnamed leaves the same ones unnamed of the image: nothing has changed.
#[test]
fn owners_too_many_to_be_named_are_the_images() {
    let directory = tempfile::tempdir().unwrap();
    let (root, upper) = (directory.path().join("root"), directory.path().join("upper"));
    std::fs::create_dir_all(&upper).unwrap();
    let names: Vec<String> = (0..1_600).map(|number| format!("{}{number}", "p".repeat(200))).collect();
    let packages: Vec<(&str, &str, &[&str])> =
        names.iter().map(|name| (name.as_str(), "1", &["usr/share/crowd"][..])).collect();
    debian(&root, &packages);
    settle();
    let stage = Stage::new();
    let mut agent = stage.agent();
    agent.open(OpenRoot {
        artifact: IMAGE,
        workload: "w",
        root: root.to_str().unwrap(),
        upper: upper.to_str(),
        ..Default::default()
    });
    let entry = agent.one(IMAGE, "w", "usr/share/crowd");
    let said = (entry.state.as_str(), entry.file_identity.as_str(), entry.drift.as_str());
    assert_eq!(said, ("unresolved", "image", "unchanged"), "{}", entry.reason);
    assert!(entry.reason.starts_with("it has 1600 owners") && !entry.owners.is_empty(), "{}", entry.reason);
}

#[test]
fn a_host_that_upgrades_is_published_again() {
    let directory = tempfile::tempdir().unwrap();
    debian(directory.path(), PACKAGES);
    settle();
    let root = directory.path().to_str().unwrap();
    let stage = Stage::new();
    let mut agent = stage.agent();
    let host = "host/0123456789abcdef0123456789abcdef";
    agent.open(OpenRoot { artifact: host, workload: "p", root, ..Default::default() });
    for _ in 0..3 {
        assert_eq!(brief(&agent.one(host, "p", "usr/lib/libz.so.1")), "owned libz1@1.2 image unknown");
    }
    let mut packages = PACKAGES.to_vec();
    packages[0].1 = "1.3";
    debian(directory.path(), &packages);
    assert_eq!(brief(&agent.one(host, "p", "usr/lib/libz.so.1")), "owned libz1@1.3 image unknown");
    let events = stage.published();
    assert_eq!(events.len(), 2, "{events:?}");
}

/// A mount that goes with its guard.
struct Mount(PathBuf);

impl Mount {
    /// `None`, saying so, where this may not mount.
    fn new(kind: &str, target: &Path, options: &str) -> Option<Self> {
        let data = std::ffi::CString::new(options).unwrap();
        match rustix::mount::mount(
            kind,
            target,
            kind,
            rustix::mount::MountFlags::empty(),
            Some(data.as_c_str()),
        ) {
            Ok(()) => Some(Self(target.to_owned())),
            Err(error) => {
                assert!(
                    std::env::var("CI").as_deref() != Ok("true"),
                    "{kind} cannot be mounted here: {error}"
                );
                println!("skipped: {kind} cannot be mounted here ({error}); run as root");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}
