//! What /proc and the cgroup file systems say about processes.
//! It must never fail because a process went away meanwhile: that is an absent value.

use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::ebpf::event::split_arguments;

/// Inode of the initial pid namespace (include/linux/proc_ns.h).
const PROC_PID_INIT_INO: u64 = 0xEFFF_FFFC;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// Process ids seen here are the kernel's own.
pub fn in_initial_pid_namespace() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|found| found.ino() == PROC_PID_INIT_INO)
}

/// The effective capabilities allow loading of tracing programs.
pub fn may_load_bpf() -> bool {
    let effective = fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    effective.is_some_and(|bits| {
        bits & CAP_SYS_ADMIN != 0 || bits & (CAP_BPF | CAP_PERFMON) == CAP_BPF | CAP_PERFMON
    })
}

/// Inode of a process's mount namespace.
pub fn mount_namespace(pid: u32) -> Option<u32> {
    let link = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    link.to_str()?.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
}

/// Inode of the host's mount namespace: that of init or, where its rights are above ours, of kthreadd.
pub fn host_mount_namespace() -> Option<u32> {
    mount_namespace(1).or_else(|| mount_namespace(2))
}

/// All process ids.
pub fn processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The cgroup v1 controller by which containers are told apart, on hosts where version 2 does not do it.
pub fn cgroup_v1_controller() -> Option<&'static str> {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    if rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|found| found.f_type as u64 == CGROUP2_SUPER_MAGIC) {
        return None;
    }
    ["pids", "memory"].into_iter().find(|controller| Path::new("/sys/fs/cgroup").join(controller).is_dir())
}

/// Path of a process's cgroup in the hierarchy that tells containers apart, from that hierarchy's root.
pub fn cgroup_path(pid: u32, controller: Option<&str>) -> Option<String> {
    parse_cgroup(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?, controller)
}

/// Reads `/proc/<pid>/cgroup` (cgroups(7)).
fn parse_cgroup(text: &str, controller: Option<&str>) -> Option<String> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let wanted = match controller {
            None => id == "0" && controllers.is_empty(),
            Some(controller) => controllers.split(',').any(|name| name == controller),
        };
        wanted.then(|| path.to_owned())
    })
}

/// The kernel's id of a cgroup: the inode of its directory.
pub fn cgroup_id(path: &str, controller: Option<&str>) -> Option<u64> {
    let mut directory = PathBuf::from("/sys/fs/cgroup");
    if let Some(controller) = controller {
        directory.push(controller);
    }
    directory.push(path.trim_start_matches('/'));
    fs::metadata(directory).ok().map(|found| found.ino())
}

/// Name of a process.
pub fn comm(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// Path of a process's executable as its mount namespace names it, without a leading slash.
pub fn executable(pid: u32) -> Option<Vec<u8>> {
    let link = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = link.as_os_str().as_bytes();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    Some(path.strip_prefix(b"/").unwrap_or(path).to_vec())
}

/// Command line of a process.
pub fn command_line(pid: u32) -> Vec<String> {
    fs::read(format!("/proc/{pid}/cmdline")).map(|bytes| split_arguments(&bytes)).unwrap_or_default()
}

/// Parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 1)?.parse().ok()
}

/// Whether a process runs, and has not ended unnoticed by its parent.
pub fn runs(pid: u32) -> bool {
    stat_field(pid, 0).is_some_and(|state| !matches!(state.as_str(), "Z" | "X"))
}

/// Whether a process has ended, though nobody may have waited for it yet. Its memory goes first.
pub fn has_ended(pid: u32) -> bool {
    !runs(pid) || fs::read(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.is_empty())
}

/// When a process started, in nanoseconds since boot.
pub fn started_ns(pid: u32) -> Option<u64> {
    let ticks: u64 = stat_field(pid, 19)?.parse().ok()?;
    ticks.checked_mul(1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

/// A field of `/proc/<pid>/stat` behind the name, counted from 0 for the state.
fn stat_field(pid: u32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(index).map(str::to_owned)
}

/// Whether the kernel tells programs their platform (AT_PLATFORM of getauxval(3)): of that the linker makes `$PLATFORM`.
pub fn tells_platform() -> bool {
    const AT_PLATFORM: [u8; 8] = 15_u64.to_ne_bytes();
    let values = std::fs::read("/proc/self/auxv").unwrap_or_default();
    values.chunks_exact(16).any(|pair| pair[..8] == AT_PLATFORM && pair[8..] != [0; 8])
}

/// Effective user of a process.
pub fn user_id(pid: u32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|found| found.uid())
}

/// A process has a listening TCP socket (or a bound UNIX stream socket that listens does not count).
pub fn listens(pid: u32) -> bool {
    const LISTEN: &str = "0A";
    let mut listening = Vec::new();
    for table in ["tcp", "tcp6"] {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.get(3) == Some(&LISTEN)
                && let Some(inode) = fields.get(9)
            {
                listening.push(format!("socket:[{inode}]"));
            }
        }
    }
    if listening.is_empty() {
        return false;
    }
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    /// A server with more descriptors than this is judged by its first ones.
    const MAX_DESCRIPTORS: usize = 4096;
    descriptors.flatten().take(MAX_DESCRIPTORS).any(|entry| {
        fs::read_link(entry.path())
            .is_ok_and(|link| link.to_str().is_some_and(|link| listening.iter().any(|socket| socket == link)))
    })
}

/// One file-backed mapping of `/proc/<pid>/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Path without a leading slash.
    pub path: Vec<u8>,
    pub inode: u64,
    pub executable: bool,
}

/// File-backed mappings of a process.
pub fn mappings(pid: u32) -> Vec<Mapping> {
    fs::read(format!("/proc/{pid}/maps")).map(|text| parse_maps(&text)).unwrap_or_default()
}

/// Whether a process has a file mapped whose path has this directory in it, wherever its own root is; the directory must
/// have a name that is no other's. `None` if that must not be read, or the process is gone.
pub fn maps_below(pid: u32, directory: &Path) -> Option<bool> {
    let text = fs::read(format!("/proc/{pid}/maps")).ok()?;
    Some(memchr::memmem::find(&text, directory.as_os_str().as_bytes()).is_some())
}

/// The environment that a process was started with, as `NAME=value` ended by zero bytes. `None` if that must not be read, or
/// the process is gone.
pub fn environment(pid: u32) -> Option<Vec<u8>> {
    /// Most that is read, in bytes.
    const ENVIRONMENT_MAX_BYTES: u64 = 1 << 20;
    let mut environment = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(ENVIRONMENT_MAX_BYTES).read_to_end(&mut environment).ok()?;
    Some(environment)
}

fn parse_maps(text: &[u8]) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(start) = line.iter().position(|byte| *byte == b'/') else { continue };
        let head = String::from_utf8_lossy(&line[..start]);
        let fields: Vec<&str> = head.split_whitespace().collect();
        let [_, permissions, _, _, inode] = fields[..] else { continue };
        let path = &line[start + 1..];
        if path.ends_with(b" (deleted)") {
            continue;
        }
        let executable = permissions.contains('x');
        let inode = inode.parse().unwrap_or(0);
        match found.iter_mut().find(|mapping| mapping.path == path) {
            Some(mapping) => mapping.executable |= executable,
            None => found.push(Mapping { path: path.to_vec(), inode, executable }),
        }
    }
    found
}

/// Mount points of a process other than its root, without slashes at their ends.
pub fn mount_points(pid: u32) -> Vec<Vec<u8>> {
    /// Mounts that are looked at.
    const MOUNTS_MAX: usize = 4_096;
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let points = text.lines().take(MOUNTS_MAX).filter_map(|line| line.split(' ').nth(4));
    points
        .map(|point| unescaped(point).trim_matches('/').as_bytes().to_vec())
        .filter(|point| !point.is_empty())
        .collect()
}

/// A path as `mountinfo` has it, without its escapes; a comma is one of options (proc(5)).
pub fn unescaped(path: &str) -> String {
    const ESCAPES: [(&str, &str); 5] =
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\054", ","), ("\\134", "\\")];
    ESCAPES.iter().fold(path.to_owned(), |path, (escape, letter)| path.replace(escape, letter))
}

/// The directories of an overlay root, as the host names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    pub upper: PathBuf,
    /// As built into the image, the topmost first.
    pub lowers: Vec<PathBuf>,
}

/// The overlay that is a process's root; `None` if its root is something else.
pub fn overlay(pid: u32) -> Option<Overlay> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let mut overlay = parse_overlay(&text)?;
    // Docker puts a layer of its own (hosts, resolv.conf) above the image's; short links name layers.
    overlay.lowers = overlay
        .lowers
        .into_iter()
        .filter_map(|lower| fs::canonicalize(lower).ok())
        .filter(|lower| {
            let id = lower.parent().and_then(Path::file_name).map(|name| name.as_bytes().to_vec());
            !id.is_some_and(|id| id.ends_with(b"-init"))
        })
        .collect();
    Some(overlay)
}

/// Reads `/proc/<pid>/mountinfo` (proc(5)) and overlayfs's options, old and new.
fn parse_overlay(mountinfo: &str) -> Option<Overlay> {
    let line = mountinfo.lines().rev().find(|line| line.split(' ').nth(4) == Some("/"))?;
    let options = line.split_once(" - overlay ")?.1.rsplit(' ').next()?;
    let plain = |path: &str| PathBuf::from(unescaped(path));
    let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir=")).map(plain)?;
    // Relative ones are docker's, relative to the directory of all layers.
    let base = upper.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    let lowers = options
        .split(',')
        .filter_map(|option| option.strip_prefix("lowerdir=").or_else(|| option.strip_prefix("lowerdir+=")))
        .flat_map(|list| list.split(':'))
        .filter(|lower| !lower.is_empty())
        .map(|lower| base.join(plain(lower)))
        .collect();
    Some(Overlay { upper, lowers })
}

/// Milliseconds since the epoch at which the clock of the kernel's events stood at zero.
pub fn boot_time_ms() -> i64 {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    plimsoll_kit::clock::now_ms() - (boot.tv_sec * 1000 + boot.tv_nsec / 1_000_000)
}

/// Nanoseconds since boot, by the clock of the kernel's events.
pub fn since_boot_ns() -> u64 {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(boot.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(boot.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cgroups_of_both_versions() {
        let hybrid = "9:name=systemd:/\n8:pids:/docker/ab\n4:cpu,cpuacct:/x:y\n0::/\n";
        let cases = [
            (hybrid, Some("pids"), Some("/docker/ab")),
            (hybrid, Some("cpuacct"), Some("/x:y")),
            (hybrid, Some("memory"), None),
            (hybrid, None, Some("/")),
            ("0::/system.slice/docker-ab.scope\n", None, Some("/system.slice/docker-ab.scope")),
            ("garbage", None, None),
        ];
        for (text, controller, expected) in cases {
            assert_eq!(parse_cgroup(text, controller).as_deref(), expected, "{text:?} {controller:?}");
        }
    }

    #[test]
    fn reads_mappings() {
        let text = b"55d0-55d1 r--p 00000000 fe:00 12 /usr/bin/a b\n\
            55d1-55d2 r-xp 00001000 fe:00 12 /usr/bin/a b\n\
            7f00-7f01 r--s 00000000 fe:00 13 /var/data\n\
            7f02-7f03 rw-p 00000000 00:00 0 [heap]\n\
            7f04-7f05 r-xp 00000000 fe:00 14 /tmp/gone (deleted)\n\
            7f06-7f07 rw-p 00000000 00:00 0 \n";
        let expected = [(&b"usr/bin/a b"[..], 12, true), (b"var/data", 13, false)];
        let found = parse_maps(text);
        assert_eq!(
            found.iter().map(|m| (m.path.as_slice(), m.inode, m.executable)).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn finds_the_layers() {
        let line = |options: &str| {
            format!("1 2 0:50 / / rw - overlay overlay rw,{options}\n3 1 0:51 / /proc rw - proc proc rw\n")
        };
        let overlay = |upper: &str, lowers: &[&str]| {
            Some(Overlay { upper: upper.into(), lowers: lowers.iter().map(PathBuf::from).collect() })
        };
        let cases = [
            ("lowerdir=/l1:/l2,upperdir=/o/a/diff,workdir=/w", overlay("/o/a/diff", &["/l1", "/l2"])),
            ("lowerdir=l/A:l/B,upperdir=/o/a/diff,workdir=/w", overlay("/o/a/diff", &["/o/l/A", "/o/l/B"])),
            ("lowerdir+=/l1,lowerdir+=/l\\0402,upperdir=/u/x y", overlay("/u/x", &["/l1", "/l 2"])),
            ("lowerdir=/l1:/l2", None),
        ];
        for (options, expected) in cases {
            let options = options.split(' ').next().unwrap();
            assert_eq!(parse_overlay(&line(options)), expected, "{options}");
        }
        assert_eq!(parse_overlay("1 2 8:1 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn knows_itself() {
        let pid = std::process::id();
        assert!(mount_namespace(pid).is_some());
        assert!(started_ns(pid).is_some_and(|started| started <= since_boot_ns()));
        assert_eq!(parent(pid), Some(std::os::unix::process::parent_id()));
        assert_eq!(environment(pid), fs::read("/proc/self/environ").ok());
        let program = std::env::current_exe().unwrap();
        assert_eq!(maps_below(pid, program.parent().unwrap()), Some(true));
        assert_eq!(maps_below(pid, Path::new("/no/such/directory")), Some(false));
        assert_eq!((maps_below(u32::MAX, &program), environment(u32::MAX)), (None, None));
        assert!(!has_ended(pid) && has_ended(u32::MAX));
    }

    #[test]
    fn a_process_that_nobody_waited_for_has_ended() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(!has_ended(child.id()));
        drop(child.stdin.take());
        let id = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(id), options).unwrap();
        assert!(started_ns(child.id()).is_some() && has_ended(child.id()));
        child.wait().unwrap();
    }
}
