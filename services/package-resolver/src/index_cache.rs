//! Ownership indexes of artifacts, shared by all containers of an image whose package databases are the image's.
//! Never gives an index whose databases have changed since it was built; forgetting one only costs time.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use plimsoll_catalog::tree::{Near, path as paths};
use plimsoll_catalog::{DirectoryTree, FileTree, OwnershipIndex, Warning};
use plimsoll_kit::metrics::{Counter, Gauge, Histogram, Metrics, SECONDS_BUCKETS};

use crate::copies::Files;
use crate::pace::Pace;
use crate::roots::Root;

/// Most indexes of one artifact: its own, and those of containers that changed their packages.
const MAX_INDEXES_PER_ARTIFACT: usize = 32;
/// Most artifacts with an index.
const MAX_ARTIFACTS: usize = 1_024;
/// Rough size of one package in an index, in bytes.
const PACKAGE_BYTES: usize = 512;
/// A database that changed this shortly before it was read may have changed again unseen: clock ticks are coarse.
const TICK_MS: i64 = 20;
/// An index that lacks the database of a path is built again for it, but not sooner than this, and not before
/// [`COVER_REST`] times as long has passed as building it took: the database may lie where it cannot be seen.
const COVER_INTERVAL: Duration = Duration::from_secs(2);
/// See [`COVER_INTERVAL`].
const COVER_REST: u32 = 10;
/// How often a request looks whether another one has built the index that it waits for.
const BUILD_WAIT: Duration = Duration::from_millis(500);

/// An index with what its building could not see.
pub struct Indexed {
    /// Who owns what.
    pub index: OwnershipIndex,
    /// Package databases and directories that could not be read.
    gaps: Vec<Warning>,
    /// A database changed while it was read: good for one answer, and then to be built again.
    changing: bool,
    begun: Instant,
    built: Instant,
    build_time: Duration,
    /// Of what lies near the asked paths only: the generation of these surroundings.
    near: Option<u32>,
    /// The files of its application packages, once it was asked for copies of them.
    files: OnceLock<Files>,
}

impl Indexed {
    /// The index for these paths of the root: of what lies near them, and near those that wait, where only that is looked at.
    fn build_for(root: &Root, tree: &DirectoryTree, asked: &[&[u8]]) -> Self {
        let waiting = root.waiting_paths();
        // A copy, so that requests that the last index answers need not wait while the next one is built.
        let surroundings = root.near().as_mut().map(|surroundings| {
            for path in asked.iter().copied().chain(waiting.iter().map(Vec::as_slice)) {
                surroundings.add(tree, path);
            }
            surroundings.clone()
        });
        match surroundings {
            Some(surroundings) => {
                let indexed = Self::build(tree, &Near::new(tree, &surroundings));
                Self { near: Some(surroundings.generation), ..indexed }
            }
            None => Self::build(tree, tree),
        }
    }

    /// Has what lies near these paths of the root, where only that is looked at.
    fn is_near_enough(&self, root: &Root, tree: &DirectoryTree, asked: &[&[u8]]) -> bool {
        let Some(generation) = self.near else { return true };
        let mut near = root.near();
        let Some(surroundings) = &mut *near else { return false };
        for path in asked {
            surroundings.add(tree, path);
        }
        surroundings.generation == generation
    }

    /// Why what lies far away, which nobody looked at, may own `path`; `None` if that is out of the question.
    pub fn doubt(&self, root: &Root, tree: &DirectoryTree, path: &[u8]) -> Option<String> {
        self.near?;
        root.near().as_ref()?.doubt(tree, &self.index, path)
    }

    fn build(tree: &DirectoryTree, seen: &dyn FileTree) -> Self {
        let begun_ms = plimsoll_kit::clock::now_ms();
        let begun = Instant::now();
        let (outcome, index) = plimsoll_catalog::catalog_with_ownership(seen);
        let changed_ms = |path: &[u8]| tree.metadata(path).ok().and_then(|found| found.changed_ms);
        let newest_ms = index.databases().filter_map(changed_ms).max().unwrap_or(0);
        let hides_owners = |warning: &Warning| {
            warning.code.starts_with("unreadable")
                || warning.code.starts_with("too-many")
                || warning.code == "file-too-long"
        };
        let gaps = outcome.warnings.into_iter().filter(hides_owners).collect();
        let changing = newest_ms + TICK_MS >= begun_ms;
        let built = Instant::now();
        Self {
            index,
            gaps,
            changing,
            begun,
            built,
            build_time: built - begun,
            near: None,
            files: OnceLock::new(),
        }
    }

    /// Good for these paths: their databases are in it, or it is too early to look for them again.
    fn serves(&self, asked: &[&[u8]]) -> bool {
        self.built.elapsed() < COVER_INTERVAL + self.build_time * COVER_REST
            || asked.iter().all(|path| self.index.covers(path))
    }

    /// Why it cannot be said that nobody owns `path`; `None` if it can.
    pub fn gap(&self, path: &[u8]) -> Option<String> {
        // A distribution's database speaks of all paths, a directory of Python packages of those below it.
        let speaks = |database: &[u8]| database.starts_with(b"var/lib/") || paths::is_below(path, database);
        let hides = |warning: &&Warning| {
            let subject = warning.subject.as_bytes();
            let is_database = |database: &[u8]| {
                database == subject
                    || paths::is_below(subject, database)
                    || paths::is_below(database, subject)
            };
            subject.is_empty()
                || path == subject
                || paths::is_below(path, subject)
                || self.index.databases().any(|database| speaks(database) && is_database(database))
        };
        if let Some(warning) = self.gaps.iter().find(hides) {
            return Some(warning.to_string());
        }
        (!self.index.covers(path))
            .then(|| "the package database that would name its owner is not there".into())
    }

    /// Why there may be archives of Java that are not in it; `None` if there are none.
    pub fn lacks_archives(&self) -> Option<String> {
        if self.near.is_some() {
            return Some("of a host, only what lies near the used files is looked at".into());
        }
        // What an archive holds that cannot be read is in no list of packages, either.
        let hides = |warning: &&Warning| !matches!(warning.code, "unreadable-archive" | "file-too-long");
        let gap = self.gaps.iter().find(hides);
        gap.map(ToString::to_string)
    }

    /// The files of its application packages. The first time that takes as long as the file system does.
    pub fn files(&self, tree: &DirectoryTree) -> &Files {
        self.files.get_or_init(|| Files::of(tree, &self.index))
    }

    fn size_bytes(&self) -> usize {
        self.files.get().map_or(0, Files::size_bytes)
            + self.index.allocated_bytes()
            + self.index.packages().len() * PACKAGE_BYTES
    }
}

#[derive(Default)]
struct Artifact {
    /// That of the image itself, whatever its containers did.
    base: Option<Arc<Indexed>>,
    /// Those of containers and directories, the newest last.
    others: Vec<Arc<Indexed>>,
    /// A request builds one since then.
    building: Option<Instant>,
    /// Of building for questions about Java packages; all building counts.
    pace: Pace,
    last_used: u64,
}

impl Artifact {
    fn size_bytes(&self) -> usize {
        self.base.iter().chain(&self.others).map(|indexed| indexed.size_bytes()).sum()
    }
}

#[derive(Default)]
struct State {
    artifacts: HashMap<String, Artifact>,
    uses: u64,
}

/// See the module's documentation.
pub struct IndexCache {
    state: Mutex<State>,
    built: Condvar,
    max_bytes: usize,
    /// After this long another request builds, too: the first may hang.
    patience: Duration,
    builds: Counter,
    build_seconds: Histogram,
    size_bytes: Gauge,
}

/// Archives of Java that an index must have.
#[derive(Clone, Copy)]
pub struct Archives {
    /// Those that were there at this time.
    pub until: Instant,
    /// Nobody will ask again.
    pub is_last: bool,
}

/// The index of a root, and the image's own where it is known.
pub struct Found {
    /// Who owns what in this root.
    pub current: Arc<Indexed>,
    /// Who owns what in the image.
    pub base: Option<Arc<Indexed>>,
}

impl Found {
    /// Whether it has each archive of the artifact that a class came from before `asked_at`. In a component's directory an
    /// archive that the scan listed may have been written anew while the index was built; what a container adds to its
    /// image is in no list.
    pub fn has_archives_until(&self, root: &Root, asked_at: Instant) -> bool {
        let has_image = self.base.is_some() && root.upper().is_some();
        has_image || self.current.near.is_some() || self.current.begun >= asked_at
    }
}

impl IndexCache {
    /// Keeps at most `max_bytes`, and in any case what was asked for last.
    pub fn new(max_bytes: usize, patience: Duration, metrics: &Metrics) -> Self {
        Self {
            state: Mutex::default(),
            built: Condvar::new(),
            max_bytes,
            patience,
            builds: metrics.counter("index_builds", "Ownership indexes built"),
            build_seconds: metrics.histogram(
                "index_build_seconds",
                "Time to build an index",
                &SECONDS_BUCKETS,
            ),
            size_bytes: metrics.gauge("index_cache_bytes", "Size of the ownership indexes kept"),
        }
    }

    /// What is known of the artifact without looking at any root: the image's own index.
    pub fn known(&self, artifact: &str) -> Option<Arc<Indexed>> {
        let mut state = self.lock();
        state.uses += 1;
        let uses = state.uses;
        let known = state.artifacts.get_mut(artifact)?;
        known.last_used = uses;
        known.base.clone()
    }

    /// The index that tells the owners of `asked` in this root, built if there is none; if the pace allows it, one with
    /// these archives. May take as long as the file system does.
    pub fn find(
        &self,
        artifact: &str,
        root: &Root,
        tree: &DirectoryTree,
        asked: &[&[u8]],
        archives: Option<Archives>,
    ) -> Found {
        loop {
            let serves = |found: &Indexed| found.serves(asked) && found.is_near_enough(root, tree, asked);
            let found = self.look(artifact, root, tree).filter(|found| serves(&found.current));
            let mut state = self.lock();
            let known = state.artifacts.entry(artifact.to_owned()).or_default();
            if let Some(found) = found
                && archives.is_none_or(|archives| {
                    found.has_archives_until(root, archives.until)
                        || !known.pace.allows(Instant::now(), archives.is_last)
                })
            {
                return found;
            }
            match known.building {
                Some(since) if since.elapsed() < self.patience => {
                    drop(self.built.wait_timeout(state, BUILD_WAIT).unwrap_or_else(PoisonError::into_inner));
                }
                _ => {
                    known.building = Some(Instant::now());
                    break;
                }
            }
        }
        let guard = Building { cache: self, artifact };
        let indexed = Arc::new(Indexed::build_for(root, tree, asked));
        self.builds.inc();
        self.build_seconds.observe(indexed.build_time.as_secs_f64());
        tracing::debug!(
            artifact,
            packages = indexed.index.packages().len(),
            paths = indexed.index.path_count(),
            elapsed_ms = indexed.build_time.as_millis() as u64,
            "built an ownership index"
        );
        let last = std::mem::replace(
            &mut *root.last.lock().unwrap_or_else(PoisonError::into_inner),
            Arc::downgrade(&indexed),
        );
        // Set once: later ones are no firsts.
        let _ = root.first.set(Arc::downgrade(&indexed));
        if let Some(known) = self.lock().artifacts.get_mut(artifact) {
            known.pace.spend(indexed.build_time, Instant::now());
        }
        let found = self.insert(artifact, root, indexed, &last);
        drop(guard);
        found
    }

    /// An index that is still right for this root.
    fn look(&self, artifact: &str, root: &Root, tree: &DirectoryTree) -> Option<Found> {
        let last = root.last.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let (base, others) = {
            let mut state = self.lock();
            state.uses += 1;
            let uses = state.uses;
            let known = state.artifacts.get_mut(artifact)?;
            known.last_used = uses;
            (known.base.clone(), known.others.clone())
        };
        let usable = |indexed: &&Arc<Indexed>| !indexed.changing;
        let own = last.iter().filter(usable).find(|indexed| indexed.index.is_current(tree));
        let untouched =
            || base.iter().filter(usable).find(|base| root.leaves_alone(&base.index) == Some(true));
        let shared = || {
            let known = others.iter().rev().chain(&base).filter(usable);
            root.is_replica
                .then(|| known.into_iter().find(|other| other.index.is_current_in_replica(tree)))?
        };
        let current = own.or_else(untouched).or_else(shared)?.clone();
        *root.last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&current);
        Some(Found { current, base })
    }

    /// Keeps an index, in the place of the one that the root used last, unless that was its first.
    fn insert(&self, artifact: &str, root: &Root, indexed: Arc<Indexed>, last: &Weak<Indexed>) -> Found {
        let leaves_alone = root.leaves_alone(&indexed.index);
        let mut state = self.lock();
        state.uses += 1;
        let uses = state.uses;
        let known = state.artifacts.entry(artifact.to_owned()).or_default();
        known.last_used = uses;
        let is =
            |other: &Arc<Indexed>, index: &Weak<Indexed>| std::ptr::eq(Arc::as_ptr(other), index.as_ptr());
        known
            .others
            .retain(|other| !is(other, last) || root.first.get().is_some_and(|first| is(other, first)));
        // Where nothing tells what a container changed, the first one stands for the image.
        let is_base = leaves_alone.unwrap_or(known.base.is_none()) && root.is_replica;
        if is_base {
            known.base = Some(indexed.clone());
        } else {
            known.others.push(indexed.clone());
            if known.others.len() >= MAX_INDEXES_PER_ARTIFACT {
                known.others.remove(0);
            }
        }
        let base = known.base.clone();
        evict(&mut state, self.max_bytes);
        self.size_bytes.set(state.artifacts.values().map(Artifact::size_bytes).sum::<usize>() as i64);
        Found { current: indexed, base }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the artifacts that were not asked for the longest, never the last one.
fn evict(state: &mut State, max_bytes: usize) {
    loop {
        let size: usize = state.artifacts.values().map(Artifact::size_bytes).sum();
        if state.artifacts.len() <= 1 || (size <= max_bytes && state.artifacts.len() <= MAX_ARTIFACTS) {
            return;
        }
        let idle = state.artifacts.iter().filter(|(_, known)| known.building.is_none());
        let oldest = idle.min_by_key(|(_, known)| known.last_used).map(|(artifact, _)| artifact.clone());
        let Some(oldest) = oldest.filter(|oldest| state.artifacts[oldest].last_used < state.uses) else {
            return;
        };
        state.artifacts.remove(&oldest);
    }
}

/// Says that the building is over, also when it panicked.
struct Building<'c> {
    cache: &'c IndexCache,
    artifact: &'c str,
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.cache.lock().artifacts.get_mut(self.artifact) {
            known.building = None;
        }
        self.cache.built.notify_all();
    }
}

/// The index that a root used last; it does not keep it in memory.
pub type LastIndex = Mutex<Weak<Indexed>>;

#[cfg(test)]
#[path = "index_cache_tests.rs"]
pub(crate) mod tests;
