//! What can go wrong between the sink and ClickHouse, and the remedy.
//! It must never carry a password.

use thiserror::Error;

/// A request that failed.
#[derive(Debug, Clone, Error)]
pub enum DatabaseError {
    /// The configuration's fault.
    #[error("{0}")]
    Configuration(String),
    /// No connection, or it broke.
    #[error(
        "ClickHouse at {url} does not answer ({what}: {reason}); is it up, and is clickhouse.url its HTTP port?"
    )]
    Unreachable {
        /// Server.
        url: String,
        /// What was asked.
        what: String,
        /// What the client said.
        reason: String,
    },
    /// No answer in time.
    #[error(
        "ClickHouse at {url} did not finish {what} within {timeout_ms} ms (clickhouse.request_timeout_ms); \
         it hangs or is overloaded"
    )]
    TimedOut {
        /// Server.
        url: String,
        /// What was asked.
        what: String,
        /// The bound.
        timeout_ms: u64,
    },
    /// ClickHouse answered with an error.
    #[error("ClickHouse at {url} refused {what} with code {code}{}: {reason}", remedy(*code))]
    Refused {
        /// Server.
        url: String,
        /// What was asked.
        what: String,
        /// ClickHouse's error code; 0 if the answer had none.
        code: u32,
        /// What ClickHouse said.
        reason: String,
    },
    /// ClickHouse answered something else than was asked.
    #[error("ClickHouse at {url} gave an unexpected answer to {what}: {reason}")]
    Unexpected {
        /// Server.
        url: String,
        /// What was asked.
        what: String,
        /// What is unexpected.
        reason: String,
    },
    /// The database is not as this version needs it; a person decides.
    #[error("{0}")]
    Schema(String),
}

/// Longest text of ClickHouse that is repeated, in bytes.
const REASON_MAX_BYTES: usize = 600;

const UNKNOWN_TABLE: u32 = 60;
const UNKNOWN_DATABASE: u32 = 81;
const MEMORY_LIMIT_EXCEEDED: u32 = 241;
const TOO_MANY_PARTS: u32 = 252;
const REQUIRED_PASSWORD: u32 = 194;
const ACCESS_DENIED: u32 = 497;
const AUTHENTICATION_FAILED: u32 = 516;

fn remedy(code: u32) -> &'static str {
    match code {
        UNKNOWN_TABLE | UNKNOWN_DATABASE => " (was it dropped? a restart of the sink creates it)",
        MEMORY_LIMIT_EXCEEDED => " (give ClickHouse more memory, or lower batch.max_bytes)",
        TOO_MANY_PARTS => " (merges are behind: raise batch.interval_ms, or give ClickHouse more CPU)",
        REQUIRED_PASSWORD | AUTHENTICATION_FAILED => " (check clickhouse.user and clickhouse.password_file)",
        ACCESS_DENIED => " (grant the user CREATE, ALTER, INSERT and SELECT on the database)",
        _ => "",
    }
}

impl DatabaseError {
    pub(super) fn from_client(url: &str, what: &str, error: &clickhouse::error::Error) -> Self {
        let (url, what) = (url.to_owned(), what.to_owned());
        match error {
            clickhouse::error::Error::BadResponse(text) => {
                let code = text
                    .split_once("Code: ")
                    .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
                let mut end = text.len().min(REASON_MAX_BYTES);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                Self::Refused { url, what, code: code.unwrap_or(0), reason: text[..end].trim().to_owned() }
            }
            other => Self::Unreachable { url, what, reason: chain(other) },
        }
    }

    /// Whether waiting may help: the same request can be sent again.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Unexpected { .. } => true,
            Self::Refused { code, .. } => {
                !matches!(*code, REQUIRED_PASSWORD | ACCESS_DENIED | AUTHENTICATION_FAILED)
            }
            Self::Configuration(_) | Self::Schema(_) => false,
        }
    }
}

/// The error with its causes: the client's own text often says only "client error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clickhouse::error::Error;

    #[test]
    fn reads_the_code_and_names_the_remedy() {
        let check = |text: &str, expected: &str, retriable: bool| {
            let error = DatabaseError::from_client(
                "http://h:1",
                "the insert into t",
                &Error::BadResponse(text.into()),
            );
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.is_retriable(), retriable, "{error}");
        };
        check("Code: 252. DB::Exception: Too many parts", "raise batch.interval_ms", true);
        check("Code: 516. DB::Exception: default: Authentication failed", "clickhouse.password_file", false);
        check("Code: 60. DB::Exception: Table x does not exist", "restart of the sink", true);
        check("502 Bad Gateway", "code 0", true);
    }
}
