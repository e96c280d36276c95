//! What a database holds, for `plimsoll db status`.
//! Never changes anything; a damaged file is an error here, not a number.

use crate::build::FeedKind;
use crate::error::DatabaseError;
use crate::format::{
    EcosystemRow, FEED_EPSS, FEED_KEV, FORMAT_VERSION, PackageRow, RECORD_WITHDRAWN, RecordRow,
};
use crate::image::Read;
use crate::matching::Database;
use crate::version::Scheme;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One source of the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedStatus {
    /// Folder of the export, or the name of the list.
    pub name: String,
    /// What it is.
    pub kind: FeedKind,
    /// Records read.
    pub records: u64,
    /// How many of them are withdrawn.
    pub withdrawn: u64,
    /// Entries that could not be read.
    pub skipped: u64,
    /// Newest record, or the list's own date; 0 unknown.
    pub newest_modified_ms: i64,
}

/// One ecosystem string that occurs in the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EcosystemStatus {
    /// `Debian:12`, `PyPI`, …
    pub name: String,
    /// Packages with at least one record.
    pub packages: u64,
    /// Entries of records about them.
    pub affected: u64,
    /// Whether this program matches it; the others are stored for later.
    pub matched: bool,
    /// What its versions are ordered by (`Maven`, `PEP 440`, …); empty if it is not matched.
    pub version_order: String,
}

/// The state of a database file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseStatus {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub file_size_bytes: u64,
    /// Number of the layout.
    pub format_version: u32,
    /// Identifies the content.
    pub database_version: String,
    /// When it was built.
    pub built_ms: i64,
    /// Newest record.
    pub newest_modified_ms: i64,
    /// Distinct records, withdrawn ones included.
    pub records: u64,
    /// Withdrawn records; they never match.
    pub withdrawn: u64,
    /// Packages of all ecosystems.
    pub packages: u64,
    /// What it was built from.
    pub feeds: Vec<FeedStatus>,
    /// Everything that can be asked for.
    pub ecosystems: Vec<EcosystemStatus>,
}

/// Opens the database, verifies all of it and describes it.
///
/// # Errors
/// As [`Database::open`], and when any part is damaged.
pub fn status(path: &Path) -> Result<DatabaseStatus, DatabaseError> {
    let database = Database::open(path)?;
    database.verify()?;
    database.status()
}

impl Database {
    /// Describes the database without verifying all of it.
    ///
    /// # Errors
    /// When a part that is read is damaged.
    pub fn status(&self) -> Result<DatabaseStatus, DatabaseError> {
        self.describe().map_err(|damage| DatabaseError::damaged(self.image.path(), damage))
    }

    /// The ecosystem strings of the data.
    ///
    /// # Errors
    /// When a part that is read is damaged.
    pub fn ecosystems(&self) -> Result<Vec<EcosystemStatus>, DatabaseError> {
        self.ecosystem_list().map_err(|damage| DatabaseError::damaged(self.image.path(), damage))
    }

    fn describe(&self) -> Read<DatabaseStatus> {
        let (image, header) = (&self.image, self.image.header());
        let mut withdrawn = 0;
        for index in 0..image.count::<RecordRow>() {
            withdrawn += u64::from(image.row::<RecordRow>(index)?.flags & RECORD_WITHDRAWN != 0);
        }
        Ok(DatabaseStatus {
            path: image.path().to_owned(),
            file_size_bytes: header.file_length,
            format_version: FORMAT_VERSION,
            database_version: self.version().to_owned(),
            built_ms: header.built_ms,
            newest_modified_ms: header.newest_modified_ms,
            records: image.count::<RecordRow>() as u64,
            withdrawn,
            packages: image.count::<PackageRow>() as u64,
            feeds: self.feed_list()?,
            ecosystems: self.ecosystem_list()?,
        })
    }

    fn feed_list(&self) -> Read<Vec<FeedStatus>> {
        self.feed_rows()
            .map(|row| {
                let row = row?;
                Ok(FeedStatus {
                    name: self.image.string(row.name)?.to_owned(),
                    kind: match row.kind {
                        FEED_KEV => FeedKind::KnownExploited,
                        FEED_EPSS => FeedKind::ExploitPrediction,
                        _ => FeedKind::Osv,
                    },
                    records: u64::from(row.records),
                    withdrawn: u64::from(row.withdrawn),
                    skipped: u64::from(row.skipped),
                    newest_modified_ms: row.newest_modified_ms as i64,
                })
            })
            .collect()
    }

    fn ecosystem_list(&self) -> Read<Vec<EcosystemStatus>> {
        (0..self.image.count::<EcosystemRow>())
            .map(|index| {
                let row: EcosystemRow = self.image.row(index)?;
                let scheme = Scheme::of_osv_ecosystem(self.image.string(row.base)?);
                Ok(EcosystemStatus {
                    name: self.image.string(row.name)?.to_owned(),
                    packages: u64::from(row.packages),
                    affected: u64::from(row.affected),
                    matched: scheme.is_some(),
                    version_order: scheme.map_or_else(String::new, |scheme| scheme.title().to_owned()),
                })
            })
            .collect()
    }
}
