//! A read-only view of an artifact's files, whatever holds them: image layers in memory or an opened directory.
//! Never follows a link out of the root, never opens a device or a pipe, never reads more than it is told.

pub(crate) mod arena;
mod directory;
mod memory;
mod near;
mod node;
mod nodes;
pub mod path;
pub mod read_at;

use crate::digest::{Digested, Digester};
use std::borrow::Cow;
use std::collections::VecDeque;

pub use directory::{DirectoryOptions, DirectoryTree};
pub use memory::{Entry, Layer, MemoryTree};
pub use near::{Near, Surroundings};
pub use nodes::MAX_NODES;
pub use path::MAX_PATH_BYTES;
pub use read_at::ReadAt;

/// Most symbolic links followed while one path is resolved (as in Linux).
pub const MAX_SYMLINKS: usize = 40;

/// What kind of file stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
    /// The file system did not say, or it is a kind unknown to us.
    Unknown,
}

impl FileKind {
    /// The word used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "regular file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Unknown => "file of unknown kind",
        }
    }
}

/// Two paths with the same value are the same file. Only comparable within one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HardLinkIdentity {
    pub device: u64,
    pub inode: u64,
}

/// Facts about one file, its last component not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub kind: FileKind,
    pub size_bytes: u64,
    /// Permission bits, including set-uid, set-gid and sticky.
    pub mode: u32,
    pub identity: HardLinkIdentity,
    /// Target as written in the link; `None` for all other kinds.
    pub symlink_target: Option<Vec<u8>>,
    /// Time of the last change of the inode, milliseconds since the Unix epoch; `None` where the tree keeps none.
    pub changed_ms: Option<i64>,
}

/// The beginning of a file's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents<'a> {
    pub bytes: Cow<'a, [u8]>,
    /// Whether the file is longer than what was asked for.
    pub truncated: bool,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    pub name: Vec<u8>,
    pub kind: FileKind,
}

/// Where a path leads once every symbolic link in it has been followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The canonical path: no link, no `.`, no `..` in it.
    pub path: Vec<u8>,
    pub metadata: Metadata,
}

/// What a visitor of [`FileTree::walk`] wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    Continue,
    /// Do not descend into this directory.
    SkipDirectory,
    /// End the walk now.
    Stop,
}

/// What a walk could not see.
#[derive(Debug, Default)]
pub struct WalkSummary {
    /// Files and directories visited.
    pub entries: u64,
    /// Directories that could not be read, at most [`MAX_UNREADABLE`].
    pub unreadable: Vec<TreeError>,
    /// How many could not be read in all.
    pub unreadable_count: u64,
    /// Whether the walk ended at its bound of entries.
    pub incomplete: bool,
    /// Whether the tree shows a part of itself only, by intention: see [`Near`].
    pub partial: bool,
}

/// Most unreadable directories that a walk reports one by one.
pub const MAX_UNREADABLE: usize = 100;

/// Most files that one walk visits.
pub const MAX_WALK_ENTRIES: u64 = 50_000_000;

/// Why a path could not be read. The artifact is at fault unless the text says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    #[error("{path}: no such file in the artifact")]
    NotFound { path: String },
    #[error("{path}: is a {kind}, so it is not read; only regular files are", kind = .kind.as_str())]
    NotRegular { path: String, kind: FileKind },
    #[error("{path}: is not a directory")]
    NotDirectory { path: String },
    #[error(
        "{path}: more than {MAX_SYMLINKS} symbolic links, probably a loop; repair the link in the artifact"
    )]
    TooManySymlinks { path: String },
    #[error("{path}: longer than {MAX_PATH_BYTES} bytes, so it is left out")]
    PathTooLong { path: String },
    #[error("{path}: contains a name that is not allowed (`..`, NUL, or empty), so it is left out")]
    UnsafePath { path: String },
    #[error(
        "{path}: lies on another mount than the artifact's root; scan that mount by itself or allow crossing mounts"
    )]
    OtherMount { path: String },
    #[error(
        "{path}: its contents were not kept while the image was read; `wanted` must name it (a fault of the scanner)"
    )]
    NotKept { path: String },
    #[error(
        "{path}: the artifact has more than {MAX_NODES} files or too many names to hold in memory; scan a part of it"
    )]
    Full { path: String },
    #[error("{path}: longer than {} bytes, so it is not looked into", crate::digest::MAX_DIGESTED_FILE_BYTES)]
    TooLong { path: String },
    #[error("{path}: cannot be read: {source}; run as a user who may read it")]
    Io { path: String, source: std::io::Error },
}

impl TreeError {
    pub(crate) fn not_found(path: &[u8]) -> Self {
        Self::NotFound { path: path::display(path) }
    }

    /// The path that the error is about, for people.
    pub fn path(&self) -> &str {
        match self {
            Self::NotFound { path }
            | Self::NotRegular { path, .. }
            | Self::NotDirectory { path }
            | Self::TooManySymlinks { path }
            | Self::PathTooLong { path }
            | Self::UnsafePath { path }
            | Self::OtherMount { path }
            | Self::NotKept { path }
            | Self::Full { path }
            | Self::TooLong { path }
            | Self::Io { path, .. } => path,
        }
    }

    /// Whether there is simply no such file, which is mostly no reason for a warning.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NotDirectory { .. })
    }
}

/// The files of one artifact, read-only.
///
/// Paths are bytes relative to the root without a leading slash; the root itself is the empty path.
/// Links in the directory part of a path are followed inside the root by every method: an absolute target
/// starts at the root again, and `..` stops there.
pub trait FileTree: Send + Sync {
    /// Facts about `path`; a link as its last component is not followed.
    ///
    /// # Errors
    /// See [`TreeError`]; also for every other method.
    fn metadata(&self, path: &[u8]) -> Result<Metadata, TreeError>;

    /// The first `max_bytes` of a regular file, links followed. Never blocks on pipes or devices: they are refused.
    fn read(&self, path: &[u8], max_bytes: usize) -> Result<Contents<'_>, TreeError>;

    /// The names in a directory, sorted; links followed.
    fn list(&self, path: &[u8]) -> Result<Vec<DirectoryEntry>, TreeError>;

    /// What `digester` makes of a regular file, links followed; `None` when it found nothing of interest.
    fn digest(&self, path: &[u8], digester: &Digester) -> Result<Digested<'_>, TreeError>;

    /// Whether `path` (a link as its last component not followed) is an ELF program or shared library. Only asked
    /// where [`crate::digest::may_be_binary`] does not rule it out by name; a tree that holds digests may leave out
    /// files in which no ecosystem found anything.
    fn is_binary(&self, path: &[u8]) -> bool;

    /// Follows every link of `path`, the last component's too, and gives the canonical path.
    fn resolve(&self, path: &[u8]) -> Result<Resolved, TreeError> {
        resolve_by_components(path, &mut |canonical| self.metadata(canonical))
    }

    /// Visits everything below the directory `start`, parents before children, siblings in no fixed order.
    /// Links are reported, not followed.
    fn walk(
        &self,
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], FileKind) -> Walk,
    ) -> Result<WalkSummary, TreeError>;

    /// The image layer (diff ID) that last wrote `path`; `None` outside of images.
    fn layer_of(&self, path: &[u8]) -> Option<&str> {
        let _ = path;
        None
    }

    /// The absolute path by which the artifact's own files name its root: `/`, except for a scanned directory.
    fn root_path(&self) -> &[u8] {
        b"/"
    }
}

/// User-space path resolution over a `metadata` that is only asked about link-free directory parts.
pub(crate) fn resolve_by_components(
    path: &[u8],
    metadata: &mut dyn FnMut(&[u8]) -> Result<Metadata, TreeError>,
) -> Result<Resolved, TreeError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(TreeError::PathTooLong { path: path::display(path) });
    }
    let mut pending: VecDeque<Vec<u8>> = path::components(path).map(<[u8]>::to_vec).collect();
    let mut canonical: Vec<u8> = Vec::with_capacity(path.len());
    let mut links = 0;
    let mut last: Option<Metadata> = None;
    while let Some(part) = pending.pop_front() {
        if part == b".." {
            let keep = path::parent(&canonical).len();
            canonical.truncate(keep);
            last = None;
            continue;
        }
        if last.as_ref().is_some_and(|metadata| metadata.kind != FileKind::Directory) {
            return Err(TreeError::NotDirectory { path: path::display(&canonical) });
        }
        let candidate = path::join(&canonical, &part);
        if candidate.len() > MAX_PATH_BYTES {
            return Err(TreeError::PathTooLong { path: path::display(path) });
        }
        let found = metadata(&candidate)?;
        match found.symlink_target {
            Some(target) if found.kind == FileKind::Symlink => {
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(TreeError::TooManySymlinks { path: path::display(path) });
                }
                if target.first() == Some(&b'/') {
                    canonical.clear();
                }
                for part in path::components(&target).rev() {
                    pending.push_front(part.to_vec());
                }
                last = None;
            }
            _ => {
                canonical = candidate;
                last = Some(found);
            }
        }
    }
    let metadata = match last {
        Some(metadata) => metadata,
        None => metadata(&canonical)?,
    };
    Ok(Resolved { path: canonical, metadata })
}
