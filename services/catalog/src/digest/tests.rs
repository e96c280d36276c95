use super::*;

#[track_caller]
fn check_name(path: &str, mode: u32, expect: bool) {
    assert_eq!(may_be_binary(path.as_bytes(), mode), expect, "{path} {mode:o}");
}

#[test]
fn binaries_by_name_and_mode() {
    check_name("usr/bin/ls", 0o755, true);
    check_name("usr/bin/ls", 0o644, false);
    check_name("usr/bin/x-1.2", 0o755, true);
    check_name("usr/lib/libz.so.1.2.13", 0o644, true);
    check_name("app/x.node", 0o644, true);
    check_name("app/run.py", 0o755, false);
    check_name("app/data.json", 0o777, false);
}

#[test]
fn binaries_by_their_first_bytes() {
    let mut head = [0; 64];
    head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    assert!(!is_binary(&head));
    head[16] = 3;
    assert!(is_binary(&head));
    head[5] = 2;
    assert!(!is_binary(&head));
    (head[16], head[17]) = (0, 2);
    assert!(is_binary(&head));
    assert!(!is_binary(&head[..17]));
    assert!(!is_binary(b"#!/bin/sh"));
    assert!(!is_binary(b""));
}

#[test]
fn extensions_are_sorted_for_the_search() {
    assert!(binary::OTHER_EXTENSIONS.is_sorted());
    assert!(!is_binary_name(b"a.a") && !is_binary_name(b"a.zip") && !is_binary_name(b"a.md5sums"));
    assert!(is_binary_name(b"a.exe") && is_binary_name(b"a."));
}

#[test]
fn parts_of_files() {
    let bytes = b"0123456789".to_vec();
    assert!(SliceAt::new(&bytes, 5, 6).is_none());
    assert!(SliceAt::new(&bytes, u64::MAX, 1).is_none());
    let part = SliceAt::new(&bytes, 2, 5).unwrap();
    assert_eq!(read_range(&part, 1, 100).unwrap(), b"3456");
    let inner = SliceAt::new(&part, 1, 3).unwrap();
    assert_eq!(read_range(&inner, 0, 2).unwrap(), b"34");
    assert_eq!(read_range(&inner, 9, 2).unwrap(), b"");
}
