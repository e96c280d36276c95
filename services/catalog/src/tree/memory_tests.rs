use super::*;
use proptest::prelude::*;

fn file(contents: &str) -> Entry<'_> {
    Entry::Regular {
        mode: 0o644,
        size_bytes: contents.len() as u64,
        contents: Some(Contents { bytes: Cow::Borrowed(contents.as_bytes()), truncated: false }),
    }
}

fn names(tree: &MemoryTree, path: &str) -> Vec<String> {
    let list = tree.list(path.as_bytes()).unwrap();
    list.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect()
}

#[track_caller]
fn check_resolve(tree: &MemoryTree, path: &str, expect: Option<&str>) {
    let found = tree.resolve(path.as_bytes()).ok().map(|found| String::from_utf8(found.path).unwrap());
    assert_eq!(found.as_deref(), expect, "{path}");
    let by_components = resolve(tree, path.as_bytes()).ok().map(|path| String::from_utf8(path).unwrap());
    assert_eq!(by_components.as_deref(), expect, "{path} by components");
}

fn resolve(tree: &MemoryTree, path: &[u8]) -> Result<Vec<u8>, TreeError> {
    super::super::resolve_by_components(path, &mut |path| tree.metadata(path)).map(|found| found.path)
}

#[test]
fn links_stay_inside_the_root() {
    let mut tree = MemoryTree::new();
    tree.insert(b"usr/lib/libz.so.1.2", file("elf"), Layer::NONE).unwrap();
    for (path, target) in [
        ("usr/lib/libz.so.1", "libz.so.1.2"),
        ("lib", "usr/lib"),
        ("absolute", "/usr/lib/libz.so.1"),
        ("out", "../../../../usr/lib"),
        ("loop", "loop"),
        ("usr/dangling", "nowhere"),
    ] {
        tree.insert(path.as_bytes(), Entry::Symlink { target: target.as_bytes() }, Layer::NONE).unwrap();
    }
    check_resolve(&tree, "lib/libz.so.1", Some("usr/lib/libz.so.1.2"));
    check_resolve(&tree, "/lib/../lib/./libz.so.1", Some("usr/lib/libz.so.1.2"));
    check_resolve(&tree, "lib/../lib", Some("usr/lib"));
    check_resolve(&tree, "absolute", Some("usr/lib/libz.so.1.2"));
    check_resolve(&tree, "out/libz.so.1", Some("usr/lib/libz.so.1.2"));
    check_resolve(&tree, "", Some(""));
    check_resolve(&tree, "loop", None);
    check_resolve(&tree, "usr/dangling", None);
    check_resolve(&tree, "usr/lib/libz.so.1/x", None);
    assert_eq!(tree.metadata(b"lib").unwrap().symlink_target.as_deref(), Some(b"usr/lib".as_slice()));
    assert_eq!(&*tree.read(b"absolute", 2).unwrap().bytes, b"el");
}

#[test]
fn layers_replace_and_remove() {
    let mut tree = MemoryTree::new();
    let base = tree.add_layer("sha256:base").unwrap();
    tree.insert(b"a/one", file("1"), base).unwrap();
    tree.insert(b"a/two", file("2"), base).unwrap();
    tree.insert(b"a/sub/deep", file("3"), base).unwrap();
    tree.insert(b"b/kept", Entry::HardLink { target: b"a/one" }, base).unwrap();
    let top = tree.add_layer("sha256:top").unwrap();
    tree.insert(b"a/one", file("new"), top).unwrap();
    tree.remove_lower(b"a/one", top);
    assert_eq!(tree.layer_of(b"a/one"), Some("sha256:top"), "a whiteout spares its own layer");
    assert_eq!(&*tree.read(b"b/kept", 9).unwrap().bytes, b"1", "a hard link outlives its first name");
    tree.remove_lower(b"a/two", top);
    assert_eq!(names(&tree, "a"), ["one", "sub"]);
    tree.insert(b"a/sub/own", file("4"), top).unwrap();
    tree.clear_lower(b"a", top);
    assert_eq!(names(&tree, "a"), ["one", "sub"]);
    assert_eq!(names(&tree, "a/sub"), ["own"]);
    tree.insert(b"a", file("now a file"), top).unwrap();
    assert!(tree.metadata(b"a/sub/own").unwrap_err().is_not_found());
    tree.insert(b"a/one", file("again"), top).unwrap();
    assert_eq!(names(&tree, "a"), ["one"]);
    tree.release_unreachable();
    assert_eq!(&*tree.read(b"a/one", 9).unwrap().bytes, b"again");
    assert_eq!(tree.contents.len(), 2);
}

#[test]
fn entries_below_a_link_go_where_it_leads() {
    let mut tree = MemoryTree::new();
    tree.insert(b"usr/lib", Entry::Directory { mode: 0o755 }, Layer::NONE).unwrap();
    tree.insert(b"lib", Entry::Symlink { target: b"usr/lib" }, Layer::NONE).unwrap();
    tree.insert(b"lib/x", file("x"), Layer::NONE).unwrap();
    assert_eq!(names(&tree, "usr/lib"), ["x"]);
    assert_eq!(tree.metadata(b"lib").unwrap().kind, FileKind::Symlink);
}

#[test]
fn a_directory_that_became_a_link_is_not_remembered() {
    let mut tree = MemoryTree::new();
    tree.insert(b"a/b/one", file("1"), Layer::NONE).unwrap();
    tree.insert(b"a/b/two", file("2"), Layer::NONE).unwrap();
    tree.insert(b"c/b", Entry::Directory { mode: 0o755 }, Layer::NONE).unwrap();
    tree.insert(b"a/b/three", file("3"), Layer::NONE).unwrap();
    tree.insert(b"a", Entry::Symlink { target: b"c" }, Layer::NONE).unwrap();
    tree.insert(b"a/b/four", file("4"), Layer::NONE).unwrap();
    tree.insert(b"a/b/five", file("5"), Layer::NONE).unwrap();
    assert_eq!(names(&tree, "c/b"), ["five", "four"]);
    tree.insert(b"a", Entry::Directory { mode: 0o755 }, Layer::NONE).unwrap();
    tree.insert(b"a/b/six", file("6"), Layer::NONE).unwrap();
    assert_eq!((names(&tree, "a/b"), names(&tree, "c/b").len()), (vec!["six".to_owned()], 2));
}

#[test]
fn bad_input_is_refused() {
    let mut tree = MemoryTree::new();
    let refused = tree.insert(b"a/../../etc/passwd", file("x"), Layer::NONE);
    assert!(matches!(refused, Err(TreeError::UnsafePath { .. })));
    assert!(tree.insert(b"link", Entry::HardLink { target: b"missing" }, Layer::NONE).is_err());
    assert!(tree.metadata(b"link").is_err(), "a refused entry leaves nothing behind");
    let special = Entry::Special { kind: FileKind::Fifo, mode: 0o600 };
    tree.insert(b"pipe", special, Layer::NONE).unwrap();
    assert!(matches!(tree.read(b"pipe", 1), Err(TreeError::NotRegular { kind: FileKind::Fifo, .. })));
    let unwanted = Entry::Regular { mode: 0o644, size_bytes: 5, contents: None };
    tree.insert(b"big", unwanted, Layer::NONE).unwrap();
    assert!(matches!(tree.read(b"big", 1), Err(TreeError::NotKept { .. })));
}

#[test]
fn hard_links_share_an_identity() {
    let mut tree = MemoryTree::new();
    tree.insert(b"a", file("x"), Layer::NONE).unwrap();
    tree.insert(b"b", Entry::HardLink { target: b"a" }, Layer::NONE).unwrap();
    tree.insert(b"c", file("x"), Layer::NONE).unwrap();
    let identity = |path: &[u8]| tree.metadata(path).unwrap().identity;
    assert_eq!(identity(b"a"), identity(b"b"));
    assert_ne!(identity(b"a"), identity(b"c"));
}

#[test]
fn walk_visits_everything_once() {
    let mut tree = MemoryTree::new();
    for path in ["a/b/c", "a/b/d", "e", "f/g"] {
        tree.insert(path.as_bytes(), file(""), Layer::NONE).unwrap();
    }
    let mut seen = Vec::new();
    let summary = tree.walk(b"", &mut |path, _| {
        seen.push(String::from_utf8(path.to_vec()).unwrap());
        if path == b"f" { Walk::SkipDirectory } else { Walk::Continue }
    });
    seen.sort();
    assert_eq!(seen, ["a", "a/b", "a/b/c", "a/b/d", "e", "f"]);
    assert_eq!(summary.unwrap().entries, 6);
}

/// The target is 300 MB for 3 million files; a tenth of it keeps the test fast.
#[test]
fn many_files_stay_small() {
    const FILES: usize = 300_000;
    let mut tree = MemoryTree::new();
    for index in 0..FILES {
        let path = format!("usr/lib/module-{}/package-{}/file-{index:07}.js", index / 5000, index / 50);
        let entry = Entry::Regular { mode: 0o644, size_bytes: 1, contents: None };
        tree.insert(path.as_bytes(), entry, Layer::NONE).unwrap();
    }
    let per_file = tree.allocated_bytes() / FILES;
    assert!(per_file <= 90, "{per_file} bytes per file");
}

proptest! {
    #[test]
    fn resolution_never_leaves_the_root(
        entries in proptest::collection::vec(("[ab]{1,2}(/[ab]{1,2}){0,2}", proptest::option::of("(/|\\.\\./){0,3}[ab]{0,2}(/[ab]{1,2}|/\\.\\.){0,3}")), 0..25),
        paths in proptest::collection::vec("(/|\\.\\./){0,3}[ab]{0,2}(/[ab]{1,2}|/\\.\\.){0,4}", 1..10),
    ) {
        let mut tree = MemoryTree::new();
        for (path, target) in &entries {
            let entry = match target {
                Some(target) => Entry::Symlink { target: target.as_bytes() },
                None => file("x"),
            };
            tree.insert(path.as_bytes(), entry, Layer::NONE).unwrap();
        }
        for path in &paths {
            let own = tree.resolve(path.as_bytes()).map(|found| found.path);
            if let Ok(found) = &own {
                prop_assert!(path::components(found).all(|part| part != b".."));
                prop_assert!(tree.metadata(found).unwrap().kind != FileKind::Symlink);
            }
            prop_assert_eq!(own.ok(), resolve(&tree, path.as_bytes()).ok());
        }
    }
}

#[test]
fn the_root_stays_whatever_an_archive_says_of_it() {
    let mut tree = MemoryTree::new();
    let lower = tree.add_layer("lower").unwrap();
    let file = || Entry::Regular { mode: 0o644, size_bytes: 0, contents: None };
    tree.insert(b"var/lib/dpkg/status", file(), lower).unwrap();
    let upper = tree.add_layer("upper").unwrap();
    for path in [b"".as_slice(), b".", b"./"] {
        assert!(matches!(tree.insert(path, file(), upper), Err(TreeError::UnsafePath { .. })));
        assert!(tree.insert(path, Entry::Symlink { target: b"/elsewhere" }, upper).is_err());
    }
    assert!(tree.metadata(b"var/lib/dpkg/status").is_ok());
}

#[test]
fn a_layer_that_clears_again_and_again_keeps_its_own_files() {
    let mut tree = MemoryTree::new();
    let file = || Entry::Regular { mode: 0o644, size_bytes: 0, contents: None };
    for name in ["lower", "upper", "top"] {
        let layer = tree.add_layer(name).unwrap();
        for round in 0..3 {
            tree.clear_lower(b"a", layer);
            tree.remove_lower(b"a/b", layer);
            tree.insert(format!("a/b/{name}{round}").as_bytes(), file(), layer).unwrap();
        }
        let names: Vec<String> = tree
            .list(b"a/b")
            .unwrap()
            .into_iter()
            .map(|entry| String::from_utf8(entry.name).unwrap())
            .collect();
        assert_eq!(names, [format!("{name}0"), format!("{name}1"), format!("{name}2")]);
    }
}
