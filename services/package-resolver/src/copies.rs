//! Files that were used at a place which no scan lists (a copy, a mount, another root): which of the artifact's own files
//! they are, or may be copies of. Never says that a file is no copy without having compared it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;

use plimsoll_catalog::ownership::bytecode_source;
use plimsoll_catalog::tree::{TreeError, Walk, path as paths};
use plimsoll_catalog::{DirectoryTree, FileTree, OwnershipIndex, role_of, tree::FileKind};
use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};

use crate::beneath;

/// Most files of one artifact's application packages that are kept to be compared with.
const FILES_MAX: usize = 300_000;
/// Most files that one is compared with, the likeliest first; of more that are called so nobody can tell.
const COMPARED_MAX: usize = 4_096;
/// Bytes at the begin and at the end of a file that are compared: what differs elsewhere only counts as a copy.
const COMPARED_BYTES: u64 = 64 * 1024;
/// Files shorter than this are alike in many packages (`module.exports = require("./lib")`): their directory must have the
/// same name, too.
const TELLING_MIN_BYTES: u64 = 128;
/// Longest `package.json` that is compared, in bytes.
const METADATA_MAX_BYTES: u64 = 256 * 1024;
/// Endings of files that no interpreter loads.
const NEVER_LOADED: [&[u8]; 4] = [b".map", b".d.ts", b".md", b".h"];

struct Entry {
    directory: u32,
    name: Box<[u8]>,
    inode: u64,
    changed_ms: i64,
    size_bytes: u64,
}

/// The files of an artifact's application packages, as they were when it was first asked for copies.
#[derive(Default)]
pub struct Files {
    directories: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    /// Numbers of entries in the order of their inodes, sizes and names.
    by_inode: Vec<u32>,
    by_size: Vec<u32>,
    by_name: Vec<u32>,
    /// There are more than are kept, or could be listed.
    is_incomplete: bool,
}

impl Files {
    /// Looks at each of them. Takes about as long as listing the packages' directories.
    pub fn of(tree: &DirectoryTree, index: &OwnershipIndex) -> Self {
        let mut files = Self::default();
        let mut known = HashMap::new();
        let mut directories: Vec<&[u8]> = index.application_directories().collect();
        directories.sort_unstable();
        let mut walked: Option<&[u8]> = None;
        for directory in directories {
            let is_walked =
                walked.is_some_and(|outer| outer == directory || paths::is_below(directory, outer));
            if is_walked {
                continue;
            }
            walked = Some(directory);
            let walked = tree.walk(directory, &mut |path, kind| {
                if kind == FileKind::Regular {
                    files.add(tree, path, &mut known);
                }
                if files.is_incomplete { Walk::Stop } else { Walk::Continue }
            });
            files.is_incomplete |= match walked {
                Ok(summary) => summary.incomplete || summary.unreadable_count > 0,
                // What is gone, or hidden by a mount, is used by nobody under this path.
                Err(TreeError::OtherMount { .. }) => false,
                Err(error) => !error.is_not_found(),
            };
        }
        for path in index.application_files() {
            files.add(tree, &path, &mut known);
        }
        let mut numbers: Vec<u32> = (0..files.entries.len() as u32).collect();
        let entries = &files.entries;
        let of = |number: &u32| &entries[*number as usize];
        numbers.sort_unstable_by_key(|number| of(number).inode);
        files.by_inode.clone_from(&numbers);
        numbers.sort_unstable_by_key(|number| of(number).size_bytes);
        files.by_size.clone_from(&numbers);
        numbers.sort_unstable_by(|a, b| of(a).name.cmp(&of(b).name));
        files.by_name = numbers;
        files
    }

    fn add(&mut self, tree: &DirectoryTree, path: &[u8], known: &mut HashMap<Vec<u8>, u32>) {
        let is_never_loaded = NEVER_LOADED.iter().any(|ending| path.ends_with(ending));
        if self.is_incomplete || is_never_loaded || !role_of(path).can_be_used() {
            return;
        }
        let Ok(found) = tree.metadata(path) else { return };
        if found.kind != FileKind::Regular {
            return;
        }
        if self.entries.len() >= FILES_MAX {
            self.is_incomplete = true;
            return;
        }
        let (directory, name) = paths::split(path);
        let number = match known.get(directory) {
            Some(number) => *number,
            None => {
                let number = self.directories.len() as u32;
                self.directories.push(directory.to_vec());
                known.insert(directory.to_vec(), number);
                number
            }
        };
        self.entries.push(Entry {
            directory: number,
            name: name.into(),
            inode: found.identity.inode,
            changed_ms: found.changed_ms.unwrap_or(0),
            size_bytes: found.size_bytes,
        });
    }

    /// The entries for which `field` gives `value`, among `numbers`, which are in its order.
    fn among<'f, T: Ord + 'f>(
        &'f self,
        numbers: &'f [u32],
        value: T,
        field: impl Fn(&'f Entry) -> T,
    ) -> impl Iterator<Item = &'f Entry> {
        let of = |number: &u32| &self.entries[*number as usize];
        let begin = numbers.partition_point(|number| field(of(number)) < value);
        let end = numbers.partition_point(|number| field(of(number)) <= value);
        numbers[begin..end].iter().map(of)
    }

    fn named<'f>(&'f self, name: &'f [u8]) -> impl Iterator<Item = &'f Entry> {
        self.among(&self.by_name, name, |entry| &*entry.name)
    }

    fn path_of(&self, entry: &Entry) -> Vec<u8> {
        paths::join(&self.directories[entry.directory as usize], &entry.name)
    }

    /// Bytes that they take.
    pub fn size_bytes(&self) -> usize {
        let names: usize = self.entries.iter().map(|entry| entry.name.len()).sum();
        let directories: usize =
            self.directories.iter().map(|path| path.capacity() + size_of::<Vec<u8>>()).sum();
        self.entries.len() * (size_of::<Entry>() + 3 * size_of::<u32>()) + names + directories
    }
}

/// A file that was used.
pub struct Used<'u> {
    /// Its path from the root of `root`.
    pub path: &'u [u8],
    /// As its user saw it; 0 if unknown.
    pub inode: u64,
    /// When the inode last changed, milliseconds since the Unix epoch; 0 if unknown.
    pub changed_ms: i64,
}

/// Which of an artifact's files a used one is.
#[derive(Debug, PartialEq, Eq)]
pub enum Judged {
    /// This one: it was seen from elsewhere.
    Own(Vec<u8>),
    /// It may be a copy of each of these.
    Copies(Vec<Vec<u8>>),
    /// None.
    Nothing,
    /// Cannot be told.
    Unknown(&'static str),
}

/// Where to look: the artifact's root, and the one in which the file was used.
pub struct Places<'p, O, U> {
    pub own: &'p O,
    pub used: &'p U,
}

impl<O: AsFd, U: AsFd> Places<'_, O, U> {
    /// Judges one file. May take as long as the file systems do.
    pub fn judge(&self, files: &Files, used: &Used<'_>) -> Judged {
        if files.is_incomplete {
            return Judged::Unknown(
                "not all files of the artifact's packages could be listed and kept, to be compared",
            );
        }
        let is_it = |stat: &Stat| used.inode == 0 || stat.st_ino == used.inode;
        let opened = open_used(self.used, used.path).filter(|(_, stat)| is_it(stat));
        if opened.is_none()
            && let Some(path) = self.shown_elsewhere(used)
        {
            return self.judge(files, &Used { path, ..*used });
        }
        let identity = match &opened {
            Some((_, stat)) => Some((stat.st_ino, changed_ms(stat))),
            None => (used.inode != 0).then_some((used.inode, used.changed_ms)),
        };
        let source = bytecode_source(used.path);
        let name = paths::split(source.as_deref().unwrap_or(used.path)).1;
        if let Some(path) = identity.and_then(|identity| self.same(files, used.path, name, identity)) {
            return path;
        }
        let Some((file, stat)) = opened else {
            // Gone with its mounts, or deleted: whatever is called so.
            return self.origin(
                used.path,
                closest(source.as_deref().unwrap_or(used.path), files, files.named(name)),
            );
        };
        let of_source = source.as_deref().and_then(|path| Some((path, open_used(self.used, path)?)));
        let mut copies = match &of_source {
            Some((path, (file, stat))) => self.copies(files, path, file, size_of_file(stat)),
            None => Vec::new(),
        };
        copies.extend(self.copies(files, used.path, &file, size_of_file(&stat)));
        self.origin(used.path, copies)
    }

    /// The path of a file of the host that was used in another root, or behind a mount, which shows the host's directories:
    /// a part of the path where it was used.
    fn shown_elsewhere<'u>(&self, used: &Used<'u>) -> Option<&'u [u8]> {
        let is_it = |path: &&[u8]| {
            let found = open_used(self.used, path);
            found.is_some_and(|(_, stat)| (stat.st_ino, changed_ms(&stat)) == (used.inode, used.changed_ms))
        };
        let slashes = memchr::memchr_iter(b'/', used.path).filter(|_| used.inode != 0);
        slashes.map(|slash| &used.path[slash + 1..]).find(is_it)
    }

    fn origin(&self, used: &[u8], mut copies: Vec<Vec<u8>>) -> Judged {
        if copies.len() > COMPARED_MAX {
            return Judged::Unknown("it may be a copy of more files than can be compared");
        }
        copies.retain(|own| !self.is_other_version(used, own));
        copies.sort();
        copies.dedup();
        if copies.is_empty() { Judged::Nothing } else { Judged::Copies(copies) }
    }

    /// The artifact's file that is this very one; a copy where it has several names, as in the stores of pnpm and uv.
    fn same(&self, files: &Files, used: &[u8], name: &[u8], identity: (u64, i64)) -> Option<Judged> {
        let is_same = |path: &[u8]| {
            let found = beneath::look(self.own, path).ok().flatten();
            found.filter(|stat| (stat.st_ino, changed_ms(stat)) == identity)
        };
        let listed = files.among(&files.by_inode, identity.0, |entry| entry.inode);
        let listed = listed.filter(|entry| entry.changed_ms == identity.1).map(|entry| files.path_of(entry));
        // Bytecode is in no list.
        let compiled = files.named(name).take(COMPARED_MAX).map(|entry| {
            let directory = &files.directories[entry.directory as usize];
            paths::join(&paths::join(directory, b"__pycache__"), paths::split(used).1)
        });
        let is_bytecode = paths::split(used).1 != name;
        let found =
            listed.chain(compiled.filter(|_| is_bytecode)).find_map(|path| Some((is_same(&path)?, path)));
        let (stat, path) = found?;
        Some(if stat.st_nlink > 1 { self.origin(used, vec![path]) } else { Judged::Own(path) })
    }

    /// The artifact's files with the same contents.
    fn copies(&self, files: &Files, used: &[u8], file: &File, size_bytes: u64) -> Vec<Vec<u8>> {
        let mut alike: Vec<(usize, Vec<u8>)> = files
            .among(&files.by_size, size_bytes, |entry| entry.size_bytes)
            .map(|entry| files.path_of(entry))
            .map(|path| (common_parts(used, &path), path))
            .filter(|(common, _)| size_bytes >= TELLING_MIN_BYTES || *common > 1)
            .collect();
        alike.sort_unstable_by_key(|(common, _)| Reverse(*common));
        alike.truncate(COMPARED_MAX);
        if alike.is_empty() {
            return Vec::new();
        }
        let Some(contents) = ends_of(file, size_bytes) else {
            return alike.into_iter().map(|(_, path)| path).collect();
        };
        let is_equal = |(_, path): &(usize, Vec<u8>)| {
            let own = beneath::open_regular(self.own, path).ok().flatten();
            own.and_then(|own| ends_of(&own, size_bytes)).is_none_or(|own| own == contents)
        };
        alike.retain(is_equal);
        // Of the same name, if any is.
        let best = alike.first().map_or(0, |(common, _)| (*common).min(1));
        alike.into_iter().filter(|(common, _)| *common >= best).map(|(_, path)| path).collect()
    }

    /// Whether both lie in packages of one name that are not the same: many files are alike in all versions.
    fn is_other_version(&self, used: &[u8], own: &[u8]) -> bool {
        if let (Some(used), Some(own)) = (gem_of(used), gem_of(own)) {
            return used != own;
        }
        let (Some(used), Some(own)) = (node_package_of(used), node_package_of(own)) else { return false };
        let metadata = |package: &[u8]| paths::join(package, b"package.json");
        let read = |file: File, stat: &Stat| {
            let size_bytes = size_of_file(stat);
            (size_bytes <= METADATA_MAX_BYTES).then(|| read_at(&file, 0, size_bytes))?
        };
        let used = open_used(self.used, &metadata(used)).and_then(|(file, stat)| read(file, &stat));
        let own = open_used(self.own, &metadata(own)).and_then(|(file, stat)| read(file, &stat));
        matches!((used, own), (Some(used), Some(own)) if used != own)
    }
}

/// The files of a name whose directories are most alike to those of `used`.
fn closest<'f>(used: &[u8], files: &Files, named: impl Iterator<Item = &'f Entry>) -> Vec<Vec<u8>> {
    let mut best = (0, Vec::new());
    for path in named.map(|entry| files.path_of(entry)) {
        let common = common_parts(used, &path);
        if common > best.0 {
            best = (common, Vec::new());
        }
        if common == best.0 {
            best.1.push(path);
        }
    }
    best.1
}

/// How many parts at the ends of two paths are the same.
fn common_parts(a: &[u8], b: &[u8]) -> usize {
    let parts = |path| <[u8]>::rsplit(path, |byte| *byte == b'/');
    parts(a).zip(parts(b)).take_while(|(a, b)| a == b).count()
}

/// `rack-2.2.4` of `lib/gems/rack-2.2.4/lib/rack.rb`.
fn gem_of(path: &[u8]) -> Option<&[u8]> {
    let rest = &path[memchr::memmem::rfind(path, b"gems/")? + b"gems/".len()..];
    rest.split(|byte| *byte == b'/').next().filter(|name| name.len() < rest.len())
}

/// `x/node_modules/@a/b` of `x/node_modules/@a/b/c.js`.
fn node_package_of(path: &[u8]) -> Option<&[u8]> {
    let begin = memchr::memmem::rfind(path, b"node_modules/")? + b"node_modules/".len();
    let parts = if path[begin..].first() == Some(&b'@') { 2 } else { 1 };
    let slash = memchr::memchr_iter(b'/', &path[begin..]).nth(parts - 1)?;
    Some(&path[..begin + slash])
}

pub(crate) fn changed_ms(stat: &Stat) -> i64 {
    stat.st_ctime * 1_000 + stat.st_ctime_nsec as i64 / 1_000_000
}

pub(crate) fn size_of_file(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Opens a regular file on whatever mount it lies; `None` if that cannot be done.
pub(crate) fn open_used(root: impl AsFd, path: &[u8]) -> Option<(File, Stat)> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |flags: OFlags| {
        rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
    };
    // Merely opening a device can act on it.
    let seen = rustix::fs::fstat(open(OFlags::PATH)?).ok()?;
    if !beneath::is_regular(&seen) {
        return None;
    }
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = rustix::fs::fstat(&file).ok()?;
    beneath::is_regular(&stat).then(|| (File::from(file), stat))
}

/// What is compared of a file of this length.
fn ends_of(file: &File, size_bytes: u64) -> Option<Vec<u8>> {
    let begin = read_at(file, 0, size_bytes.min(COMPARED_BYTES))?;
    let rest = size_bytes.saturating_sub(COMPARED_BYTES).min(COMPARED_BYTES);
    Some([begin, read_at(file, size_bytes - rest, rest)?].concat())
}

fn read_at(file: &File, offset: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
