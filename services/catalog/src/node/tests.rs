use crate::OwnershipIndex;
use crate::testing::Node::{self, Directory, File, Link};
use crate::testing::{catalog, check_owners, owners, package, tree};
use crate::tree::{Entry, Layer, MemoryTree};
use crate::zip::tests::{Keep, Writer};

/// Purls with where they stand, for people.
fn listed(tree: &MemoryTree) -> Vec<String> {
    let outcome = catalog(tree);
    let packages = outcome.packages.iter().filter(|package| package.ecosystem == "npm");
    packages
        .map(|package| format!("{} {}", package.purl, String::from_utf8_lossy(&package.locations[0].path)))
        .collect()
}

#[track_caller]
fn check(nodes: &[(&str, Node<'_>)], packages: &[&str], paths: &[(&str, &str)]) {
    let tree = tree(nodes);
    assert_eq!(listed(&tree), packages);
    let index = OwnershipIndex::build(&tree);
    for (path, expect) in paths {
        assert_eq!(owners(&index, path), *expect, "{path}");
    }
    for (path, _) in paths.iter().filter(|(path, _)| path.contains("node_modules/")) {
        assert!(index.covers(path.as_bytes()), "{path}");
    }
}

#[test]
fn copies_of_npm_are_kept_apart() {
    check(
        &[
            ("app/package.json", File(br#"{"name":"app","version":"1.0.0","dependencies":{"absent":"1"}}"#)),
            ("app/package-lock.json", File(br#"{"packages":{"node_modules/absent":{"version":"1"}}}"#)),
            ("app/index.js", File(b"")),
            ("app/node_modules/.package-lock.json", File(b"{}")),
            ("app/node_modules/.bin/a", Link("../a/cli.js")),
            ("app/node_modules/a/package.json", File(br#"{"name":"a","version":"1.0.0","bin":"cli.js"}"#)),
            ("app/node_modules/a/cli.js", File(b"")),
            ("app/node_modules/a/dist/esm/package.json", File(br#"{"type":"module"}"#)),
            ("app/node_modules/a/node_modules/b/package.json", File(br#"{"name":"b","version":"1.0.0"}"#)),
            ("app/node_modules/a/node_modules/b/index.js", File(b"")),
            ("app/node_modules/a/node_modules/.cache/x.js", File(b"")),
            ("app/node_modules/b/package.json", File(br#"{"name":"b","version":"2.0.0"}"#)),
            ("app/node_modules/b/index.js", File(b"")),
            ("app/node_modules/@s/c/package.json", File(br#"{"name":"@s/c","version":"3.0.0"}"#)),
            ("app/node_modules/@s/c/index.js", File(b"")),
            // An alias: what it is stands in its package.json.
            ("app/node_modules/alias/package.json", File(br#"{"name":"b","version":"1.0.0"}"#)),
            ("app/node_modules/no-manifest/index.js", File(b"")),
        ],
        &[
            "pkg:npm/%40s/c@3.0.0 app/node_modules/@s/c",
            "pkg:npm/a@1.0.0 app/node_modules/a",
            "pkg:npm/b@1.0.0 app/node_modules/a/node_modules/b",
            "pkg:npm/b@1.0.0 app/node_modules/alias",
            "pkg:npm/b@2.0.0 app/node_modules/b",
        ],
        &[
            ("app/node_modules/a/cli.js", "a package.json code"),
            ("app/node_modules/a/package.json", "a package.json metadata"),
            ("app/node_modules/a/dist/esm/package.json", "a package.json metadata"),
            ("app/node_modules/.bin/a", "a package.json code"),
            ("app/node_modules/a/node_modules/b/index.js", "b package.json code"),
            ("app/node_modules/a/node_modules/.cache/x.js", "-"),
            ("app/node_modules/@s/c/index.js", "@s/c package.json code"),
            ("app/node_modules/no-manifest/index.js", "-"),
            ("app/index.js", "-"),
            ("app/package.json", "-"),
        ],
    );
}

#[test]
fn the_root_may_itself_be_node_modules() {
    let mut tree = tree(&[
        (".package-lock.json", File(b"{}")),
        (".bin/a", Link("../a/cli.js")),
        (".cache/x/package.json", File(br#"{"name":"x","version":"1.0.0"}"#)),
        ("a/package.json", File(br#"{"name":"a","version":"1.0.0","bin":"cli.js","private":true}"#)),
        ("a/cli.js", File(b"")),
        ("a/dist/package.json", File(br#"{"name":"no","version":"1.0.0"}"#)),
        ("a/node_modules/b/package.json", File(br#"{"name":"b","version":"1.0.0"}"#)),
        ("@s/c/package.json", File(br#"{"name":"@s/c","version":"3.0.0"}"#)),
        ("linked", Link("a")),
    ]);
    assert_eq!(listed(&tree), ["pkg:npm/b@1.0.0 a/node_modules/b"]);
    tree.set_root_path(b"/app/node_modules");
    assert_eq!(
        listed(&tree),
        ["pkg:npm/%40s/c@3.0.0 @s/c", "pkg:npm/a@1.0.0 a", "pkg:npm/b@1.0.0 a/node_modules/b"]
    );
    assert_eq!(package(&catalog(&tree), "a").installer, "npm");
    let index = OwnershipIndex::build(&tree);
    check_owners(
        &index,
        &[
            ("a/cli.js", "a package.json code"),
            (".bin/a", "a package.json code"),
            ("a/node_modules/b/package.json", "b package.json metadata"),
            (".cache/x/package.json", "-"),
        ],
    );
}

#[test]
fn a_link_in_place_of_node_modules() {
    let nodes = [
        ("app/node_modules", Link("deps")),
        ("app/sub/node_modules", Link("/srv/scanned/app/deps")),
        ("app/deps/.package-lock.json", File(b"{}")),
        ("app/deps/.bin/a", Link("../a/cli.js")),
        ("app/deps/a/package.json", File(br#"{"name":"a","version":"1.0.0","bin":"cli.js"}"#)),
        ("app/deps/a/cli.js", File(b"")),
        ("app/deps/a/node_modules/b/package.json", File(br#"{"name":"b","version":"1.0.0"}"#)),
        ("app/deps/@s/c/package.json", File(br#"{"name":"@s/c","version":"3.0.0"}"#)),
        ("other/node_modules", Link("../app/node_modules")),
        // Out of the root: what has the same name in it is another.
        ("up/node_modules", Link("../../up/deps")),
        ("up/deps/d/package.json", File(br#"{"name":"d","version":"1.0.0"}"#)),
        ("gone/node_modules", Link("/opt/elsewhere")),
        ("v/lib/python3.11/site-packages", Link("/opt/site-packages")),
        ("own/node_modules", Link("../app/deps/a/node_modules")),
    ];
    let mut tree = tree(&nodes);
    tree.set_root_path(b"/srv/scanned");
    assert_eq!(
        listed(&tree),
        [
            "pkg:npm/%40s/c@3.0.0 app/deps/@s/c",
            "pkg:npm/a@1.0.0 app/deps/a",
            "pkg:npm/b@1.0.0 app/deps/a/node_modules/b"
        ]
    );
    let outcome = catalog(&tree);
    assert_eq!(package(&outcome, "a").installer, "npm");
    let warned: Vec<String> = outcome.warnings.iter().map(ToString::to_string).collect();
    let subjects: Vec<&str> = outcome.warnings.iter().map(|warning| warning.subject.as_str()).collect();
    assert_eq!(subjects, ["gone/node_modules", "up/node_modules", "v/lib/python3.11/site-packages"]);
    assert!(warned[0].contains("/opt/elsewhere") && warned[0].contains("; scan the directory"), "{warned:?}");
    let index = OwnershipIndex::build(&tree);
    check_owners(
        &index,
        &[
            ("app/deps/a/cli.js", "a package.json code"),
            ("app/node_modules/a/cli.js", "a package.json code"),
            ("app/deps/.bin/a", "a package.json code"),
            ("app/deps/a/node_modules/b/package.json", "b package.json metadata"),
        ],
    );
}

#[test]
fn links_of_pnpm_and_of_workspaces() {
    check(
        &[
            ("w/node_modules/.modules.yaml", File(b"")),
            (
                "w/node_modules/.pnpm/a@1.0.0/node_modules/a/package.json",
                File(br#"{"name":"a","version":"1.0.0"}"#),
            ),
            ("w/node_modules/.pnpm/a@1.0.0/node_modules/a/index.js", File(b"")),
            ("w/node_modules/.pnpm/a@1.0.0/node_modules/@s/b", Link("../../../@s+b@2.0.0/node_modules/@s/b")),
            (
                "w/node_modules/.pnpm/@s+b@2.0.0/node_modules/@s/b/package.json",
                File(br#"{"name":"@s/b","version":"2.0.0"}"#),
            ),
            ("w/node_modules/.pnpm/@s+b@2.0.0/node_modules/@s/b/index.js", File(b"")),
            ("w/node_modules/a", Link(".pnpm/a@1.0.0/node_modules/a")),
            ("w/node_modules/broken", Link("nowhere")),
            ("w/node_modules/loop", Link("loop")),
            // One part of the workspace is published, one is not.
            ("w/node_modules/lib", Link("../packages/lib")),
            ("w/node_modules/server", Link("../packages/server")),
            ("w/packages/lib/package.json", File(br#"{"name":"lib","version":"0.1.0"}"#)),
            ("w/packages/lib/index.js", File(b"")),
            (
                "w/packages/server/package.json",
                File(br#"{"name":"server","version":"0.1.0","private":true}"#),
            ),
            ("w/packages/server/index.js", File(b"")),
            ("w/packages/server/node_modules/a", Link("../../../node_modules/.pnpm/a@1.0.0/node_modules/a")),
        ],
        &[
            "pkg:npm/%40s/b@2.0.0 w/node_modules/.pnpm/@s+b@2.0.0/node_modules/@s/b",
            "pkg:npm/a@1.0.0 w/node_modules/.pnpm/a@1.0.0/node_modules/a",
            "pkg:npm/lib@0.1.0 w/packages/lib",
        ],
        &[
            ("w/node_modules/.pnpm/a@1.0.0/node_modules/a/index.js", "a package.json code"),
            ("w/node_modules/a/index.js", "a package.json code"),
            ("w/packages/server/node_modules/a/index.js", "a package.json code"),
            ("w/node_modules/.pnpm/a@1.0.0/node_modules/@s/b/index.js", "@s/b package.json code"),
            ("w/node_modules/lib/index.js", "lib package.json code"),
            ("w/packages/lib/index.js", "lib package.json code"),
            ("w/packages/server/index.js", "-"),
        ],
    );
    let outcome = catalog(&tree(&[
        ("n/node_modules/.package-lock.json", File(b"{}")),
        ("n/node_modules/a/package.json", File(br#"{"name":"a","version":"1"}"#)),
    ]));
    assert_eq!(package(&outcome, "a").installer, "npm");
}

/// A layer of an image that has pnpm's store before the packages, which are hard links into it.
#[test]
fn hard_links_into_a_store() {
    let stored = "root/.local/share/pnpm/store/v3/files/00/1234";
    let mut tree = tree(&[
        (stored, File(br#"{"name":"a","version":"1.0.0"}"#)),
        ("root/.local/share/pnpm/store/v3/files/00/5678", File(br#"{"some":"data"}"#)),
    ]);
    let place = "usr/src/app/node_modules/.pnpm/a@1.0.0/node_modules/a";
    let link = Entry::HardLink { target: stored.as_bytes() };
    tree.insert(format!("{place}/package.json").as_bytes(), link, Layer::NONE).unwrap();
    assert_eq!(listed(&tree), [format!("pkg:npm/a@1.0.0 {place}")]);
}

#[test]
fn damaged_manifests_are_named_and_hide_nothing() {
    let long =
        [br#"{"name":"long","version":"1.0.0","readme":""#.as_slice(), &vec![b'x'; 5 << 20], b"\"}"].concat();
    let deep = [br#"{"name":"deep","version":"1.0.0","x":"#.as_slice(), &vec![b'['; 3 << 20]].concat();
    let tree = tree(&[
        ("node_modules/long/package.json", File(&long)),
        ("node_modules/deep/package.json", File(&deep)),
        ("node_modules/garbage/package.json", File(b"\xff\x00")),
        ("node_modules/list/package.json", File(b"[]")),
        ("node_modules/nameless/package.json", File(br#"{"version":"2.0.0","name":{}}"#)),
        ("node_modules/unversioned/package.json", File(br#"{"name":"unversioned"}"#)),
        ("node_modules/directory/package.json", Directory),
        ("node_modules/good/package.json", File(br#"{"name":"good","version":"1.0.0"}"#)),
    ]);
    let outcome = catalog(&tree);
    let names: Vec<&str> = outcome.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["deep", "good", "long", "nameless"]);
    let warned: Vec<&str> = outcome.warnings.iter().map(|warning| warning.subject.as_str()).collect();
    assert_eq!(
        warned,
        ["deep", "garbage", "list", "long", "nameless", "unversioned"]
            .map(|name| format!("node_modules/{name}/package.json"))
    );
}

#[test]
fn debian_carries_packages_of_its_own() {
    let status = b"Package: node-qs\nStatus: install ok installed\nVersion: 6.11.0\nArchitecture: all\n\n\
        Package: vendor-agent\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n";
    let tree = tree(&[
        ("var/lib/dpkg/status", File(status)),
        ("var/lib/dpkg/info/node-qs.list", File(b"/usr/share/nodejs/qs/package.json\n/usr/share/nodejs/qs/lib/index.js\n/usr/share/nodejs/side\n")),
        ("var/lib/dpkg/info/vendor-agent.list", File(b"/opt/v/node_modules/qs/package.json\n/opt/v/node_modules/qs/index.js\n")),
        ("usr/share/nodejs/qs/package.json", File(br#"{"name":"qs","version":"6.11.0"}"#)),
        ("usr/share/nodejs/qs/lib/index.js", File(b"")),
        ("usr/share/nodejs/side", Link("qs")),
        ("opt/v/node_modules/qs/package.json", File(br#"{"name":"qs","version":"6.1.0"}"#)),
        ("opt/v/node_modules/qs/index.js", File(b"")),
    ]);
    let outcome = catalog(&tree);
    let carried: Vec<String> = outcome
        .packages
        .iter()
        .filter(|package| package.ecosystem == "npm")
        .map(|package| format!("{} {}", package.purl, package.provided_by_name))
        .collect();
    assert_eq!(carried, ["pkg:npm/qs@6.1.0 vendor-agent", "pkg:npm/qs@6.11.0 node-qs"]);
    let index = OwnershipIndex::build(&tree);
    assert_eq!(owners(&index, "usr/share/nodejs/qs/lib/index.js"), "node-qs,qs dpkg code");
    assert_eq!(owners(&index, "usr/share/nodejs/side/lib/index.js"), "node-qs,qs dpkg code");
    assert_eq!(owners(&index, "opt/v/node_modules/qs/index.js"), "vendor-agent,qs dpkg code");
}

#[test]
fn archives_of_plug_n_play() {
    let archive = |manifest: &[u8]| {
        Writer::default()
            .add("node_modules/@s/a/package.json", manifest, Keep::Deflated)
            .add("node_modules/@s/a/index.js", b"", Keep::Stored)
            .add(
                "node_modules/@s/a/test/fixtures/package.json",
                br#"{"name":"no","version":"1"}"#,
                Keep::Stored,
            )
            .finish()
    };
    let good = archive(br#"{"name":"@s/a","version":"1.0.0","license":"MIT"}"#);
    let cached_only = archive(br#"{"name":"@s/a","version":"0.9.0"}"#);
    let pnp = br#"const RAW_RUNTIME_STATE = '{"packageRegistryData": [["@s/a", [["virtual:1", {
        "packageLocation": "./.yarn/__virtual__/a-virtual-1/0/cache/a.zip/node_modules/@s/a/", "x": 1}],
        ["npm:1", {"packageLocation": "./.yarn/cache/a.zip/node_modules/@s/a/"}]]], ["b", [["npm:2", {
        "packageLocation": "./.yarn/cache/b.zip/node_modules/b/"}]]], ["c", [["npm:2", {
        "packageLocation": "./.yarn/cache/absent.zip/node_modules/c/"}]]]]}'"#;
    let tree = tree(&[
        ("app/.pnp.cjs", File(pnp)),
        ("app/.yarn/cache/a.zip", File(&good)),
        ("app/.yarn/cache/b.zip", File(&good[..good.len() - 30])),
        ("app/.yarn/cache/cached-only.zip", File(&cached_only)),
    ]);
    assert_eq!(listed(&tree), ["pkg:npm/%40s/a@1.0.0 app/.yarn/cache/a.zip"]);
    let outcome = catalog(&tree);
    let a = package(&outcome, "@s/a");
    assert_eq!(a.locations[0].nested_path, b"node_modules/@s/a");
    assert_eq!((a.loadable_file_count, a.observable_by.join(",")), (1, "node-module".to_owned()));
    assert_eq!(a.installer, "yarn");
    let warned: Vec<&str> = outcome.warnings.iter().map(|warning| warning.subject.as_str()).collect();
    assert_eq!(warned, ["app/.yarn/cache/b.zip"]);
    let index = OwnershipIndex::build(&tree);
    check_owners(
        &index,
        &[
            ("app/.yarn/cache/a.zip", "@s/a package.json data"),
            ("app/.yarn/cache/a.zip/node_modules/@s/a/index.js", "@s/a package.json code"),
            ("app/.yarn/cache/a.zip!/node_modules/@s/a/index.js", "@s/a package.json data"),
            (
                "app/.yarn/__virtual__/a-virtual-1/0/cache/a.zip/node_modules/@s/a/index.js",
                "@s/a package.json code",
            ),
            ("app/.yarn/cache/cached-only.zip", "-"),
            ("app/.pnp.cjs", "-"),
        ],
    );
}
