//! Where an image's documents and layers are kept: a layout directory, or a tar file with random access.
//! It must never open a path that lies outside of the store.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use plimsoll_catalog::tree::path;
use plimsoll_kit::host::random_id;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::blob::{BUFFER_BYTES, CancellableReader, Compression, UNCOMPRESSED_MAX_BYTES, decompress};
use super::tar::{TarKind, TarReader};
use crate::ScanError;

/// Most entries of an archive's index: layers and documents, so far more than an image may have.
const ARCHIVE_MAX_ENTRIES: usize = 100_000;
/// Longest name of a blob in an archive, in bytes; what has a longer one is none.
const ARCHIVE_NAME_MAX_BYTES: usize = 1024;
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
            Err(rustix::io::Errno::XDEV) => Err(io::Error::other(
                "it is a link that leads out of the layout; copy the layout with its links followed (cp -rL)",
            )),
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
        let length_bytes = file.metadata().map_err(|error| damaged(error.to_string()))?.len();
        let mut entries = HashMap::new();
        let whole = SkippingReader { file: &file, position: 0, end: length_bytes };
        let mut reader = TarReader::with_skip(BufReader::new(whole), skip);
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
            if at.len() > ARCHIVE_NAME_MAX_BYTES {
                continue;
            }
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
                    let end = offset + size_bytes;
                    return Ok(Some(Box::new(SkippingReader { file: &self.file, position: *offset, end })));
                }
            }
        }
        Err(io::Error::other("it is a link that leads to links only"))
    }
}

/// Reads a part of a file from a position of its own.
struct SkippingReader<'a> {
    file: &'a File,
    position: u64,
    end: u64,
}

impl Read for SkippingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Passes over data without reading them: an archive's index needs its headers only.
fn skip(reader: &mut BufReader<SkippingReader<'_>>, count: u64) -> io::Result<u64> {
    let buffered = reader.buffer().len();
    if let Ok(count) = usize::try_from(count)
        && count <= buffered
    {
        reader.consume(count);
        return Ok(count as u64);
    }
    reader.consume(buffered);
    let inner = reader.get_mut();
    let rest = (count - buffered as u64).min(inner.end.saturating_sub(inner.position));
    inner.position += rest;
    Ok(buffered as u64 + rest)
}

/// Why a stream could not be kept.
pub enum SpoolError {
    /// The stream ended in an error.
    Source(io::Error),
    /// All else.
    Scan(ScanError),
}

impl From<ScanError> for SpoolError {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

/// Copies a stream to a file without a name, bounded, and indexes it.
///
/// # Errors
/// [`SpoolError::Source`] if the stream fails, [`ScanError::Spool`] if there is no room for it, [`ScanError::TooLarge`]
/// over the bound, [`ScanError::DamagedImage`] if it is no tar stream.
pub fn spool(
    stream: impl Read,
    max_bytes: u64,
    image: &str,
    cancelled: &AtomicBool,
) -> Result<ArchiveStore, SpoolError> {
    let directory = temporary_directory();
    let full = |source: io::Error| ScanError::Spool { path: directory.clone(), source };
    let mut file = nameless_file(&directory).map_err(full)?;
    let mut stream = CancellableReader::new(stream, cancelled).take(max_bytes.saturating_add(1));
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut copied = 0;
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SpoolError::Source(error)),
        };
        file.write_all(&buffer[..count]).map_err(full)?;
        copied += count as u64;
    }
    if copied > max_bytes {
        let bound = format!("{max_bytes} bytes");
        return Err(
            ScanError::TooLarge { image: image.to_owned(), what: "the image".to_owned(), bound }.into()
        );
    }
    Ok(ArchiveStore::index(file, image)?)
}

/// Where large files may stand for a while: /tmp is often memory.
pub(super) fn temporary_directory() -> PathBuf {
    let large = Path::new("/var/tmp");
    let is_chosen = std::env::var_os("TMPDIR").is_some_and(|directory| !directory.is_empty());
    let usable = || rustix::fs::access(large, rustix::fs::Access::WRITE_OK).is_ok();
    if !is_chosen && usable() { large.to_owned() } else { std::env::temp_dir() }
}

pub(super) fn nameless_file(directory: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        // Not every file system can make a file without a name.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let path = directory.join(format!(".plimsoll-{}", random_id()));
    let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}

/// Opens an archive; one that is compressed as a whole is decompressed into a file without a name first.
///
/// # Errors
/// As [`ArchiveStore::index`] and [`spool`], and [`ScanError::Open`].
pub fn open_archive(path: &Path, image: &str, cancelled: &AtomicBool) -> Result<ArchiveStore, ScanError> {
    let open = |source: io::Error| ScanError::Open { path: path.to_owned(), source };
    // A pipe would block without this.
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        .map(File::from)
        .map_err(|error| open(error.into()))?;
    let metadata = file.metadata().map_err(open)?;
    if metadata.is_dir() {
        let hint = format!("{} is a directory; scan it as oci:{0}", path.display());
        return Err(ScanError::BadTarget(hint));
    }
    if !metadata.is_file() {
        return Err(ScanError::BadTarget(format!(
            "{} is no regular file; save the image to a file first (docker save -o FILE)",
            path.display()
        )));
    }
    let mut head = [0; 8];
    let count = file.read_at(&mut head, 0).map_err(open)?;
    let compression = Compression::of(&head[..count]);
    if compression == Compression::None {
        return ArchiveStore::index(file, image);
    }
    let damaged = |error: io::Error| ScanError::DamagedImage {
        image: image.to_owned(),
        reason: format!("it is compressed and cannot be decompressed: {error}"),
    };
    let stream = BufReader::with_capacity(BUFFER_BYTES, file);
    let plain = decompress(stream, compression, UNCOMPRESSED_MAX_BYTES).map_err(damaged)?;
    spool(plain, UNCOMPRESSED_MAX_BYTES, image, cancelled).map_err(|error| match error {
        SpoolError::Source(error) => damaged(error),
        SpoolError::Scan(error) => error,
    })
}
