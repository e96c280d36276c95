//! File systems that can keep a process waiting for ever: those that a process or a server behind them answers for. Pure.
//! It must never ask such a file system: the kernel's list of mounts tells it.

use crate::procfs;

/// Mounts that are looked at; a process with more is refused.
const MOUNTS_MAX: usize = 4_096;
/// Kinds whose answers come from another process or machine.
const ANSWERED_BY_OTHERS: [&str; 9] = ["fuse", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "autofs"];

/// The kind of the file system that holds `path` (absolute) if it can keep whoever asks it waiting. The root itself does not
/// count: the process lives on it.
pub fn can_hang(mountinfo: &str, path: &[u8]) -> Option<String> {
    let mut holds: (usize, &str) = (0, "");
    for (number, line) in mountinfo.lines().enumerate() {
        if number >= MOUNTS_MAX {
            return Some("one of too many".to_owned());
        }
        // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (head.split(' ').nth(4), tail.split(' ').next()) else { continue };
        let point = procfs::unescaped(point);
        let point = point.trim_end_matches('/').as_bytes();
        let below = path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        // A later mount hides an earlier one at the same point.
        if below && point.len() >= holds.0 {
            holds = (point.len(), kind);
        }
    }
    let (length, kind) = holds;
    let main = kind.split('.').next().unwrap_or(kind);
    (length > 0 && (ANSWERED_BY_OTHERS.contains(&main) || kind.starts_with("fuse"))).then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let mounts = "1 0 0:1 / / rw - fuse.fuse-overlayfs x rw\n2 1 0:2 / /tmp rw shared:1 - tmpfs t rw\n\
            3 1 0:3 / /data rw - fuse.sshfs s rw\n4 3 0:4 / /data/in\\040side rw - ext4 e rw\n\
            5 1 0:5 / /n rw - nfs4 n rw\n6 2 0:6 / /tmp/x rw - fuse f rw\n7 6 0:7 / /tmp/x rw - tmpfs f rw\n";
        for (path, expected) in [
            ("/", None),
            ("/home", None),
            ("/tmp", None),
            ("/tmp/x", None),
            ("/data", Some("fuse.sshfs")),
            ("/data/a/b", Some("fuse.sshfs")),
            ("/database", None),
            ("/data/in side/a", None),
            ("/n/a", Some("nfs4")),
        ] {
            assert_eq!(can_hang(mounts, path.as_bytes()).as_deref(), expected, "{path}");
        }
        assert_eq!(can_hang("garbage\n", b"/tmp"), None);
        assert!(can_hang(&"x\n".repeat(5_000), b"/tmp").is_some());
    }
}
