//! The Unix socket: takes connections and frames, checks them, and hands them to the resolver.
//! Never lets one connection's error touch another, and never keeps a descriptor that belongs to no request.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_kit::lifecycle::ShutdownToken;
use plimsoll_kit::unix::{ChannelError, Frame, UnixChannel, UnixServer};
use plimsoll_schemas::events::{Owner, PackageOwnership};
use plimsoll_schemas::identity::ArtifactKey;
use plimsoll_schemas::resolver_protocol::{
    REQUEST_MAX_PATH_BYTES, REQUEST_MAX_PATHS, ResolverReply, ResolverRequest,
};

use crate::layers::MAX_LAYERS;
use crate::resolver::{Query, Reply, Resolver};
use crate::roots::Announcement;

/// Most connections at once.
const MAX_CONNECTIONS: usize = 32;
/// Longest workload id, in bytes.
const WORKLOAD_ID_MAX_BYTES: usize = 1_024;
/// How often an idle connection looks whether the service ends.
const IDLE_INTERVAL: Duration = Duration::from_millis(250);
/// How long the rest of a frame may take once it has begun.
const FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the other side may leave a reply unread.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long requests under way may take to end with the service.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// A request that breaks the protocol. The other side's fault; the connection is closed.
#[derive(Debug, thiserror::Error)]
enum ProtocolError {
    #[error("the frame is no request: {0}; agent and resolver must be of one version")]
    NoRequest(serde_json::Error),
    #[error("{0}")]
    Artifact(#[from] plimsoll_schemas::identity::IdentityError),
    #[error("a workload id has 1 to {WORKLOAD_ID_MAX_BYTES} bytes, this one {0}")]
    WorkloadId(usize),
    #[error("{got} descriptors came with a request that has {expected}")]
    Descriptors { expected: &'static str, got: usize },
    #[error("{0} paths in one request, at most {REQUEST_MAX_PATHS} are allowed")]
    Paths(usize),
    #[error("{0} bytes of paths in one request, at most {REQUEST_MAX_PATH_BYTES} are allowed")]
    PathBytes(usize),
    #[error("more than {MAX_LAYERS} layers")]
    Layers,
    #[error("a connection from user {0}, who is not allowed to ask")]
    User(u32),
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

/// An entry that names one owner of each ecosystem, for a reply of many paths with crowds of owners: all were published.
fn shortened(entry: &PackageOwnership) -> PackageOwnership {
    let mut seen = HashSet::new();
    let is_new = |owner: &&Owner| seen.insert(owner.ecosystem.clone());
    let owners =
        entry.owners.iter().filter(is_new).map(|owner| Owner { class_prefixes: Vec::new(), ..owner.clone() });
    PackageOwnership { owners: owners.collect(), ..entry.clone() }
}

/// Serves until the end is asked for.
///
/// # Errors
/// If the socket cannot be used any more.
pub fn serve(
    resolver: &Arc<Resolver>,
    server: &UnixServer,
    shutdown: &ShutdownToken,
) -> Result<(), ChannelError> {
    let open = Arc::new(AtomicUsize::new(0));
    let mut count = 0;
    while !shutdown.is_triggered() {
        let Some(channel) = server.accept(IDLE_INTERVAL)? else { continue };
        if open.load(Ordering::Acquire) >= MAX_CONNECTIONS {
            tracing::warn!("a connection is refused: {MAX_CONNECTIONS} are open, the most there may be");
            continue;
        }
        count += 1;
        open.fetch_add(1, Ordering::AcqRel);
        let (resolver, shutdown, open_here) = (resolver.clone(), shutdown.clone(), open.clone());
        let spawned = std::thread::Builder::new().name("connection".into()).spawn(move || {
            serve_channel(&resolver, channel, count, &shutdown);
            open_here.fetch_sub(1, Ordering::AcqRel);
        });
        if let Err(error) = spawned {
            open.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!("a connection is refused: no thread can be started: {error}");
        }
    }
    if !resolver.wait_idle(END_TIMEOUT) {
        tracing::warn!("ended while requests were stuck in a file system; agents ask again");
    }
    Ok(())
}

/// Serves one connection, whose roots go with it. `number` must be new for each.
pub fn serve_channel(resolver: &Arc<Resolver>, channel: UnixChannel, number: u64, shutdown: &ShutdownToken) {
    match converse(resolver, channel, number, shutdown) {
        Ok(()) => tracing::debug!(connection = number, "an agent left"),
        Err(error) => tracing::warn!(connection = number, "a connection was closed: {error}"),
    }
    // At the end of the service agents ask the next one.
    if !shutdown.is_triggered() {
        resolver.answer_rest(Some(number));
    }
    resolver.roots.close_all(number);
    resolver.count_roots();
}

/// The sending side, shared by all workers.
struct Replies {
    channel: Mutex<UnixChannel>,
    broken: AtomicBool,
}

impl Replies {
    fn send(&self, reply: &ResolverReply) {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if self.broken.load(Ordering::Acquire) {
            return;
        }
        // Plain structs of strings and numbers always serialise.
        let bytes = serde_json::to_vec(reply).unwrap_or_default();
        let sent = match (channel.send(&bytes, &[]), reply) {
            (Err(ChannelError::FrameTooLong(_)), ResolverReply::Ownership { request_id, entries })
                if entries.iter().any(|entry| entry.owners.len() > 1) =>
            {
                let (request_id, entries) = (*request_id, entries.iter().map(shortened).collect());
                drop(channel);
                return self.send(&ResolverReply::Ownership { request_id, entries });
            }
            (Err(ChannelError::FrameTooLong(size)), ResolverReply::Ownership { request_id, .. }) => {
                let reason =
                    format!("the answer has {size} bytes, too many for a frame; ask for fewer paths");
                let failed = ResolverReply::Failed { request_id: *request_id, reason };
                channel.send(&serde_json::to_vec(&failed).unwrap_or_default(), &[])
            }
            (sent, _) => sent,
        };
        if let Err(error) = sent {
            self.broken.store(true, Ordering::Release);
            tracing::debug!("an answer could not be given: {error}");
        }
    }
}

fn converse(
    resolver: &Arc<Resolver>,
    mut channel: UnixChannel,
    number: u64,
    shutdown: &ShutdownToken,
) -> Result<(), ProtocolError> {
    let user = channel.peer_user_id()?;
    // The socket's mode says the same; this holds for inherited sockets, too.
    if user != 0 && user != rustix::process::geteuid().as_raw() {
        return Err(ProtocolError::User(user));
    }
    channel.set_send_timeout(Some(SEND_TIMEOUT))?;
    let replies =
        Arc::new(Replies { channel: Mutex::new(channel.try_clone()?), broken: AtomicBool::new(false) });
    let reply: Reply = {
        let replies = replies.clone();
        Arc::new(move |reply| replies.send(&reply))
    };
    while !shutdown.is_triggered() && !replies.broken.load(Ordering::Acquire) {
        if !channel.wait(IDLE_INTERVAL)? {
            continue;
        }
        let Some(frame) = channel.receive(FRAME_TIMEOUT)? else { return Ok(()) };
        if let Err(error) = take(resolver, frame, number, &reply) {
            replies.send(&ResolverReply::Failed { request_id: 0, reason: error.to_string() });
            return Err(error);
        }
    }
    Ok(())
}

fn take(resolver: &Arc<Resolver>, frame: Frame, number: u64, reply: &Reply) -> Result<(), ProtocolError> {
    let request = serde_json::from_slice(&frame.bytes).map_err(ProtocolError::NoRequest)?;
    match request {
        ResolverRequest::Open { artifact, workload_id, has_upper_directory, component, started_at_ms } => {
            let key = check(&artifact, &workload_id)?;
            let mut descriptors = frame.descriptors.into_iter();
            let (directory, upper) = match (has_upper_directory, descriptors.len()) {
                (false, 1) => (descriptors.next(), None),
                (true, 2) => (descriptors.next(), descriptors.next()),
                (_, got) => {
                    let expected = if has_upper_directory { "root and upper directory" } else { "a root" };
                    return Err(ProtocolError::Descriptors { expected, got });
                }
            };
            let Some(directory) = directory else {
                return Err(ProtocolError::Descriptors { expected: "a root", got: 0 });
            };
            let is_replica = matches!(key, ArtifactKey::Image(_) | ArtifactKey::Unidentified(..));
            let announced = Announcement { directory, upper, component, is_replica, started_at_ms };
            if let Err(error) = resolver.roots.open((artifact, workload_id), number, announced) {
                tracing::warn!("a root is refused: {error}");
                reply(ResolverReply::Failed { request_id: 0, reason: error.to_string() });
            }
            resolver.count_roots();
        }
        ResolverRequest::Layers { artifact, workload_id, remaining } => {
            check(&artifact, &workload_id)?;
            let directories: Vec<OwnedFd> = frame.descriptors;
            // None where the root was refused or closed meanwhile: that is no fault of this request.
            if let Some(root) = resolver.roots.get(&(artifact, workload_id))
                && !root.add_layers(directories, remaining)
            {
                return Err(ProtocolError::Layers);
            }
        }
        ResolverRequest::Resolve { request_id, artifact, workload_id, paths } => {
            check(&artifact, &workload_id)?;
            no_descriptors(&frame.descriptors)?;
            if paths.len() > REQUEST_MAX_PATHS {
                return Err(ProtocolError::Paths(paths.len()));
            }
            let bytes = paths.iter().map(|asked| asked.path.len()).sum();
            if bytes > REQUEST_MAX_PATH_BYTES {
                return Err(ProtocolError::PathBytes(bytes));
            }
            resolver.resolve(Query { request_id, artifact, workload_id, paths }, reply);
        }
        ResolverRequest::Close { artifact, workload_id } => {
            check(&artifact, &workload_id)?;
            no_descriptors(&frame.descriptors)?;
            resolver.close(&(artifact, workload_id));
        }
    }
    Ok(())
}

fn check(artifact: &str, workload_id: &str) -> Result<ArtifactKey, ProtocolError> {
    if workload_id.is_empty() || workload_id.len() > WORKLOAD_ID_MAX_BYTES {
        return Err(ProtocolError::WorkloadId(workload_id.len()));
    }
    Ok(artifact.parse()?)
}

fn no_descriptors(descriptors: &[OwnedFd]) -> Result<(), ProtocolError> {
    match descriptors.len() {
        0 => Ok(()),
        got => Err(ProtocolError::Descriptors { expected: "none", got }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn crowds_of_owners_are_left_out_of_a_reply_that_has_no_room_for_them() {
        let owner = |ecosystem: &str| Owner {
            ecosystem: ecosystem.into(),
            class_prefixes: vec!["a".repeat(2_000)],
            ..Owner::default()
        };
        let mut owners = vec![owner("cargo"); 10_000];
        owners.push(owner("pypi"));
        let entry = PackageOwnership { state: "owned".into(), owners, ..PackageOwnership::default() };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let replies =
            Replies { channel: Mutex::new(UnixChannel::from(ours)), broken: AtomicBool::new(false) };
        replies.send(&ResolverReply::Ownership { request_id: 7, entries: vec![entry] });
        let frame = UnixChannel::from(theirs).receive(FRAME_TIMEOUT).unwrap().unwrap();
        let reply: ResolverReply = serde_json::from_slice(&frame.bytes).unwrap();
        let ResolverReply::Ownership { request_id: 7, entries } = reply else { panic!("{reply:?}") };
        let kept: Vec<&str> = entries[0].owners.iter().map(|owner| owner.ecosystem.as_str()).collect();
        assert_eq!((entries[0].state.as_str(), kept), ("owned", vec!["cargo", "pypi"]));
    }
}
