//! The files below an opened directory descriptor: a container's root, a host's, or an application's directory.
//! Never opens a path outside of it, whatever links it holds, and never opens a pipe or a device.

use super::path::{self, MAX_PATH_BYTES};
use super::{
    Contents, DirectoryEntry, FileKind, FileTree, HardLinkIdentity, MAX_UNREADABLE, MAX_WALK_ENTRIES,
    Metadata, Resolved, TreeError, Walk, WalkSummary, resolve_by_components,
};
use crate::digest::{self, Digested, Digester, FileAt, FileState, MAX_DIGESTED_FILE_BYTES};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;
use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Buffer for one getdents call, in bytes.
const DIRECTORY_BUFFER_BYTES: usize = 64 * 1024;
/// Largest symbolic link target, in bytes.
const MAX_LINK_BYTES: usize = MAX_PATH_BYTES;
/// How often openat2 is tried again when a rename raced with it (EAGAIN).
const MAX_RACE_ATTEMPTS: usize = 16;
/// Step by which a file of unknown size is read, in bytes.
const READ_STEP_BYTES: usize = 64 * 1024;

/// File systems that hold no files of an artifact: procfs, sysfs, cgroup, cgroup2, debugfs, tracefs, bpf, securityfs.
const PSEUDO_FILE_SYSTEMS: [u64; 8] =
    [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x6462_6720, 0x7472_6163, 0xcafe_4a11, 0x7363_6673];

/// How a [`DirectoryTree`] treats what lies below its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirectoryOptions {
    /// Whether to go into other mounts. Off by default: volumes belong to no image.
    pub cross_mounts: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct DirectoryTree {
    root: OwnedFd,
    root_device: u64,
    options: DirectoryOptions,
    has_openat2: bool,
    root_path: Vec<u8>,
}

/// How one path is opened.
#[derive(Clone, Copy)]
struct OpenHow {
    flags: OFlags,
    /// Refuse every link on the way instead of following it.
    no_symlinks: bool,
}

impl DirectoryTree {
    /// Opens `directory` of this machine as a root.
    ///
    /// # Errors
    /// [`TreeError`] when there is no such directory or it may not be read.
    pub fn open(directory: &Path, options: DirectoryOptions) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let bytes = directory.as_os_str().as_bytes();
        let root = rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(|e| error(bytes, e))?;
        let mut tree = Self::from_fd(root, options)?;
        if let Ok(absolute) = directory.canonicalize() {
            tree.root_path = absolute.as_os_str().as_bytes().to_vec();
        }
        Ok(tree)
    }

    /// Takes an open directory as root; [`FileTree::root_path`] is `/` until set otherwise.
    ///
    /// # Errors
    /// [`TreeError::NotDirectory`] when the descriptor is of something else.
    pub fn from_fd(root: OwnedFd, options: DirectoryOptions) -> Result<Self, TreeError> {
        let stat = rustix::fs::fstat(&root).map_err(|e| error(b"/", e))?;
        if kind_of(&stat) != FileKind::Directory {
            return Err(TreeError::NotDirectory { path: "/".into() });
        }
        let probe = rustix::fs::openat2(
            &root,
            ".",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        // Linux before 5.6 lacks openat2, and old container sandboxes refuse it with EPERM.
        let has_openat2 = probe.is_ok();
        Ok(Self { root, root_device: stat.st_dev, options, has_openat2, root_path: b"/".to_vec() })
    }

    /// Sets the absolute path by which files of the artifact name this root.
    pub fn with_root_path(mut self, root_path: &[u8]) -> Self {
        self.root_path = root_path.to_vec();
        self
    }

    /// Does without openat2, as on an old kernel: each component is opened by itself without following links, and
    /// links are followed here. Slower, and a rename at the wrong moment gives an error instead of a retry.
    #[doc(hidden)]
    pub fn without_openat2(mut self) -> Self {
        self.has_openat2 = false;
        self
    }

    fn open_at(&self, path: &[u8], how: OpenHow) -> Result<OwnedFd, TreeError> {
        if path.len() > MAX_PATH_BYTES {
            return Err(TreeError::PathTooLong { path: path::display(path) });
        }
        if path.contains(&0) {
            return Err(TreeError::UnsafePath { path: path::display(path) });
        }
        if !self.has_openat2 {
            return self.open_by_components(path, how);
        }
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if !self.options.cross_mounts {
            resolve |= ResolveFlags::NO_XDEV;
        }
        if how.no_symlinks {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let name = if path.is_empty() { b".".as_slice() } else { path };
        let mut attempt = 0;
        loop {
            attempt += 1;
            match rustix::fs::openat2(&self.root, name, how.flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if attempt < MAX_RACE_ATTEMPTS => {}
                Err(Errno::INTR) => {}
                other => return other.map_err(|e| error(path, e)),
            }
        }
    }

    /// What openat2 does, done here.
    fn open_by_components(&self, path: &[u8], how: OpenHow) -> Result<OwnedFd, TreeError> {
        let mut pending: Vec<Vec<u8>> = path::components(path).rev().map(<[u8]>::to_vec).collect();
        let mut directories: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                directories.pop();
                continue;
            }
            let parent = directories.last().map_or(self.root.as_fd(), |fd| fd.as_fd());
            let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, part.as_slice(), look, Mode::empty())
                .map_err(|e| error(path, e))?;
            let stat = rustix::fs::fstat(&fd).map_err(|e| error(path, e))?;
            let kind = kind_of(&stat);
            // Directories only: overlayfs gives files of lower layers another device number.
            let is_other_mount = kind == FileKind::Directory && stat.st_dev != self.root_device;
            if is_other_mount && !self.options.cross_mounts {
                return Err(TreeError::OtherMount { path: path::display(path) });
            }
            let is_last = pending.is_empty();
            if kind == FileKind::Symlink {
                if is_last && how.flags.contains(OFlags::NOFOLLOW) && how.flags.contains(OFlags::PATH) {
                    return Ok(fd);
                }
                links += 1;
                if links > super::MAX_SYMLINKS || how.no_symlinks {
                    return Err(TreeError::TooManySymlinks { path: path::display(path) });
                }
                let target = read_link(fd.as_fd(), path)?;
                if target.first() == Some(&b'/') {
                    directories.clear();
                }
                pending.extend(path::components(&target).rev().map(<[u8]>::to_vec));
                continue;
            }
            if is_last {
                let flags = how.flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                return rustix::fs::openat(parent, part.as_slice(), flags, Mode::empty())
                    .map_err(|e| error(path, e));
            }
            if kind != FileKind::Directory {
                return Err(TreeError::NotDirectory { path: path::display(path) });
            }
            directories.push(fd);
        }
        let directory = directories.last().map_or(self.root.as_fd(), |fd| fd.as_fd());
        rustix::fs::openat(directory, ".", how.flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| error(path, e))
    }

    /// Opens a regular file, links followed; anything else is refused without being opened.
    fn open_regular(&self, path: &[u8]) -> Result<(OwnedFd, Stat), TreeError> {
        // Looked at before it is opened, since merely opening a device can act on it.
        let seen =
            rustix::fs::fstat(self.open_at(path, OpenHow { flags: OFlags::PATH, no_symlinks: false })?)
                .map_err(|e| error(path, e))?;
        let refuse = |kind| TreeError::NotRegular { path: path::display(path), kind };
        if kind_of(&seen) != FileKind::Regular {
            return Err(refuse(kind_of(&seen)));
        }
        // The file may have been swapped in between: opened so that nothing blocks, and looked at again.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open_at(path, OpenHow { flags, no_symlinks: false })?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| error(path, e))?;
        if kind_of(&stat) != FileKind::Regular {
            return Err(refuse(kind_of(&stat)));
        }
        Ok((fd, stat))
    }

    fn look(&self, path: &[u8]) -> Result<Metadata, TreeError> {
        let how = OpenHow { flags: OFlags::PATH | OFlags::NOFOLLOW, no_symlinks: false };
        let fd = self.open_at(path, how)?;
        metadata_of(&fd, path)
    }

    /// Calls `visit` with each name in an open directory; stops when it answers false.
    fn for_each_name(
        fd: &OwnedFd,
        path: &[u8],
        buffer: &mut [MaybeUninit<u8>],
        visit: &mut dyn FnMut(&[u8], FileKind) -> bool,
    ) -> Result<(), TreeError> {
        let mut names = RawDir::new(fd, buffer);
        while let Some(entry) = names.next() {
            let entry = entry.map_err(|e| error(path, e))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if !visit(name, kind_of_type(entry.file_type())) {
                break;
            }
        }
        Ok(())
    }

    fn is_pseudo_file_system(&self, fd: &OwnedFd) -> bool {
        // Without crossing mounts there is only the root's own file system.
        self.options.cross_mounts
            && rustix::fs::fstatfs(fd).is_ok_and(|fs| PSEUDO_FILE_SYSTEMS.contains(&(fs.f_type as u64)))
    }
}

fn error(path: &[u8], errno: Errno) -> TreeError {
    let path = path::display(path);
    match errno {
        Errno::NOENT => TreeError::NotFound { path },
        Errno::NOTDIR => TreeError::NotDirectory { path },
        Errno::LOOP => TreeError::TooManySymlinks { path },
        Errno::XDEV => TreeError::OtherMount { path },
        Errno::NAMETOOLONG => TreeError::PathTooLong { path },
        other => TreeError::Io { path, source: other.into() },
    }
}

fn kind_of(stat: &Stat) -> FileKind {
    kind_of_type(rustix::fs::FileType::from_raw_mode(stat.st_mode))
}

fn kind_of_type(file_type: rustix::fs::FileType) -> FileKind {
    use rustix::fs::FileType;
    match file_type {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharacterDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => FileKind::Unknown,
    }
}

fn read_link(fd: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>, TreeError> {
    let target =
        rustix::fs::readlinkat(fd, "", Vec::with_capacity(256)).map_err(|e| error(path, e))?.into_bytes();
    if target.len() > MAX_LINK_BYTES {
        return Err(TreeError::PathTooLong { path: path::display(path) });
    }
    Ok(target)
}

fn metadata_of(fd: &OwnedFd, path: &[u8]) -> Result<Metadata, TreeError> {
    let stat = rustix::fs::fstat(fd).map_err(|e| error(path, e))?;
    let kind = kind_of(&stat);
    let symlink_target = if kind == FileKind::Symlink { Some(read_link(fd.as_fd(), path)?) } else { None };
    Ok(Metadata {
        kind,
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        identity: HardLinkIdentity { device: stat.st_dev, inode: stat.st_ino },
        symlink_target,
        changed_ms: Some(stat.st_ctime.saturating_mul(1000) + stat.st_ctime_nsec as i64 / 1_000_000),
    })
}

impl FileTree for DirectoryTree {
    fn metadata(&self, path: &[u8]) -> Result<Metadata, TreeError> {
        self.look(path)
    }

    fn read(&self, path: &[u8], max_bytes: usize) -> Result<Contents<'_>, TreeError> {
        let (fd, stat) = self.open_regular(path)?;
        let expected = usize::try_from(stat.st_size).unwrap_or(0).saturating_add(1);
        let limit = max_bytes.saturating_add(1);
        let mut bytes: Vec<u8> = Vec::with_capacity(expected.min(limit));
        while bytes.len() < limit {
            let filled = bytes.len();
            let room =
                expected.saturating_sub(filled).max(READ_STEP_BYTES.min(limit - filled)).min(limit - filled);
            bytes.resize(filled + room, 0);
            let read = loop {
                match rustix::io::read(&fd, &mut bytes[filled..]) {
                    Err(Errno::INTR) => {}
                    other => break other.map_err(|e| error(path, e))?,
                }
            };
            bytes.truncate(filled + read);
            if read == 0 {
                break;
            }
        }
        let truncated = bytes.len() > max_bytes;
        bytes.truncate(max_bytes);
        Ok(Contents { bytes: Cow::Owned(bytes), truncated })
    }

    fn digest(&self, path: &[u8], digester: &Digester) -> Result<Digested<'_>, TreeError> {
        let (fd, stat) = self.open_regular(path)?;
        let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if size_bytes > MAX_DIGESTED_FILE_BYTES {
            return Err(TreeError::TooLong { path: path::display(path) });
        }
        let unreadable = |source| TreeError::Io { path: path::display(path), source };
        let made = digest::cached(digester.name, FileState::of(&stat), || {
            let file = FileAt::new(fd.as_fd(), size_bytes);
            Ok(digester.of(&file).map_err(unreadable)?.unwrap_or_default())
        })?;
        Ok((!made.is_empty()).then_some(Cow::Owned(made)))
    }

    fn is_binary(&self, path: &[u8]) -> bool {
        let Ok(found) = self.look(path) else { return false };
        if found.kind != FileKind::Regular || !digest::may_be_binary(path, found.mode) {
            return false;
        }
        let Ok((fd, stat)) = self.open_regular(path) else { return false };
        let file = FileAt::new(fd.as_fd(), u64::try_from(stat.st_size).unwrap_or(0));
        digest::read_range(&file, 0, digest::BINARY_HEAD_BYTES).is_ok_and(|head| digest::is_binary(&head))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<DirectoryEntry>, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = self.open_at(path, OpenHow { flags, no_symlinks: false })?;
        let mut entries = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); DIRECTORY_BUFFER_BYTES];
        Self::for_each_name(&fd, path, &mut buffer, &mut |name, kind| {
            entries.push(DirectoryEntry { name: name.to_vec(), kind });
            true
        })?;
        for entry in entries.iter_mut().filter(|entry| entry.kind == FileKind::Unknown) {
            entry.kind =
                self.look(&path::join(path, &entry.name)).map_or(FileKind::Unknown, |found| found.kind);
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn resolve(&self, path: &[u8]) -> Result<Resolved, TreeError> {
        if self.has_openat2 {
            // Most paths have no link in them: then one call tells.
            match self.open_at(path, OpenHow { flags: OFlags::PATH, no_symlinks: true }) {
                Ok(fd) => {
                    return Ok(Resolved { path: path::normalize(path), metadata: metadata_of(&fd, path)? });
                }
                Err(TreeError::TooManySymlinks { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        resolve_by_components(path, &mut |canonical| self.look(canonical))
    }

    fn walk(
        &self,
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], FileKind) -> Walk,
    ) -> Result<WalkSummary, TreeError> {
        let start = self.resolve(start)?.path;
        let mut summary = WalkSummary::default();
        let mut buffer = vec![MaybeUninit::uninit(); DIRECTORY_BUFFER_BYTES];
        let how = OpenHow { flags: OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, no_symlinks: true };
        let mut pending = vec![start.clone()];
        let mut path = Vec::with_capacity(MAX_PATH_BYTES);
        let mut stopped = false;
        while let Some(directory) = pending.pop() {
            let opened = self.open_at(&directory, how);
            let result = opened.and_then(|fd| {
                if self.is_pseudo_file_system(&fd) {
                    return Ok(());
                }
                Self::for_each_name(&fd, &directory, &mut buffer, &mut |name, kind| {
                    path.clear();
                    path.extend_from_slice(&directory);
                    if !directory.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name);
                    let kind = match kind {
                        FileKind::Unknown => self.look(&path).map_or(FileKind::Unknown, |found| found.kind),
                        known => known,
                    };
                    summary.entries += 1;
                    match visit(&path, kind) {
                        Walk::Continue if kind == FileKind::Directory => pending.push(path.clone()),
                        Walk::Stop => stopped = true,
                        Walk::Continue | Walk::SkipDirectory => {}
                    }
                    summary.incomplete = summary.entries >= MAX_WALK_ENTRIES;
                    !stopped && !summary.incomplete
                })
            });
            match result {
                Ok(()) => {}
                Err(unreadable) if directory == start => return Err(unreadable),
                // Another mount is not ours to read; a directory may vanish while we walk.
                Err(TreeError::OtherMount { .. } | TreeError::NotFound { .. }) => {}
                Err(unreadable) => {
                    summary.unreadable_count += 1;
                    if summary.unreadable.len() < MAX_UNREADABLE {
                        summary.unreadable.push(unreadable);
                    }
                }
            }
            if stopped || summary.incomplete {
                break;
            }
        }
        Ok(summary)
    }

    fn root_path(&self) -> &[u8] {
        &self.root_path
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
