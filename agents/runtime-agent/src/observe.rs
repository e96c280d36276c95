//! Events of files as observations of use: which kind, which rung, in which artifact. Pure.
//! It must never credit a file outside the workload's mounts, nor the reads of sweeps, to anything.

use plimsoll_schemas::words::{Rung, mount, usage_kind};

use crate::ebpf::event::{FileAction, FileEvent};
use crate::ebpf::wire::reader;
use crate::sweep::Reader;

/// A use of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// One of `words::usage_kind`.
    pub kind: &'static str,
    /// Strength of the evidence.
    pub rung: Rung,
    /// Path in the mount namespace, without a leading slash.
    pub path: Vec<u8>,
    /// One of `words::mount`.
    pub mount: &'static str,
    /// Inode as the workload sees it; 0 if unknown.
    pub inode: u64,
    /// Name of the module or class; empty for files.
    pub name: String,
}

/// Endings of files that a Python interpreter loads as modules.
const PYTHON_MODULES: [&[u8]; 3] = [b".py", b".pyc", b".so"];

/// Who reads: the judgement of its command line where that is known, else the kernel's class.
pub fn reader_of(event: &FileEvent, judged: Option<Reader>) -> Reader {
    judged.unwrap_or(match event.reader {
        reader::PYTHON => Reader::Python,
        reader::IGNORED => Reader::Ignored,
        _ => Reader::Plain,
    })
}

/// What an event proves; `None` if nothing.
pub fn observe(event: &FileEvent, reader: Reader) -> Option<Observation> {
    if event.outside || event.truncated || event.path.is_empty() {
        return None;
    }
    let (kind, rung) = match event.action {
        FileAction::Exec => (usage_kind::EXECUTABLE, Rung::Loaded),
        FileAction::Map => (usage_kind::LIBRARY, Rung::Loaded),
        FileAction::Open => match reader {
            Reader::Ignored => return None,
            Reader::Python if PYTHON_MODULES.iter().any(|ending| event.path.ends_with(ending)) => {
                (usage_kind::MODULE, Rung::Loaded)
            }
            Reader::Python | Reader::Plain => (usage_kind::FILE, Rung::Accessed),
        },
    };
    Some(Observation {
        kind,
        rung,
        path: event.path.clone(),
        mount: if event.on_root_mount { mount::ROOT } else { mount::OTHER },
        inode: event.inode,
        name: String::new(),
    })
}

/// Whether `path` lies below `root` (both without leading slashes), and where.
pub fn below<'a>(path: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    if root.is_empty() {
        return Some(path);
    }
    path.strip_prefix(root)?.strip_prefix(b"/")
}

/// Removes `.`, `..`, doubled and leading slashes from a path that is known to be absolute or relative to `base`.
pub fn normalise(path: &[u8], base: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let prefix = if path.starts_with(b"/") { &b""[..] } else { base };
    for part in prefix.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
#[allow(clippy::type_complexity)] // tables of cases
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(action: FileAction, path: &str) -> FileEvent {
        FileEvent {
            action,
            workload: 1,
            pid: 1,
            parent_pid: 0,
            time_ns: 0,
            exec_id: 0,
            parent_exec_id: 0,
            reader: 0,
            command_hash: 0,
            mount_ns: 0,
            device: 0,
            inode: 7,
            parent_inode: 0,
            change_time_ns: 0,
            comm: String::new(),
            path: path.into(),
            on_root_mount: true,
            outside: false,
            truncated: false,
            resync: false,
            arguments: Vec::new(),
        }
    }

    #[test]
    fn kinds_and_rungs() {
        use FileAction::{Exec, Map, Open};
        let cases = [
            (Exec, "usr/bin/ls", Reader::Plain, Some(("executable", Rung::Loaded))),
            (Exec, "usr/bin/dpkg", Reader::Ignored, Some(("executable", Rung::Loaded))),
            (Map, "usr/lib/libc.so.6", Reader::Ignored, Some(("library", Rung::Loaded))),
            (Open, "usr/lib/libc.so.6", Reader::Plain, Some(("file", Rung::Accessed))),
            (Open, "app/x.py", Reader::Plain, Some(("file", Rung::Accessed))),
            (Open, "app/x.py", Reader::Python, Some(("module", Rung::Loaded))),
            (Open, "app/__pycache__/x.cpython-311.pyc", Reader::Python, Some(("module", Rung::Loaded))),
            (Open, "app/_x.cpython-311-x86_64-linux-gnu.so", Reader::Python, Some(("module", Rung::Loaded))),
            (Open, "app/x-1.0.dist-info/METADATA", Reader::Python, Some(("file", Rung::Accessed))),
            (Open, "app/x.py", Reader::Ignored, None),
            (Open, "", Reader::Plain, None),
        ];
        for (action, path, reader, expected) in cases {
            let found = observe(&event(action, path), reader).map(|found| (found.kind, found.rung));
            assert_eq!(found, expected, "{action:?} {path} {reader:?}");
        }
    }

    #[test]
    fn places_decide() {
        let base = event(FileAction::Map, "data/libx.so");
        let other = FileEvent { on_root_mount: false, ..base.clone() };
        assert_eq!(observe(&base, Reader::Plain).unwrap().mount, "root");
        assert_eq!(observe(&other, Reader::Plain).unwrap().mount, "other");
        assert_eq!(observe(&FileEvent { outside: true, ..base.clone() }, Reader::Plain), None);
        assert_eq!(observe(&FileEvent { truncated: true, ..base }, Reader::Plain), None);
    }

    #[test]
    fn splits_at_the_root() {
        let cases: [(&[u8], &[u8], Option<&[u8]>); 5] = [
            (b"srv/app/run.py", b"srv/app", Some(b"run.py")),
            (b"srv/apple/run.py", b"srv/app", None),
            (b"srv/app", b"srv/app", None),
            (b"usr/bin/ls", b"", Some(b"usr/bin/ls")),
            (b"usr/bin/ls", b"srv/app", None),
        ];
        for (path, root, expected) in cases {
            assert_eq!(below(path, root), expected);
        }
    }

    #[test]
    fn normalises() {
        let cases: [(&[u8], &[u8], &[u8]); 6] = [
            (b"/usr//lib/./x.so", b"", b"usr/lib/x.so"),
            (b"./x.so", b"/srv/app", b"srv/app/x.so"),
            (b"../x.so", b"/srv/app", b"srv/x.so"),
            (b"/../../etc/x", b"/srv", b"etc/x"),
            (b"/usr/bin/../lib64/x", b"/", b"usr/lib64/x"),
            (b"", b"/srv", b"srv"),
        ];
        for (path, base, expected) in cases {
            assert_eq!(normalise(path, base), expected);
        }
    }

    proptest! {
        #[test]
        fn normal_paths_stay(parts in prop::collection::vec("[a-z][a-z0-9.]{0,8}", 1..8)) {
            let path = parts.join("/");
            let once = normalise(format!("/{path}").as_bytes(), b"");
            prop_assert_eq!(&once, path.as_bytes());
            prop_assert_eq!(normalise(&once, b""), once);
        }

        #[test]
        fn never_leaves_the_root(path in "[./a]{0,30}", base in "[./b]{0,10}") {
            let normal = normalise(path.as_bytes(), base.as_bytes());
            prop_assert!(!normal.split(|b| *b == b'/').any(|part| part == b".." || part == b"."));
        }
    }
}
