use crate::OwnershipIndex;
use crate::testing::Node::{Directory, File, Link};
use crate::testing::{catalog, check_owners, owners, package, tree, tree_of};
use crate::tree::{Contents, Entry, FileTree, Layer, MemoryTree};
use proptest::prelude::*;
use std::borrow::Cow;

const SITE: &str = "opt/venv/lib/python3.11/site-packages";

/// A virtual environment with one package of each form that real ones have.
fn venv() -> MemoryTree {
    let paths: Vec<(String, &[u8])> = vec![
        ("flask-3.0.0.dist-info/METADATA".into(), include_bytes!("fixtures/flask-METADATA")),
        ("flask-3.0.0.dist-info/RECORD".into(), include_bytes!("fixtures/flask-RECORD")),
        ("flask-3.0.0.dist-info/INSTALLER".into(), b"pip\n"),
        ("flask/__init__.py".into(), b""),
        // Two distributions of one namespace package.
        ("ns_one-1.dist-info/METADATA".into(), b"Name: ns.one\nVersion: 1\n"),
        (
            "ns_one-1.dist-info/RECORD".into(),
            b"ns/__init__.py,,\nns/one.py,,\nns/one.cpython-311-x86_64-linux-gnu.so,,\n",
        ),
        ("ns_two-1.dist-info/METADATA".into(), b"Name: ns_two\nVersion: 1\n"),
        ("ns_two-1.dist-info/RECORD".into(), b"ns/__init__.py,,\nns/two.py,,\n"),
        ("types_six-1.dist-info/METADATA".into(), b"Name: types-six\nVersion: 1\n"),
        ("types_six-1.dist-info/RECORD".into(), b"six-stubs/__init__.pyi,,\n"),
        // pip of old with setuptools: paths relative to the egg-info directory.
        ("old-2.0-py3.11.egg-info/PKG-INFO".into(), b"Name: old\nVersion: 2.0\nLicense: MIT\n"),
        (
            "old-2.0-py3.11.egg-info/installed-files.txt".into(),
            b"../old/__init__.py\n../old/data.txt\nPKG-INFO\n",
        ),
        ("old-2.0-py3.11.egg-info/requires.txt".into(), b"six\n\n[docs]\nsphinx\n"),
        // As Debian packs them: no list of files.
        ("listless-1.0.egg-info/PKG-INFO".into(), b"Name: listless\nVersion: 1.0\n"),
        ("listless-1.0.egg-info/top_level.txt".into(), b"listless\n_listless\n"),
        ("listless/__init__.py".into(), b""),
        ("listless/deep/module.py".into(), b""),
        ("_listless.cpython-311-x86_64-linux-gnu.so".into(), b""),
        // distutils: a single file.
        ("single-0.1.egg-info".into(), b"Metadata-Version: 1.0\nName: single\nVersion: 0.1\n"),
        ("single.py".into(), b""),
        // zope-like: a namespace without a list, but with SOURCES.txt.
        ("shared.part-1.egg-info/PKG-INFO".into(), b"Name: shared.part\nVersion: 1\n"),
        ("shared.part-1.egg-info/top_level.txt".into(), b"shared\n"),
        ("shared.part-1.egg-info/namespace_packages.txt".into(), b"shared\n"),
        ("shared.part-1.egg-info/SOURCES.txt".into(), b"setup.py\nsrc/shared/part/__init__.py\n"),
        ("shared/part/__init__.py".into(), b""),
        ("eggy-1.0-py3.11.egg/EGG-INFO/PKG-INFO".into(), b"Name: eggy\nVersion: 1.0\n"),
        ("eggy-1.0-py3.11.egg/eggy/__init__.py".into(), b""),
        ("myapp-0.1.dist-info/METADATA".into(), b"Name: myapp\nVersion: 0.1\n"),
        ("myapp-0.1.dist-info/RECORD".into(), b"__editable__.myapp-0.1.pth,,\n"),
        (
            "myapp-0.1.dist-info/direct_url.json".into(),
            br#"{"url":"file:///opt","dir_info":{"editable":true}}"#,
        ),
        // Damaged, but their directories tell.
        ("named-4.2.dist-info/METADATA".into(), b"\xff\xfe\x00"),
        ("named-4.2.dist-info/RECORD".into(), b"named.py,,\n"),
        ("-.dist-info/METADATA".into(), b""),
    ];
    let mut nodes: Vec<(String, crate::testing::Node<'_>)> =
        paths.into_iter().map(|(path, bytes)| (format!("{SITE}/{path}"), File(bytes))).collect();
    nodes.extend([
        ("opt/venv/pyvenv.cfg".to_owned(), File(b"home = /usr/bin\n".as_slice())),
        ("opt/venv/bin/python".to_owned(), Link("/usr/bin/python3")),
        ("opt/venv/bin/flask".to_owned(), File(b"#!")),
        ("opt/venv/lib64".to_owned(), Link("lib")),
        ("opt/src/myapp.py".to_owned(), File(b"")),
        ("usr/bin/python3".to_owned(), File(b"elf")),
    ]);
    let nodes: Vec<(&str, crate::testing::Node<'_>)> = nodes
        .iter()
        .map(|(path, node)| {
            (
                path.as_str(),
                match node {
                    File(bytes) => File(bytes),
                    Link(target) => Link(target),
                    Directory => Directory,
                },
            )
        })
        .collect();
    tree(&nodes)
}

#[test]
fn distributions_with_their_facts() {
    let outcome = catalog(&venv());
    let purls: Vec<&str> = outcome.packages.iter().map(|package| package.purl.as_str()).collect();
    assert_eq!(
        purls,
        [
            "pkg:pypi/eggy@1.0",
            "pkg:pypi/flask@3.0.0",
            "pkg:pypi/listless@1.0",
            "pkg:pypi/myapp@0.1",
            "pkg:pypi/named@4.2",
            "pkg:pypi/ns-one@1",
            "pkg:pypi/ns-two@1",
            "pkg:pypi/old@2.0",
            "pkg:pypi/shared-part@1",
            "pkg:pypi/single@0.1",
            "pkg:pypi/types-six@1",
        ]
    );
    let flask = package(&outcome, "flask");
    assert_eq!(flask.dependencies, ["jinja2", "werkzeug"]);
    assert_eq!((flask.licenses.join(","), flask.installer.as_str()), ("BSD-3-Clause".to_owned(), "pip"));
    assert_eq!(flask.locations[0].path, format!("{SITE}/flask-3.0.0.dist-info").into_bytes());
    assert_eq!(flask.locations[0].layer, "sha256:layer");
    assert_eq!(flask.provided_by, "");
    assert_eq!(package(&outcome, "old").dependencies, ["six"]);
    for (name, count, probes) in [
        ("flask", 2, "ebpf-files,python-import"),
        ("ns-one", 3, "ebpf-files,python-import"),
        ("listless", 3, "ebpf-files,python-import"),
        ("single", 1, "ebpf-files,python-import"),
        ("shared-part", 1, "ebpf-files,python-import"),
        ("eggy", 1, "ebpf-files,python-import"),
        ("myapp", 1, "ebpf-files,python-import"),
        ("types-six", 0, ""),
    ] {
        let found = package(&outcome, name);
        assert_eq!(
            (found.loadable_file_count, found.observable_by.join(",")),
            (count, probes.to_owned()),
            "{name}"
        );
        assert_eq!(found.not_measurable_reason.is_empty(), count > 0, "{name}");
    }
    let warned: Vec<(&str, &str)> = outcome
        .warnings
        .iter()
        .map(|warning| (warning.code, warning.subject.rsplit('/').nth(1).unwrap()))
        .collect();
    assert_eq!(warned, [("damaged-metadata", "-.dist-info"), ("damaged-metadata", "named-4.2.dist-info")]);
}

#[test]
fn owners_of_paths() {
    let index = OwnershipIndex::build(&venv());
    for (path, expect) in [
        ("flask/__init__.py", "flask dist-info code"),
        ("flask/__pycache__/__init__.cpython-311.pyc", "flask dist-info code"),
        ("flask/__pycache__/__init__.cpython-311.opt-1.pyc", "flask generated-table code"),
        ("flask/templates/page.html", "flask dist-info data"),
        ("flask-3.0.0.dist-info/METADATA", "flask dist-info metadata"),
        ("flask-3.0.0.dist-info/REQUESTED", "flask dist-info metadata"),
        ("ns/__init__.py", "ns-one,ns-two dist-info code"),
        ("ns/__pycache__/two.cpython-311.pyc", "ns-two generated-table code"),
        ("ns/other.py", "-"),
        ("old/data.txt", "old egg-info data"),
        ("listless/deep/module.py", "listless egg-info code"),
        ("listless/deep/__pycache__/module.cpython-311.pyc", "listless egg-info code"),
        ("_listless.cpython-311-x86_64-linux-gnu.so", "listless egg-info code"),
        ("single.py", "single egg-info code"),
        ("single-0.1.egg-info", "single egg-info metadata"),
        ("shared/part/__init__.py", "shared-part egg-info code"),
        ("shared/other/__init__.py", "-"),
        ("eggy-1.0-py3.11.egg/eggy/__init__.py", "eggy egg-info code"),
        ("distutils-precedence.pth", "-"),
    ] {
        assert_eq!(owners(&index, &format!("{SITE}/{path}")), expect, "{path}");
        assert_eq!(owners(&index, &format!("/{SITE}//{path}")), expect, "{path}");
    }
    for (path, expect) in [
        ("opt/venv/bin/flask", "flask dist-info code"),
        ("opt/venv/bin/python", "-"),
        ("opt/venv/pyvenv.cfg", "-"),
        ("opt/venv/lib/python3.11/site-packages", "-"),
        ("usr/bin/python3", "-"),
        ("opt/src/myapp.py", "myapp direct-url code"),
    ] {
        assert_eq!(owners(&index, path), expect, "{path}");
    }
}

#[test]
fn lookups_through_links_and_the_tree() {
    let tree = venv();
    let index = OwnershipIndex::build(&tree);
    let path = b"opt/venv/lib64/python3.11/site-packages/flask/__init__.py";
    let names: Vec<&str> = index
        .lookup_in(&tree, path)
        .unwrap()
        .owners
        .iter()
        .map(|owner| owner.package.name.as_str())
        .collect();
    assert_eq!(names, ["flask"]);
    assert!(index.covers(format!("{SITE}/new.py").as_bytes()));
    assert!(
        !index.covers(b"srv/venv/lib/python3.11/site-packages/new.py"),
        "installed after the index was built"
    );
    assert!(index.covers(b"usr/bin/anything"));
    let empty = tree_of_empty_site();
    assert!(
        OwnershipIndex::build(&empty).covers(b"v/lib/python3/site-packages/x.py"),
        "known to hold nothing"
    );
    assert!(index.is_current(&tree));
}

fn tree_of_empty_site() -> MemoryTree {
    tree(&[
        ("v/lib/python3/site-packages", Directory),
        ("var/lib/docker/overlay2/1/diff/six-1.dist-info/METADATA", File(b"Name: six\nVersion: 1\n")),
    ])
}

#[test]
fn files_of_containers_are_no_part_of_their_host() {
    assert!(catalog(&tree_of_empty_site()).packages.is_empty());
}

/// Two copies of one version are two packages, and an artifact below another root keeps its locations relative.
#[test]
fn copies_are_told_apart() {
    let metadata = File(b"Name: six\nVersion: 1.16.0\n");
    let other = File(b"Name: six\nVersion: 1.16.0\n");
    let mut tree =
        tree(&[("a/six-1.16.0.dist-info/METADATA", metadata), ("b/six-1.16.0.dist-info/METADATA", other)]);
    let project = Entry::Regular {
        mode: 0o644,
        size_bytes: 1,
        contents: Some(Contents {
            bytes: Cow::Borrowed(br#"{"url":"file:///home/u/app/src","dir_info":{"editable":true}}"#),
            truncated: false,
        }),
    };
    tree.insert(b"a/six-1.16.0.dist-info/direct_url.json", project, Layer::NONE).unwrap();
    tree.insert(b"src/six.py", Entry::Regular { mode: 0, size_bytes: 0, contents: None }, Layer::NONE)
        .unwrap();
    tree.set_root_path(b"/home/u/app");
    let outcome = catalog(&tree);
    assert_eq!(outcome.packages.len(), 2);
    assert_eq!(outcome.os_release, None);
    assert_eq!(owners(&OwnershipIndex::build(&tree), "src/six.py"), "six direct-url code");
    assert_eq!(tree.layer_of(b"a/six-1.16.0.dist-info/direct_url.json"), None);
}

/// setuptools' editable installs with and without direct_url.json, its older egg-link, and a wheel's bundled libraries.
#[test]
fn editable_installs_and_bundled_libraries() {
    let site = "v/lib/python3.11/site-packages";
    let at = |path: &str| format!("{site}/{path}");
    let files: Vec<(String, &[u8])> = vec![
        (at("one-1.dist-info/METADATA"), b"Name: one\nVersion: 1\n"),
        (at("one-1.dist-info/RECORD"), b"__editable__.one-1.pth,,\n__editable___one_1_finder.py,,\n"),
        (at("__editable__.one-1.pth"), b"import __editable___one_1_finder; __editable___one_1_finder.install()\n"),
        (
            at("__editable___one_1_finder.py"),
            b"MAPPING: dict[str, str] = {'one': '/src/one/lib/one', 'single': '/src/one/single'}\n",
        ),
        ("src/one/lib/one/__init__.py".into(), b""),
        ("src/one/lib/one.egg-info/PKG-INFO".into(), b"Name: one\nVersion: 1\n"),
        ("src/one/single.py".into(), b""),
        ("src/one/setup.py".into(), b""),
        (at("two-2.dist-info/METADATA"), b"Name: two\nVersion: 2\n"),
        (at("two-2.dist-info/RECORD"), b"two.pth,,\n"),
        (at("two.pth"), b"# comment\n/src/two/src\n/v\n../site-packages\n"),
        ("src/two/src/two/__init__.py".into(), b""),
        ("src/two/src/two.egg-info/PKG-INFO".into(), b"Name: two\nVersion: 2\n"),
        (at("three.egg-link"), b"/src/three\n."),
        (at("easy-install.pth"), b"/src/three\n"),
        ("src/three/three.egg-info/PKG-INFO".into(), b"Name: three\nVersion: 3\n"),
        ("src/three/three.egg-info/top_level.txt".into(), b"three\n"),
        ("src/three/three/__init__.py".into(), b""),
        (at("numpy-1.0.dist-info/METADATA"), b"Name: numpy\nVersion: 1.0\n"),
        (
            at("numpy-1.0.dist-info/RECORD"),
            b"numpy/__init__.py,,\nnumpy/core.cpython-311-x86_64-linux-gnu.so,,\nnumpy.libs/libopenblas-1.so,,\n",
        ),
        (at("binary-1.0.dist-info/METADATA"), b"Name: binary\nVersion: 1.0\n"),
        (at("binary-1.0.dist-info/RECORD"), b"binary.abi3.so,,\n"),
    ];
    let tree = tree_of(&files);
    let outcome = catalog(&tree);
    let listed: Vec<String> = outcome
        .packages
        .iter()
        .map(|package| {
            format!("{} {} {}", package.name, package.loadable_file_count, package.observable_by.len())
        })
        .collect();
    assert_eq!(listed, ["binary 1 3", "numpy 3 2", "one 3 2", "three 1 2", "two 1 2"]);
    let index = OwnershipIndex::build(&tree);
    check_owners(
        &index,
        &[
            ("src/one/lib/one/__init__.py".to_owned(), "one editable code"),
            ("src/one/single.py".to_owned(), "one editable code"),
            ("src/one/setup.py".to_owned(), "-"),
            ("src/two/src/two/__init__.py".to_owned(), "two editable code"),
            ("src/three/three/__init__.py".to_owned(), "three egg-info code"),
            (at("numpy.libs/libopenblas-1.so"), "numpy dist-info code"),
            (at("three.egg-link"), "-"),
            (at("other.py"), "-"),
        ],
    );
}

#[test]
fn vendored_copies_are_owned_by_both() {
    let pip = "usr/lib/python3/dist-packages/pip";
    let at = |path: &str| format!("{pip}/{path}");
    let status = b"Package: python3-pip\nStatus: install ok installed\nVersion: 23\nArchitecture: all\n";
    let files: Vec<(String, &[u8])> = vec![
        ("var/lib/dpkg/status".into(), status),
        (
            "var/lib/dpkg/info/python3-pip.list".into(),
            b"/usr/lib/python3/dist-packages/pip/_vendor/vendor.txt\n/usr/lib/python3/dist-packages/pip/_vendor/urllib3/util.py\n",
        ),
        ("usr/lib/python3/dist-packages/pip-23.0.1.dist-info/METADATA".into(), b"Name: pip\nVersion: 23.0.1\n"),
        (
            "usr/lib/python3/dist-packages/pip-23.0.1.dist-info/RECORD".into(),
            b"pip/__init__.py,,\npip/_vendor/urllib3/util.py,,\npip/_vendor/six.py,,\npip/_vendor/vendor.txt,,\n",
        ),
        (at("_vendor/vendor.txt"), b"urllib3==1.26.12\nsix==1.16.0\nsetuptools==65.6.3\nabsent==1\nown==2\n"),
        (at("_vendor/urllib3/util.py"), b""),
        (at("_vendor/urllib3/sub/x.py"), b""),
        (at("_vendor/six.py"), b""),
        (at("_vendor/pkg_resources/__init__.py"), b""),
        (at("_vendor/own/__init__.py"), b""),
        (at("_vendor/own-2.dist-info/METADATA"), b"Name: own\nVersion: 2\n"),
        (at("_vendor/own-2.dist-info/RECORD"), b"own/__init__.py,,\n"),
    ];
    let tree = tree_of(&files);
    let outcome = catalog(&tree);
    let listed: Vec<String> = outcome
        .packages
        .iter()
        .map(|package| {
            let place = String::from_utf8_lossy(&package.locations[0].path);
            let place = place.rsplit('/').next().unwrap_or_default();
            format!("{} {place} {} {}", package.purl, package.loadable_file_count, package.provided_by_name)
        })
        .collect();
    assert_eq!(
        listed,
        [
            "pkg:deb/python3-pip@23?arch=all python3-pip.list 1 ",
            "pkg:pypi/own@2 own-2.dist-info 1 ",
            "pkg:pypi/pip@23.0.1 pip-23.0.1.dist-info 3 ",
            "pkg:pypi/setuptools@65.6.3 pkg_resources 1 python3-pip",
            "pkg:pypi/six@1.16.0 six.py 1 python3-pip",
            "pkg:pypi/urllib3@1.26.12 urllib3 2 python3-pip",
        ]
    );
    let index = OwnershipIndex::build(&tree);
    assert_eq!(owners(&index, &at("_vendor/urllib3/util.py")), "python3-pip,pip,urllib3 dpkg code");
    assert_eq!(
        owners(&index, &at("_vendor/urllib3/__pycache__/util.cpython-311.pyc")),
        "python3-pip,pip,urllib3 generated-table code"
    );
    assert_eq!(owners(&index, &at("_vendor/six.py")), "pip,six dist-info code");
    assert_eq!(owners(&index, &at("_vendor/own/__init__.py")), "own dist-info code");
    assert_eq!(owners(&index, &at("_vendor/vendor.txt")), "python3-pip,pip dpkg metadata");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_files_never_panic(
        metadata in proptest::collection::vec(any::<u8>(), 0..200),
        record in proptest::collection::vec(proptest::sample::select(b"./a,\"\n\xff".to_vec()), 0..100),
        path in "[a-z./]{0,30}",
    ) {
        let tree = tree(&[
            ("x/a-1.dist-info/METADATA", File(&metadata)),
            ("x/a-1.dist-info/RECORD", File(&record)),
            ("x/a-1.dist-info/direct_url.json", File(&metadata)),
            ("x/b-1.egg-info/PKG-INFO", File(&metadata)),
            ("x/b-1.egg-info/top_level.txt", File(&record)),
            ("x/b-1.egg-info/SOURCES.txt", File(&record)),
            ("x/b-1.egg-info/namespace_packages.txt", File(&record)),
            ("x/b-1.egg-info/requires.txt", File(&metadata)),
        ]);
        let (outcome, index) = crate::catalog_with_ownership(&tree);
        prop_assert!(outcome.packages.len() <= 2);
        index.lookup(path.as_bytes());
        index.lookup(&record);
    }
}

#[test]
fn a_package_with_a_program_is_seen_whole_by_the_kernel_only() {
    let program = crate::binary::testing::Shape::USUAL.program(&[]);
    let library = {
        // As a program, but of the type of shared objects and without a dynamic linker.
        let mut bytes = program.clone();
        bytes[16] = 3;
        bytes
    };
    let check = |file: &str, bytes: &[u8], hooks_see_all: bool| {
        let record = format!("{file},,\nx/__init__.py,,\n");
        let at = crate::tree::path::normalize_from(SITE.as_bytes(), file.as_bytes());
        let name = crate::tree::path::file_name(file.as_bytes());
        let name = String::from_utf8(name.to_vec()).unwrap();
        let tree = tree_of(&[
            (String::from_utf8(at).unwrap(), bytes),
            (format!("app/node_modules/y/vendor/{name}"), bytes),
            (format!("app/vendor/a/b/lib/{name}"), bytes),
            (format!("gems/gems/g-1/libexec/{name}"), bytes),
            (format!("{SITE}/x-1.dist-info/METADATA"), b"Name: x\nVersion: 1\n"),
            (format!("{SITE}/x-1.dist-info/RECORD"), record.as_bytes()),
            (format!("{SITE}/x/__init__.py"), b""),
            ("app/node_modules/y/package.json".into(), br#"{"name":"y","version":"1"}"#),
            ("app/node_modules/y/index.js".into(), b""),
            (
                "app/vendor/composer/installed.json".into(),
                br#"{"packages":[{"name":"a/b","version":"1.0.0","install-path":"../a/b"}]}"#,
            ),
            ("app/vendor/a/b/b.php".into(), b""),
            (
                "gems/specifications/g-1.gemspec".into(),
                b"# -*- encoding: utf-8 -*-\n# stub: g 1 ruby lib\n\nGem::Specification.new do |s|\nend\n",
            ),
            ("gems/gems/g-1/lib/g.rb".into(), b""),
            // Of another package.
            ("app/node_modules/z/package.json".into(), br#"{"name":"z","version":"1"}"#),
            ("app/node_modules/z/index.js".into(), b""),
        ]);
        let outcome = catalog(&tree);
        for (name, hook) in
            [("x", "python-import"), ("y", "node-module"), ("a/b", "php-include"), ("g", "ruby-feature")]
        {
            let expect = if hooks_see_all { vec!["ebpf-files", hook] } else { vec!["ebpf-files"] };
            assert_eq!(package(&outcome, name).observable_by, expect, "{file} {name}");
        }
        assert_eq!(package(&outcome, "z").observable_by, ["ebpf-files", "node-module"], "{file}");
    };
    check("../../../bin/x", &program, false);
    check("x/tools/x", &program, false);
    check("x/tools/x", &library, true);
    check("x/tools/x", b"#!/bin/sh\n", true);
    check("x/native.node", &program, true);
}
