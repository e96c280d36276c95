//! Reads tar streams: ustar, GNU long names and sparse files, pax headers, base-256 numbers (POSIX.1-2017 pax, tar(5)).
//! It must never hold more than its bounds in memory, whatever the headers claim.

use std::io::{self, Read};

use plimsoll_schemas::words::PATH_MAX_BYTES;

const BLOCK_BYTES: usize = 512;
/// Bytes copied at once.
const COPY_BYTES: usize = 64 * 1024;
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
    /// Something follows one block of zeros, where only the end of the archive may.
    #[error("there are entries behind the block of zeros at byte {0}, which no container engine would read")]
    LoneZeroBlock(u64),
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

/// A tar stream, read as Go's archive/tar does, by which container engines unpack layers: what they see and we do not
/// would be a package that nobody finds.
pub struct TarReader<R> {
    inner: R,
    skip: fn(&mut R, u64) -> io::Result<u64>,
    position: u64,
    /// Data of the current entry that are still to be read, and the padding behind them.
    data_left: u64,
    padding: u64,
    /// Path of the current entry, for errors.
    current: Vec<u8>,
}

/// What extension headers say of the entry behind them.
#[derive(Default)]
struct Extensions {
    pax: PaxRecords,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

#[derive(Default)]
struct PaxRecords {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_map: bool,
    sparse_major: Vec<u8>,
    sparse_minor: Vec<u8>,
}

impl<R: Read> TarReader<R> {
    /// Reads entries from `inner`.
    pub fn new(inner: R) -> Self {
        Self::with_skip(inner, |inner, count| io::copy(&mut inner.take(count), &mut io::sink()))
    }

    /// Reads entries from `inner`, where `skip` passes over bytes and tells over how many.
    pub fn with_skip(inner: R, skip: fn(&mut R, u64) -> io::Result<u64>) -> Self {
        Self { inner, skip, position: 0, data_left: 0, padding: 0, current: Vec::new() }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next entry; `None` at the end of the archive. Data that were not read are passed over.
    ///
    /// # Errors
    /// See [`TarError`]; nothing behind an error is readable.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            let at = self.position;
            let Some(header) = self.read_header()? else { return Ok(None) };
            let raw = RawHeader { bytes: &header, at };
            let data_bytes = raw.number(124, 12)?;
            match raw.bytes[156] {
                b'L' => extensions.long_path = Some(bounded_path(&self.read_extension(data_bytes)?)),
                b'K' => extensions.long_link = Some(bounded_path(&self.read_extension(data_bytes)?)),
                b'x' => extensions.pax = PaxRecords::parse(&self.read_extension(data_bytes)?, at)?,
                // Engines pass over global headers, and forget what came before them.
                b'g' => {
                    self.begin_data(b"a global extension header", data_bytes);
                    extensions = Extensions::default();
                }
                type_flag => {
                    let mut entry = raw.entry(type_flag, data_bytes)?;
                    if type_flag == b'S' {
                        self.skip_sparse_map(&header)?;
                    }
                    extensions.apply(&mut entry, type_flag);
                    self.begin_data(&entry.path, entry.data_bytes);
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
            return Err(self.truncated());
        }
        Ok((data, self.data_left > 0))
    }

    /// Hands the rest of the current entry's data to `sink`, piece by piece.
    ///
    /// # Errors
    /// [`TarError::Truncated`] if the stream ends before the data do; what `sink` says.
    pub fn copy_data<E: From<TarError>>(
        &mut self,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(self.data_left).unwrap_or(COPY_BYTES))];
        while self.data_left > 0 {
            let wanted = usize::try_from(self.data_left).unwrap_or(COPY_BYTES).min(buffer.len());
            match self.inner.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(self.truncated().into()),
                Ok(count) => {
                    self.position += count as u64;
                    self.data_left -= count as u64;
                    sink(&buffer[..count])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::from(error).into()),
            }
        }
        Ok(())
    }

    fn truncated(&self) -> TarError {
        TarError::Truncated(plimsoll_catalog::tree::path::display(&self.current))
    }

    fn begin_data(&mut self, what: &[u8], data_bytes: u64) {
        self.current.clear();
        self.current.extend_from_slice(&what[..what.len().min(PATH_MAX_BYTES)]);
        self.data_left = data_bytes;
        self.padding = padding(data_bytes);
    }

    /// Passes over the data of the current entry that were not read.
    fn skip_data(&mut self) -> Result<(), TarError> {
        let rest = self.data_left.saturating_add(self.padding);
        if rest == 0 {
            return Ok(());
        }
        let count = (self.skip)(&mut self.inner, rest)?;
        self.position += count;
        // Padding may be missing at the very end of an archive.
        let missing = rest - count;
        if missing > self.padding {
            return Err(self.truncated());
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
            // Some writers forget the second block; entries hidden behind a lone one would be missed by all readers.
            return match self.read_block("the end of the archive")? {
                Some(second) if second.iter().any(|byte| *byte != 0) => Err(TarError::LoneZeroBlock(at)),
                _ => Ok(None),
            };
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
        self.begin_data(b"an extension header", size_bytes);
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
        // Unused fields are filled, and used ones padded on either side, by blanks or NULs.
        let is_filling = |byte: &u8| matches!(byte, b' ' | 0);
        let mut value: u64 = 0;
        let mut ended = false;
        for byte in field.iter().skip_while(|byte| is_filling(byte)) {
            match byte {
                b'0'..=b'7' if !ended => {
                    let digit = u64::from(byte - b'0');
                    value =
                        value.checked_mul(8).and_then(|value| value.checked_add(digit)).ok_or_else(bad)?;
                }
                byte if is_filling(byte) => ended = true,
                // Behind the end of the text stands what some writers left there.
                _ if ended => break,
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
        // Only POSIX headers and those of star have a prefix; GNU ones keep times there.
        if &self.bytes[257..263] == b"ustar\0" && self.bytes[345] != 0 {
            let is_star = &self.bytes[508..512] == b"tar\0";
            let mut full = self.text(345, if is_star { 131 } else { 155 });
            full.push(b'/');
            full.append(&mut path);
            path = full;
        }
        let kind = match type_flag {
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
        let data_bytes = if has_data(type_flag) { data_bytes } else { 0 };
        let size_bytes = if kind == TarKind::Sparse { self.number(483, 12)? } else { data_bytes };
        let mode = self.number(100, 8)? as u32 & 0o7777;
        Ok(TarEntry { path, link: self.text(157, 100), kind, mode, data_bytes, size_bytes })
    }
}

/// Whether data may follow the header of an entry of this type, whatever its size says.
fn has_data(type_flag: u8) -> bool {
    !(b'1'..=b'6').contains(&type_flag)
}

impl Extensions {
    fn apply(self, entry: &mut TarEntry, type_flag: u8) {
        let pax = self.pax;
        let is_sparse = pax.is_sparse();
        if let Some(size) = pax.size.filter(|_| has_data(type_flag)) {
            entry.data_bytes = size;
            entry.size_bytes = size;
        }
        if is_sparse && entry.kind == TarKind::Regular {
            entry.kind = TarKind::Sparse;
            entry.size_bytes = pax.sparse_size.unwrap_or(entry.size_bytes);
        }
        let sparse_name = pax.sparse_name.filter(|_| is_sparse);
        if let Some(path) = sparse_name.or(self.long_path).or(pax.path) {
            entry.path = path;
        }
        if let Some(link) = self.long_link.or(pax.link) {
            entry.link = link;
        }
        // A trailing slash marks a directory in archives older than POSIX.
        if type_flag == 0 && entry.path.ends_with(b"/") {
            entry.kind = TarKind::Directory;
        }
    }
}

impl PaxRecords {
    /// Reads `LENGTH KEY=VALUE\n` records.
    fn parse(mut records: &[u8], at: u64) -> Result<Self, TarError> {
        let mut pax = Self::default();
        while !records.is_empty() && records[0] != 0 {
            let blank = records.iter().position(|byte| *byte == b' ').ok_or(TarError::BadNumber(at))?;
            let length = ascii_number(&records[..blank]).ok_or(TarError::BadNumber(at))?;
            let length = usize::try_from(length).map_err(|_| TarError::BadNumber(at))?;
            if length <= blank + 1 || length > records.len() {
                return Err(TarError::BadNumber(at));
            }
            let record = &records[blank + 1..length - 1];
            if let Some(equals) = record.iter().position(|byte| *byte == b'=') {
                pax.set(&record[..equals], &record[equals + 1..], at)?;
            }
            records = &records[length..];
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), TarError> {
        // An empty value takes an earlier one back (POSIX).
        let number = || match value {
            b"" => Ok(None),
            digits => ascii_number(digits).map(Some).ok_or(TarError::BadNumber(at)),
        };
        let path = || Some(bounded_path(value)).filter(|path| !path.is_empty());
        match key {
            b"path" => self.path = path(),
            b"linkpath" => self.link = path(),
            b"size" => self.size = number()?,
            b"GNU.sparse.name" => self.sparse_name = path(),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse_size = number()?,
            b"GNU.sparse.map" | b"GNU.sparse.offset" => self.sparse_map = !value.is_empty(),
            b"GNU.sparse.major" => self.sparse_major = value.to_vec(),
            b"GNU.sparse.minor" => self.sparse_minor = value.to_vec(),
            _ => {}
        }
        Ok(())
    }

    /// GNU tar's sparse formats 0.0, 0.1 and 1.0; the first two have no version of their own.
    fn is_sparse(&self) -> bool {
        match (self.sparse_major.as_slice(), self.sparse_minor.as_slice()) {
            (b"0", b"0" | b"1") | (b"1", b"0") => true,
            (b"", b"") => self.sparse_map,
            _ => false,
        }
    }
}

/// A path up to its first NUL; of one that is too long as much as shows it.
fn bounded_path(bytes: &[u8]) -> Vec<u8> {
    trim_nul(bytes[..bytes.len().min(PATH_MAX_BYTES + 1)].to_vec())
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

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
