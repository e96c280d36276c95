//! What a catalog could not read, for people: each names the thing and what to do about it.
//! Never grows without bound: beyond [`MAX_WARNINGS`] they are only counted.

use crate::bounds::LeftOut;
use crate::tree::TreeError;
use serde::Serialize;

/// Most warnings kept; one more says how many there were beyond these.
pub const MAX_WARNINGS: usize = 999;

/// One warning, with the fields of `scan.artifacts`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Warning {
    /// Stable name of the kind of warning, for example `damaged-stanza`.
    pub code: &'static str,
    /// The file or package that it is about.
    pub subject: String,
    pub message: String,
    pub remedy: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.subject, self.message, self.remedy)
    }
}

/// Collects warnings within their bound.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    kept: Vec<Warning>,
    dropped: usize,
}

impl Warnings {
    pub fn push(&mut self, code: &'static str, subject: &str, message: impl Into<String>, remedy: &str) {
        if self.kept.len() >= MAX_WARNINGS {
            self.dropped += 1;
            return;
        }
        let warning =
            Warning { code, subject: subject.to_owned(), message: message.into(), remedy: remedy.to_owned() };
        self.kept.push(warning);
    }

    /// A file that is there but could not be read.
    pub fn unreadable(&mut self, error: &TreeError) {
        let remedy = match error {
            TreeError::NotKept { .. } => "report this as a fault of the scanner",
            TreeError::OtherMount { .. } => "scan the other mount by itself or allow crossing mounts",
            TreeError::Io { .. } => "run as a user who may read it, then scan again",
            _ => "repair or remove it in the artifact, then scan again",
        };
        self.push("unreadable-file", error.path(), error.to_string(), remedy);
    }

    /// A file longer than what is read of it.
    pub fn truncated(&mut self, path: &str, max_bytes: usize) {
        self.push(
            "file-too-long",
            path,
            format!("only its first {max_bytes} bytes were read"),
            "check whether the file is damaged; packages behind that point are missing",
        );
    }

    /// A file of which more was there than is taken.
    pub fn left_out(&mut self, path: &str, left_out: &LeftOut) {
        if !left_out.is_empty() {
            let message = format!("there are {}; the rest is left out", left_out.text());
            self.push("bound-reached", path, message, "check whether it is damaged or made to mislead");
        }
    }

    /// Sorted, without repetitions.
    pub fn finish(mut self) -> Vec<Warning> {
        self.kept.sort();
        self.kept.dedup();
        if self.dropped > 0 {
            self.kept.push(Warning {
                code: "more-warnings",
                subject: String::new(),
                message: format!("{} more warnings were left out", self.dropped),
                remedy: "deal with the first ones, then scan again".to_owned(),
            });
        }
        self.kept
    }
}
