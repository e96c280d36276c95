//! Builds the database from a directory in the layout of the OSV export.
//! Never leaves a half-written file: the result appears by rename, or the old one stays.

mod fold;
mod input;
mod model;
mod osv;
mod writer;

use crate::error::BuildError;
use crate::status::FeedStatus;
use crate::time::{date, parse_ms};
use model::{Interner, Record, Text};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use input::{
    MAX_INFLATE_RATIO, MAX_LIST_BYTES, MAX_RECORD_BYTES, MAX_ZIP_ENTRIES, MIN_INFLATE_BUDGET_BYTES,
};

/// Most warnings that are kept with their text; further ones are counted.
pub const MAX_WARNINGS: usize = 1000;

/// What the build is doing, for a progress line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Reading one ecosystem's zip.
    Reading {
        /// Folder name.
        ecosystem: &'a str,
        /// Entries read so far.
        done: u64,
        /// Entries in the zip.
        total: u64,
    },
    /// Sorting and folding.
    Indexing {
        /// Records in all ecosystems.
        records: u64,
    },
    /// Writing the file.
    Writing {
        /// Its size in bytes.
        bytes: u64,
    },
}

/// Something that was left out, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuildWarning {
    /// The file or folder.
    pub path: PathBuf,
    /// The entry within a zip.
    pub entry: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl std::fmt::Display for BuildWarning {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.path.display())?;
        if let Some(entry) = &self.entry {
            write!(out, ": {entry}")?;
        }
        write!(out, " {}: {}", self.problem, self.remedy)
    }
}

/// Warnings within their bound.
#[derive(Default)]
pub(crate) struct Warnings {
    kept: Vec<BuildWarning>,
    dropped: u64,
}

impl Warnings {
    fn add(&mut self, warning: BuildWarning) {
        tracing::warn!("{warning}");
        if self.kept.len() < MAX_WARNINGS {
            self.kept.push(warning);
        } else {
            self.dropped += 1;
        }
    }
}

/// What was built.
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct BuildReport {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub file_size_bytes: u64,
    /// Identifies the content; equal input gives equal versions.
    pub database_version: String,
    /// Distinct records, withdrawn ones included.
    pub records: u64,
    /// Packages of all ecosystems.
    pub packages: u64,
    /// What it was built from.
    pub feeds: Vec<FeedStatus>,
    /// What was left out, at most [`MAX_WARNINGS`].
    pub warnings: Vec<BuildWarning>,
    /// Warnings beyond the bound.
    pub warnings_dropped: u64,
}

/// Builds `output` from `osv_dir` (`<ecosystem>/all.zip`, `kev.json`, optionally `epss_scores-current.csv[.gz]`).
///
/// # Errors
/// When the directory has nothing usable or the file cannot be written; `output` is then as before. Bad
/// entries and zips are warnings in the report, not errors.
pub fn build(
    osv_dir: &Path,
    output: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<BuildReport, BuildError> {
    let built_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64);
    build_at(osv_dir, output, built_ms, progress)
}

fn build_at(
    osv_dir: &Path,
    output: &Path,
    built_ms: i64,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<BuildReport, BuildError> {
    let mut warnings = Warnings::default();
    let input = |source| BuildError::Input { path: osv_dir.to_owned(), source };
    let zips = input::ecosystem_zips(osv_dir, &mut warnings).map_err(input)?;
    let mut collected = Collected::new();
    for (ecosystem, zip) in &zips {
        collected.read(ecosystem, zip, &mut warnings, progress);
    }
    if collected.feeds.is_empty() {
        return Err(BuildError::NothingUsable {
            path: osv_dir.to_owned(),
            first_problem: warnings.kept.first().map(ToString::to_string),
        });
    }
    let kev = input::read_kev(osv_dir, &mut warnings);
    let epss = input::read_epss(osv_dir, &mut warnings);
    if let Some(kev) = &kev {
        collected.add_list("CISA KEV", FeedKind::KnownExploited, kev.due_dates.len(), &kev.released);
    }
    if let Some(epss) = &epss {
        collected.add_list("FIRST EPSS", FeedKind::ExploitPrediction, epss.scores.len(), &epss.score_date);
    }
    progress(Progress::Indexing { records: collected.records.len() as u64 });
    let Collected { records, feeds, strings, .. } = collected;
    let feeds_status = feeds.iter().map(FeedInput::status).collect();
    let count = records.len() as u64;
    let image = writer::encode(writer::Input {
        records,
        feeds,
        strings,
        due_dates: kev.map(|k| k.due_dates).unwrap_or_default(),
        scores: epss.map(|e| e.scores).unwrap_or_default(),
        built_ms,
    })?;
    progress(Progress::Writing { bytes: image.bytes.len() as u64 });
    writer::replace_file(output, &image.bytes)
        .map_err(|source| BuildError::Output { path: output.to_owned(), source })?;
    Ok(BuildReport {
        path: output.to_owned(),
        file_size_bytes: image.bytes.len() as u64,
        database_version: database_version(image.newest_modified_ms, &image.content_sha256),
        records: count,
        packages: image.packages,
        feeds: feeds_status,
        warnings: warnings.kept,
        warnings_dropped: warnings.dropped,
    })
}

/// Newest record's date and the start of the content's hash: sorts roughly by age, equal for equal content.
pub(crate) fn database_version(newest_modified_ms: i64, content_sha256: &[u8; 32]) -> String {
    let hash: String = content_sha256[..6].iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{hash}", date(newest_modified_ms))
}

/// What kind of source a feed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedKind {
    /// An ecosystem's folder of the OSV export.
    Osv,
    /// CISA's catalogue of known exploited vulnerabilities.
    KnownExploited,
    /// FIRST's exploit prediction scores.
    ExploitPrediction,
}

pub(crate) struct FeedInput {
    name: String,
    kind: FeedKind,
    records: u32,
    withdrawn: u32,
    skipped: u32,
    newest_modified_ms: i64,
}

impl FeedInput {
    fn status(&self) -> FeedStatus {
        FeedStatus {
            name: self.name.clone(),
            kind: self.kind,
            records: u64::from(self.records),
            withdrawn: u64::from(self.withdrawn),
            skipped: u64::from(self.skipped),
            newest_modified_ms: self.newest_modified_ms,
        }
    }
}

/// Everything read so far.
struct Collected {
    records: Vec<Record>,
    by_id: HashMap<Text, usize>,
    strings: Interner,
    feeds: Vec<FeedInput>,
}

impl Collected {
    fn new() -> Self {
        Collected { records: Vec::new(), by_id: HashMap::new(), strings: Interner::new(), feeds: Vec::new() }
    }

    fn read(
        &mut self,
        ecosystem: &str,
        zip: &Path,
        warnings: &mut Warnings,
        progress: &mut dyn FnMut(Progress<'_>),
    ) {
        let mut withdrawn = 0;
        let mut newest_modified_ms = 0;
        let mut tick = |done, total| progress(Progress::Reading { ecosystem, done, total });
        let outcome = input::read_zip(zip, warnings, &mut tick, &mut |osv, entry, warnings| {
            let record = model::reduce(&osv, &mut self.strings, &mut |package| {
                warnings.add(BuildWarning {
                    path: zip.to_owned(),
                    entry: Some(entry.to_owned()),
                    problem: format!("has only version boundaries for {package} that its ecosystem cannot order; it will never match"),
                    remedy: "nothing to do here; the record's publisher has to correct it".into(),
                });
            });
            withdrawn += u32::from(record.withdrawn);
            newest_modified_ms = newest_modified_ms.max(record.modified_ms);
            self.keep_newest(record);
        });
        match outcome {
            Ok(outcome) => self.feeds.push(FeedInput {
                name: ecosystem.to_owned(),
                kind: FeedKind::Osv,
                records: outcome.records,
                withdrawn,
                skipped: outcome.skipped,
                newest_modified_ms,
            }),
            Err(warning) => warnings.add(warning),
        }
    }

    /// The same record comes in several zips when it concerns several ecosystems.
    fn keep_newest(&mut self, record: Record) {
        match self.by_id.get(&record.id) {
            Some(&at) if self.records[at].modified_ms >= record.modified_ms => {}
            Some(&at) => self.records[at] = record,
            None => {
                self.by_id.insert(record.id, self.records.len());
                self.records.push(record);
            }
        }
    }

    fn add_list(&mut self, name: &str, kind: FeedKind, records: usize, date: &str) {
        self.feeds.push(FeedInput {
            name: name.to_owned(),
            kind,
            records: u32::try_from(records).unwrap_or(u32::MAX),
            withdrawn: 0,
            skipped: 0,
            newest_modified_ms: parse_ms(date),
        });
    }
}
