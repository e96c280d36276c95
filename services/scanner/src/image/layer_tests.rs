use super::*;
use plimsoll_catalog::tree::{FileTree, Walk};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
    File,
    Directory,
    Symlink(String),
    HardLink(String),
    Whiteout,
    Opaque,
}

fn archive(entries: &[(String, Op)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (path, op) in entries {
        let mut header = ::tar::Header::new_gnu();
        let (parent, name) =
            path.rsplit_once('/').map_or(("", path.as_str()), |(parent, name)| (parent, name));
        let (path, kind, link) = match op {
            Op::File => (path.clone(), ::tar::EntryType::Regular, None),
            Op::Directory => (path.clone(), ::tar::EntryType::Directory, None),
            Op::Symlink(target) => (path.clone(), ::tar::EntryType::Symlink, Some(target)),
            Op::HardLink(target) => (path.clone(), ::tar::EntryType::Link, Some(target)),
            Op::Whiteout => (format!("{parent}/.wh.{name}"), ::tar::EntryType::Regular, None),
            Op::Opaque => (format!("{path}/.wh..wh..opq"), ::tar::EntryType::Regular, None),
        };
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        if let Some(link) = link {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn merged(layers: &[Vec<(String, Op)>]) -> (MemoryTree, Vec<Warning>) {
    let (mut tree, mut kept_bytes, mut warnings) = (MemoryTree::new(), 0, Vec::new());
    for (number, layer) in layers.iter().enumerate() {
        let summary =
            apply(&archive(layer)[..], &format!("layer{number}"), &mut tree, &mut kept_bytes).unwrap();
        assert_eq!(summary.damage, None);
        warnings.extend(summary.warnings);
    }
    (tree, warnings)
}

fn paths(tree: &MemoryTree) -> BTreeMap<String, FileKind> {
    let mut paths = BTreeMap::new();
    tree.walk(b"", &mut |path, kind| {
        paths.insert(String::from_utf8(path.to_vec()).unwrap(), kind);
        Walk::Continue
    })
    .unwrap();
    paths
}

/// What the specification says, in the simplest words: whiteouts act on the layers below, then entries are laid over.
fn model(layers: &[Vec<(String, Op)>]) -> BTreeMap<String, FileKind> {
    let mut state: BTreeMap<String, FileKind> = BTreeMap::new();
    for layer in layers {
        for (path, op) in layer {
            let below = format!("{path}/");
            match op {
                Op::Whiteout => state.retain(|known, _| known != path && !known.starts_with(&below)),
                Op::Opaque => state.retain(|known, _| !known.starts_with(&below)),
                _ => {}
            }
        }
        for (path, op) in layer {
            let kind = match op {
                Op::File => FileKind::Regular,
                Op::Directory => FileKind::Directory,
                _ => continue,
            };
            for (slash, _) in path.match_indices('/') {
                state.insert(path[..slash].to_owned(), FileKind::Directory);
            }
            if kind == FileKind::Regular {
                state.retain(|known, _| !known.starts_with(&format!("{path}/")));
            }
            state.insert(path.clone(), kind);
        }
    }
    state
}

fn plain_layers() -> impl Strategy<Value = Vec<Vec<(String, Op)>>> {
    let path = "[abc](/[abc]){0,3}";
    let op = prop_oneof![Just(Op::File), Just(Op::Directory), Just(Op::Whiteout), Just(Op::Opaque)];
    proptest::collection::vec(proptest::collection::vec((path, op), 0..12), 1..5)
}

fn hostile_layers() -> impl Strategy<Value = Vec<Vec<(String, Op)>>> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just(".."),
        Just("."),
        Just(""),
        Just(".wh."),
        Just(".wh.."),
        Just(".wh..."),
        Just(".wh.a"),
        Just(".wh..wh..opq"),
        Just("...")
    ];
    let path = proptest::collection::vec(part, 1..6).prop_map(|parts| parts.join("/"));
    let op = prop_oneof![
        Just(Op::File),
        Just(Op::Directory),
        path.clone().prop_map(Op::Symlink),
        path.clone().prop_map(|target| Op::Symlink(format!("/{target}"))),
        path.clone().prop_map(Op::HardLink),
        Just(Op::Whiteout),
        Just(Op::Opaque),
    ];
    proptest::collection::vec(proptest::collection::vec((path, op), 0..12), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn layers_are_merged_as_the_specification_says(layers in plain_layers()) {
        prop_assert_eq!(paths(&merged(&layers).0), model(&layers));
    }

    #[test]
    fn no_entry_leaves_the_root(layers in hostile_layers()) {
        let (tree, warnings) = merged(&layers);
        for path in paths(&tree).keys() {
            let safe = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            prop_assert!(safe, "{path:?}");
            if let Ok(resolved) = tree.resolve(path.as_bytes()) {
                prop_assert!(!resolved.path.starts_with(b"/") && !resolved.path.split(|b| *b == b'/').any(|p| p == b".."));
            }
        }
        prop_assert!(warnings.iter().all(|warning| !warning.remedy.is_empty() && !warning.message.is_empty()));
    }
}

#[test]
fn whiteouts_of_what_is_no_name_hide_nothing() {
    let file = |path: &str| (path.to_owned(), Op::File);
    for trick in ["a/b/.wh.", "a/b/.wh..", "a/b/.wh...", "a/b/../.wh.b"] {
        let (tree, warnings) = merged(&[vec![file("a/b/c"), file("a/d")], vec![file(trick)]]);
        assert!(tree.metadata(b"a/b/c").is_ok() && tree.metadata(b"a/d").is_ok(), "{trick}");
        assert_eq!(warnings.len(), 1, "{trick}");
        assert_eq!(warnings[0].code, "unsafe-tar-entry");
    }
    // aufs's own bookkeeping, as very old images have it.
    let (tree, warnings) = merged(&[vec![file("a/b")], vec![file(".wh..wh.aufs"), file("a/.wh..wh.plnk")]]);
    assert!(tree.metadata(b"a/b").is_ok() && warnings.is_empty());
}

#[test]
fn an_entry_for_the_root_is_no_way_to_empty_it() {
    for trick in [Op::File, Op::Symlink("/elsewhere".into()), Op::HardLink("a/b".into())] {
        let layers = [vec![("a/b".to_owned(), Op::File)], vec![("./".to_owned(), trick)]];
        let (tree, warnings) = merged(&layers);
        assert!(tree.metadata(b"a/b").is_ok(), "{layers:?}");
        assert_eq!(warnings.len(), 1);
    }
}
