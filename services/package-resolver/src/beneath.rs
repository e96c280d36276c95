//! Opens paths below a directory's descriptor, and hashes and compares what they hold.
//! Never leaves the directory, never follows a link, never crosses a mount, never blocks on a pipe or a device.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use plimsoll_schemas::identity::Sha256Digest;
use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// How often openat2 is tried again when a rename raced with it (EAGAIN).
const MAX_RACE_ATTEMPTS: usize = 16;

/// Opens `path`, whose directories must be no links; a link as the last component is opened itself with
/// `O_PATH | O_NOFOLLOW`, and refused otherwise.
///
/// # Errors
/// The kernel's: `LOOP` for a link on the way, `XDEV` for another mount.
pub fn open(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_SYMLINKS;
    let name = if path.is_empty() { b".".as_slice() } else { path };
    let mut attempt = 0;
    loop {
        attempt += 1;
        match rustix::fs::openat2(&root, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if attempt < MAX_RACE_ATTEMPTS => {}
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Facts about what stands at `path`, a last link not followed; `None` if nothing does.
///
/// # Errors
/// The kernel's.
pub fn look(root: impl AsFd, path: &[u8]) -> Result<Option<Stat>, Errno> {
    match open(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(fd) => rustix::fs::fstat(&fd).map(Some),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a regular file for reading; `None` if something else stands there.
///
/// # Errors
/// The kernel's.
pub fn open_regular(root: impl AsFd, path: &[u8]) -> io::Result<Option<File>> {
    // Looked at first, since merely opening a device can act on it; looked at again, since it may have been swapped.
    match look(&root, path)? {
        Some(seen) if is_regular(&seen) => {}
        _ => return Ok(None),
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let fd = open(root, path, flags)?;
    let stat = rustix::fs::fstat(&fd)?;
    Ok(is_regular(&stat).then(|| File::from(fd)))
}

/// Whether it is a regular file.
pub fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Whether it is a directory.
pub fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether any name in a directory is one that is looked for.
///
/// # Errors
/// The kernel's.
pub fn any_name(root: impl AsFd, directory: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> Result<bool, Errno> {
    let fd = open(root, directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut buffer = vec![MaybeUninit::uninit(); READ_BYTES];
    let mut names = RawDir::new(fd, &mut buffer);
    while let Some(entry) = names.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && is_wanted(name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The digest of a file's contents, `None` if it is longer than `max_bytes`.
///
/// # Errors
/// The system's.
pub fn digest(file: &mut File, max_bytes: u64) -> io::Result<Option<Sha256Digest>> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut left = max_bytes;
    loop {
        let read = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(Some(Sha256Digest(hash.finalize().into())));
        }
        match left.checked_sub(read as u64) {
            Some(rest) => left = rest,
            None => return Ok(None),
        }
        hash.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_but_regular_files_below_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("d")).unwrap();
        std::fs::write(directory.path().join("outside"), "secret").unwrap();
        std::fs::write(root.join("d/f"), "abc").unwrap();
        symlink("/outside", root.join("absolute")).unwrap();
        symlink("../outside", root.join("climbing")).unwrap();
        symlink("d", root.join("link")).unwrap();
        rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let fd = File::open(&root).unwrap();
        let mut file = open_regular(&fd, b"d/f").unwrap().unwrap();
        assert_eq!(digest(&mut file, 3).unwrap(), Some(Sha256Digest::of(b"abc")));
        let mut file = open_regular(&fd, b"../d/f").unwrap().unwrap();
        assert_eq!(digest(&mut file, 2).unwrap(), None);
        for path in ["absolute", "climbing", "fifo", "d", "none", "d/f/g", "../outside"] {
            assert!(open_regular(&fd, path.as_bytes()).unwrap().is_none(), "{path}");
        }
        assert!(open_regular(&fd, b"link/f").is_err());
        assert!(look(&fd, b"fifo").unwrap().is_some());
    }
}
