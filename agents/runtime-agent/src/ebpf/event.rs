//! Records of the ring buffer as typed events.
//! It must never trust their lengths: a record that does not add up is refused.

use crate::sweep::Carried;

use super::wire::{self, EventHeader, Plain as _, event_flag, event_kind};

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileAction {
    /// Executed as a program.
    Exec,
    /// Mapped executable.
    Map,
    /// Opened for reading.
    Open,
}

/// A file was executed, mapped or opened by a watched process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEvent {
    pub action: FileAction,
    /// Kernel id of the workload: a cgroup, or one given to a process tree.
    pub workload: u64,
    /// Process id in the initial namespace.
    pub pid: u32,
    pub parent_pid: u32,
    /// Since boot.
    pub time_ns: u64,
    /// The program image that acted; for [`FileAction::Exec`] the new one.
    pub exec_id: u64,
    /// For [`FileAction::Exec`]: the program image that called exec; 0 if it was not watched.
    pub parent_exec_id: u64,
    /// Class of reader, see `wire::reader`.
    pub reader: u32,
    /// Interpreters that the process has mapped as libraries.
    pub carries: Carried,
    /// Hash of the command line, where that decides what reads mean; else 0.
    pub command_hash: u64,
    pub mount_ns: u32,
    pub device: u32,
    pub inode: u64,
    pub parent_inode: u64,
    pub change_time_ns: u64,
    /// Name of the process.
    pub comm: String,
    /// Path from the root of the mount namespace, without a leading slash.
    pub path: Vec<u8>,
    /// The path lies on the mount namespace's root mount.
    pub on_root_mount: bool,
    /// The path is no path of the mount namespace (memfd, other namespaces, unmounted trees).
    pub outside: bool,
    /// The path was cut: it names nothing.
    pub truncated: bool,
    /// Found by looking at what already ran.
    pub resync: bool,
    /// For [`FileAction::Exec`]: the command line.
    pub arguments: Vec<String>,
}

/// An event of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// Something was done with a file.
    File(Box<FileEvent>),
    /// The last process of a workload ended.
    Empty {
        /// Kernel id of the workload.
        workload: u64,
        /// Since boot.
        time_ns: u64,
    },
}

/// Reads a record; `None` if it is none of ours, which counts as a loss.
pub fn parse(record: &[u8]) -> Option<KernelEvent> {
    let header = EventHeader::read(record)?;
    let action = match header.kind {
        event_kind::EXEC => FileAction::Exec,
        event_kind::MAP => FileAction::Map,
        event_kind::OPEN => FileAction::Open,
        event_kind::EMPTY => {
            return Some(KernelEvent::Empty { workload: header.workload, time_ns: header.time_ns });
        }
        _ => return None,
    };
    let rest = &record[size_of::<EventHeader>()..];
    let path_end = usize::from(header.path_bytes);
    let components = rest.get(..path_end)?;
    let arguments = rest.get(path_end..path_end + usize::from(header.argument_bytes))?;
    let path = join(components);
    let has = |flag: u32| header.flags & flag != 0;
    let outside = has(event_flag::FOREIGN_MOUNT | event_flag::DETACHED);
    Some(KernelEvent::File(Box::new(FileEvent {
        action,
        workload: header.workload,
        pid: header.tgid,
        parent_pid: header.parent_tgid,
        time_ns: header.time_ns,
        exec_id: header.exec_id,
        parent_exec_id: header.parent_exec_id,
        reader: header.reader,
        carries: Carried::of_bits(header.flags),
        command_hash: header.command_hash,
        mount_ns: header.mount_ns,
        device: header.device,
        inode: header.inode,
        parent_inode: header.parent_inode,
        change_time_ns: header.change_time,
        comm: wire::text(&header.comm),
        on_root_mount: !outside && !has(event_flag::OTHER_MOUNT),
        outside,
        truncated: has(event_flag::TRUNCATED) || path.len() > wire::PATH_BYTES,
        path,
        resync: has(event_flag::RESYNC),
        arguments: split_arguments(arguments),
    })))
}

/// Joins NUL-ended components that stand in the order from the file to the root.
fn join(components: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(components.len());
    for component in components.strip_suffix(b"\0").unwrap_or(components).rsplit(|byte| *byte == 0) {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    path
}

/// Splits a command line as it stands in memory.
pub fn split_arguments(bytes: &[u8]) -> Vec<String> {
    /// As the schema allows.
    const MAX_ARGUMENTS: usize = 64;
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .strip_suffix(b"\0")
        .unwrap_or(bytes)
        .split(|byte| *byte == 0)
        .take(MAX_ARGUMENTS)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u32, flags: u32, components: &[u8], arguments: &[u8]) -> Vec<u8> {
        let header = EventHeader {
            kind,
            flags,
            path_bytes: u16::try_from(components.len()).unwrap(),
            argument_bytes: u16::try_from(arguments.len()).unwrap(),
            ..EventHeader::default()
        };
        [header.bytes(), components, arguments].concat()
    }

    #[test]
    fn joins_components_from_the_root() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"libc.so.6\0lib\0usr\0", b"usr/lib/libc.so.6"),
            (b"init\0", b"init"),
            (b"", b""),
            (b"a b\xff\0c\0", b"c/a b\xff"),
            // Cut in the middle: no final NUL.
            (b"x\0y", b"y/x"),
        ];
        for (components, expected) in cases {
            assert_eq!(join(components), expected);
        }
    }

    #[test]
    fn flags_decide_what_a_path_means() {
        let cases = [
            (0, (true, false, false, false)),
            (event_flag::OTHER_MOUNT, (false, false, false, false)),
            (event_flag::FOREIGN_MOUNT, (false, true, false, false)),
            (event_flag::DETACHED, (false, true, false, false)),
            (event_flag::TRUNCATED, (true, false, true, false)),
            (event_flag::RESYNC, (true, false, false, true)),
        ];
        for (flags, expected) in cases {
            let Some(KernelEvent::File(event)) = parse(&record(event_kind::OPEN, flags, b"a\0", b"")) else {
                panic!("flags {flags} were refused");
            };
            assert_eq!(
                (event.on_root_mount, event.outside, event.truncated, event.resync),
                expected,
                "{flags}"
            );
        }
    }

    #[test]
    fn refuses_what_does_not_add_up() {
        let good = record(event_kind::EXEC, 0, b"sh\0bin\0", b"sh\0-c\0");
        assert!(matches!(parse(&good), Some(KernelEvent::File(event)) if event.arguments == ["sh", "-c"]));
        assert_eq!(parse(&good[..good.len() - 1]), None);
        assert_eq!(parse(&good[..40]), None);
        assert_eq!(parse(&record(99, 0, b"", b"")), None);
        assert_eq!(parse(b""), None);
    }

    proptest! {
        #[test]
        fn any_path_comes_back(parts in prop::collection::vec("[^/\0]{1,20}", 1..12)) {
            let components: Vec<u8> = parts.iter().rev().flat_map(|part| [part.as_bytes(), b"\0"].concat()).collect();
            prop_assert_eq!(join(&components), parts.join("/").into_bytes());
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }
    }
}
