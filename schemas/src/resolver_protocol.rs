//! The protocol between runtime-agent and package-resolver: frames of JSON over a Unix stream socket.
//! It must never carry a path to open by name: the root comes as an open descriptor (SCM_RIGHTS) beside the frame.

use serde::{Deserialize, Serialize};

use crate::events::PackageOwnership;

/// Most paths in one request.
pub const REQUEST_MAX_PATHS: usize = 1_000;
/// Most bytes of paths in one request: JSON needs up to four bytes for each, and a frame has a bound.
pub const REQUEST_MAX_PATH_BYTES: usize = 1024 * 1024;
/// Longest frame, in bytes.
pub const FRAME_MAX_BYTES: u32 = 16 * 1024 * 1024;

/// A request of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ResolverRequest {
    /// Announces a workload's root. The root directory's descriptor travels with this frame; the resolver keeps it
    /// until `Close`. A second `Open` of the same workload replaces the descriptor.
    Open {
        /// Artifact key.
        artifact: String,
        /// Workload whose root it is.
        workload_id: String,
        /// Where the root is an overlay, its upper directory's descriptor travels as a second one, so that drift can be
        /// told.
        has_upper_directory: bool,
        /// The root is a component's directory: only application packages are looked for.
        component: bool,
        /// When the workload started, milliseconds since the Unix epoch: no scan of what it was started from lists what
        /// was made since. 0: not known; then the time of the announcement stands for it.
        #[serde(default)]
        started_at_ms: i64,
    },
    /// Asks who owns paths. Answered by one [`ResolverReply::Ownership`] with an entry per path, in order.
    Resolve {
        /// Number that the reply repeats.
        request_id: u64,
        /// Artifact key.
        artifact: String,
        /// Workload whose root is meant.
        workload_id: String,
        /// The paths.
        paths: Vec<PathQuery>,
    },
    /// The lower layers of a workload's overlay, as built into its image: one descriptor of a directory for each, the
    /// topmost layer first, at most 16 with one frame. Sent behind `Open`, repeated until all were sent. Without them
    /// it cannot be told whether a file of the upper directory is new or modified.
    Layers {
        /// Artifact key.
        artifact: String,
        /// The workload.
        workload_id: String,
        /// How many more descriptors follow in further `Layers`; the last one says 0.
        remaining: u32,
    },
    /// The workload is gone; its descriptor can be closed.
    Close {
        /// Artifact key.
        artifact: String,
        /// The workload.
        workload_id: String,
    },
}

/// One path to resolve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathQuery {
    /// Path relative to the artifact's root, without a leading slash; or one of those that begin with a question mark
    /// (`words::ANY_ARCHIVE`, `words::COPY_OF_ANY_ARCHIVE`, `words::COPY_OF_ANY_FILE`, `words::CLASSES_WITHIN`,
    /// `words::ARCHIVE_ELSEWHERE`).
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// Inode as the workload sees it; 0 if unknown.
    pub inode: u64,
    /// When the inode last changed, milliseconds since the Unix epoch; 0 if unknown.
    #[serde(default)]
    pub changed_ms: i64,
}

/// A reply of the resolver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ResolverReply {
    /// The answer to `Resolve`. The resolver has published what is new of it before it answers.
    Ownership {
        /// Number of the request.
        request_id: u64,
        /// One entry per path of the request, in order; the file identity is in it. That of a possible copy has another
        /// path than the question: `words::COPY_OF_ANY_FILE`, or the artifact's own file where it is that one.
        entries: Vec<PackageOwnership>,
    },
    /// The request could not be answered at all; to be asked again later, unless the reason says otherwise.
    Failed {
        /// Number of the request; 0 if it had none.
        request_id: u64,
        /// What went wrong and what to do.
        reason: String,
    },
}
