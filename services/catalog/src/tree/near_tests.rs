use super::*;
use crate::OwnershipIndex;
use crate::testing::{Node, near_names_the_same_owners, owners, tree};
use crate::zip::tests::{Keep, Writer};

#[test]
fn each_parsers_databases_are_near_what_they_own() {
    for parser in crate::fuzzing::PARSERS {
        near_names_the_same_owners(&parser.tree(parser.fixture));
    }
}

#[test]
fn what_is_far_is_not_looked_at() {
    let info = b"Metadata-Version: 2.1\nName: far\nVersion: 1\n";
    let near = b"Metadata-Version: 2.1\nName: near\nVersion: 1\n";
    let tree = tree(&[
        ("opt/a/site-packages/near-1.dist-info/METADATA", Node::File(near)),
        ("opt/a/site-packages/near-1.dist-info/RECORD", Node::File(b"near.py,,\n")),
        ("opt/a/site-packages/near.py", Node::File(b"")),
        ("opt/b/site-packages/far-1.dist-info/METADATA", Node::File(info)),
        ("opt/b/site-packages/far-1.dist-info/RECORD", Node::File(b"far.py,,\n")),
        ("opt/b/site-packages/far.py", Node::File(b"")),
    ]);
    let mut surroundings = Surroundings::default();
    let is_ahead = |surroundings: &mut Surroundings, asked: &[u8]| {
        let before = surroundings.generation;
        surroundings.add(&tree, asked);
        surroundings.generation > before
    };
    assert!(is_ahead(&mut surroundings, b"opt/a/site-packages/near.py"));
    let index = OwnershipIndex::build(&Near::new(&tree, &surroundings));
    assert_eq!(owners(&index, "opt/a/site-packages/near.py"), "near dist-info code");
    assert_eq!(owners(&index, "opt/b/site-packages/far.py"), "-");
    // Nothing new lies near this, but near that.
    assert!(!is_ahead(&mut surroundings, b"opt/a/site-packages/other.py"));
    assert!(!is_ahead(&mut surroundings, b"etc/hosts"));
    // Of a copy, as an index is built of it: what is asked meanwhile is not in it, and its number tells.
    let copy = surroundings.clone();
    assert!(is_ahead(&mut surroundings, b"opt/b/site-packages/far.py"));
    assert!(copy.generation < surroundings.generation);
    let index = OwnershipIndex::build(&Near::new(&tree, &surroundings));
    assert_eq!(owners(&index, "opt/b/site-packages/far.py"), "far dist-info code");
}

/// `asked` has the same owners, the same packages among them, near it as in the whole tree; whether that is certain.
#[track_caller]
fn check(nodes: &[(&str, Node<'_>)], asked: &str, expect: &str, is_certain: bool) {
    let tree = tree(nodes);
    let mut surroundings = Surroundings::default();
    surroundings.add(&tree, asked.as_bytes());
    let near = OwnershipIndex::build(&Near::new(&tree, &surroundings));
    let whole = OwnershipIndex::build(&tree);
    let ids = |index: &OwnershipIndex| -> Vec<String> {
        let owners = index.lookup_in(&tree, asked.as_bytes()).map(|found| found.owners).unwrap_or_default();
        owners.iter().map(|owner| owner.package.package_id.clone()).collect()
    };
    assert_eq!(surroundings.is_certain(&tree, &near, asked.as_bytes()), is_certain, "{asked}");
    assert!(!is_certain || ids(&near) == ids(&whole), "{asked}");
    assert_eq!(owners(&whole, asked), expect, "{asked}");
    near_names_the_same_owners(&tree);
}

#[test]
fn a_link_on_the_way_makes_no_second_package() {
    let info = b"Metadata-Version: 2.1\nName: six\nVersion: 1\n";
    let nodes = [
        ("lib", Node::Link("usr/lib")),
        ("usr/lib/python3/dist-packages/six-1.dist-info/METADATA", Node::File(info)),
        (
            "usr/lib/python3/dist-packages/six-1.dist-info/RECORD",
            Node::File(b"six.py,,\n../../../bin/six,,\n"),
        ),
        ("usr/lib/python3/dist-packages/six.py", Node::File(b"")),
        ("usr/bin/six", Node::File(b"")),
    ];
    check(&nodes, "lib/python3/dist-packages/six.py", "six dist-info code", true);
    check(&nodes, "usr/bin/six", "six dist-info code", true);
}

#[test]
fn sources_of_an_installation_far_away_are_that_installations() {
    let info = b"Metadata-Version: 2.1\nName: mine\nVersion: 1\n";
    let nodes = [
        ("home/u/work/mine.egg-info/PKG-INFO", Node::File(info)),
        ("home/u/work/mine.egg-info/top_level.txt", Node::File(b"mine\n")),
        ("home/u/work/mine/__init__.py", Node::File(b"")),
        ("opt/v/lib/python3.11/site-packages/mine-1.dist-info/METADATA", Node::File(info)),
        ("opt/v/lib/python3.11/site-packages/mine-1.dist-info/RECORD", Node::File(b"")),
        (
            "opt/v/lib/python3.11/site-packages/mine-1.dist-info/direct_url.json",
            Node::File(br#"{"url":"file:///home/u/work","dir_info":{"editable":true}}"#),
        ),
    ];
    check(&nodes, "home/u/work/mine/__init__.py", "mine direct-url code", false);
}

#[test]
fn jars_beside_the_asked_one_tell_how_it_is_called() {
    let jar = |member: &str, text: &[u8]| {
        Writer::default().add(member, text, Keep::Stored).add("A.class", b"\xca\xfe", Keep::Stored).finish()
    };
    let named =
        jar("META-INF/maven/org.acme/one/pom.properties", b"groupId=org.acme\nartifactId=one\nversion=1.0\n");
    let bare = jar("x/B.class", b"");
    let nodes = [
        ("opt/app/org.acme.one-1.0.jar", Node::File(&named)),
        ("opt/app/org.acme.two-1.0.jar", Node::File(&bare)),
    ];
    check(&nodes, "opt/app/org.acme.two-1.0.jar", "org.acme:two jar code", true);
}

#[test]
fn packages_in_a_cache_are_those_of_a_project_far_away() {
    let archive = Writer::default()
        .add("node_modules/a/package.json", br#"{"name":"a","version":"1.0.0"}"#, Keep::Stored)
        .add("node_modules/a/index.js", b"", Keep::Stored)
        .finish();
    let nodes = [
        ("home/u/.yarn/berry/cache/a.zip", Node::File(&archive)),
        (
            "srv/app/.pnp.cjs",
            Node::File(br#"{"packageLocation": "../../home/u/.yarn/berry/cache/a.zip/node_modules/a/"}"#),
        ),
    ];
    for asked in ["a.zip/node_modules/a/index.js", "a.zip"] {
        let role = if asked == "a.zip" { "data" } else { "code" };
        let expect = format!("a package.json {role}");
        check(&nodes, &format!("home/u/.yarn/berry/cache/{asked}"), &expect, false);
    }
}
