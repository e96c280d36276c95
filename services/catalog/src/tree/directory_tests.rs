use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

fn sample() -> TempDir {
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("usr/lib/deep")).unwrap();
    fs::write(directory.path().join("secret"), "outside").unwrap();
    fs::write(root.join("usr/lib/libz.so.1.2"), "elf").unwrap();
    fs::write(root.join("secret"), "inside").unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("libz.so.1.2", root.join("usr/lib/libz.so.1")).unwrap();
    symlink("/secret", root.join("absolute")).unwrap();
    symlink("../../../secret", root.join("climbing")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/", root.join("usr/root")).unwrap();
    directory
}

fn trees(directory: &TempDir) -> [DirectoryTree; 2] {
    let open = || DirectoryTree::open(&directory.path().join("root"), DirectoryOptions::default()).unwrap();
    [open(), open().without_openat2()]
}

#[test]
fn links_stay_inside_the_root() {
    let directory = sample();
    for tree in trees(&directory) {
        let text =
            |path: &[u8]| tree.read(path, 100).map(|c| String::from_utf8(c.bytes.into_owned()).unwrap());
        assert_eq!(text(b"absolute").unwrap(), "inside");
        assert_eq!(text(b"climbing").unwrap(), "inside");
        assert_eq!(text(b"../secret").unwrap(), "inside");
        assert_eq!(text(b"usr/root/usr/root/secret").unwrap(), "inside");
        assert_eq!(text(b"lib/libz.so.1").unwrap(), "elf");
        assert!(matches!(text(b"loop"), Err(TreeError::TooManySymlinks { .. })));
        assert!(matches!(text(b"usr/lib"), Err(TreeError::NotRegular { kind: FileKind::Directory, .. })));
        assert!(text(b"missing").unwrap_err().is_not_found());
        let canonical = |path: &[u8]| tree.resolve(path).unwrap().path;
        assert_eq!(canonical(b"lib/libz.so.1"), b"usr/lib/libz.so.1.2");
        assert_eq!(canonical(b"usr/root/usr/../lib/deep/.."), b"usr/lib");
        assert_eq!(canonical(b"usr/lib"), b"usr/lib");
        assert_eq!(canonical(b""), b"");
        let link = tree.metadata(b"lib/libz.so.1").unwrap();
        assert_eq!(link.symlink_target.as_deref(), Some(b"libz.so.1.2".as_slice()));
    }
}

#[test]
fn pipes_and_devices_are_refused_at_once() {
    let directory = sample();
    let pipe = directory.path().join("root/pipe");
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for tree in trees(&directory) {
        assert!(matches!(tree.read(b"pipe", 1), Err(TreeError::NotRegular { kind: FileKind::Fifo, .. })));
    }
    let devices = DirectoryTree::open(Path::new("/dev"), DirectoryOptions::default()).unwrap();
    let refused = devices.read(b"zero", 1);
    assert!(matches!(refused, Err(TreeError::NotRegular { kind: FileKind::CharacterDevice, .. })));
}

#[test]
fn reads_are_bounded() {
    let directory = sample();
    fs::write(directory.path().join("root/big"), vec![b'x'; 300_000]).unwrap();
    for tree in trees(&directory) {
        for (max_bytes, expect, truncated) in [
            (0, 0, true),
            (10, 10, true),
            (299_999, 299_999, true),
            (300_000, 300_000, false),
            (1 << 30, 300_000, false),
        ] {
            let contents = tree.read(b"big", max_bytes).unwrap();
            assert_eq!((contents.bytes.len(), contents.truncated), (expect, truncated), "{max_bytes}");
        }
    }
}

#[test]
fn walk_neither_follows_links_nor_leaves_the_mount() {
    let directory = sample();
    for tree in trees(&directory) {
        let mut seen = Vec::new();
        let summary = tree
            .walk(b"lib", &mut |path, kind| {
                seen.push((String::from_utf8(path.to_vec()).unwrap(), kind));
                Walk::Continue
            })
            .unwrap();
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        let expect = [
            ("usr/lib/deep".to_owned(), FileKind::Directory),
            ("usr/lib/libz.so.1".to_owned(), FileKind::Symlink),
            ("usr/lib/libz.so.1.2".to_owned(), FileKind::Regular),
        ];
        assert_eq!(seen, expect);
        assert_eq!((summary.entries, summary.unreadable_count), (3, 0));
    }
    let host = DirectoryTree::open(Path::new("/"), DirectoryOptions::default()).unwrap();
    assert!(matches!(host.metadata(b"proc/self"), Err(TreeError::OtherMount { .. })));
    assert!(matches!(host.without_openat2().metadata(b"proc/self"), Err(TreeError::OtherMount { .. })));
}

#[test]
fn both_ways_of_opening_agree_on_lists() {
    let directory = sample();
    let [fast, slow] = trees(&directory);
    for path in ["", "lib", "usr/root"] {
        assert_eq!(fast.list(path.as_bytes()).unwrap(), slow.list(path.as_bytes()).unwrap());
    }
}
