//! The roots that agents announced, as open descriptors.
//! Never holds more than its bound, and never opens a root by name.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use plimsoll_catalog::tree::{Surroundings, TreeError};
use plimsoll_catalog::{DirectoryOptions, DirectoryTree, OwnershipIndex};

use crate::asked::Asked;
use crate::beneath;
use crate::index_cache::{Indexed, LastIndex};
use crate::late::Late;
use crate::layers::{LowerLayers, MAX_LAYERS};
use crate::workers::Waiting;

/// One workload's root.
pub struct Root {
    directory: OwnedFd,
    upper: Option<OwnedFd>,
    layers: Mutex<Layers>,
    /// Only application packages count.
    pub component: bool,
    /// One of many that were started from one image.
    pub is_replica: bool,
    /// A request is past its deadline and its thread has not come back from the file system.
    pub overdue: AtomicBool,
    /// No scan of what the workload was started from lists what changed since, milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// What waits for this root.
    pub waiting: Mutex<Waiting>,
    /// The index of the last answer.
    pub last: LastIndex,
    /// Its first index, as long as there is room for it: with archives that may be gone since.
    pub first: OnceLock<Weak<Indexed>>,
    /// What lies near all paths that were asked for, while only that is looked at; `None`: the whole root is.
    near: Mutex<Option<Surroundings>>,
    /// The Java packages that it was asked about.
    pub asked: Asked,
    /// Files that what was not looked at may own: asked once more at the end, when more of it has been.
    pub doubted: Asked,
    /// When it was last said that its answers are late.
    pub late: Mutex<Late>,
    /// The connection that announced it.
    connection: u64,
}

#[derive(Default)]
struct Layers {
    received: Vec<OwnedFd>,
    complete: Option<Arc<LowerLayers>>,
}

/// What `Open` says.
pub struct Announcement {
    /// The root directory.
    pub directory: OwnedFd,
    /// The overlay's upper directory.
    pub upper: Option<OwnedFd>,
    /// Only application packages count.
    pub component: bool,
    /// One of many that were started from one image.
    pub is_replica: bool,
    /// When the workload started, milliseconds since the Unix epoch; 0 if unknown.
    pub started_at_ms: i64,
}

impl Root {
    /// A tree over the root. May hang with the file system.
    ///
    /// # Errors
    /// The root is no directory, or gone.
    pub fn tree(&self) -> Result<DirectoryTree, TreeError> {
        let io = |source| TreeError::Io { path: "/".into(), source };
        let copy = self.directory.try_clone().map_err(io)?;
        let tree = DirectoryTree::from_fd(copy, DirectoryOptions::default())?;
        if !self.component {
            return Ok(tree);
        }
        // Files of a component name its directory by where it stands on this machine.
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.directory));
        Ok(match std::fs::read_link(link) {
            Ok(path) if path.is_absolute() => tree.with_root_path(&path.into_os_string().into_vec()),
            _ => tree,
        })
    }

    /// What lies near all paths that were asked for, where only that is looked at.
    pub fn near(&self) -> MutexGuard<'_, Option<Surroundings>> {
        self.near.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The paths that were asked for and wait.
    pub fn waiting_paths(&self) -> Vec<Vec<u8>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Behind `?` stands what is no place.
        waiting.paths().filter(|path| !path.starts_with(b"?")).map(<[u8]>::to_vec).collect()
    }

    /// The root directory.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// The overlay's upper directory, where there is one.
    pub fn upper(&self) -> Option<&OwnedFd> {
        self.upper.as_ref()
    }

    /// The overlay's lower layers, once all of them were received.
    pub fn layers(&self) -> Option<Arc<LowerLayers>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).complete.clone()
    }

    /// Takes more lower layers; `false`: there are too many.
    pub fn add_layers(&self, directories: Vec<OwnedFd>, remaining: u32) -> bool {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = layers.received.len() + directories.len();
        if count + remaining as usize > MAX_LAYERS {
            return false;
        }
        layers.received.extend(directories);
        if remaining == 0 {
            let received = std::mem::take(&mut layers.received);
            layers.complete = Some(Arc::new(LowerLayers::new(received)));
        }
        true
    }

    /// Whether the container has left all databases of `index` as the image has them; `None`: cannot be told.
    pub fn leaves_alone(&self, index: &OwnershipIndex) -> Option<bool> {
        let upper = self.upper.as_ref()?;
        let untouched = |database: &[u8]| match beneath::look(upper, database) {
            Ok(None) => true,
            // A directory is there as soon as something below it was written: bytecode, for example.
            Ok(Some(stat)) if beneath::is_directory(&stat) => {
                let is_entry = |name: &[u8]| OwnershipIndex::is_database_entry(database, name);
                matches!(beneath::any_name(upper, database, is_entry), Ok(false))
            }
            _ => false,
        };
        Some(index.databases().all(untouched))
    }
}

/// Artifact key and workload id.
pub type Key = (String, String);

/// All roots, by artifact and workload.
pub struct Roots {
    roots: Mutex<HashMap<Key, Arc<Root>>>,
    max_roots: usize,
    /// Of hosts only what lies near the asked paths is looked at.
    is_near: bool,
}

/// The bound is reached.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} roots are open, the most that resolver.max_roots allows; raise it, or let agents close what is gone"
)]
pub struct TooManyRoots(usize);

impl Roots {
    /// Holds at most `max_roots`; `is_near` as `resolver.near` says.
    pub fn new(max_roots: usize, is_near: bool) -> Self {
        Self { roots: Mutex::default(), max_roots, is_near }
    }

    /// Takes a root; one of the same workload is replaced.
    ///
    /// # Errors
    /// [`TooManyRoots`].
    pub fn open(&self, key: Key, connection: u64, announced: Announcement) -> Result<(), TooManyRoots> {
        let mut roots = self.lock();
        if roots.len() >= self.max_roots && !roots.contains_key(&key) {
            return Err(TooManyRoots(roots.len()));
        }
        let is_host = !announced.component && !announced.is_replica;
        let root = Root {
            near: Mutex::new((self.is_near && is_host).then(Surroundings::default)),
            directory: announced.directory,
            upper: announced.upper,
            layers: Mutex::default(),
            component: announced.component,
            is_replica: announced.is_replica,
            started_at_ms: match announced.started_at_ms {
                0 => plimsoll_kit::clock::now_ms(),
                started_at_ms => started_at_ms,
            },
            overdue: AtomicBool::new(false),
            waiting: Mutex::default(),
            last: LastIndex::default(),
            first: OnceLock::new(),
            asked: Asked::default(),
            doubted: Asked::default(),
            late: Mutex::default(),
            connection,
        };
        let replaced = roots.insert(key, Arc::new(root));
        drop(roots);
        // Closing a descriptor may take time; not under the lock.
        drop(replaced);
        Ok(())
    }

    /// The root of a workload.
    pub fn get(&self, key: &Key) -> Option<Arc<Root>> {
        self.lock().get(key).cloned()
    }

    /// The host's root, in which a workload of a component runs.
    pub fn host_of(&self, workload_id: &str) -> Option<Arc<Root>> {
        let roots = self.lock();
        let is_it = |(key, root): &(&Key, &Arc<Root>)| key.1 == workload_id && !root.component;
        roots.iter().find(is_it).map(|(_, root)| root.clone())
    }

    /// The root of the component that a workload of the host runs, and its artifact key.
    pub fn component_of(&self, workload_id: &str) -> Option<(String, Arc<Root>)> {
        let roots = self.lock();
        let is_it = |(key, root): &(&Key, &Arc<Root>)| key.1 == workload_id && root.component;
        roots.iter().find(is_it).map(|(key, root)| (key.0.clone(), root.clone()))
    }

    /// Forgets a root.
    pub fn close(&self, key: &Key) {
        let closed = self.lock().remove(key);
        drop(closed);
    }

    /// Forgets all roots that a connection announced.
    pub fn close_all(&self, connection: u64) {
        let closed: Vec<Arc<Root>> =
            self.lock().extract_if(|_, root| root.connection == connection).map(|(_, root)| root).collect();
        drop(closed);
    }

    /// The roots that a connection announced, or all.
    pub fn of(&self, connection: Option<u64>) -> Vec<(Key, Arc<Root>)> {
        let roots = self.lock();
        let wanted = roots.iter().filter(|(_, root)| connection.is_none_or(|of| root.connection == of));
        wanted.map(|(key, root)| (key.clone(), root.clone())).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Root>>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
