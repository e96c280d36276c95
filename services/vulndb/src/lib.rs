//! Vulnerability database: an export of OSV becomes one memory-mapped file, which answers what is known
//! about a package's version. Never touches the network, never calls an unassessed package harmless.
//!
//! [`build()`] reads the export, [`Database::open`] maps the result, [`Database::match_package`] answers,
//! [`status()`] describes. The layout of the file is in [`format`](mod@format), the version orders in
//! [`version`].

mod build;
mod error;
mod finding;
pub mod format;
mod guessed;
mod image;
mod matching;
mod platform;
mod query;
mod ranges;
mod severity;
mod status;
mod time;
mod upgrade;
pub mod version;

pub use build::{
    BuildReport, BuildWarning, FeedKind, MAX_INFLATE_RATIO, MAX_LIST_BYTES, MAX_RECORD_BYTES, MAX_WARNINGS,
    MAX_ZIP_ENTRIES, MIN_INFLATE_BUDGET_BYTES, Progress, build,
};
pub use error::{BuildError, Damage, DatabaseError};
pub use matching::Database;
pub use query::{Assessment, Finding, NotApplicable, NotAssessedCode, PackageQuery, Upgrade};
pub use severity::Severity;
pub use status::{DatabaseStatus, EcosystemStatus, FeedStatus, status};
