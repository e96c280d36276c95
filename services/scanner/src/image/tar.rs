//! Reads tar streams: ustar, GNU long names and sparse files, pax headers, base-256 numbers (POSIX.1-2017 pax, tar(5)).
//! It must never hold more than its bounds in memory, whatever the headers claim.

use std::io::{self, Read};

use plimsoll_schemas::words::PATH_MAX_BYTES;

const BLOCK_BYTES: usize = 512;
/// Longest extension header (pax records or a GNU long name), in bytes.
pub const EXTENSION_MAX_BYTES: u64 = 1024 * 1024;
/// Most extension blocks of a GNU sparse file's map.
const SPARSE_MAP_MAX_BLOCKS: usize = 1 << 16;

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TarKind {
    Regular,
    /// Regular, but stored with a map of holes; its data are not the contents.
    Sparse,
    HardLink,
    Symlink,
    Directory,
    CharacterDevice,
    BlockDevice,
    Fifo,
    /// A type that no known writer uses for files.
    Other(u8),
}

/// An entry's header, extensions applied.
#[derive(Clone, Debug)]
pub struct TarEntry {
    /// Path as written.
    pub path: Vec<u8>,
    /// Target of links as written.
    pub link: Vec<u8>,
    pub kind: TarKind,
    /// Permission bits.
    pub mode: u32,
    /// Bytes of data that follow the header.
    pub data_bytes: u64,
    /// Size of the file: more than `data_bytes` for sparse files.
    pub size_bytes: u64,
}

/// Why a stream is no tar stream. The archive is at fault.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream ended within an entry.
    #[error("it ends in the middle of {0}: the archive is truncated")]
    Truncated(String),
    /// A header's checksum is wrong.
    #[error("the header at byte {0} is damaged (checksum)")]
    Checksum(u64),
    /// A number in a header is none.
    #[error("the header at byte {0} has a bad number")]
    BadNumber(u64),
    /// An extension header is over the bound.
    #[error("an extension header of {0} bytes is over the bound of {EXTENSION_MAX_BYTES} bytes")]
    ExtensionTooLong(u64),
    /// The stream cannot be read or decompressed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A tar stream.
pub struct TarReader<R> {
    inner: R,
    position: u64,
    /// Data of the current entry that are still to be read, and the padding behind them.
    data_left: u64,
    padding: u64,
    current: String,
    global: PaxRecords,
}

#[derive(Clone, Debug, Default)]
struct PaxRecords {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    sparse: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads entries from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            position: 0,
            data_left: 0,
            padding: 0,
            current: String::new(),
            global: PaxRecords::default(),
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Gives the stream back, behind what was read.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; `None` at the end of the archive. Data that were not read are passed over.
    ///
    /// # Errors
    /// See [`TarError`]; nothing behind an error is readable.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut local = self.global.clone();
        let mut long_path = None;
        let mut long_link = None;
        loop {
            self.skip_data()?;
            let at = self.position;
            let Some(header) = self.read_header()? else { return Ok(None) };
            let raw = RawHeader { bytes: &header, at };
            let data_bytes = raw.number(124, 12)?;
            match raw.bytes[156] {
                b'L' => long_path = Some(self.read_extension(data_bytes)?),
                b'K' => long_link = Some(self.read_extension(data_bytes)?),
                b'x' | b'g' => {
                    let records = self.read_extension(data_bytes)?;
                    let target = if raw.bytes[156] == b'x' { &mut local } else { &mut self.global };
                    target.apply(&records, at)?;
                    if raw.bytes[156] == b'g' {
                        local = self.global.clone();
                    }
                }
                type_flag => {
                    let mut entry = raw.entry(type_flag, data_bytes)?;
                    if type_flag == b'S' {
                        self.skip_sparse_map(&header)?;
                    }
                    if let Some(path) = local.path.take().or(long_path) {
                        entry.path = trim_nul(path);
                    }
                    if let Some(link) = local.link.take().or(long_link) {
                        entry.link = trim_nul(link);
                    }
                    if let Some(size) = local.size {
                        entry.data_bytes = size;
                        entry.size_bytes = size;
                    }
                    if local.sparse {
                        entry.kind = TarKind::Sparse;
                        entry.size_bytes = local.real_size.unwrap_or(entry.size_bytes);
                    }
                    self.current = plimsoll_catalog::tree::path::display(&entry.path);
                    self.data_left = entry.data_bytes;
                    self.padding = padding(entry.data_bytes);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads at most `max_bytes` of the current entry's data; the second value tells whether there is more.
    ///
    /// # Errors
    /// [`TarError::Truncated`] if the stream ends before the data do.
    pub fn read_data(&mut self, max_bytes: usize) -> Result<(Vec<u8>, bool), TarError> {
        let wanted = self.data_left.min(max_bytes as u64);
        let mut data = Vec::new();
        let count = (&mut self.inner).take(wanted).read_to_end(&mut data)? as u64;
        self.position += count;
        self.data_left -= count;
        if count < wanted {
            return Err(TarError::Truncated(self.current.clone()));
        }
        Ok((data, self.data_left > 0))
    }

    /// Passes over the data of the current entry that were not read.
    fn skip_data(&mut self) -> Result<(), TarError> {
        let rest = self.data_left.saturating_add(self.padding);
        let count = io::copy(&mut (&mut self.inner).take(rest), &mut io::sink())?;
        self.position += count;
        // Padding may be missing at the very end of an archive.
        let missing = rest - count;
        if missing > self.padding {
            return Err(TarError::Truncated(self.current.clone()));
        }
        self.data_left = 0;
        self.padding = 0;
        Ok(())
    }

    /// One header block; `None` at two zero blocks or at the end of the stream.
    fn read_header(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, TarError> {
        let at = self.position;
        let Some(block) = self.read_block("a header")? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            // One zero block ends the archive too: some writers forget the second.
            return Ok(None);
        }
        let stored = RawHeader { bytes: &block, at }.number(148, 8)?;
        let sum = |signed: bool| -> u64 {
            let value = |byte: u8| if signed { i64::from(byte as i8) } else { i64::from(byte) };
            let total: i64 = block
                .iter()
                .enumerate()
                .map(|(index, byte)| if (148..156).contains(&index) { 32 } else { value(*byte) })
                .sum();
            total as u64
        };
        if stored != sum(false) && stored != sum(true) {
            return Err(TarError::Checksum(at));
        }
        Ok(Some(block))
    }

    fn read_block(&mut self, what: &str) -> Result<Option<[u8; BLOCK_BYTES]>, TarError> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated(what.to_owned())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position += BLOCK_BYTES as u64;
        Ok(Some(block))
    }

    fn read_extension(&mut self, size_bytes: u64) -> Result<Vec<u8>, TarError> {
        if size_bytes > EXTENSION_MAX_BYTES {
            return Err(TarError::ExtensionTooLong(size_bytes));
        }
        self.current = "an extension header".to_owned();
        self.data_left = size_bytes;
        self.padding = padding(size_bytes);
        Ok(self.read_data(EXTENSION_MAX_BYTES as usize)?.0)
    }

    fn skip_sparse_map(&mut self, header: &[u8; BLOCK_BYTES]) -> Result<(), TarError> {
        let mut more = header[482] != 0;
        for _ in 0..SPARSE_MAP_MAX_BLOCKS {
            if !more {
                return Ok(());
            }
            match self.read_block("a sparse file's map")? {
                Some(block) => more = block[504] != 0,
                None => return Err(TarError::Truncated("a sparse file's map".to_owned())),
            }
        }
        Err(TarError::ExtensionTooLong((SPARSE_MAP_MAX_BLOCKS * BLOCK_BYTES) as u64))
    }
}

struct RawHeader<'a> {
    bytes: &'a [u8; BLOCK_BYTES],
    at: u64,
}

impl RawHeader<'_> {
    /// A number in octal digits, or in base 256 when the first bit is set.
    fn number(&self, offset: usize, length: usize) -> Result<u64, TarError> {
        let field = &self.bytes[offset..offset + length];
        let bad = || TarError::BadNumber(self.at);
        if field[0] & 0x80 != 0 {
            let mut value = u64::from(field[0] & 0x7f);
            for byte in &field[1..] {
                value = value.checked_mul(256).ok_or_else(bad)? | u64::from(*byte);
            }
            return Ok(value);
        }
        let mut value: u64 = 0;
        for byte in field.iter().skip_while(|byte| **byte == b' ') {
            match byte {
                b'0'..=b'7' => {
                    value = value
                        .checked_mul(8)
                        .ok_or_else(bad)?
                        .checked_add(u64::from(byte - b'0'))
                        .ok_or_else(bad)?;
                }
                b' ' | 0 => break,
                _ => return Err(bad()),
            }
        }
        Ok(value)
    }

    fn text(&self, offset: usize, length: usize) -> Vec<u8> {
        trim_nul(self.bytes[offset..offset + length].to_vec())
    }

    fn entry(&self, type_flag: u8, data_bytes: u64) -> Result<TarEntry, TarError> {
        let mut path = self.text(0, 100);
        // Only POSIX headers have a prefix; GNU ones keep times there.
        if &self.bytes[257..263] == b"ustar\0" && self.bytes[345] != 0 {
            let mut full = self.text(345, 155);
            full.push(b'/');
            full.append(&mut path);
            path = full;
        }
        let kind = match type_flag {
            // A trailing slash marks a directory in archives older than POSIX.
            0 | b'0' | b'7' if path.ends_with(b"/") => TarKind::Directory,
            0 | b'0' | b'7' => TarKind::Regular,
            b'1' => TarKind::HardLink,
            b'2' => TarKind::Symlink,
            b'3' => TarKind::CharacterDevice,
            b'4' => TarKind::BlockDevice,
            b'5' => TarKind::Directory,
            b'6' => TarKind::Fifo,
            b'S' => TarKind::Sparse,
            other => TarKind::Other(other),
        };
        let has_data = !matches!(
            kind,
            TarKind::HardLink
                | TarKind::Symlink
                | TarKind::CharacterDevice
                | TarKind::BlockDevice
                | TarKind::Directory
                | TarKind::Fifo
        );
        let data_bytes = if has_data { data_bytes } else { 0 };
        let size_bytes = if kind == TarKind::Sparse { self.number(483, 12)? } else { data_bytes };
        let mode = self.number(100, 8)? as u32 & 0o7777;
        Ok(TarEntry { path, link: self.text(157, 100), kind, mode, data_bytes, size_bytes })
    }
}

impl PaxRecords {
    /// Applies `LENGTH KEY=VALUE\n` records.
    fn apply(&mut self, mut records: &[u8], at: u64) -> Result<(), TarError> {
        while !records.is_empty() && records[0] != 0 {
            let blank = records.iter().position(|byte| *byte == b' ').ok_or(TarError::BadNumber(at))?;
            let length = ascii_number(&records[..blank]).ok_or(TarError::BadNumber(at))? as usize;
            if length <= blank + 1 || length > records.len() {
                return Err(TarError::BadNumber(at));
            }
            let record = &records[blank + 1..length - 1];
            if let Some(equals) = record.iter().position(|byte| *byte == b'=') {
                self.set(&record[..equals], &record[equals + 1..], at)?;
            }
            records = &records[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), TarError> {
        let number = || ascii_number(value).ok_or(TarError::BadNumber(at));
        match key {
            b"path" | b"GNU.sparse.name" => {
                self.path = Some(value[..value.len().min(PATH_MAX_BYTES + 1)].to_vec())
            }
            b"linkpath" => self.link = Some(value[..value.len().min(PATH_MAX_BYTES + 1)].to_vec()),
            b"size" => self.size = Some(number()?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.real_size = Some(number()?);
                self.sparse = true;
            }
            b"GNU.sparse.major" | b"GNU.sparse.map" => self.sparse = true,
            _ => {}
        }
        Ok(())
    }
}

fn ascii_number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn trim_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn padding(size_bytes: u64) -> u64 {
    (BLOCK_BYTES as u64 - size_bytes % BLOCK_BYTES as u64) % BLOCK_BYTES as u64
}
