use crate::OwnershipIndex;
use crate::testing::Node::{Directory, File, Link};
use crate::testing::{add, catalog, check_owners, owners, package, tree};
use crate::tree::MemoryTree;
use proptest::prelude::*;

/// A merged-/usr Debian with its database as dpkg leaves it.
fn debian() -> MemoryTree {
    tree(&[
        ("usr/bin", Directory),
        ("bin", Link("usr/bin")),
        ("lib", Link("usr/lib")),
        ("lib64", Link("usr/lib64")),
        ("etc/os-release", Link("../usr/lib/os-release")),
        ("usr/lib/os-release", File(include_bytes!("fixtures/os-release"))),
        ("var/lib/dpkg/status", File(include_bytes!("fixtures/status"))),
        ("var/lib/dpkg/diversions", File(include_bytes!("fixtures/diversions"))),
        ("var/lib/dpkg/alternatives/awk", File(include_bytes!("fixtures/alternative-awk"))),
        (
            "var/lib/dpkg/info/libc6:amd64.list",
            File(
                b"/.\n/lib\n/lib/x86_64-linux-gnu\n/lib/x86_64-linux-gnu/libc.so.6\n/lib64\n\
                /lib64/ld-linux-x86-64.so.2\n/usr\n/usr/lib\n/usr/lib/x86_64-linux-gnu\n\
                /usr/lib/x86_64-linux-gnu/gconv\n/usr/lib/x86_64-linux-gnu/gconv/gconv-modules\n/usr/share\n\
                /usr/share/doc\n/usr/share/doc/libc6\n/usr/share/doc/libc6/copyright\n",
            ),
        ),
        ("var/lib/dpkg/info/mawk.list", File(b"/.\n/usr\n/usr/bin\n/usr/bin/mawk\n")),
        ("var/lib/dpkg/info/libstdc++6:amd64.list", File(b"/.\n/usr\n/usr/lib\n/usr/lib/libstdc++.so.6\n/usr/lib/libstdc++.so.6.0.30\n")),
        ("var/lib/dpkg/info/gcc-12-base.list", File(b"/.\n/usr\n/usr/share\n/usr/share/doc\n/usr/share/doc/gcc-12-base\n/usr/share/doc/gcc-12-base/copyright\n")),
        ("var/lib/dpkg/info/meta.list", File(b"/.\n")),
        ("var/lib/dpkg/info/dash.list", File(b"/.\n/bin\n/bin/dash\n/bin/sh\n")),
        ("var/lib/dpkg/info/replaced.list", File(b"/.\n/bin\n/bin/sh\n/usr\n/usr/share\n/usr/share/replaced\n/usr/share/replaced/file\n")),
        ("var/lib/dpkg/info/ca-certificates.list", File(b"/.\n/usr\n/usr/sbin\n/usr/sbin/update-ca-certificates\n")),
        (
            "var/lib/dpkg/info/python3-yaml.list",
            File(
                b"/.\n/usr\n/usr/lib\n/usr/lib/python3\n/usr/lib/python3/dist-packages\n\
                /usr/lib/python3/dist-packages/PyYAML-6.0.egg-info\n\
                /usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO\n\
                /usr/lib/python3/dist-packages/yaml\n/usr/lib/python3/dist-packages/yaml/__init__.py\n",
            ),
        ),
        ("usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO", File(b"Name: PyYAML\nVersion: 6.0\n")),
        ("usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/top_level.txt", File(b"_yaml\nyaml\n")),
        ("usr/lib/python3/dist-packages/yaml/__init__.py", File(b"")),
        ("usr/share/doc/mawk/copyright", File(include_bytes!("fixtures/copyright"))),
        ("usr/bin/mawk", File(b"elf")),
        ("usr/bin/awk", Link("/etc/alternatives/awk")),
        ("etc/alternatives/awk", Link("/usr/bin/mawk")),
        ("usr/bin/nawk", Link("/etc/alternatives/nawk")),
        ("etc/alternatives/nawk", Link("/usr/bin/mawk")),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", File(b"elf")),
        ("usr/lib/libstdc++.so.6.0.30", File(b"elf")),
        ("usr/lib/libstdc++.so.6", Link("libstdc++.so.6.0.30")),
        ("usr/bin/dash", File(b"elf")),
    ])
}

#[test]
fn installed_packages_with_their_facts() {
    let outcome = catalog(&debian());
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    assert!(outcome.packages.iter().all(|package| package.name != "old-thing"));
    let purls: Vec<&str> = outcome.packages.iter().map(|package| package.purl.as_str()).collect();
    assert_eq!(
        purls,
        [
            "pkg:deb/debian/ca-certificates@20230311?arch=all&distro=debian-12",
            "pkg:deb/debian/dash@0.5.12-2?arch=amd64&distro=debian-12",
            "pkg:deb/debian/gcc-12-base@12.2.0-14?arch=amd64&distro=debian-12",
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12&upstream=glibc",
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bb1~x?arch=amd64&distro=debian-12&upstream=gcc-12%4012.2.0-14",
            "pkg:deb/debian/mawk@1.3.4.20200120-3.1?arch=amd64&distro=debian-12",
            "pkg:deb/debian/meta@1?arch=all&distro=debian-12",
            "pkg:deb/debian/python3-yaml@6.0-3%2Bb2?arch=amd64&distro=debian-12&upstream=pyyaml",
            "pkg:deb/debian/replaced@1.0?arch=amd64&distro=debian-12",
            "pkg:pypi/pyyaml@6.0",
        ]
    );
    let mawk = package(&outcome, "mawk");
    assert!(
        mawk.essential && package(&outcome, "gcc-12-base").essential && !package(&outcome, "libc6").essential
    );
    assert_eq!(mawk.dependencies, ["libc6", "libm | libm2"]);
    assert_eq!(mawk.provides, ["awk"]);
    assert_eq!(mawk.licenses, ["GPL-2", "GPL-2+"]);
    assert_eq!(mawk.locations.len(), 2);
    assert!(mawk.locations.iter().all(|location| location.layer == "sha256:layer"));
    assert!(mawk.locations.iter().any(|location| location.path == b"var/lib/dpkg/status"));
    let library = package(&outcome, "libstdc++6");
    assert_eq!((library.source_name.as_str(), library.source_version.as_str()), ("gcc-12", "12.2.0-14"));
    assert_eq!(library.observable_by, ["ebpf-files", "ld-audit"]);
    assert_eq!(mawk.observable_by, ["ebpf-files"]);
    // It has data beside its libraries, whose reading the dynamic linker does not see.
    assert_eq!(package(&outcome, "libc6").observable_by, ["ebpf-files"]);
    assert_eq!(package(&outcome, "pyyaml").provided_by_name, "python3-yaml");
    assert_eq!(package(&outcome, "pyyaml").provided_by, package(&outcome, "python3-yaml").package_id);
}

#[test]
fn what_cannot_be_observed_says_why() {
    let outcome = catalog(&debian());
    for (name, reason, count) in [
        ("libc6", "", 3),
        ("meta", "a metapackage: it has no files", 0),
        ("gcc-12-base", "it has only documentation and package metadata", 0),
        ("replaced", "it has only directories, links, or files that were removed", 0),
    ] {
        let found = package(&outcome, name);
        assert_eq!(
            (found.not_measurable_reason.as_str(), found.loadable_file_count),
            (reason, count),
            "{name}"
        );
        assert_eq!(found.observable_by.is_empty(), !reason.is_empty(), "{name}");
    }
}

#[test]
fn owners_of_paths() {
    let index = OwnershipIndex::build(&debian());
    check_owners(
        &index,
        &[
            ("lib/x86_64-linux-gnu/libc.so.6", "libc6 dpkg code"),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", "libc6 dpkg code"),
            ("/usr/lib64/ld-linux-x86-64.so.2", "libc6 dpkg code"),
            ("usr/lib/libstdc++.so.6", "libstdc++6 dpkg code"),
            ("usr/lib/libstdc++.so.6.0.30", "libstdc++6 dpkg code"),
            ("usr/share/doc/libc6/copyright", "libc6 dpkg documentation"),
            ("usr/bin/sh", "dash dpkg code"),
            ("bin/sh.distrib", "replaced dpkg code"),
            ("usr/share/replaced/file.local", "replaced dpkg data"),
            ("usr/share/replaced/file", "-"),
            ("usr/bin/awk", "mawk alternatives code"),
            ("bin/nawk", "mawk alternatives code"),
            ("etc/alternatives/awk", "mawk alternatives data"),
            ("etc/ssl/certs/ca-certificates.crt", "ca-certificates generated-table data"),
            ("usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache", "libc6 generated-table data"),
            ("etc/ld.so.cache", "libc6 generated-table data"),
            ("var/lib/dpkg/info/libc6:amd64.list", "libc6 generated-table metadata"),
            ("usr/lib/python3/dist-packages/yaml/__init__.py", "python3-yaml,pyyaml dpkg code"),
            (
                "usr/lib/python3/dist-packages/yaml/__pycache__/__init__.cpython-311.pyc",
                "python3-yaml,pyyaml generated-table code",
            ),
            (
                "usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO",
                "python3-yaml,pyyaml dpkg metadata",
            ),
            ("usr/bin", "-"),
            ("bin", "-"),
            ("opt/app/server", "-"),
            ("", "-"),
            ("../../usr/bin/mawk", "mawk dpkg code"),
        ],
    );
}

/// A root without merged /usr, whose lists use the other spelling than the caller.
#[test]
fn both_spellings_without_links() {
    let tree = tree(&[
        (
            "var/lib/dpkg/status",
            File(b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"),
        ),
        ("var/lib/dpkg/info/a.list", File(b"/.\n/bin\n/bin/a\n/usr\n/usr/lib\n/usr/lib/b.so\n")),
        ("bin/a", File(b"elf")),
        ("usr/lib/b.so", File(b"elf")),
    ]);
    let index = OwnershipIndex::build(&tree);
    for path in ["bin/a", "usr/bin/a", "usr/lib/b.so", "lib/b.so"] {
        assert_eq!(owners(&index, path), "a dpkg code", "{path}");
    }
    assert_eq!(owners(&index, "usr/share/bin/a"), "-");
    assert_eq!(
        package(&catalog(&tree), "a").purl,
        "pkg:deb/a@1?arch=amd64",
        "no os-release, so no distribution"
    );
}

/// A root from before the merge: what stands in `/usr/bin` is another file than that of the same name in `/bin`.
#[test]
fn two_real_directories_are_not_mixed_up() {
    let tree = tree(&[
        (
            "var/lib/dpkg/status",
            File(b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"),
        ),
        ("var/lib/dpkg/info/a.list", File(b"/.\n/bin\n/bin/a\n")),
        ("bin/a", File(b"elf")),
        ("usr/bin/a", File(b"mine")),
    ]);
    let index = OwnershipIndex::build(&tree);
    assert_eq!(
        (owners(&index, "bin/a").as_str(), owners(&index, "usr/bin/a").as_str()),
        ("a dpkg code", "-")
    );
}

#[test]
fn distroless_images() {
    let tree = tree(&[
        ("etc/os-release", File(include_bytes!("fixtures/os-release"))),
        ("var/lib/dpkg/status.d/libssl3", File(include_bytes!("fixtures/distroless-libssl3"))),
        (
            "var/lib/dpkg/status.d/libssl3.md5sums",
            File(include_bytes!("fixtures/distroless-libssl3.md5sums")),
        ),
        ("usr/lib/x86_64-linux-gnu/libssl.so.3", File(b"elf")),
    ]);
    let outcome = catalog(&tree);
    assert_eq!(outcome.packages.len(), 1);
    let found = package(&outcome, "libssl3");
    assert_eq!((found.source_name.as_str(), found.loadable_file_count), ("openssl", 1));
    assert!(found.locations.iter().any(|location| location.path == b"var/lib/dpkg/status.d/libssl3"));
    assert_eq!(
        owners(&OwnershipIndex::build(&tree), "lib/x86_64-linux-gnu/libssl.so.3"),
        "libssl3 dpkg code"
    );
}

#[test]
fn damage_hides_nothing_else() {
    let tree = tree(&[("var/lib/dpkg/status", File(include_bytes!("fixtures/status-damaged")))]);
    let outcome = catalog(&tree);
    let names: Vec<&str> = outcome.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["broken", "first", "last", "latin1", "lost-blank-line"]);
    assert_eq!(package(&outcome, "latin1").dependencies, ["caf\u{fffd}"]);
    let mut messages: Vec<&str> = outcome.warnings.iter().map(|warning| warning.message.as_str()).collect();
    messages
        .sort_by_key(|message| message.split([' ', '(']).nth(1).and_then(|line| line.parse::<usize>().ok()));
    assert_eq!(
        messages,
        [
            "a field of package \"latin1\" is no UTF-8; the bad bytes were replaced",
            "line 8 (byte 119), package broken: neither a field nor the continuation of one",
            "line 12 (byte 173), an unknown package: no Package field",
            "line 15 (byte 214), package no version: the name is none that a package can have",
            "line 18 (byte 264), package noversion: no version that a package can have",
            "line 21 (byte 313), package nostatus: no Status field, so it may not be installed",
            "line 28 (byte 426), package lost-blank-line: no empty line before this package",
        ]
    );
    assert!(outcome.warnings.iter().all(|warning| warning.subject == "var/lib/dpkg/status"));
}

#[test]
fn an_upper_layer_tells_where_a_package_came_from() {
    let mut tree = tree(&[
        (
            "var/lib/dpkg/status",
            File(b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"),
        ),
        ("var/lib/dpkg/info/a.list", File(b"/.\n/usr\n/usr/a\n")),
    ]);
    let top = tree.add_layer("sha256:top").unwrap();
    let status = b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n\
        Package: b\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n";
    add(
        &mut tree,
        &[("var/lib/dpkg/status", File(status)), ("var/lib/dpkg/info/b.list", File(b"/.\n"))],
        top,
    );
    let outcome = catalog(&tree);
    let layers = |name: &str| -> Vec<&str> {
        package(&outcome, name).locations.iter().map(|location| location.layer.as_str()).collect()
    };
    assert_eq!(layers("a"), ["sha256:layer", "sha256:top"]);
    assert_eq!(layers("b"), ["sha256:top", "sha256:top"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_databases_never_panic(
        status in proptest::collection::vec(any::<u8>(), 0..200),
        list in proptest::collection::vec(proptest::sample::select(b"/.ab\n\xff".to_vec()), 0..100),
        mutation in (0usize..1500, any::<u8>()),
    ) {
        let mut whole = include_bytes!("fixtures/status").to_vec();
        let length = whole.len();
        whole[mutation.0 % length] = mutation.1;
        whole.splice(mutation.0 % length..mutation.0 % length, status.iter().copied());
        let tree = tree(&[
            ("var/lib/dpkg/status", File(&whole)),
            ("var/lib/dpkg/info/mawk.list", File(&list)),
            ("var/lib/dpkg/diversions", File(&list)),
            ("var/lib/dpkg/alternatives/x", File(&list)),
            ("etc/os-release", File(&status)),
        ]);
        let (outcome, index) = crate::catalog_with_ownership(&tree);
        prop_assert!(outcome.packages.len() >= 5);
        index.lookup(&list);
    }
}
