//! Looking into big files in place: archives and binaries are neither kept in memory nor unpacked to a tree; what an
//! ecosystem makes of one (its digest) is. A digest depends on the file's contents alone, never on its path.

mod binary;
mod cache;
mod part;

use std::borrow::Cow;

pub use crate::tree::read_at::{ReadAt, read_full_at, read_range};
pub(crate) use binary::is_binary_name;
pub use binary::{BINARY_HEAD_BYTES, is_binary, may_be_binary};
pub(crate) use cache::{FileState, cached};
pub use part::{FileAt, SliceAt};

/// Most bytes of what one digester keeps of one file; more is dropped with a warning.
pub const MAX_DIGEST_BYTES: usize = 16 * 1024 * 1024;
/// Most bytes of a file that are looked into.
pub const MAX_DIGESTED_FILE_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Which files a digester looks into.
#[derive(Debug, Clone, Copy)]
pub enum DigestedFiles {
    /// ELF programs and shared libraries: by mode bits and name, then by their first bytes.
    Binaries,
    /// By path (asked for every file, so it must be cheap), then by their first [`BINARY_HEAD_BYTES`].
    Named { by_path: fn(&[u8]) -> bool, by_head: fn(&[u8]) -> bool },
}

/// How an ecosystem looks into files; listed by `Ecosystem::digesters`.
#[derive(Debug, Clone, Copy)]
pub struct Digester {
    /// Names the digest in trees and caches.
    pub name: &'static str,
    pub files: DigestedFiles,
    /// Bounded in time and memory whatever the file holds; empty when there is nothing of interest. What could not be
    /// read is noted in the digest, for a warning later.
    pub digest: fn(&dyn ReadAt) -> Vec<u8>,
}

impl Digester {
    /// Whether a regular file may be one of its files, before anything of it is read.
    pub fn may_want(&self, path: &[u8], mode: u32) -> bool {
        match self.files {
            DigestedFiles::Binaries => may_be_binary(path, mode),
            DigestedFiles::Named { by_path, .. } => by_path(path),
        }
    }

    fn recognises(&self, head: &[u8]) -> bool {
        match self.files {
            DigestedFiles::Binaries => is_binary(head),
            DigestedFiles::Named { by_head, .. } => by_head(head),
        }
    }

    /// The digest of an open file, `None` when its first bytes are not those of such a file.
    ///
    /// # Errors
    /// If the beginning of the file cannot be read.
    pub fn of(&self, file: &dyn ReadAt) -> std::io::Result<Option<Vec<u8>>> {
        let head = read_range(file, 0, BINARY_HEAD_BYTES)?;
        Ok(self.recognises(&head).then(|| self.run(file)))
    }

    fn run(&self, file: &dyn ReadAt) -> Vec<u8> {
        let mut bytes = (self.digest)(file);
        bytes.truncate(MAX_DIGEST_BYTES);
        bytes
    }
}

/// What one digester made of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    pub digester: &'static str,
    pub bytes: Box<[u8]>,
}

/// All digesters: those of all ecosystems, and the one that they share.
fn digesters() -> impl Iterator<Item = &'static Digester> {
    crate::ECOSYSTEMS.iter().flat_map(|ecosystem| ecosystem.digesters()).chain([&crate::binary::PROGRAMS])
}

/// Whether some ecosystem may look into the regular file at `path`. Cheap: asked for every file.
pub(crate) fn is_wanted(path: &[u8], mode: u32) -> bool {
    let mut asked_binaries = false;
    digesters().any(|digester| match digester.files {
        // Asked once, however many ecosystems are in binaries.
        DigestedFiles::Binaries => !std::mem::replace(&mut asked_binaries, true) && may_be_binary(path, mode),
        DigestedFiles::Named { by_path, .. } => by_path(path),
    })
}

/// Whether a file that is wanted really is one to look into, by its first [`BINARY_HEAD_BYTES`].
pub fn is_recognised(path: &[u8], mode: u32, head: &[u8]) -> bool {
    digesters().any(|digester| digester.may_want(path, mode) && digester.recognises(head))
}

/// What all ecosystems make of a regular file at `path`; files in which none found anything have no digests.
///
/// # Errors
/// If the beginning of the file cannot be read.
pub fn digest_file(path: &[u8], mode: u32, file: &dyn ReadAt) -> std::io::Result<Vec<Digest>> {
    let head = read_range(file, 0, BINARY_HEAD_BYTES)?;
    Ok(digesters()
        .filter(|digester| digester.may_want(path, mode) && digester.recognises(&head))
        .map(|digester| Digest { digester: digester.name, bytes: digester.run(file).into_boxed_slice() })
        .filter(|digest| !digest.bytes.is_empty())
        .collect())
}

/// The digest that a tree keeps or makes; `None` when there is nothing of interest in the file.
pub type Digested<'a> = Option<Cow<'a, [u8]>>;

#[cfg(test)]
mod tests;
