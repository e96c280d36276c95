//! What can go wrong with a request, whose fault it is, and what to do about it.
//! It must never carry a secret or the text of a query to the reader.

use axum::http::StatusCode;
use thiserror::Error;

/// Why a request was not answered. Each names its remedy.
#[derive(Debug, Error)]
pub enum PortalError {
    /// The reader's request is wrong.
    #[error("{detail}")]
    BadRequest { detail: String, remedy: String },
    /// There is no such thing.
    #[error("{detail}")]
    NotFound { detail: String, remedy: String },
    /// The method does not fit the path.
    #[error("{detail}")]
    MethodNotAllowed { detail: String, remedy: String },
    /// The answer would be larger than a named bound.
    #[error("{detail}")]
    TooLarge { detail: String, remedy: String },
    /// The reader did not prove that they may read.
    #[error("this portal asks for a token")]
    Unauthorized,
    /// The request came by a name that is not this portal's.
    #[error("the host name {0:?} is not one of a loopback address")]
    ForeignHost(String),
    /// ClickHouse or the broker does not answer, or lacks what the portal needs.
    #[error("{detail}")]
    Unavailable { detail: String, remedy: String },
    /// The operator has not set up what this needs.
    #[error("{detail}")]
    NotConfigured { detail: String, remedy: String },
    /// A mistake in Plimsoll: a query that ClickHouse refused, or a row that does not read.
    #[error("the portal could not read its data")]
    Internal {
        /// For the log only.
        detail: String,
    },
}

impl PortalError {
    /// A wrong request.
    pub fn bad_request(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::BadRequest { detail: detail.into(), remedy: remedy.into() }
    }

    /// Something that is not there.
    pub fn not_found(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::NotFound { detail: detail.into(), remedy: remedy.into() }
    }

    /// A mistake of ours; `detail` goes to the log alone.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::Internal { detail: detail.into() }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForeignHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotConfigured { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest { .. } => "bad-request",
            Self::NotFound { .. } => "not-found",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::TooLarge { .. } => "too-large",
            Self::Unauthorized => "unauthorized",
            Self::ForeignHost(_) => "foreign-host",
            Self::Unavailable { .. } => "unavailable",
            Self::NotConfigured { .. } => "not-configured",
            Self::Internal { .. } => "internal",
        }
    }

    /// One line for people.
    pub fn title(&self) -> &'static str {
        match self {
            Self::BadRequest { .. } => "The request is not understood",
            Self::NotFound { .. } => "There is no such thing here",
            Self::MethodNotAllowed { .. } => "The method does not fit",
            Self::TooLarge { .. } => "The answer would be too large",
            Self::Unauthorized => "A token is needed",
            Self::ForeignHost(_) => "The request was addressed to another host",
            Self::Unavailable { .. } => "A service that the portal needs does not answer",
            Self::NotConfigured { .. } => "This is not set up",
            Self::Internal { .. } => "A mistake in Plimsoll",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::BadRequest { remedy, .. }
            | Self::NotFound { remedy, .. }
            | Self::MethodNotAllowed { remedy, .. }
            | Self::TooLarge { remedy, .. }
            | Self::Unavailable { remedy, .. }
            | Self::NotConfigured { remedy, .. } => remedy.clone(),
            Self::Unauthorized => "send `Authorization: Bearer TOKEN`, or any user name with the token as \
                                   password; the token is in the file named by portal.token_file"
                .into(),
            Self::ForeignHost(_) => "open the portal by its loopback address, or set portal.token_file and \
                                     portal.bind to serve it under another name"
                .into(),
            Self::Internal { .. } => "see the portal's log; if the tables were made by another version of \
                                      Plimsoll, upgrade the sink and the portal to the same one"
                .into(),
        }
    }

    /// Writes to the log what the operator needs and the reader must not see.
    pub fn log(&self) {
        match self {
            Self::Internal { detail } => tracing::error!(detail, "request failed"),
            Self::Unavailable { detail, remedy } => tracing::warn!(detail, remedy, "request failed"),
            _ => {}
        }
    }
}
