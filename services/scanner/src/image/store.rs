//! Where an image's documents and layers are kept: a layout directory, or a tar file with random access.
//! It must never open a path that lies outside of the store.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use plimsoll_catalog::tree::path;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::tar::{TarKind, TarReader};
use crate::ScanError;

/// Most entries of an archive's index: layers and documents, so far more than an image may have.
const ARCHIVE_MAX_ENTRIES: usize = 100_000;
/// Most links followed from one name of an archive to its data.
const ARCHIVE_MAX_LINKS: usize = 8;

/// The blobs of one store by their path, for example `blobs/sha256/<hex>`.
pub trait BlobStore {
    /// Opens a blob; `None` if there is none of that path.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>>;
}

/// An OCI image layout in a directory.
pub struct DirectoryStore {
    root: rustix::fd::OwnedFd,
}

impl DirectoryStore {
    /// Opens a layout directory.
    ///
    /// # Errors
    /// [`ScanError::Open`] if there is no such directory.
    pub fn open(path: &Path) -> Result<Self, ScanError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| ScanError::Open { path: path.to_owned(), source: error.into() })?;
        Ok(Self { root })
    }
}

impl BlobStore for DirectoryStore {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(file) => {
                let file = File::from(file);
                if !file.metadata()?.is_file() {
                    return Err(io::Error::other("it is no regular file"));
                }
                Ok(Some(Box::new(file)))
            }
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A tar file, indexed once.
pub struct ArchiveStore {
    file: File,
    entries: HashMap<Vec<u8>, Place>,
}

enum Place {
    Data { offset: u64, size_bytes: u64 },
    Link(Vec<u8>),
}

impl ArchiveStore {
    /// Reads the headers of a tar file. Data are passed over by seeking.
    ///
    /// # Errors
    /// [`ScanError::DamagedImage`] if it is no tar file or is truncated.
    pub fn index(file: File, image: &str) -> Result<Self, ScanError> {
        let damaged = |reason: String| ScanError::DamagedImage { image: image.to_owned(), reason };
        let mut head = [0; 2];
        if file.read_at(&mut head, 0).is_ok_and(|count| count == 2) && head == [0x1f, 0x8b] {
            return Err(damaged(
                "the archive is compressed as a whole; decompress it first (gunzip)".to_owned(),
            ));
        }
        let length_bytes = file.metadata().map_err(|error| damaged(error.to_string()))?.len();
        let mut entries = HashMap::new();
        let mut reader = TarReader::new(SkippingReader { file: &file, position: 0 });
        while let Some(entry) = reader.next_entry().map_err(|error| damaged(error.to_string()))? {
            let at = path::normalize(&entry.path);
            let offset = reader.position();
            let place = match entry.kind {
                TarKind::Regular => {
                    if offset.saturating_add(entry.data_bytes) > length_bytes {
                        let name = path::display(&at);
                        return Err(damaged(format!(
                            "it ends in the middle of {name}: the archive is truncated"
                        )));
                    }
                    Place::Data { offset, size_bytes: entry.data_bytes }
                }
                TarKind::HardLink => Place::Link(path::normalize(&entry.link)),
                TarKind::Symlink => Place::Link(path::normalize_from(path::parent(&at), &entry.link)),
                _ => continue,
            };
            if entries.len() >= ARCHIVE_MAX_ENTRIES {
                return Err(damaged(format!("the archive has more than {ARCHIVE_MAX_ENTRIES} entries")));
            }
            entries.insert(at, place);
        }
        if entries.is_empty() {
            return Err(damaged("the archive holds no files".to_owned()));
        }
        Ok(Self { file, entries })
    }
}

impl BlobStore for ArchiveStore {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let mut at = path::normalize(path.as_bytes());
        for _ in 0..ARCHIVE_MAX_LINKS {
            match self.entries.get(&at) {
                None => return Ok(None),
                Some(Place::Link(target)) => at.clone_from(target),
                Some(Place::Data { offset, size_bytes }) => {
                    let reader = SkippingReader { file: &self.file, position: *offset };
                    return Ok(Some(Box::new(reader.take(*size_bytes))));
                }
            }
        }
        Err(io::Error::other("it is a link that leads to links only"))
    }
}

/// Reads a file from a position of its own. Data that `io::copy` throws away are read all the same: an archive on
/// disk is mostly in the page cache, and the reader stays one for streams and files.
struct SkippingReader<'a> {
    file: &'a File,
    position: u64,
}

impl Read for SkippingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Copies a stream to a file without a name, bounded, and indexes it.
///
/// # Errors
/// [`ScanError::TooLarge`] over the bound, [`ScanError::DamagedImage`] if it is no tar stream.
pub fn spool(stream: impl Read, max_bytes: u64, image: &str) -> Result<ArchiveStore, ScanError> {
    let directory = std::env::temp_dir();
    let open = |source| ScanError::Open { path: directory.clone(), source };
    let mut file = rustix::fs::open(
        &directory,
        OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )
    .map(File::from)
    .map_err(|error| open(error.into()))?;
    let copied = io::copy(&mut stream.take(max_bytes + 1), &mut file)
        .map_err(|error| ScanError::DamagedImage { image: image.to_owned(), reason: error.to_string() })?;
    if copied > max_bytes {
        return Err(ScanError::TooLarge {
            image: image.to_owned(),
            what: "the image".to_owned(),
            bound: format!("{max_bytes} bytes"),
        });
    }
    file.seek(SeekFrom::Start(0)).map_err(open)?;
    ArchiveStore::index(file, image)
}
