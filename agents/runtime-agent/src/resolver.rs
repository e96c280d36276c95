//! The client of package-resolver: root directories go there as descriptors, paths in batches.
//! It must never make the agent wait: a resolver that is away or slow costs answers, not events.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// When the workload started, milliseconds since the Unix epoch; 0 if unknown.
    pub started_at_ms: i64,
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
        reconnected: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (commands, queue) = crossbeam_channel::bounded(QUEUE_MAX);
        let answers: Answers = Arc::new(answers);
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            run(&socket, &queue, &answers, &reconnected);
        })?;
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

/// One life of the connection.
struct Connection {
    channel: UnixChannel,
    stream: UnixStream,
    /// The other side closed it.
    ended: Arc<AtomicBool>,
    /// Questions without an answer so far.
    open: OpenQuestions,
}

type OpenQuestions = Arc<Mutex<HashSet<u64>>>;

impl Drop for Connection {
    fn drop(&mut self) {
        // Ends the receiving thread, which answers what is open.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn run(
    socket: &Path,
    queue: &Receiver<ResolverCommand>,
    answers: &Answers,
    reconnected: &(impl Fn() + Send + 'static),
) {
    let mut roots = Roots::new();
    let mut connection: Option<Connection> = None;
    let mut next_try = Instant::now();
    let (mut said, mut connected_before) = (false, false);
    loop {
        let command = match queue.recv_timeout(RECONNECT) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if connection.as_ref().is_some_and(|connection| connection.ended.load(Ordering::Acquire)) {
            tracing::warn!("package-resolver closed the connection");
            connection = None;
        }
        if connection.is_none() && Instant::now() >= next_try {
            match connect(socket, &roots, answers) {
                Ok(channel) => {
                    connection = Some(channel);
                    said = false;
                    if std::mem::replace(&mut connected_before, true) {
                        reconnected();
                    }
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
        let channel = connection.as_mut().map(|connection| (&mut connection.channel, &connection.open));
        if let Err(error) = handle(command, &mut roots, channel, answers) {
            tracing::warn!(%error, "connection to package-resolver broke");
            connection = None;
        }
    }
}

fn connect(socket: &Path, roots: &Roots, answers: &Answers) -> Result<Connection, ChannelError> {
    let stream = UnixStream::connect(socket)
        .map_err(|source| ChannelError::Open { path: socket.to_owned(), source })?;
    let mut channel = UnixChannel::from(stream.try_clone()?);
    channel.set_send_timeout(Some(SEND_TIMEOUT))?;
    let mut receiving = channel.try_clone()?;
    let (ended, open) = (Arc::new(AtomicBool::new(false)), OpenQuestions::default());
    let connection = Connection {
        channel: receiving.try_clone()?,
        stream,
        ended: Arc::clone(&ended),
        open: Arc::clone(&open),
    };
    let answers = Arc::clone(answers);
    std::thread::Builder::new().name("resolver-answers".into()).spawn(move || {
        let questions = || open.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = |request_id: u64, entries| {
            if questions().remove(&request_id) {
                answers(ResolverAnswer { request_id, entries });
            }
        };
        loop {
            match receiving.receive(Duration::from_secs(60)) {
                Ok(Some(frame)) => match serde_json::from_slice(&frame.bytes) {
                    Ok(ResolverReply::Ownership { request_id, entries }) => answer(request_id, entries),
                    Ok(ResolverReply::Failed { request_id, reason }) => {
                        tracing::debug!(request_id, reason, "package-resolver could not answer");
                        answer(request_id, Vec::new());
                    }
                    Err(error) => tracing::warn!(%error, "package-resolver's answer is not understood"),
                },
                Err(ChannelError::TimedOut(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        ended.store(true, Ordering::Release);
        let left: Vec<u64> = questions().drain().collect();
        for request_id in left {
            answers(ResolverAnswer { request_id, entries: Vec::new() });
        }
    })?;
    for root in roots.values() {
        announce(&mut channel, root)?;
    }
    Ok(connection)
}

fn announce(channel: &mut UnixChannel, root: &OpenRoot) -> Result<(), ChannelError> {
    let request = ResolverRequest::Open {
        artifact: root.artifact.clone(),
        workload_id: root.workload_id.clone(),
        has_upper_directory: root.upper.is_some(),
        component: root.component,
        started_at_ms: root.started_at_ms,
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
    connection: Option<(&mut UnixChannel, &OpenQuestions)>,
    answers: &Answers,
) -> Result<(), ChannelError> {
    match command {
        ResolverCommand::Open(root) => {
            let result = connection.map_or(Ok(()), |(channel, _)| announce(channel, &root));
            roots.insert((root.artifact.clone(), root.workload_id.clone()), root);
            result
        }
        ResolverCommand::Close { artifact, workload_id } => {
            roots.remove(&(artifact.clone(), workload_id.clone()));
            let request = ResolverRequest::Close { artifact, workload_id };
            connection.map_or(Ok(()), |(channel, _)| channel.send(&encode(&request), &[]))
        }
        ResolverCommand::Resolve { request_id, artifact, workload_id, paths } => {
            let request = ResolverRequest::Resolve { request_id, artifact, workload_id, paths };
            let Some((channel, open)) = connection else {
                answers(ResolverAnswer { request_id, entries: Vec::new() });
                return Ok(());
            };
            // Before it is sent: the answer may come at once. When sending fails, the connection's end answers.
            open.lock().unwrap_or_else(PoisonError::into_inner).insert(request_id);
            channel.send(&encode(&request), &[])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const SOON: Duration = Duration::from_secs(10);

    fn next(channel: &mut UnixChannel) -> (ResolverRequest, usize) {
        let frame = channel.receive(SOON).unwrap().unwrap();
        (serde_json::from_slice(&frame.bytes).unwrap(), frame.descriptors.len())
    }

    #[test]
    fn a_resolver_that_dies_is_told_the_roots_again() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("resolver.sock");
        let (answers, answered) = crossbeam_channel::unbounded();
        let (back, came_back) = crossbeam_channel::unbounded();
        let resolver = Resolver::start(
            socket.clone(),
            move |answer| answers.send(answer).unwrap(),
            move || back.send(()).unwrap(),
        )
        .unwrap();
        let resolve = |request_id| {
            assert!(resolver.send(ResolverCommand::Resolve {
                request_id,
                artifact: "image/x".into(),
                workload_id: "w".into(),
                paths: vec![PathQuery { path: b"usr/bin/x".to_vec(), inode: 7, ..PathQuery::default() }],
            }));
        };
        // Away: answered at once, with nothing.
        resolve(1);
        assert_eq!(answered.recv_timeout(SOON).unwrap().request_id, 1);

        let listener = UnixListener::bind(&socket).unwrap();
        let lower = directory.path().join("lower");
        std::fs::create_dir(&lower).unwrap();
        resolver.send(ResolverCommand::Open(OpenRoot {
            artifact: "image/x".into(),
            workload_id: "w".into(),
            root: open_directory(directory.path()).unwrap(),
            upper: open_directory(directory.path()),
            lowers: vec![lower.clone(), lower],
            component: false,
            started_at_ms: 0,
        }));
        let announced = |channel: &mut UnixChannel| {
            let (open, descriptors) = next(channel);
            assert!(matches!(open, ResolverRequest::Open { has_upper_directory: true, .. }), "{open:?}");
            assert_eq!(descriptors, 2);
            let (layers, descriptors) = next(channel);
            assert!(matches!(layers, ResolverRequest::Layers { remaining: 0, .. }), "{layers:?}");
            assert_eq!(descriptors, 2);
        };
        let mut first = UnixChannel::from(listener.accept().unwrap().0);
        announced(&mut first);
        resolve(2);
        assert!(matches!(next(&mut first).0, ResolverRequest::Resolve { request_id: 2, .. }));
        // It dies with the question open: that is answered with nothing, and the next life hears of the root.
        drop(first);
        let answer = answered.recv_timeout(SOON).unwrap();
        assert_eq!((answer.request_id, answer.entries.len()), (2, 0));
        let mut second = UnixChannel::from(listener.accept().unwrap().0);
        announced(&mut second);
        came_back.recv_timeout(SOON).unwrap();
        resolve(3);
        assert!(matches!(next(&mut second).0, ResolverRequest::Resolve { request_id: 3, .. }));
        let reply = ResolverReply::Ownership { request_id: 3, entries: vec![PackageOwnership::default()] };
        second.send(&serde_json::to_vec(&reply).unwrap(), &[]).unwrap();
        let answer = answered.recv_timeout(SOON).unwrap();
        assert_eq!((answer.request_id, answer.entries.len()), (3, 1));
    }
}
