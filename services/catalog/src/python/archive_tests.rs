use crate::OwnershipIndex;
use crate::testing::Node::File;
use crate::testing::{catalog, check_owners, package, tree, tree_of};
use crate::zip::tests::{Keep, Writer};

/// What stands before a member's name in a ZIP archive.
const LOCAL_HEADER_BYTES: usize = 30;

#[test]
fn zipped_eggs_and_zipapps() {
    let egg = Writer::default()
        .add("EGG-INFO/PKG-INFO", b"Name: Zipped\nVersion: 1.0\nRequires-Dist: six\n", Keep::Deflated)
        .add("zipped/__init__.py", b"", Keep::Stored)
        .add("zipped/data.txt", b"", Keep::Stored)
        .finish();
    let zipapp = [
        b"#!/usr/bin/env python3\n".to_vec(),
        Writer::default()
            .add("__main__.py", b"", Keep::Stored)
            .add("one-1.dist-info/METADATA", b"Name: one\nVersion: 1\n", Keep::Deflated)
            .add("one-1.dist-info/RECORD", b"one/__init__.py,,\none-1.dist-info/METADATA,,\n", Keep::Deflated)
            .add("one/__init__.py", b"", Keep::Stored)
            .add(".deps/two.whl/two-2.dist-info/METADATA", b"Name: two\nVersion: 2\n", Keep::Deflated)
            .add(".deps/two.whl/two-2.dist-info/RECORD", b"two.py,,\n", Keep::Deflated)
            .add(".deps/two.whl/two.py", b"", Keep::Stored)
            .add("bad-1.dist-info/METADATA", b"nothing", Keep::Stored)
            .finish(),
    ]
    .concat();
    let site = "v/lib/python3.11/site-packages";
    let egg_path = format!("{site}/Zipped-1.0-py3.11.egg");
    let truncated = format!("{site}/cut-1.0-py3.11.egg");
    let tree = tree(&[
        (&egg_path, File(&egg)),
        (&truncated, File(&egg[..100])),
        ("app/tool.pyz", File(&zipapp)),
        ("app/script.pyz", File(b"#!/bin/sh\n")),
    ]);
    let mut damaged = zipapp.clone();
    let name_at = memchr::memmem::find(&damaged, b"one-1.dist-info/METADATA").unwrap();
    damaged[name_at - LOCAL_HEADER_BYTES] = 0;
    let of_damaged = catalog(&crate::testing::tree(&[("app/tool.pyz", File(&damaged))]));
    assert_eq!(of_damaged.packages.len(), 1);
    let told =
        &of_damaged.warnings.iter().find(|warning| warning.code == "unreadable-archive").unwrap().message;
    assert!(told.starts_with("one-1.dist-info/METADATA: ") && told.contains("; 1 of its"), "{told}");
    let outcome = catalog(&tree);
    let listed: Vec<String> = outcome
        .packages
        .iter()
        .map(|package| {
            let nested = String::from_utf8_lossy(&package.locations[0].nested_path);
            format!(
                "{} {nested} {} {}",
                package.purl,
                package.loadable_file_count,
                package.observable_by.join(",")
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            "pkg:pypi/one@1 one-1.dist-info 1 python-import",
            "pkg:pypi/two@2 .deps/two.whl/two-2.dist-info 1 python-import",
            "pkg:pypi/zipped@1.0 EGG-INFO 1 python-import",
        ]
    );
    assert_eq!(package(&outcome, "zipped").dependencies, ["six"]);
    let warned: Vec<&str> = outcome.warnings.iter().map(|warning| warning.subject.as_str()).collect();
    assert_eq!(warned, ["app/tool.pyz!/bad-1.dist-info", truncated.as_str()]);
    let index = OwnershipIndex::build(&tree);
    check_owners(
        &index,
        &[
            (format!("{egg_path}/zipped/__init__.py"), "zipped zipped code"),
            (egg_path.clone(), "zipped zipped data"),
            ("app/tool.pyz/one/__init__.py".to_owned(), "one zipped code"),
            ("app/tool.pyz/.deps/two.whl/two.py".to_owned(), "two zipped code"),
            ("app/tool.pyz/__main__.py".to_owned(), "-"),
        ],
    );
}

#[test]
fn plain_archives_of_installed_packages() {
    let archive = |members: &[(&str, &[u8])]| {
        let add = |writer: Writer, (name, bytes): &(&str, &[u8])| writer.add(name, bytes, Keep::Deflated);
        members.iter().fold(Writer::default(), add).finish()
    };
    let target = archive(&[
        ("simplejson-3.19.2.dist-info/METADATA", b"Name: simplejson\nVersion: 3.19.2\n"),
        ("simplejson-3.19.2.dist-info/RECORD", b"simplejson/__init__.py,,\nsimplejson/decoder.py,,\n"),
        ("simplejson/__init__.py", b""),
        ("simplejson/decoder.py", b""),
        ("bare_name-1.dist-info/METADATA", b"Name: bare-name\nVersion: 1\n"),
        ("bare_name.py", b""),
    ]);
    let layer = archive(&[
        ("python/lib/python3.11/site-packages/a-1.dist-info/METADATA", b"Name: a\nVersion: 1\n"),
        ("python/lib/python3.11/site-packages/a-1.dist-info/RECORD", b"a.py,,\n"),
        ("python/lib/python3.11/site-packages/a.py", b""),
        ("python/b-2-py3.9.egg-info/PKG-INFO", b"Name: b\nVersion: 2\n"),
        ("python/b-2-py3.9.egg-info/top_level.txt", b"bee\n"),
        ("python/bee/__init__.py", b""),
    ]);
    let sources = archive(&[
        ("c-1/c.egg-info/PKG-INFO", b"Name: c\nVersion: 1\n"),
        ("c-1/tests/data/d-1.dist-info/METADATA", b"Name: d\nVersion: 1\n"),
    ]);
    let mut damaged = archive(&[("photo.jpg", b"x")]);
    damaged.truncate(damaged.len() - 30);
    let tree = tree_of(&[
        ("app/libs.zip".into(), &target),
        ("opt/layer.zip".into(), &layer),
        ("srv/c-1.zip".into(), &sources),
        ("srv/photos.zip".into(), &damaged),
        ("srv/text.zip".into(), b"none at all"),
    ]);
    let outcome = catalog(&tree);
    assert_eq!(outcome.warnings, []);
    let listed: Vec<String> = outcome
        .packages
        .iter()
        .map(|package| {
            let path = String::from_utf8_lossy(&package.locations[0].path);
            let probes = package.observable_by.join(",");
            format!("{} {path} {} {probes}", package.purl, package.loadable_file_count)
        })
        .collect();
    assert_eq!(
        listed,
        [
            "pkg:pypi/a@1 opt/layer.zip 1 python-import",
            "pkg:pypi/b@2 opt/layer.zip 1 python-import",
            "pkg:pypi/bare-name@1 app/libs.zip 1 python-import",
            "pkg:pypi/simplejson@3.19.2 app/libs.zip 2 python-import",
        ]
    );
    check_owners(
        &OwnershipIndex::build(&tree),
        &[
            ("app/libs.zip/simplejson/decoder.py", "simplejson zipped code"),
            ("app/libs.zip/bare_name.py", "bare-name zipped code"),
            ("opt/layer.zip/python/bee/__init__.py", "b zipped code"),
            ("srv/photos.zip", "-"),
        ],
    );
}
