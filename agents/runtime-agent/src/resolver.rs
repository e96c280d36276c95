//! The client of package-resolver: root directories go there as descriptors, paths in batches.
//! It must never make the agent wait: a resolver that is away or slow costs answers, not events.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use plimsoll_kit::unix::{ChannelError, FRAME_MAX_DESCRIPTORS, UnixChannel};
use plimsoll_schemas::events::PackageOwnership;
use plimsoll_schemas::resolver_protocol::{PathQuery, ResolverReply, ResolverRequest};

/// Commands that wait to be sent; above, questions go unanswered.
const QUEUE_MAX: usize = 4_096;
/// Most paths of one question.
pub const QUESTION_MAX_PATHS: usize = 500;
/// Most bytes of paths in one question: JSON needs up to four bytes for each.
pub const QUESTION_MAX_BYTES: usize = 128 * 1024;
const RECONNECT: Duration = Duration::from_millis(500);
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// What the agent wants of the resolver.
pub enum ResolverCommand {
    /// Announces a root.
    Open(OpenRoot),
    /// Asks who owns paths.
    Resolve { request_id: u64, artifact: String, workload_id: String, paths: Vec<PathQuery> },
    /// The workload is gone.
    Close { artifact: String, workload_id: String },
}

/// A workload's root.
pub struct OpenRoot {
    pub artifact: String,
    pub workload_id: String,
    pub root: OwnedFd,
    pub upper: Option<OwnedFd>,
    /// The image's layers, the topmost first; opened when they are announced.
    pub lowers: Vec<PathBuf>,
    pub component: bool,
}

/// The resolver's answer; no entries: none is to be had.
#[derive(Clone, Debug, Default)]
pub struct ResolverAnswer {
    pub request_id: u64,
    pub entries: Vec<PackageOwnership>,
}

/// The sending side.
#[derive(Clone)]
pub struct Resolver {
    commands: Sender<ResolverCommand>,
}

impl Resolver {
    /// Connects to the socket, again and again if need be. Answers go to `answers`, also empty ones for questions
    /// that could not be asked.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        socket: PathBuf,
        answers: impl Fn(ResolverAnswer) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (commands, queue) = crossbeam_channel::bounded(QUEUE_MAX);
        let answers: Answers = Arc::new(answers);
        std::thread::Builder::new().name("resolver".into()).spawn(move || run(&socket, &queue, &answers))?;
        Ok(Self { commands })
    }

    /// Queues a command. `false`: the queue is full, or the resolver's thread is gone.
    pub fn send(&self, command: ResolverCommand) -> bool {
        match self.commands.try_send(command) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

type Answers = Arc<dyn Fn(ResolverAnswer) + Send + Sync>;

/// Roots that are open, to be announced again after a reconnect.
type Roots = HashMap<(String, String), OpenRoot>;

fn run(socket: &Path, queue: &Receiver<ResolverCommand>, answers: &Answers) {
    let mut roots = Roots::new();
    let mut connection: Option<UnixChannel> = None;
    let mut next_try = Instant::now();
    let mut said = false;
    loop {
        let command = match queue.recv_timeout(RECONNECT) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if connection.is_none() && Instant::now() >= next_try {
            match connect(socket, &roots, answers) {
                Ok(channel) => {
                    connection = Some(channel);
                    said = false;
                }
                Err(error) => {
                    if !said {
                        tracing::warn!(%error, "package-resolver is away: uses go out without file identities");
                        said = true;
                    }
                    next_try = Instant::now() + RECONNECT;
                }
            }
        }
        let Some(command) = command else { continue };
        if let Err(error) = handle(command, &mut roots, connection.as_mut(), answers) {
            tracing::warn!(%error, "connection to package-resolver broke");
            connection = None;
        }
    }
}

fn connect(socket: &Path, roots: &Roots, answers: &Answers) -> Result<UnixChannel, ChannelError> {
    let mut channel = UnixChannel::connect(socket)?;
    channel.set_send_timeout(Some(SEND_TIMEOUT))?;
    let mut receiving = channel.try_clone()?;
    let answers = Arc::clone(answers);
    std::thread::Builder::new().name("resolver-answers".into()).spawn(move || {
        loop {
            match receiving.receive(Duration::from_secs(60)) {
                Ok(Some(frame)) => match serde_json::from_slice(&frame.bytes) {
                    Ok(ResolverReply::Ownership { request_id, entries }) => {
                        answers(ResolverAnswer { request_id, entries });
                    }
                    Ok(ResolverReply::Failed { request_id, reason }) => {
                        tracing::debug!(request_id, reason, "package-resolver could not answer");
                        answers(ResolverAnswer { request_id, entries: Vec::new() });
                    }
                    Err(error) => tracing::warn!(%error, "package-resolver's answer is not understood"),
                },
                Err(ChannelError::TimedOut(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    })?;
    for root in roots.values() {
        announce(&mut channel, root)?;
    }
    Ok(channel)
}

fn announce(channel: &mut UnixChannel, root: &OpenRoot) -> Result<(), ChannelError> {
    let request = ResolverRequest::Open {
        artifact: root.artifact.clone(),
        workload_id: root.workload_id.clone(),
        has_upper_directory: root.upper.is_some(),
        component: root.component,
    };
    let descriptors: Vec<BorrowedFd<'_>> =
        [Some(root.root.as_fd()), root.upper.as_ref().map(OwnedFd::as_fd)].into_iter().flatten().collect();
    channel.send(&encode(&request), &descriptors)?;
    if root.upper.is_none() || root.lowers.is_empty() {
        return Ok(());
    }
    let directories: Vec<OwnedFd> = root.lowers.iter().filter_map(|path| open_directory(path)).collect();
    if directories.len() < root.lowers.len() {
        // Without all of them a file could be taken for new that is not.
        return Ok(());
    }
    let mut remaining = directories.len();
    for chunk in directories.chunks(FRAME_MAX_DESCRIPTORS) {
        remaining -= chunk.len();
        let request = ResolverRequest::Layers {
            artifact: root.artifact.clone(),
            workload_id: root.workload_id.clone(),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
        };
        let descriptors: Vec<BorrowedFd<'_>> = chunk.iter().map(OwnedFd::as_fd).collect();
        channel.send(&encode(&request), &descriptors)?;
    }
    Ok(())
}

/// Opens a directory as a place only: it cannot be read through this descriptor.
pub fn open_directory(path: &Path) -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn encode(request: &ResolverRequest) -> Vec<u8> {
    // Plain structs of strings and numbers always serialise.
    serde_json::to_vec(request).unwrap_or_default()
}

fn handle(
    command: ResolverCommand,
    roots: &mut Roots,
    channel: Option<&mut UnixChannel>,
    answers: &Answers,
) -> Result<(), ChannelError> {
    match command {
        ResolverCommand::Open(root) => {
            let result = channel.map_or(Ok(()), |channel| announce(channel, &root));
            roots.insert((root.artifact.clone(), root.workload_id.clone()), root);
            result
        }
        ResolverCommand::Close { artifact, workload_id } => {
            roots.remove(&(artifact.clone(), workload_id.clone()));
            let request = ResolverRequest::Close { artifact, workload_id };
            channel.map_or(Ok(()), |channel| channel.send(&encode(&request), &[]))
        }
        ResolverCommand::Resolve { request_id, artifact, workload_id, paths } => {
            let request = ResolverRequest::Resolve { request_id, artifact, workload_id, paths };
            let result = channel.map(|channel| channel.send(&encode(&request), &[]));
            if !matches!(result, Some(Ok(()))) {
                answers(ResolverAnswer { request_id, entries: Vec::new() });
            }
            result.unwrap_or(Ok(()))
        }
    }
}
