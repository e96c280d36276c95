//! Reported paths as observations: spelled as the owner of the file spells them.
//! It must never drop a spelling under which a package could own the file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use plimsoll_schemas::words::{Rung, mount, usage_kind};

use crate::observe::{Observation, Origin, normalise};

/// Directories whose real place is remembered.
const DIRECTORIES_MAX: usize = 4_096;

/// The real places of directories.
#[derive(Debug, Default)]
pub struct Places {
    real: HashMap<Vec<u8>, Vec<u8>>,
}

impl Places {
    /// The observations that a reported object or module stands for. Its directory is replaced by the real one, since
    /// artifacts have their real roots. A last part that is a symbolic link stays, since packages own links such as
    /// libx.so.1; the file that it leads to is told too.
    pub fn observations(&mut self, kind: &'static str, path: &[u8], name: &str) -> Vec<Observation> {
        let mut paths = vec![self.place(path)];
        let link = Path::new(OsStr::from_bytes(path));
        let found = fs::symlink_metadata(link).ok();
        if found.as_ref().is_some_and(|metadata| metadata.file_type().is_symlink())
            && let Ok(target) = fs::canonicalize(link)
        {
            paths.push(normalise(target.as_os_str().as_bytes(), b""));
        }
        if kind == usage_kind::MODULE {
            paths.extend(source_of_cached(&paths[0]));
        }
        paths.dedup();
        let changed_ms = found.map_or(0, |found| found.ctime() * 1_000 + found.ctime_nsec() / 1_000_000);
        let observation = |path| Observation {
            kind,
            rung: Rung::Loaded,
            path,
            mount: mount::ROOT,
            inode: 0,
            name: name.to_owned(),
            origin: Origin { changed_ms, ..Origin::default() },
        };
        paths.into_iter().filter(|path| !path.is_empty()).map(observation).collect()
    }

    /// The path with the real place of its directory, without a leading slash.
    pub fn place(&mut self, path: &[u8]) -> Vec<u8> {
        let split = path.iter().rposition(|byte| *byte == b'/');
        let Some((directory, file)) = split.map(|at| (&path[..at], &path[at + 1..])) else {
            return normalise(path, b"");
        };
        if matches!(file, b"" | b"." | b"..") {
            return normalise(path, b"");
        }
        if let Some(real) = self.real.get(directory) {
            return normalise(&[real, b"/".as_slice(), file].concat(), b"");
        }
        // In another root than ours, or gone: as it is spelled.
        let Ok(real) = fs::canonicalize(Path::new(OsStr::from_bytes(directory))) else {
            return normalise(path, b"");
        };
        let real = real.as_os_str().as_bytes().to_vec();
        let placed = normalise(&[&real, b"/".as_slice(), file].concat(), b"");
        if self.real.len() >= DIRECTORIES_MAX {
            self.real.clear();
        }
        self.real.insert(directory.to_vec(), real);
        placed
    }
}

/// The source file of `__pycache__/name.tag.pyc` (PEP 3147); `None` for other paths.
fn source_of_cached(path: &[u8]) -> Option<Vec<u8>> {
    let at = path.iter().rposition(|byte| *byte == b'/')?;
    let parent = path[..at].strip_suffix(b"__pycache__")?;
    if !(parent.is_empty() || parent.ends_with(b"/")) {
        return None;
    }
    let stem = path[at + 1..].strip_suffix(b".pyc")?;
    let name =
        stem.split(|byte| *byte == b'.').next().filter(|name| !name.is_empty() && name.len() < stem.len())?;
    Some([parent, name, b".py"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_sources() {
        let cases: [(&str, Option<&str>); 7] = [
            ("app/__pycache__/x.cpython-311.pyc", Some("app/x.py")),
            ("__pycache__/x.cpython-311.opt-1.pyc", Some("x.py")),
            ("app/x.pyc", None),
            ("app/x.py", None),
            ("app/__pycache__/x.pyc", None),
            ("app/my__pycache__/x.cpython-311.pyc", None),
            ("app/__pycache__/.pyc", None),
        ];
        for (path, expected) in cases {
            let found = source_of_cached(path.as_bytes()).map(|path| String::from_utf8(path).unwrap());
            assert_eq!(found.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn places_are_real_and_links_stay() {
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        let at = |path: &str| base.join(path);
        fs::create_dir_all(at("usr/lib")).unwrap();
        fs::write(at("usr/lib/libx.so.1.2"), b"").unwrap();
        std::os::unix::fs::symlink("libx.so.1.2", at("usr/lib/libx.so.1")).unwrap();
        std::os::unix::fs::symlink("usr/lib", at("lib")).unwrap();
        let mut places = Places::default();
        let mut found = |path: &str| -> Vec<String> {
            let path = at(path);
            places
                .observations(usage_kind::LIBRARY, path.as_os_str().as_bytes(), "")
                .into_iter()
                .map(|observation| format!("/{}", String::from_utf8(observation.path).unwrap()))
                .map(|path| path.replace(base.to_str().unwrap(), ""))
                .collect()
        };
        assert_eq!(found("lib/libx.so.1"), ["/usr/lib/libx.so.1", "/usr/lib/libx.so.1.2"]);
        assert_eq!(found("lib/libx.so.1.2"), ["/usr/lib/libx.so.1.2"]);
        assert_eq!(found("usr/lib/../lib/libx.so.1.2"), ["/usr/lib/libx.so.1.2"]);
        assert_eq!(found("gone/./libx.so"), ["/gone/libx.so"]);
    }

    #[test]
    fn remembers_only_so_many() {
        let directory = tempfile::tempdir().unwrap();
        let mut places = Places::default();
        places.real.extend((0..DIRECTORIES_MAX).map(|number| (number.to_string().into_bytes(), Vec::new())));
        for file in ["a.so", "b.so"] {
            places.place(directory.path().join(file).as_os_str().as_bytes());
            assert_eq!(places.real.len(), 1);
        }
    }
}
