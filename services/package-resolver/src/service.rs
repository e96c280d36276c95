//! Starts the resolver: as a service, or inside another process for local mode and tests.
//! Never gives up rights of a process that is not its own: that is the service's `main`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use plimsoll_kit::host;
use plimsoll_kit::lifecycle::{ServiceContext, ShutdownToken};
use plimsoll_kit::transport::Connections;
use plimsoll_kit::unix::UnixServer;

use crate::config::{PackageResolverConfig, ResolverSettings};
use crate::publisher::Publisher;
use crate::resolver::Resolver;
use crate::server;

/// Mode of the socket: its owner and root may ask.
const SOCKET_MODE: u32 = 0o600;
/// Mode of the socket's directory, where it has to be made.
const DIRECTORY_MODE: u32 = 0o755;
/// How long the last events may take to be delivered at the end.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs until the service is asked to stop.
///
/// # Errors
/// If the configuration or the socket cannot be used, or the broker refuses us for good.
pub fn run(config: PackageResolverConfig, context: ServiceContext) -> anyhow::Result<()> {
    let connections = Connections::open(&config.kafka, &config.schema_registry)?;
    let (resolver, publisher, server) = make(&config.resolver, connections, &context)?;
    tracing::info!(socket = %config.resolver.socket.display(), "answering who owns paths");
    let served = server::serve(&resolver, &server, &context.shutdown);
    let ended = publisher.end(END_TIMEOUT);
    served.context("serving the resolver's socket")?;
    ended.map_err(anyhow::Error::msg).context("publishing ownership")
}

type Parts = (Arc<Resolver>, Arc<Publisher>, UnixServer);

fn make(
    settings: &ResolverSettings,
    connections: Connections,
    context: &ServiceContext,
) -> anyhow::Result<Parts> {
    if let Some(directory) = settings.socket.parent().filter(|directory| !directory.exists()) {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).with_context(
            || format!("cannot make {}; make it, or set resolver.socket elsewhere", directory.display()),
        )?;
    }
    let server = UnixServer::bind(&settings.socket, SOCKET_MODE)?;
    let producer_id = producer_id();
    let publisher =
        Arc::new(Publisher::start(connections, context, &producer_id, settings.queue_max_events)?);
    let resolver = Resolver::new(settings.clone(), publisher.clone(), &context.metrics)?;
    Ok((resolver, publisher, server))
}

/// The same over restarts, one for each host.
fn producer_id() -> String {
    let host = host::machine_id().unwrap_or_else(|_| host::node_name());
    format!("plimsoll-package-resolver-{host}")
}

/// A resolver that runs inside this process. Dropping it ends it without waiting for what is not published.
pub struct InProcess {
    socket: PathBuf,
    shutdown: ShutdownToken,
    resolver: Arc<Resolver>,
    publisher: Arc<Publisher>,
    thread: Option<JoinHandle<()>>,
}

impl InProcess {
    /// Starts a resolver on `settings.socket` that publishes through `connections`. `context` gives health and metrics;
    /// its shutdown does not end the resolver.
    ///
    /// # Errors
    /// If the socket cannot be used or no thread can be started.
    pub fn start(
        settings: &ResolverSettings,
        connections: Connections,
        context: &ServiceContext,
    ) -> anyhow::Result<Self> {
        let shutdown = ShutdownToken::new();
        let context = ServiceContext { shutdown: shutdown.clone(), ..context.clone() };
        let (resolver, publisher, server) = make(settings, connections, &context)?;
        let socket = settings.socket.clone();
        let stop = shutdown.clone();
        let serving = resolver.clone();
        let thread = std::thread::Builder::new().name("package-resolver".into()).spawn(move || {
            if let Err(error) = server::serve(&serving, &server, &stop) {
                tracing::error!("package-resolver ended: {error}");
            }
        })?;
        Ok(Self { socket, shutdown, resolver, publisher, thread: Some(thread) })
    }

    /// Where agents connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks about all Java packages once more, then waits until no request is worked on any more, those past their deadline
    /// included; whether that came about.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        self.resolver.answer_rest(None);
        self.resolver.wait_idle(timeout)
    }

    /// Waits until everything answered so far is published; how many events still wait.
    pub fn flush(&self, timeout: Duration) -> usize {
        self.publisher.flush(timeout)
    }

    /// Ends it: no more requests, what waits is published.
    ///
    /// # Errors
    /// Why publishing could never work.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end();
        self.publisher.end(END_TIMEOUT).map_err(anyhow::Error::msg)
    }

    fn end(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            // A panic there was already reported.
            let _ = thread.join();
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.end();
    }
}
