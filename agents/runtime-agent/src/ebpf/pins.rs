//! Directories of pinned maps and links on bpffs: `<root>/<instance>/<layout hash>.<id>`.
//! It must never leave a half-made directory under its final name: a new one is renamed into place.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::{EbpfError, PinConfig};

/// Magic number of bpffs (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// The pins of one instance.
#[derive(Debug)]
pub struct Pins {
    instance: PathBuf,
    hash: String,
    /// Held as long as the agent lives.
    _lock: fs::File,
}

/// A complete directory of pins.
#[derive(Clone, Debug)]
pub struct PinDirectory {
    pub path: PathBuf,
    /// Identity of the programs that are pinned here; outlives agents.
    pub id: String,
}

impl Pins {
    /// Takes the instance's place. `hash` names the layout and the settings: pins of another are not reused.
    pub fn open(config: &PinConfig, hash: &str) -> Result<Self, EbpfError> {
        let fail = |path: &Path, error: std::io::Error| EbpfError::Pin {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let mount = Path::new("/sys/fs/bpf");
        let on_bpffs =
            |path: &Path| rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == BPF_FS_MAGIC);
        if config.root.starts_with(mount) && !on_bpffs(mount) {
            rustix::mount::mount(
                "bpf",
                mount,
                "bpf",
                rustix::mount::MountFlags::empty(),
                None::<&std::ffi::CStr>,
            )
            .map_err(|error| fail(mount, error.into()))?;
        }
        let instance = config.root.join(&config.instance);
        fs::create_dir_all(&instance).map_err(|error| fail(&instance, error))?;
        // bpffs has no regular files to lock.
        let locks = Path::new("/run/plimsoll");
        fs::create_dir_all(locks).map_err(|error| fail(locks, error))?;
        let lock_path = locks.join(format!("{}.lock", config.instance));
        let lock = fs::File::create(&lock_path).map_err(|error| fail(&lock_path, error))?;
        lock.try_lock().map_err(|_| EbpfError::InUse(config.instance.clone()))?;
        Ok(Self { instance, hash: hash.to_owned(), _lock: lock })
    }

    fn directories(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.instance)
            .map(|entries| entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect())
            .unwrap_or_default()
    }

    /// The pins of this layout, if there are any.
    pub fn existing(&self) -> Option<PinDirectory> {
        self.directories().into_iter().find_map(|path| {
            let name = path.file_name().and_then(OsStr::to_str)?;
            let (hash, id) = name.split_once('-')?;
            (hash == self.hash && !id.ends_with("-partial"))
                .then(|| PinDirectory { id: id.to_owned(), path: path.clone() })
        })
    }

    /// Makes a directory of pins: `fill` pins into it, then it gets its name.
    pub fn create(
        &self,
        id: &str,
        fill: impl FnOnce(&Path) -> Result<(), EbpfError>,
    ) -> Result<PinDirectory, EbpfError> {
        let fail = |path: &Path, error: std::io::Error| EbpfError::Pin {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let path = self.instance.join(format!("{}-{id}", self.hash));
        let partial = self.instance.join(format!("{}-{id}-partial", self.hash));
        fs::create_dir_all(&partial).map_err(|error| fail(&partial, error))?;
        fill(&partial)?;
        fs::rename(&partial, &path).map_err(|error| fail(&partial, error))?;
        Ok(PinDirectory { path, id: id.to_owned() })
    }

    /// Removes all pins of the instance but `keep`; what they held attached goes with them.
    pub fn remove_others(&self, keep: Option<&Path>) {
        for directory in self.directories() {
            if Some(directory.as_path()) != keep
                && let Err(error) = fs::remove_dir_all(&directory)
            {
                tracing::warn!(path = %directory.display(), %error, "old pins could not be removed");
            }
        }
    }

    /// Removes everything of the instance.
    pub fn remove(&self) {
        self.remove_others(None);
        // Not empty only if the above failed, which was said.
        let _ = fs::remove_dir(&self.instance);
    }
}
