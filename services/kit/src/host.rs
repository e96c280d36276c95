//! The identity of this host, the same for every service on it.
//! It must never change over a restart: a host whose identity changes would look like two.

use std::path::{Path, PathBuf};

/// Files that may hold the machine id, best first.
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Why the host has no identity.
#[derive(Debug, thiserror::Error)]
#[error(
    "this host has no machine id; run systemd-machine-id-setup, or write 32 hexadecimal digits to /etc/machine-id"
)]
pub struct NoMachineId;

/// The machine id (see machine-id(5)): 32 lowercase hexadecimal digits. `PLIMSOLL_MACHINE_ID_FILE` names another
/// file, for agents in containers that see the host's below a mount.
///
/// # Errors
/// [`NoMachineId`] if no file holds one.
pub fn machine_id() -> Result<String, NoMachineId> {
    let configured = std::env::var_os("PLIMSOLL_MACHINE_ID_FILE").map(PathBuf::from);
    configured
        .into_iter()
        .chain(MACHINE_ID_FILES.map(PathBuf::from))
        .find_map(|path| read_machine_id(&path))
        .ok_or(NoMachineId)
}

fn read_machine_id(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.trim();
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_ascii_lowercase())
}

/// The host's name; empty if it has none.
pub fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A new random identity: 32 lowercase hexadecimal digits, for boots, scans and requests.
pub fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            // Only EINTR can happen for so few bytes without flags.
            Err(_) => std::thread::yield_now(),
        }
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_machine_ids() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machine-id");
        for (text, expected) in [
            ("3D1219c7c4c5404aaa1f6d2a48adfda4\n", Some("3d1219c7c4c5404aaa1f6d2a48adfda4")),
            ("uninitialized\n", None),
            ("", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_machine_id(&path).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(random_id(), random_id());
        assert_eq!(random_id().len(), 32);
    }
}
