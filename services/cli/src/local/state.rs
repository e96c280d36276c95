//! The file of local state and its lock.
//! It must never be written in place: a new file replaces the old one whole.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use plimsoll_kit::broker::memory::MemoryBroker;
use rustix::fs::{FlockOperation, flock};

use super::schemas;

/// Largest state that is read, in bytes.
const STATE_MAX_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// The state's file, locked for this process.
pub struct StateFile {
    path: PathBuf,
    // Held for as long as the state may be written; the kernel releases it with the process.
    _lock: File,
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("local.state")
}

/// The saved broker, without taking the lock: the file is only ever replaced whole.
///
/// # Errors
/// If it cannot be read or is damaged.
pub fn peek(directory: &Path) -> anyhow::Result<Option<MemoryBroker>> {
    read(&path_in(directory))
}

fn read(path: &Path) -> anyhow::Result<Option<MemoryBroker>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        Ok(metadata) if metadata.len() > STATE_MAX_BYTES => {
            anyhow::bail!(
                "{} is larger than {STATE_MAX_BYTES} bytes; use a broker for this much",
                path.display()
            );
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let broker = MemoryBroker::from_snapshot(&bytes).with_context(|| path.display().to_string())?;
    Ok(Some(broker))
}

impl StateFile {
    /// Locks the state below `directory`, making it if needed. Waits while another command holds the lock.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn lock(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| {
            format!(
                "making {}; set state.directory (PLIMSOLL_STATE_DIRECTORY) to a directory that you may write",
                directory.display()
            )
        })?;
        let lock_path = directory.join("local.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .with_context(|| format!("opening {}", lock_path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("waiting for another plimsoll command to finish ({})", lock_path.display());
            flock(&lock, FlockOperation::LockExclusive)
                .with_context(|| format!("locking {}", lock_path.display()))?;
        }
        Ok(Self { path: path_in(directory), _lock: lock })
    }

    /// The saved broker, or an empty one.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn load(&self) -> anyhow::Result<MemoryBroker> {
        Ok(read(&self.path)?.unwrap_or_default())
    }

    /// Replaces the saved broker.
    ///
    /// # Errors
    /// If the new file cannot be written; the old one stays.
    pub fn save(&self, broker: &MemoryBroker) -> anyhow::Result<()> {
        if let Some(directory) = self.path.parent() {
            // First, so that no state is without them.
            schemas::keep(directory)?;
        }
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)
            .with_context(|| format!("writing {}", new.display()))?;
        file.write_all(&broker.snapshot()).and_then(|()| file.sync_all())?;
        std::fs::rename(&new, &self.path).with_context(|| format!("replacing {}", self.path.display()))
    }
}
