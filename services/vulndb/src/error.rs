//! What can go wrong with the database file, with whose fault it is and the remedy in the text.
//! Never carries a panic: damaged bytes end here or in a package that is "not assessed".

use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a database could not be opened or read.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// There is no such file.
    #[error("no vulnerability database at {}: build one with `plimsoll db build OSV_DIR`", path.display())]
    Missing {
        /// The path that was tried.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot read the vulnerability database {}: {source}", path.display())]
    Io {
        /// The path that was tried.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{} is not a Plimsoll vulnerability database: build one with `plimsoll db build OSV_DIR`", path.display())]
    NotADatabase {
        /// The path that was tried.
        path: PathBuf,
    },
    /// The file was written by another version of Plimsoll.
    #[error(
        "the vulnerability database {} has format {found}, this version of plimsoll reads format {expected}: \
         rebuild it with `plimsoll db build OSV_DIR`",
        path.display()
    )]
    OtherFormat {
        /// The path that was tried.
        path: PathBuf,
        /// Format number in the file.
        found: u32,
        /// Format number of this program.
        expected: u32,
    },
    /// The file is truncated or its content does not match its checksums.
    #[error(
        "the vulnerability database {} is damaged ({}): rebuild it with `plimsoll db build OSV_DIR`",
        path.display(), damage.0
    )]
    Damaged {
        /// The path that was tried.
        path: PathBuf,
        /// What does not fit.
        damage: Damage,
    },
}

impl DatabaseError {
    pub(crate) fn damaged(path: &Path, damage: Damage) -> Self {
        DatabaseError::Damaged { path: path.to_owned(), damage }
    }
}

/// A place of the file that cannot be what the builder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage(pub(crate) &'static str);

/// Why no database was written. The previous file, if any, is untouched.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The export directory cannot be read.
    #[error(
        "cannot read the OSV export directory {}: {source}. It must hold one folder per ecosystem with an all.zip",
        path.display()
    )]
    Input {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Nothing in the directory could be used.
    #[error(
        "no usable <ecosystem>/all.zip below {}: give the directory of an OSV export{}",
        path.display(),
        first_problem.as_ref().map_or_else(String::new, |p| format!(" (first problem: {p})"))
    )]
    NothingUsable {
        /// The directory.
        path: PathBuf,
        /// What was wrong with the first zip, if there was one.
        first_problem: Option<String>,
    },
    /// The result cannot be written.
    #[error("cannot write the vulnerability database {}: {source}. Check free space and permissions", path.display())]
    Output {
        /// The file to be written.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The input does not fit the format's 32-bit references.
    #[error(
        "the OSV export is too large for the database format: more than 4 GiB of {what}. Leave out ecosystems"
    )]
    TooLarge {
        /// Which part overflowed.
        what: &'static str,
    },
}
