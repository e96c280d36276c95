//! Damaged and hostile directories and images: each is named in a warning, everything else is still found.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use plimsoll_scanner::{Component, Scan, ScanError, ScanOptions, Target, scan};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use support::File::{Device, HardLink, Symlink, Text};
use support::{OS_RELEASE, STATUS, docker_archive, layer};

const SIX: &str = "Name: six\nVersion: 1.16.0\n";
/// nobody, of whom no file of the tests is.
const NOBODY: u32 = 65534;

fn scan_target(target: &Target) -> Result<Scan, ScanError> {
    let component = Component::new("backend", "pythonapp", "1.0").unwrap();
    let options = ScanOptions { database: None, docker_host: "unix:///nowhere", progress: &|_| {} };
    scan(target, Some(&component), &options)
}

/// Scans twice: the result must not depend on chance.
fn scan_directory(path: &Path) -> Scan {
    let json = |scan: &Scan| {
        let mut scan = scan.clone();
        scan.manifest.scan_id.clear();
        scan.manifest.started_at_ms = 0;
        scan.manifest.completed_at_ms = 0;
        scan.packages.iter_mut().for_each(|package| package.scan_id.clear());
        scan.findings.iter_mut().for_each(|findings| findings.scan_id.clear());
        serde_json::to_string(&(&scan.manifest, &scan.packages, &scan.findings)).unwrap()
    };
    let target = Target::Directory(path.to_owned());
    let scan = scan_target(&target).unwrap();
    assert_eq!(json(&scan), json(&scan_target(&target).unwrap()), "two scans of {}", path.display());
    scan
}

fn names(scan: &Scan) -> Vec<&str> {
    scan.packages.iter().map(|package| package.name.as_str()).collect()
}

#[track_caller]
fn check_warnings(scan: &Scan, expected: &[(&str, &str)]) {
    let found: Vec<(&str, &str)> =
        scan.manifest.warnings.iter().map(|w| (w.code.as_str(), w.subject.as_str())).collect();
    assert_eq!(found, expected, "{:#?}", scan.manifest.warnings);
    for warning in &scan.manifest.warnings {
        assert!(!warning.message.is_empty() && !warning.remedy.is_empty(), "{warning:?}");
    }
}

fn write(root: &Path, path: &str, text: impl AsRef<[u8]>) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Two packages that every test below must still find.
fn sound(root: &Path) {
    write(root, "lib/site-packages/six-1.16.0.dist-info/METADATA", SIX);
    write(root, "lib/site-packages/attrs-1.0.dist-info/METADATA", "Name: attrs\nVersion: 1.0\n");
}

/// Runs `what` as a user without rights. Root's own rights end with its user id, and ids are each thread's own.
fn without_rights<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
            }
            what()
        });
        thread.join().unwrap()
    })
}

#[test]
fn an_unreadable_directory_and_file() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    sound(root);
    write(root, "secret/site-packages/hidden-1.0.dist-info/METADATA", "Name: hidden\nVersion: 1.0\n");
    write(root, "lib/site-packages/locked-1.0.dist-info/METADATA", "Name: locked\nVersion: 1.0\n");
    let locked = ["secret", "lib/site-packages/locked-1.0.dist-info/METADATA"].map(|path| root.join(path));
    let set =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    set(root, 0o755);
    locked.iter().for_each(|path| set(path, 0));
    let scan = without_rights(|| scan_directory(root));
    locked.iter().for_each(|path| set(path, 0o755));
    // The name of the directory still tells which package it is.
    assert_eq!(names(&scan), ["attrs", "locked", "six"]);
    check_warnings(
        &scan,
        &[
            ("damaged-metadata", "lib/site-packages/locked-1.0.dist-info/METADATA"),
            ("unreadable-file", "lib/site-packages/locked-1.0.dist-info/METADATA"),
            ("unreadable-file", "secret"),
        ],
    );
    let warning = &scan.manifest.warnings[2];
    assert!(warning.message.contains("Permission denied") && warning.remedy.contains("user who may read"));
    // The root itself: no scan at all, and an error that names it.
    set(root, 0);
    let error = without_rights(|| scan_target(&Target::Directory(root.to_owned())).unwrap_err());
    set(root, 0o755);
    assert!(error.to_string().contains(&*root.to_string_lossy()), "{error}");
}

#[test]
fn links_out_of_the_root_and_in_circles() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "site-packages/outside-1.0.dist-info/METADATA", "Name: outside\nVersion: 1.0\n");
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    sound(root);
    symlink(outside.path(), root.join("absolute")).unwrap();
    symlink("../".repeat(40), root.join("lib/upwards")).unwrap();
    symlink(
        outside.path().join("site-packages/outside-1.0.dist-info"),
        root.join("lib/site-packages/outside-1.0.dist-info"),
    )
    .unwrap();
    symlink("circle", root.join("circle")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    std::fs::create_dir_all(root.join("lib/site-packages/looped-1.0.dist-info")).unwrap();
    symlink("METADATA", root.join("lib/site-packages/looped-1.0.dist-info/METADATA")).unwrap();
    let scan = scan_directory(root);
    assert!(!names(&scan).contains(&"outside"), "{:?}", names(&scan));
    assert!(names(&scan).contains(&"six") && names(&scan).contains(&"attrs"));
    let looped = "lib/site-packages/looped-1.0.dist-info/METADATA";
    check_warnings(&scan, &[("damaged-metadata", looped), ("unreadable-file", looped)]);
}

#[test]
fn links_within_the_root_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "cache/archive/six-1.16.0.dist-info/METADATA", SIX);
    let info = root.join("venv/lib/python3.11/site-packages/six-1.16.0.dist-info");
    std::fs::create_dir_all(&info).unwrap();
    symlink("../../../../../../cache/archive/six-1.16.0.dist-info/METADATA", info.join("METADATA")).unwrap();
    let scan = scan_directory(root);
    assert_eq!(names(&scan), ["six", "six"]);
    check_warnings(&scan, &[]);
}

#[test]
fn pipes_and_devices_are_never_opened() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    sound(root);
    for path in ["etc", "var/lib/dpkg/status.d", "lib/site-packages/pipe-1.0.dist-info"] {
        std::fs::create_dir_all(root.join(path)).unwrap();
    }
    let make =
        |path: &str, kind, device| mknodat(CWD, root.join(path), kind, Mode::from_raw_mode(0o644), device);
    let pipe = "lib/site-packages/pipe-1.0.dist-info/METADATA";
    // Opening it would block for ever.
    make(pipe, FileType::Fifo, 0).unwrap();
    let mut expected = vec![("damaged-metadata", pipe), ("unreadable-file", pipe)];
    match make("var/lib/dpkg/status", FileType::CharacterDevice, rustix::fs::makedev(1, 5)) {
        // Reading /dev/zero would never end.
        Ok(()) => expected.push(("unreadable-file", "var/lib/dpkg/status")),
        Err(error) => println!("without a device node, which only root may make: {error}"),
    }
    let scan = scan_directory(root);
    assert!(names(&scan).contains(&"six") && names(&scan).contains(&"attrs"));
    check_warnings(&scan, &expected);
    assert!(scan.manifest.warnings[1].message.contains("named pipe"));
}

/// A status file with garbage between its two packages.
fn damaged_status() -> Vec<u8> {
    let (first, second) = STATUS.split_once("\n\n").unwrap();
    let garbage = b"\0\xff\xfe\x01garbage without a colon\n\x80\x81 more\n";
    [first.as_bytes(), b"\n\n", garbage, b"\n", second.as_bytes()].concat()
}

#[test]
fn a_package_database_with_garbage_in_the_middle() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    sound(root);
    write(root, "etc/os-release", OS_RELEASE);
    write(root, "var/lib/dpkg/status", damaged_status());
    write(root, "lib/site-packages/bad-1.0.dist-info/METADATA", b"\xff\xfe\0garbage\n\nName: no\n");
    write(root, "lib/site-packages/empty-1.0.dist-info/METADATA", "");
    let scan = scan_directory(root);
    let found = names(&scan);
    for name in ["libc6", "openssl", "six", "attrs"] {
        assert!(found.contains(&name), "{name} is missing: {found:?}");
    }
    let about_status: Vec<_> =
        scan.manifest.warnings.iter().filter(|warning| warning.subject == "var/lib/dpkg/status").collect();
    assert!(!about_status.is_empty(), "{:#?}", scan.manifest.warnings);
    for warning in &scan.manifest.warnings {
        assert!(!warning.message.is_empty() && !warning.remedy.is_empty(), "{warning:?}");
    }
}

#[test]
fn the_same_in_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    let status = String::from_utf8_lossy(&damaged_status()).into_owned();
    let site = "usr/lib/python3/dist-packages";
    let metadata = format!("{site}/six-1.16.0.dist-info/METADATA");
    let device = format!("{site}/device-1.0.dist-info/METADATA");
    let looped = format!("{site}/looped-1.0.dist-info/METADATA");
    let layers = [
        layer(&[
            ("etc/os-release", Text(OS_RELEASE)),
            ("var/lib/dpkg/status", Text(&status)),
            (&metadata, Text(SIX)),
        ]),
        layer(&[
            (&device, Device),
            (&looped, Symlink("METADATA")),
            ("../outside", Text("x")),
            ("usr/lib/out", Symlink("../../../../../../..")),
            ("missing", HardLink("no/such/file")),
        ]),
    ];
    docker_archive(&archive, &layers);
    let target = Target::parse("image", &format!("archive:{}", archive.display())).unwrap();
    let scan = scan_target(&target).unwrap();
    for name in ["libc6", "openssl", "six"] {
        assert!(names(&scan).contains(&name), "{name} is missing: {:?}", names(&scan));
    }
    let warned = |subject: &str| scan.manifest.warnings.iter().any(|warning| warning.subject == subject);
    for subject in ["../outside", "no/such/file", &device, &looped, "var/lib/dpkg/status"] {
        assert!(warned(subject), "no warning about {subject}: {:#?}", scan.manifest.warnings);
    }
}

#[test]
fn what_is_no_image_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    for (target, text) in [
        (format!("archive:{}", directory.path().display()), "oci:"),
        (format!("archive:{}", pipe.display()), "docker save -o"),
        (format!("oci:{}", directory.path().display()), "neither index.json nor manifest.json"),
        ("oci:/no/such/layout".to_owned(), "/no/such/layout"),
    ] {
        let error = scan_target(&Target::parse("image", &target).unwrap()).unwrap_err();
        assert!(error.to_string().contains(text), "{target}: {error}");
    }
}
