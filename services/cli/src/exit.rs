//! Exit codes: 0 done · 1 failed · 2 bad usage · 3 the policy of `--fail-on` is broken. `run` gives its command's own.
//! It must never hide a failure behind a policy, nor a policy behind a success.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Exit {
    /// It did what it was asked for.
    Done,
    /// It did, but what it found breaks the policy of `--fail-on`.
    PolicyBroken,
    /// `run`: the command's own exit code.
    Command(u8),
}

/// The user's words were wrong: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::PolicyBroken => ExitCode::from(3),
            Self::Command(code) => ExitCode::from(code),
        }
    }
}

/// The exit code of an error: 2 for wrong usage, else 1.
pub fn code_of(error: &anyhow::Error) -> ExitCode {
    let usage = error.downcast_ref::<UsageError>().is_some()
        || matches!(
            error.downcast_ref::<plimsoll_scanner::ScanError>(),
            Some(plimsoll_scanner::ScanError::BadTarget(_) | plimsoll_scanner::ScanError::Identity(_))
        );
    ExitCode::from(if usage { 2 } else { 1 })
}
