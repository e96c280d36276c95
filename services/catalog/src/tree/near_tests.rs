use super::*;
use crate::OwnershipIndex;
use crate::testing::{Node, near_names_the_same_owners, owners, tree};

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
    assert!(surroundings.add(&tree, b"opt/a/site-packages/near.py"));
    let index = OwnershipIndex::build(&Near::new(&tree, &surroundings));
    assert_eq!(owners(&index, "opt/a/site-packages/near.py"), "near dist-info code");
    assert_eq!(owners(&index, "opt/b/site-packages/far.py"), "-");
    // Nothing new lies near this, but near that.
    assert!(!surroundings.add(&tree, b"opt/a/site-packages/other.py"));
    assert!(!surroundings.add(&tree, b"etc/hosts"));
    assert!(surroundings.add(&tree, b"opt/b/site-packages/far.py"));
    let index = OwnershipIndex::build(&Near::new(&tree, &surroundings));
    assert_eq!(owners(&index, "opt/b/site-packages/far.py"), "far dist-info code");
}
