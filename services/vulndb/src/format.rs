//! Layout of the database file: what is at which byte. Only constants, rows and their encoding.
//! Never reads or writes a file, and never changes meaning without a new [`FORMAT_VERSION`].
//!
//! ```text
//! header (512 bytes) | sections … | one CRC-32 per 64 KiB block of the sections
//! ```
//! All numbers are little-endian and read byte-wise, so nothing needs alignment. Sections:
//!
//! | section | content |
//! |---|---|
//! | string offsets, string bytes | every distinct string once, in byte order. A *string id* is the position in that order, so ids compare as the strings do, and a string is found by binary search. Id 0 is the empty string |
//! | lists | `u32` words; a *list reference* points at a length word with that many words behind it. Reference 0 is the empty list |
//! | ecosystems | every OSV ecosystem string that occurs in the data (`Debian:12`, `PyPI`) |
//! | packages | the index: (ecosystem, name) sorted → a run of rows in *affected*. Names are as `Scheme::normalise_name` gives them |
//! | affected | one package in one record: ranges, listed versions, ids of the findings it stands for, affected Go packages |
//! | records | one OSV record: id, aliases, summary, severity, times |
//! | vulnerabilities | by CVE id: KEV, EPSS, and the best severity any record gives |
//! | feeds | what the database was built from |
//!
//! Ranges are a list of `[range kind, number of events, (event kind, version string id)…]…`. For
//! ecosystems with a version order (`Scheme`) events are sorted, and listed versions are in the
//! order's canonical spelling; all other ecosystems keep the text and order of the export, so that
//! matching them later needs new code but no new format.

/// First bytes of every database.
pub const MAGIC: [u8; 8] = *b"PLIMVULN";
/// Number of this layout. A reader refuses every other one.
pub const FORMAT_VERSION: u32 = 3;
/// Bytes before the first section.
pub const HEADER_BYTES: usize = 512;
/// Bytes that one checksum covers.
pub const BLOCK_BYTES: usize = 64 * 1024;
/// Number of sections.
pub const SECTION_COUNT: usize = 9;

/// The sections, in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `u32` per string, and one for the end.
    StringOffsets,
    /// UTF-8 without separators.
    StringBytes,
    /// `u32` words.
    Lists,
    /// [`EcosystemRow`]s sorted by name.
    Ecosystems,
    /// [`PackageRow`]s sorted by (ecosystem, name).
    Packages,
    /// [`AffectedRow`]s, those of one package together.
    Affected,
    /// [`RecordRow`]s sorted by record id.
    Records,
    /// [`VulnerabilityRow`]s sorted by CVE id.
    Vulnerabilities,
    /// [`FeedRow`]s.
    Feeds,
}

/// Where a section lies, in bytes from the start of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// The decoded header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub file_length: u64,
    pub built_ms: i64,
    /// Newest `modified` of any record.
    pub newest_modified_ms: i64,
    /// SHA-256 of all sections; equal input gives equal content.
    pub content_sha256: [u8; 32],
    pub sections: [Extent; SECTION_COUNT],
    /// The block checksums.
    pub blocks: Extent,
    pub blocks_crc: u32,
}

const SECTIONS_AT: usize = 72;
const BLOCKS_AT: usize = SECTIONS_AT + SECTION_COUNT * 16;
const BLOCKS_CRC_AT: usize = BLOCKS_AT + 16;
const HEADER_CRC_AT: usize = HEADER_BYTES - 4;

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    NotADatabase,
    OtherFormat(u32),
    Damaged(&'static str),
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0u8; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &FORMAT_VERSION.to_le_bytes());
        put(12, &(SECTION_COUNT as u32).to_le_bytes());
        put(16, &self.file_length.to_le_bytes());
        put(24, &self.built_ms.to_le_bytes());
        put(32, &self.newest_modified_ms.to_le_bytes());
        put(40, &self.content_sha256);
        for (i, extent) in self.sections.iter().chain([&self.blocks]).enumerate() {
            put(SECTIONS_AT + i * 16, &extent.offset.to_le_bytes());
            put(SECTIONS_AT + i * 16 + 8, &extent.length.to_le_bytes());
        }
        put(BLOCKS_CRC_AT, &self.blocks_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..HEADER_CRC_AT]);
        out[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes and checks the header against the file's real length.
    pub fn decode(file: &[u8]) -> Result<Header, HeaderError> {
        if file.get(..8) != Some(&MAGIC[..]) {
            return Err(HeaderError::NotADatabase);
        }
        let Some(bytes) = file.get(..HEADER_BYTES) else {
            return Err(HeaderError::Damaged("truncated header"));
        };
        let found = u32_at(bytes, 8);
        if found != FORMAT_VERSION {
            return Err(HeaderError::OtherFormat(found));
        }
        if crc32fast::hash(&bytes[..HEADER_CRC_AT]) != u32_at(bytes, HEADER_CRC_AT) {
            return Err(HeaderError::Damaged("header checksum"));
        }
        let extent = |at| Extent { offset: u64_at(bytes, at), length: u64_at(bytes, at + 8) };
        let mut content_sha256 = [0; 32];
        content_sha256.copy_from_slice(&bytes[40..72]);
        let header = Header {
            file_length: u64_at(bytes, 16),
            built_ms: u64_at(bytes, 24) as i64,
            newest_modified_ms: u64_at(bytes, 32) as i64,
            content_sha256,
            sections: std::array::from_fn(|i| extent(SECTIONS_AT + i * 16)),
            blocks: extent(BLOCKS_AT),
            blocks_crc: u32_at(bytes, BLOCKS_CRC_AT),
        };
        if header.file_length != file.len() as u64 || u32_at(bytes, 12) as usize != SECTION_COUNT {
            return Err(HeaderError::Damaged("truncated file"));
        }
        let inside = |e: &Extent, end: u64| {
            e.offset >= HEADER_BYTES as u64 && e.offset.checked_add(e.length).is_some_and(|last| last <= end)
        };
        let sections_fit = header.sections.iter().all(|s| inside(s, header.blocks.offset));
        if !inside(&header.blocks, header.file_length) || !sections_fit {
            return Err(HeaderError::Damaged("section outside the file"));
        }
        let covered = header.blocks.offset - HEADER_BYTES as u64;
        if header.blocks.length != covered.div_ceil(BLOCK_BYTES as u64) * 4 {
            return Err(HeaderError::Damaged("number of checksums"));
        }
        Ok(header)
    }
}

/// Checksums of the blocks that cover the sections.
pub fn block_checksums(sections: &[u8]) -> Vec<u8> {
    sections.chunks(BLOCK_BYTES).flat_map(|block| crc32fast::hash(block).to_le_bytes()).collect()
}

/// Reads a number; 0 outside of the slice, which cannot happen for rows of their declared width.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// See [`u32_at`].
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A row of fixed width in one section.
pub trait Row: Sized {
    const SECTION: Section;
    const BYTES: usize;
    fn decode(bytes: &[u8]) -> Self;
    fn encode(&self, out: &mut Vec<u8>);
}

/// Declares a row of `u32` fields (then one 64-bit field each), with its encoding.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident in $section:ident { $($(#[$d32:meta])* $f32:ident),* ; $($(#[$d64:meta])* $f64:ident),* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$d32])* pub $f32: u32,)*
            $($(#[$d64])* pub $f64: u64,)*
        }

        impl Row for $name {
            const SECTION: Section = Section::$section;
            const BYTES: usize = 4 * [$(stringify!($f32)),*].len() + 8 * {
                const WIDE: &[&str] = &[$(stringify!($f64)),*];
                WIDE.len()
            };

            #[allow(unused_assignments)]
            fn decode(bytes: &[u8]) -> Self {
                let mut at = 0;
                $(let $f32 = u32_at(bytes, at); at += 4;)*
                $(let $f64 = u64_at(bytes, at); at += 8;)*
                $name { $($f32,)* $($f64,)* }
            }

            fn encode(&self, out: &mut Vec<u8>) {
                $(out.extend_from_slice(&self.$f32.to_le_bytes());)*
                $(out.extend_from_slice(&self.$f64.to_le_bytes());)*
            }
        }
    };
}

row! {
    /// One ecosystem string of the data.
    EcosystemRow in Ecosystems {
        /// String id: `Debian:12`.
        name,
        /// String id: `Debian`.
        base,
        packages,
        affected;
    }
}

row! {
    /// One package of one ecosystem.
    PackageRow in Packages {
        ecosystem,
        name,
        first_affected,
        affected_count;
    }
}

row! {
    /// What one record says about one package.
    AffectedRow in Affected {
        /// Row number in records.
        record,
        /// List reference, see the module's text.
        ranges,
        /// List reference: sorted string ids.
        versions,
        /// List reference: string ids of the findings (CVE ids where there are any), sorted.
        finding_ids,
        /// List reference: sorted string ids, import paths of the Go packages that hold the vulnerability, each with the
        /// platforms that it is limited to (`platform::Import`).
        imports,
        /// String id: the distribution's own urgency.
        urgency,
        /// String id of a CVSS vector that holds for this package only; 0: the record's.
        cvss_vector,
        /// See `Rating::pack`; 0: the record's.
        rating,
        /// [`AFFECTED_BY_ALIAS`].
        flags;
    }
}

row! {
    /// One OSV record.
    RecordRow in Records {
        /// String id.
        id,
        /// List reference: string ids.
        aliases,
        /// String id.
        summary,
        /// String id: name of the data source, where the record gives one.
        source,
        /// String id.
        cvss_vector,
        /// See `Rating::pack`.
        rating,
        /// [`RECORD_WITHDRAWN`].
        flags,
        reserved;
        /// `i64` milliseconds.
        published_ms,
        /// `i64` milliseconds.
        modified_ms
    }
}

row! {
    /// What is known of a CVE apart from any package.
    VulnerabilityRow in Vulnerabilities {
        /// String id.
        id,
        /// [`VULNERABILITY_EXPLOITED`], [`VULNERABILITY_HAS_EPSS`].
        flags,
        /// String id: CISA's due date, `YYYY-MM-DD`.
        exploited_due_date,
        /// String id.
        cvss_vector,
        /// See `Rating::pack`.
        rating,
        reserved;
        /// Bits of an `f64`.
        epss
    }
}

row! {
    /// One source of the data.
    FeedRow in Feeds {
        /// String id: folder of the export, or the name of the list.
        name,
        /// [`FEED_OSV`], [`FEED_KEV`] or [`FEED_EPSS`].
        kind,
        records,
        withdrawn,
        /// Entries that could not be read.
        skipped,
        reserved;
        /// `i64` milliseconds; 0 unknown.
        newest_modified_ms
    }
}

/// The finding ids come from the record's own id and aliases, so its other aliases are theirs too.
pub const AFFECTED_BY_ALIAS: u32 = 1;
/// The record is withdrawn.
pub const RECORD_WITHDRAWN: u32 = 1;
/// In CISA's catalogue of known exploited vulnerabilities.
pub const VULNERABILITY_EXPLOITED: u32 = 1;
/// The EPSS field holds a value.
pub const VULNERABILITY_HAS_EPSS: u32 = 2;

/// An ecosystem's folder of the OSV export.
pub const FEED_OSV: u32 = 0;
/// CISA's catalogue.
pub const FEED_KEV: u32 = 1;
/// FIRST's exploit prediction scores.
pub const FEED_EPSS: u32 = 2;

/// Kinds of ranges in a ranges list.
pub const RANGE_ECOSYSTEM: u32 = 0;
/// See [`RANGE_ECOSYSTEM`].
pub const RANGE_SEMVER: u32 = 1;
/// A range with a boundary that the ecosystem's version order refuses; only its text is usable.
pub const RANGE_UNORDERED: u32 = 2;

/// Kinds of events in a ranges list.
pub const EVENT_INTRODUCED: u32 = 0;
/// See [`EVENT_INTRODUCED`].
pub const EVENT_FIXED: u32 = 1;
/// See [`EVENT_INTRODUCED`].
pub const EVENT_LAST_AFFECTED: u32 = 2;
/// See [`EVENT_INTRODUCED`].
pub const EVENT_LIMIT: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_fields() {
        let row = RecordRow {
            id: 1,
            aliases: 2,
            rating: 7,
            published_ms: u64::MAX,
            modified_ms: 9,
            ..Default::default()
        };
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        assert_eq!(bytes.len(), RecordRow::BYTES);
        assert_eq!(RecordRow::decode(&bytes), row);
        assert_eq!((AffectedRow::BYTES, PackageRow::BYTES, FeedRow::BYTES), (36, 16, 32));
    }
}
