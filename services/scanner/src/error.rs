//! What can keep a scan from its end, and whose fault it is.
//! Anything that leaves a usable result behind must be a warning in the scan instead.

use std::path::PathBuf;

/// Why a scan has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The words of the command are wrong.
    #[error("{0}")]
    BadTarget(String),
    /// The target cannot be opened.
    #[error("{path}: {source}; check that it exists and that this user may read it")]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The image's container format is damaged.
    #[error("{image}: {reason}; save or pull the image again")]
    DamagedImage {
        /// The image as the user named it.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image is larger than one of our bounds.
    #[error(
        "{image}: {what} is over the bound of {bound}; scan a smaller image, or tell us why it has to be so large"
    )]
    TooLarge {
        /// The image as the user named it.
        image: String,
        /// What is too large.
        what: String,
        /// The bound, with its unit.
        bound: String,
    },
    /// The container engine does not have the image.
    #[error("{image} is not on the container engine at {endpoint}; pull it first (docker pull {image})")]
    NoSuchImage {
        /// The image as the user named it.
        image: String,
        /// The engine that was asked.
        endpoint: String,
    },
    /// The container engine cannot be asked.
    #[error(
        "container engine at {endpoint}: {reason}; start it, or set docker.host (PLIMSOLL_DOCKER_HOST, --docker-host) to the right one"
    )]
    Engine {
        /// The engine that was asked.
        endpoint: String,
        /// What went wrong.
        reason: String,
    },
    /// The container engine answers, but not with what was asked for.
    #[error("container engine at {endpoint}: {reason}; look into its log")]
    EngineRefused {
        /// The engine that was asked.
        endpoint: String,
        /// What it answered.
        reason: String,
    },
    /// There is no room for a copy of the image while it is read.
    #[error(
        "{path}: {source}; the saved image is kept there while it is read: make room, or set TMPDIR to a larger disk"
    )]
    Spool {
        /// The directory of temporary files.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The scan was asked to end.
    #[error("the scan was cancelled before its end; scan again")]
    Cancelled,
    /// A fault of ours.
    #[error("scanning {target} panicked, which is a fault of the scanner; report it with the log")]
    Panicked {
        /// The target as the user named it.
        target: String,
    },
    /// The artifact's files cannot be read.
    #[error("{0}")]
    Tree(#[from] plimsoll_catalog::tree::TreeError),
    /// The artifact key cannot be made.
    #[error("{0}")]
    Identity(#[from] plimsoll_schemas::identity::IdentityError),
    /// The host has no identity.
    #[error("{0}")]
    Host(#[from] plimsoll_kit::host::NoMachineId),
    /// The vulnerability database cannot be read.
    #[error("{0}")]
    Database(String),
    /// The scan could not be handed on.
    #[error("{0}")]
    Publish(String),
}
