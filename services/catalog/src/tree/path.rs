//! Arithmetic on paths as bytes, relative to an artifact's root and without a leading slash.
//! Purely lexical: never touches a file system and never lets `..` climb above the root.

/// Longest path that any part of the catalog accepts, in bytes (Linux PATH_MAX).
pub const MAX_PATH_BYTES: usize = 4096;

/// The directory part of `path`; empty for a name directly in the root.
pub fn parent(path: &[u8]) -> &[u8] {
    split(path).0
}

/// The last component of `path`.
pub fn file_name(path: &[u8]) -> &[u8] {
    split(path).1
}

/// Directory part and last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// `directory/name`, without a slash if the directory is the root.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The components of `path`, without empty ones and `.`; `..` is passed on.
pub fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// Removes empty components, `.` and a leading slash, and folds `..` lexically; stops at the root.
pub fn normalize(path: &[u8]) -> Vec<u8> {
    let mut done = Vec::with_capacity(path.len());
    append_normalized(&mut done, path);
    done
}

/// `relative` seen from `directory`, which must be normal already. An absolute `relative` starts at the root.
pub fn normalize_from(directory: &[u8], relative: &[u8]) -> Vec<u8> {
    let mut done = Vec::with_capacity(directory.len() + relative.len() + 1);
    if relative.first() != Some(&b'/') {
        done.extend_from_slice(directory);
    }
    append_normalized(&mut done, relative);
    done
}

fn append_normalized(done: &mut Vec<u8>, path: &[u8]) {
    for part in components(path) {
        if part == b".." {
            let keep = parent(done).len();
            done.truncate(keep);
        } else {
            if !done.is_empty() {
                done.push(b'/');
            }
            done.extend_from_slice(part);
        }
    }
}

/// Every proper ancestor directory of `path`, nearest first, the root (empty) last.
pub fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let current = rest?;
        if current.is_empty() {
            rest = None;
            return None;
        }
        let up = parent(current);
        rest = Some(up);
        Some(up)
    })
}

/// Whether `path` lies below `directory` (not equal to it).
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() && !path.is_empty()
        || path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

/// `path` for people: lossy UTF-8 with control characters escaped.
pub fn display(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
            .collect()
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(directory: &str, relative: &str, expect: &str) {
        assert_eq!(
            String::from_utf8_lossy(&normalize_from(directory.as_bytes(), relative.as_bytes())),
            expect
        );
    }

    #[test]
    fn relative_paths() {
        check("a/b", "c", "a/b/c");
        check("a/b", "../c", "a/c");
        check("a/b", "../../../../c", "c");
        check("a/b", "/c/./d//e", "c/d/e");
        check("", "..", "");
        check("lib/site-packages", "../../bin/x", "bin/x");
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let all: Vec<&[u8]> = ancestors(b"a/b/c").collect();
        assert_eq!(all, [b"a/b".as_slice(), b"a", b""]);
        assert_eq!(ancestors(b"a").count(), 1);
        assert_eq!(ancestors(b"").count(), 0);
    }

    proptest! {
        #[test]
        fn normal_paths_never_climb(path in proptest::collection::vec(proptest::sample::select(b"./ab".to_vec()), 0..40)) {
            let normal = normalize(&path);
            prop_assert!(normal.first() != Some(&b'/'));
            prop_assert!(components(&normal).all(|part| part != b".."));
            prop_assert_eq!(normalize(&normal), normal);
        }
    }
}
