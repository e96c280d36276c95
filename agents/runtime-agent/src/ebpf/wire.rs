//! The structs that eBPF programs and user space share: the mirror of `bpf/wire.h`.
//! It must never differ from that file; the object's BTF is compared with it by a test.

/// Plain data: any bytes of its size are a value.
///
/// # Safety
/// Implemented only for `repr(C)` structs of integers and byte arrays without padding.
pub unsafe trait Plain: Copy + Sized {
    /// Reads a value from the front of `bytes`; `None` if there are too few.
    fn read(bytes: &[u8]) -> Option<Self> {
        // SAFETY: the length is checked, unaligned reads are allowed here, and every bit pattern is a value.
        (bytes.len() >= size_of::<Self>()).then(|| unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// The bytes of the value.
    fn bytes(&self) -> &[u8] {
        // SAFETY: the struct has no padding, so all its bytes are initialised.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

/// Most of a path's bytes in an event.
pub const PATH_BYTES: usize = 4096;
/// Most bytes of what is noted of a workload.
pub const NOTE_BYTES: usize = 8188;

/// Kinds of events.
pub mod event_kind {
    /// A program was executed.
    pub const EXEC: u32 = 1;
    /// A file was mapped executable.
    pub const MAP: u32 = 2;
    /// A file was opened for reading.
    pub const OPEN: u32 = 3;
    /// The last process of a workload ended.
    pub const EMPTY: u32 = 4;
}

/// Flags of events.
pub mod event_flag {
    /// Below a mount point other than "/".
    pub const OTHER_MOUNT: u32 = 1;
    /// The mount is none of the process's mount namespace.
    pub const FOREIGN_MOUNT: u32 = 2;
    /// In a tree that is mounted nowhere.
    pub const DETACHED: u32 = 4;
    /// The path was deeper or longer than the bounds.
    pub const TRUNCATED: u32 = 8;
    /// Found by looking, not when it happened.
    pub const RESYNC: u32 = 16;
    /// Told of each process, not once per key.
    pub const OF_PROCESS: u32 = 32;
    /// The process has mapped Python as a library.
    pub const CARRIES_PYTHON: u32 = 256;
    /// Node.js.
    pub const CARRIES_NODE: u32 = 512;
    /// Ruby.
    pub const CARRIES_RUBY: u32 = 1024;
    /// PHP.
    pub const CARRIES_PHP: u32 = 2048;
}

/// How a program's reads count.
pub mod program {
    /// They never count.
    pub const IGNORED: u32 = 1;
    /// By its command line.
    pub const JUDGED: u32 = 2;
}

/// Classes of readers.
pub mod reader {
    /// An ordinary program.
    pub const PLAIN: u32 = 0;
    /// A Python interpreter.
    pub const PYTHON: u32 = 1;
    /// Reads do not count.
    pub const IGNORED: u32 = 2;
    /// A JavaScript runtime.
    pub const NODE: u32 = 3;
    /// A Ruby interpreter.
    pub const RUBY: u32 = 4;
    /// PHP.
    pub const PHP: u32 = 5;
    /// A JVM.
    pub const JAVA: u32 = 6;
    /// Reads do not count, nor do those of the programs that it executes.
    pub const INSTALLER: u32 = 8;
    /// Not judged yet; the low bits are the command line's hash.
    pub const PROVISIONAL: u32 = 0x8000_0000;
}

/// Flags of workloads.
pub mod workload_flag {
    /// Watched from its first exec.
    pub const FROM_FIRST_EXEC: u32 = 1;
    /// Not a workload: its processes are passed over.
    pub const IGNORED: u32 = 2;
    /// A process tree.
    pub const TREE: u32 = 4;
}

/// The process was found by its namespaces, not registered.
pub const TRACKED_CONTAINER: u32 = 1;

/// Indexes of the counters.
pub mod counter {
    /// Events lost that belong to no known workload.
    pub const LOST: u32 = 0;
    /// Processes or workloads that found no room in the maps.
    pub const UNTRACKED: u32 = 1;
}

/// `struct settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub epoch_ns: u64,
    pub host_mount_ns: u32,
    pub cgroup_controller: i32,
    pub watch_containers: u32,
    pub padding: u32,
}

/// `struct tracked`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    pub workload: u64,
    pub exec_id: u64,
    pub command_hash: u64,
    pub reader: u32,
    pub mount_ns: u32,
    pub flags: u32,
    /// `event_flag::CARRIES_…`.
    pub carries: u32,
}

/// `struct workload`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WorkloadEntry {
    pub first_exec_ns: u64,
    pub lost: u64,
    pub processes: i64,
    pub flags: u32,
    pub mount_ns: u32,
    pub first_pid: u32,
    pub padding: u32,
    pub cgroup_name: [u8; 128],
    pub cgroup_parent: [u8; 128],
}

impl Default for WorkloadEntry {
    fn default() -> Self {
        Self {
            first_exec_ns: 0,
            lost: 0,
            processes: 0,
            flags: 0,
            mount_ns: 0,
            first_pid: 0,
            padding: 0,
            cgroup_name: [0; 128],
            cgroup_parent: [0; 128],
        }
    }
}

/// `struct note`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Note {
    pub length: u32,
    pub text: [u8; NOTE_BYTES],
}

/// `struct seen_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SeenKey {
    pub workload: u64,
    pub inode: u64,
    pub parent_inode: u64,
    pub name: u64,
    pub mount: u64,
    pub change_time: u64,
    pub kind: u32,
    pub reader: u32,
}

/// The fixed part of `struct event`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct EventHeader {
    pub kind: u32,
    pub flags: u32,
    pub tgid: u32,
    pub parent_tgid: u32,
    pub reader: u32,
    pub device: u32,
    pub mount_ns: u32,
    pub path_bytes: u16,
    pub argument_bytes: u16,
    pub workload: u64,
    pub time_ns: u64,
    pub exec_id: u64,
    pub parent_exec_id: u64,
    pub command_hash: u64,
    pub inode: u64,
    pub parent_inode: u64,
    pub change_time: u64,
    pub comm: [u8; 16],
}

// SAFETY: repr(C), integers and byte arrays only, laid out without padding.
unsafe impl Plain for Settings {}
// SAFETY: as above.
unsafe impl Plain for Tracked {}
// SAFETY: as above.
unsafe impl Plain for WorkloadEntry {}
// SAFETY: as above.
unsafe impl Plain for Note {}
// SAFETY: as above.
unsafe impl Plain for SeenKey {}
// SAFETY: as above.
unsafe impl Plain for EventHeader {}

/// Text up to the first NUL.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
