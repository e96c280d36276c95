//! Images in every container format, whole and damaged, through the public entry of the scanner.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::Path;

use plimsoll_scanner::{Component, Scan, ScanError, ScanOptions, Target, scan};
use support::File::{Device, Directory, HardLink, Symlink, Text};
use support::{OS_RELEASE, STATUS, docker_archive, gzip, layer, oci_layout};

fn options() -> ScanOptions<'static> {
    ScanOptions { database: None, docker_host: "unix:///nowhere", progress: &|_| {} }
}

fn scan_image(target: &str) -> Result<Scan, ScanError> {
    scan(&Target::parse("image", target).unwrap(), None, &options())
}

fn base() -> Vec<u8> {
    layer(&[
        ("etc", Directory),
        ("etc/os-release", Text(OS_RELEASE)),
        ("var/lib/dpkg/status", Text(STATUS)),
        ("usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA", Text("Name: six\nVersion: 1.16.0\n")),
        ("usr/lib/python3/dist-packages/six-1.16.0.dist-info/RECORD", Text("six.py,,\n")),
        ("usr/lib/python3/dist-packages/six.py", Text("")),
    ])
}

fn names(scan: &Scan) -> Vec<String> {
    scan.packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
}

const ALL: [&str; 3] = ["libc6 2.36-9+deb12u10", "openssl 3.0.11-1~deb12u1", "six 1.16.0"];

#[test]
fn docker_archive_and_oci_layout_are_the_same_image() {
    let directory = tempfile::tempdir().unwrap();
    let layers = [base(), layer(&[("app/run.py", Text("print(1)"))])];
    let archive = directory.path().join("image.tar");
    let config = docker_archive(&archive, &layers);
    let layout = directory.path().join("layout");
    assert_eq!(oci_layout(&layout, &layers), config);
    let from_archive = scan_image(&format!("archive:{}", archive.display())).unwrap();
    let from_layout = scan_image(&format!("oci:{}", layout.display())).unwrap();
    for scan in [&from_archive, &from_layout] {
        assert_eq!(scan.manifest.artifact, format!("image/{config}"));
        assert_eq!(names(scan), ALL);
        assert_eq!(scan.manifest.package_count, 3);
        assert_eq!(scan.manifest.layers.len(), 2);
        assert_eq!(scan.packages[0].locations[0].layer, support::digest(&layers[0]));
        assert_eq!(scan.manifest.os.as_ref().unwrap().id, "debian");
        assert!(scan.manifest.warnings.is_empty(), "{:?}", scan.manifest.warnings);
    }
    assert_eq!(from_archive.manifest.names, ["demo:1"]);
    assert_eq!(from_layout.manifest.names, ["registry.example/demo:1"]);
    assert_eq!(from_layout.manifest.aliases.len(), 2, "the index's and the manifest's digest");
    assert_eq!(from_archive.manifest.package_hash, from_layout.manifest.package_hash);
}

#[test]
fn an_oci_layout_within_a_tar_is_read_too() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let config = oci_layout(&layout, &[base()]);
    let archive = directory.path().join("layout.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    builder.append_dir_all(".", &layout).unwrap();
    builder.finish().unwrap();
    let scan = scan_image(&format!("archive:{}", archive.display())).unwrap();
    assert_eq!(scan.manifest.artifact, format!("image/{config}"));
    assert_eq!(names(&scan), ALL);
}

#[test]
fn whiteouts_hide_what_lies_below() {
    let cases: [(&str, Vec<u8>, &[&str]); 4] = [
        ("a file", layer(&[("var/lib/dpkg/.wh.status", Text(""))]), &["six 1.16.0"]),
        (
            "a directory",
            layer(&[("usr/lib/python3/dist-packages/.wh.six-1.16.0.dist-info", Text(""))]),
            &ALL[..2],
        ),
        ("an opaque directory", layer(&[("usr/lib/python3/.wh..wh..opq", Text(""))]), &ALL[..2]),
        (
            "replaced by a link",
            layer(&[("kept", Text(STATUS)), ("var/lib/dpkg/status", Symlink("/nowhere"))]),
            &["six 1.16.0"],
        ),
    ];
    for (what, upper, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("image.tar");
        docker_archive(&archive, &[base(), upper]);
        let scan = scan_image(&format!("archive:{}", archive.display())).unwrap();
        assert_eq!(names(&scan), expected, "{what}");
    }
}

#[test]
fn hard_links_share_contents() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    let first = layer(&[("copy", Text("x")), ("var/lib/dpkg/status", Text(STATUS))]);
    let second = layer(&[("var/lib/dpkg/status.d/linked", HardLink("var/lib/dpkg/status"))]);
    docker_archive(&archive, &[first, second]);
    let scan = scan_image(&format!("archive:{}", archive.display())).unwrap();
    assert!(names(&scan).contains(&"openssl 3.0.11-1~deb12u1".to_owned()));
}

#[test]
fn hostile_entries_are_left_out_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    let upper = layer(&[
        ("../escape", Text("x")),
        ("a/../../escape", Text("x")),
        ("dev/null", Device),
        ("var/lib/dpkg/status.d", Symlink("../../../../../../etc")),
        ("loop", Symlink("loop")),
        ("broken", HardLink("../../etc/passwd")),
    ]);
    docker_archive(&archive, &[base(), upper]);
    let scan = scan_image(&format!("archive:{}", archive.display())).unwrap();
    assert_eq!(names(&scan), ALL);
    let unsafe_entries: Vec<_> =
        scan.manifest.warnings.iter().filter(|w| w.code == "unsafe-tar-entry").collect();
    assert_eq!(unsafe_entries.len(), 3, "{:?}", scan.manifest.warnings);
    assert!(unsafe_entries[0].subject.contains("escape") && !unsafe_entries[0].remedy.is_empty());
}

/// An archive of JSON documents, each by its name.
fn documents(path: &Path, files: &[(&str, String)]) {
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, Text(text.as_str()))).collect();
    std::fs::write(path, layer(&files)).unwrap();
}

#[test]
fn an_image_from_scratch_has_nulls_for_what_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scratch.tar");
    let config = r#"{"architecture":"amd64","os":"linux","variant":null,"history":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
    documents(
        &path,
        &[
            ("manifest.json", r#"[{"Config":"c.json","RepoTags":null,"Layers":null}]"#.into()),
            ("c.json", config.into()),
        ],
    );
    let scan = scan_image(&format!("archive:{}", path.display())).unwrap();
    assert_eq!(scan.manifest.artifact, format!("image/{}", support::digest(config.as_bytes())));
    assert_eq!((scan.manifest.package_count, scan.manifest.layers.len()), (0, 0));
}

#[test]
fn of_several_images_none_is_guessed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("two.tar");
    let target = format!("archive:{}", path.display());
    let saved = r#"[{"Config":"a.json","RepoTags":["one:1"],"Layers":[]},{"Config":"b.json","RepoTags":["two:1"],"Layers":[]}]"#;
    documents(&path, &[("manifest.json", saved.into())]);
    expect_damage(scan_image(&target), "2 images (one:1, two:1); save one at a time");
    let descriptor = |name: &str| {
        let media = "application/vnd.oci.image.manifest.v1+json";
        let digest = support::digest(name.as_bytes());
        format!(
            r#"{{"mediaType":"{media}","digest":"{digest}","size":1,"annotations":{{"io.containerd.image.name":"{name}"}}}}"#
        )
    };
    let index = |names: [&str; 2]| {
        format!(r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#, descriptor(names[0]), descriptor(names[1]))
    };
    documents(&path, &[("index.json", index(["one:1", "two:1"]))]);
    expect_damage(scan_image(&target), "2 images (one:1, two:1); save one at a time");
    // The same image twice, as with two tags, is one: it goes on to the manifest, which is missing here.
    documents(&path, &[("index.json", index(["one:1", "one:1"]))]);
    expect_damage(scan_image(&target), "is missing");
    let odd = r#"{"schemaVersion":2,"manifests":[{"digest":"sha512:00","size":1}]}"#;
    documents(&path, &[("index.json", odd.into())]);
    expect_damage(scan_image(&target), "sha512:00");
}

#[test]
fn a_compressed_archive_is_read_too() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("image.tar");
    let config = docker_archive(&plain, &[base()]);
    let packed = directory.path().join("image.tar.gz");
    std::fs::write(&packed, gzip(&std::fs::read(&plain).unwrap())).unwrap();
    let scan = scan_image(&format!("archive:{}", packed.display())).unwrap();
    assert_eq!(scan.manifest.artifact, format!("image/{config}"));
    assert_eq!(names(&scan), ALL);
}

fn expect_damage(result: Result<Scan, ScanError>, text: &str) {
    match result {
        Err(error @ ScanError::DamagedImage { .. }) => {
            assert!(error.to_string().contains(text), "{error} does not say {text:?}");
        }
        Err(error) => panic!("other error: {error}"),
        Ok(scan) => panic!("was scanned: {:?}", names(&scan)),
    }
}

#[test]
fn a_truncated_layer_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let whole = base();
    for (what, damaged) in [
        ("in a header", whole[..512 + 100].to_vec()),
        ("in data", whole[..1024 + 10].to_vec()),
        ("in a gzip stream", gzip(&whole)[..200].to_vec()),
    ] {
        let archive = directory.path().join("image.tar");
        docker_archive(&archive, &[whole.clone(), damaged]);
        let result = scan_image(&format!("archive:{}", archive.display()));
        assert!(result.is_err(), "{what}");
        expect_damage(result, "layer1/layer.tar");
    }
}

#[test]
fn a_layer_that_is_another_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    oci_layout(&layout, &[base()]);
    let blobs: Vec<_> =
        std::fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|e| e.unwrap().path()).collect();
    let gzipped = blobs.iter().find(|path| std::fs::read(path).unwrap().starts_with(&[0x1f, 0x8b])).unwrap();
    std::fs::write(gzipped, gzip(&layer(&[("evil", Text("x"))]))).unwrap();
    expect_damage(scan_image(&format!("oci:{}", layout.display())), "diff ID");
}

#[test]
fn bad_archives_are_named_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        expect_damage(scan_image(&format!("archive:{}", path.display())), text);
    };
    check("empty.tar", b"", "no files");
    check("garbage.tar", &[b'x'; 4096], "the header at byte 0");
    check("empty.tar.gz", &gzip(&[0; 1024]), "no files");
    check("cut.tar.gz", &gzip(&base())[..100], "cannot be decompressed");
    check("packed.tar.xz", b"\xfd7zXZ\0.....", "xz");
    check("no-image.tar", &layer(&[("README", Text("x"))]), "neither index.json nor manifest.json");
    check("bad-json.tar", &layer(&[("manifest.json", Text("{"))]), "manifest.json");
    check(
        "missing.tar",
        &layer(&[("manifest.json", Text(r#"[{"Config":"c.json","Layers":[]}]"#))]),
        "c.json",
    );
    let missing = scan_image("archive:/no/such/file.tar").unwrap_err();
    assert!(matches!(missing, ScanError::Open { .. }) && missing.to_string().contains("/no/such/file.tar"));
    let engine = scan_image("docker:demo").unwrap_err();
    assert!(
        matches!(engine, ScanError::Engine { .. }) && engine.to_string().contains("PLIMSOLL_DOCKER_HOST")
    );
}

fn scan_directory(path: &Path) -> Scan {
    let component = Component::new("backend", "pythonapp", "1.0").unwrap();
    scan(&Target::Directory(path.to_owned()), Some(&component), &options()).unwrap()
}

#[test]
fn a_directory_is_scanned_the_same_twice() {
    let directory = tempfile::tempdir().unwrap();
    let info = directory.path().join("venv/lib/python3.11/site-packages/six-1.16.0.dist-info");
    std::fs::create_dir_all(&info).unwrap();
    std::fs::write(info.join("METADATA"), "Name: six\nVersion: 1.16.0\n").unwrap();
    std::os::unix::fs::symlink("/etc", directory.path().join("outside")).unwrap();
    let (mut first, mut second) = (scan_directory(directory.path()), scan_directory(directory.path()));
    assert_eq!(first.manifest.artifact, "component/backend/pythonapp/1.0");
    assert_eq!(names(&first), ["six 1.16.0"]);
    for scan in [&mut first, &mut second] {
        scan.manifest.scan_id.clear();
        scan.manifest.started_at_ms = 0;
        scan.manifest.completed_at_ms = 0;
        scan.packages.iter_mut().for_each(|package| package.scan_id.clear());
        scan.findings.iter_mut().for_each(|findings| findings.scan_id.clear());
    }
    assert_eq!(first, second);
}

#[test]
fn what_is_only_declared_is_not_installed() {
    // Syft lists these; nothing of them is in the directory, so nothing of them can be used or removed.
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("requirements.txt", "requests==2.0.0\n"),
        ("setup.py", "from setuptools import setup\nsetup(name='mine', install_requires=['rsa==4.7.2'])\n"),
        ("pyproject.toml", "[project]\nname = 'mine'\ndependencies = ['flask==1.0']\n"),
        ("poetry.lock", "[[package]]\nname = \"django\"\nversion = \"1.0\"\n"),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    assert_eq!(names(&scan_directory(directory.path())), [""; 0]);
}

#[test]
fn a_directory_needs_a_component() {
    let error = scan(&Target::Directory("/".into()), None, &options()).unwrap_err();
    assert!(error.to_string().contains("-a, -c and -V"));
}
