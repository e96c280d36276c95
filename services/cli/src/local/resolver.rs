//! The package-resolver within this process, behind a socket of its own.
//! It must never leave its socket behind, nor let another user reach it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use plimsoll_kit::host::random_id;
use plimsoll_kit::lifecycle::ServiceContext;
use plimsoll_kit::transport::Connections;
use plimsoll_package_resolver::{InProcess, ResolverSettings};

/// Longest wait, at the end, for what is still being looked up: a host's package index takes seconds.
const FINISH_MAX: Duration = Duration::from_secs(60);

/// A running resolver.
pub struct Resolver {
    running: InProcess,
    directory: PathBuf,
}

impl Resolver {
    /// Starts a resolver that publishes through `connections`.
    ///
    /// # Errors
    /// If the directory for temporary files cannot be written.
    pub fn start(connections: &Connections) -> anyhow::Result<Self> {
        // Short, since a socket's path may have 107 bytes only.
        let directory = std::env::temp_dir().join(format!("plimsoll-{}", &random_id()[..12]));
        make_private(&directory)?;
        let settings = ResolverSettings {
            socket: directory.join("resolver.sock"),
            near: true,
            ..ResolverSettings::default()
        };
        let context = ServiceContext::detached(crate::command::info());
        let running = InProcess::start(&settings, connections.clone(), &context)?;
        Ok(Self { running, directory })
    }

    /// Where the agent asks.
    pub fn socket(&self) -> &Path {
        self.running.socket()
    }

    /// Ends it; what it has found is published first.
    ///
    /// # Errors
    /// If that could not be published.
    pub fn stop(self) -> anyhow::Result<()> {
        let Self { running, directory } = self;
        if !running.wait_idle(FINISH_MAX) {
            eprintln!(
                "warning: the owners of some files were not found in time, so their packages may be missing: a file system \
                 that the command used may hang; run again with -v to see which requests wait"
            );
        }
        let stopped = running.stop();
        // A directory left behind in the directory for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(directory);
        stopped
    }
}

fn make_private(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(directory).with_context(|| {
        format!("making {}; set TMPDIR to a directory that you may write", directory.display())
    })
}
