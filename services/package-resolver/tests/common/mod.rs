//! What the tests share: a resolver in this process over a memory broker, an agent's side, and small Debian roots.
// Each test program uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::broker::{BrokerErrorKind, ReaderOptions, TopicPartition, read_to_end};
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_kit::transport::Connections;
use plimsoll_kit::unix::UnixChannel;
use plimsoll_package_resolver::{InProcess, ResolverSettings};
use plimsoll_schemas::events::PackageOwnership;
use plimsoll_schemas::resolver_protocol::{PathQuery, ResolverReply, ResolverRequest};

/// Bound of every wait: a busy machine takes its time to walk its whole root.
pub const SOON: Duration = Duration::from_secs(120);
/// An image's key, of a digest that no image has.
pub const IMAGE: &str = "image/sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub struct Stage {
    pub broker: MemoryBroker,
    pub connections: Connections,
    pub resolver: InProcess,
    pub context: ServiceContext,
    _directory: tempfile::TempDir,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(set: impl FnOnce(&mut ResolverSettings)) -> Self {
        Self::over(MemoryBroker::new(), set)
    }

    pub fn over(broker: MemoryBroker, set: impl FnOnce(&mut ResolverSettings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = ResolverSettings {
            socket: directory.path().join("resolver.sock"),
            request_deadline_ms: 100_000,
            ..ResolverSettings::default()
        };
        set(&mut settings);
        let connections = Connections::from_memory(broker.clone());
        let context = ServiceContext::detached(ServiceInfo::new("package-resolver", "0"));
        let resolver = InProcess::start(&settings, connections.clone(), &context).unwrap();
        Self { broker, connections, resolver, context, _directory: directory }
    }

    pub fn agent(&self) -> Agent {
        Agent { channel: UnixChannel::connect(self.resolver.socket()).unwrap(), requests: 0 }
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.context.metrics.encode();
        let line =
            text.lines().find_map(|line| line.strip_prefix(&format!("plimsoll_package_resolver_{name} ")));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// All that was published, in the order of each partition.
    pub fn published(&self) -> Vec<PackageOwnership> {
        let codec = self.connections.codec();
        let topic = codec.topic::<PackageOwnership>();
        let mut events = Vec::new();
        for partition in 0..self.connections.partitions {
            let place = TopicPartition { topic: topic.as_str().into(), partition };
            let deadline = Instant::now() + SOON;
            let broker = &*self.connections.broker;
            let read = read_to_end(broker, &place, 0, ReaderOptions::default(), deadline, |record| {
                let (key, value) = (record.key.unwrap(), record.value.unwrap());
                events.push(codec.decode::<PackageOwnership>(&key, &value).unwrap());
            });
            match read {
                // The resolver makes the topic beside answering; until then nothing was published.
                Err(error) if error.kind() == BrokerErrorKind::UnknownTopic => {}
                read => drop(read.unwrap()),
            }
        }
        events
    }
}

/// The other side of the socket.
pub struct Agent {
    pub channel: UnixChannel,
    requests: u64,
}

#[derive(Clone, Copy, Default)]
pub struct OpenRoot<'p> {
    pub artifact: &'p str,
    pub workload: &'p str,
    pub root: &'p str,
    pub upper: Option<&'p str>,
    pub layers: &'p [&'p str],
    pub component: bool,
}

impl Agent {
    pub fn send(&mut self, request: &ResolverRequest, descriptors: &[BorrowedFd<'_>]) {
        self.channel.send(&serde_json::to_vec(request).unwrap(), descriptors).unwrap();
    }

    pub fn open(&mut self, open: OpenRoot<'_>) {
        let files: Vec<File> = [Some(open.root), open.upper]
            .into_iter()
            .flatten()
            .map(|path| File::open(path).unwrap())
            .collect();
        let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(File::as_fd).collect();
        let request = ResolverRequest::Open {
            artifact: open.artifact.into(),
            workload_id: open.workload.into(),
            has_upper_directory: open.upper.is_some(),
            component: open.component,
            started_at_ms: 0,
        };
        self.send(&request, &descriptors);
        let mut remaining = open.layers.len();
        for chunk in open.layers.chunks(16) {
            remaining -= chunk.len();
            let files: Vec<File> = chunk.iter().map(|path| File::open(path).unwrap()).collect();
            let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(File::as_fd).collect();
            let request = ResolverRequest::Layers {
                artifact: open.artifact.into(),
                workload_id: open.workload.into(),
                remaining: remaining.try_into().unwrap(),
            };
            self.send(&request, &descriptors);
        }
    }

    pub fn ask(&mut self, artifact: &str, workload: &str, paths: &[&[u8]]) -> u64 {
        self.requests += 1;
        let request = ResolverRequest::Resolve {
            request_id: self.requests,
            artifact: artifact.into(),
            workload_id: workload.into(),
            paths: paths
                .iter()
                .map(|path| PathQuery { path: path.to_vec(), ..PathQuery::default() })
                .collect(),
        };
        self.send(&request, &[]);
        self.requests
    }

    pub fn reply(&mut self) -> Option<ResolverReply> {
        let frame = self.channel.receive(SOON).unwrap()?;
        Some(serde_json::from_slice(&frame.bytes).unwrap())
    }

    pub fn resolve_bytes(
        &mut self,
        artifact: &str,
        workload: &str,
        paths: &[&[u8]],
    ) -> Vec<PackageOwnership> {
        let asked = self.ask(artifact, workload, paths);
        match self.reply().unwrap() {
            ResolverReply::Ownership { request_id, entries } => {
                assert_eq!((request_id, entries.len()), (asked, paths.len()));
                let mut asked = entries.iter().zip(paths);
                // Of what lies elsewhere, the answer can be another place.
                assert!(asked.all(|(entry, path)| entry.path == *path || path.starts_with(b"?#/")));
                assert!(entries.iter().all(|entry| entry.artifact == artifact && entry.resolved_at_ms > 0));
                entries
            }
            ResolverReply::Failed { reason, .. } => panic!("failed: {reason}"),
        }
    }

    pub fn resolve(&mut self, artifact: &str, workload: &str, paths: &[&str]) -> Vec<PackageOwnership> {
        let paths: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).collect();
        self.resolve_bytes(artifact, workload, &paths)
    }

    pub fn one(&mut self, artifact: &str, workload: &str, path: &str) -> PackageOwnership {
        self.resolve(artifact, workload, &[path]).remove(0)
    }
}

/// `owned libz1@1.2 image unchanged`: what matters of an answer, in one line.
pub fn brief(entry: &PackageOwnership) -> String {
    let owners: Vec<String> =
        entry.owners.iter().map(|owner| format!("{}@{}", owner.name, owner.version)).collect();
    let identity = if entry.file_identity.starts_with("sha256:") { "sha256" } else { &entry.file_identity };
    format!("{} {} {identity} {}", entry.state, owners.join("+"), entry.drift)
}

pub fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Writes a dpkg database with these packages: name, version, files; and the files.
pub fn debian(root: &Path, packages: &[(&str, &str, &[&str])]) {
    let mut status = String::new();
    for (name, version, files) in packages {
        status.push_str(&format!(
            "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n"
        ));
        let list: BTreeMap<&str, ()> = files.iter().map(|file| (*file, ())).collect();
        let list: Vec<String> = list.keys().map(|file| format!("/{file}\n")).collect();
        write(root, &format!("var/lib/dpkg/info/{name}.list"), &format!("/.\n{}", list.concat()));
        for file in *files {
            write(root, file, &format!("{name} {version}\n"));
        }
    }
    // As dpkg does it: a new file in the old one's place.
    write(root, "var/lib/dpkg/status-new", &status);
    std::fs::rename(root.join("var/lib/dpkg/status-new"), root.join("var/lib/dpkg/status")).unwrap();
    write(root, "etc/os-release", "ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n");
}

/// Waits until the clock has passed what was just written: an index built at that very moment is not kept.
pub fn settle() {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(50) {
        std::thread::yield_now();
    }
}

/// A ZIP archive of members that are stored as they are.
pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let found = plimsoll_catalog::ownership::Content::of(&content.to_vec(), u64::MAX).unwrap().unwrap();
        let length = (content.len() as u32).to_le_bytes();
        let begin = (bytes.len() as u32).to_le_bytes();
        // Version, flags, method, time and date; checksum and lengths; length of the name, and of what there is none.
        let common = [
            &[10, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &found.crc32.to_le_bytes(),
            &length,
            &length,
            &(name.len() as u16).to_le_bytes(),
            &[0; 2],
        ]
        .concat();
        bytes.extend([b"PK\x03\x04", common.as_slice(), name.as_bytes(), content].concat());
        directory
            .extend([b"PK\x01\x02\x0a\0", common.as_slice(), &[0; 10], &begin, name.as_bytes()].concat());
    }
    let count = (members.len() as u16).to_le_bytes();
    let (at, size) = ((bytes.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    [bytes, directory, [b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &at, &[0; 2]].concat()].concat()
}
