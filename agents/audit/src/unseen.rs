//! The page of memory in which processes tell what no FIFO takes from them: they lost the hooks' files from sight.
//! It must never believe what stands there to be well-formed: every process of the tree can write to it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

/// Name of its file, beside the FIFO of reports.
pub const FILE_NAME: &str = "unseen";

// unseen.h has the same numbers.
const PAGE_BYTES: usize = 4_096;
const TEXT_BYTES: usize = 256;
const NAMED_MAX: usize = 7;

/// A process that cannot report any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Path of its program; empty if it is not known.
    pub program: Vec<u8>,
    /// What it started; empty if it went on by itself.
    pub started: Vec<u8>,
}

/// The page of one process tree.
#[derive(Debug)]
pub struct Page {
    file: File,
    taken: u32,
}

impl Page {
    /// Makes the file, beside the FIFO of reports. All users of the tree may write to it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE_NAME);
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.write_all_at(&[0; PAGE_BYTES], 0)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
        Ok(Self { file, taken: 0 })
    }

    /// The processes that wrote since the last call, as far as they are named, and how many others did.
    ///
    /// # Errors
    /// If the page cannot be read.
    pub fn take(&mut self) -> io::Result<(Vec<Unseen>, u32)> {
        let mut page = [0; PAGE_BYTES];
        self.file.read_exact_at(&mut page, 0)?;
        let count = u32::from_ne_bytes([page[0], page[1], page[2], page[3]]);
        let new = count.saturating_sub(self.taken);
        let first = usize::try_from(self.taken).unwrap_or(NAMED_MAX);
        let named: Vec<Unseen> = page[2 * TEXT_BYTES..]
            .chunks_exact(2 * TEXT_BYTES)
            .skip(first)
            .take(usize::try_from(new).unwrap_or(NAMED_MAX))
            .map(|entry| {
                let (program, started) = entry.split_at(TEXT_BYTES);
                let text = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
                Unseen { program: text(program), started: text(started) }
            })
            .collect();
        self.taken = self.taken.max(count);
        let others = new.saturating_sub(u32::try_from(named.len()).unwrap_or(u32::MAX));
        Ok((named, others))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may
mod tests {
    use super::*;

    #[test]
    fn the_library_has_the_same_numbers() {
        let source = include_str!("unseen.h");
        for (name, value) in
            [("UNSEEN_BYTES", PAGE_BYTES), ("UNSEEN_TEXT_BYTES", TEXT_BYTES), ("NAMED_MAX", NAMED_MAX)]
        {
            assert!(source.contains(&format!("#define {name} {value}\n")), "{name}");
        }
        assert!(source.contains(&format!("#define UNSEEN_NAME \"/{FILE_NAME}\"\n")));
        assert_eq!(PAGE_BYTES, 2 * TEXT_BYTES * (NAMED_MAX + 1));
    }

    #[test]
    fn each_is_taken_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut page = Page::create(directory.path()).unwrap();
        let file = page.file.try_clone().unwrap();
        let write = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at);
        assert_eq!(page.take().unwrap(), (vec![], 0));
        write(512, b"/bin/sh\0").unwrap();
        write(768, &[b'x'; TEXT_BYTES]).unwrap();
        write(0, &1_u32.to_ne_bytes()).unwrap();
        let expected = Unseen { program: b"/bin/sh".to_vec(), started: vec![b'x'; TEXT_BYTES] };
        assert_eq!(page.take().unwrap(), (vec![expected], 0));
        assert_eq!(page.take().unwrap(), (vec![], 0));
        write(0, &9_u32.to_ne_bytes()).unwrap();
        let (named, others) = page.take().unwrap();
        assert_eq!((named.len(), others), (6, 2));
        write(0, &u32::MAX.to_ne_bytes()).unwrap();
        assert_eq!(page.take().unwrap(), (vec![], u32::MAX - 9));
        write(0, &0_u32.to_ne_bytes()).unwrap();
        assert_eq!(page.take().unwrap(), (vec![], 0));
        file.set_len(8).unwrap();
        assert!(page.take().is_err());
    }
}
