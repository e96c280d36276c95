//! Java packages are answered once more when their workload ends, and published.

use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::words::ownership_state::UNRESOLVED;

use super::*;
use crate::index_cache::tests::{ARTIFACT, ASKED, BOOT, settle};
use crate::roots::Announcement;

const TIMEOUT: Duration = Duration::from_secs(120);

/// A resolver with one root, in which `a.jar` has the Java package that is asked about.
struct Stage {
    directory: tempfile::TempDir,
    resolver: Arc<Resolver>,
    key: Key,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.jar"), BOOT).unwrap();
        settle();
        let context = ServiceContext::detached(ServiceInfo::new("package-resolver", "0"));
        let connections = Connections::from_memory(MemoryBroker::new());
        let publisher = Arc::new(Publisher::start(connections, &context, "p", 1_000).unwrap());
        let settings = ResolverSettings { request_deadline_ms: 100_000, ..ResolverSettings::default() };
        let resolver = Resolver::new(settings, publisher, &context.metrics).unwrap();
        let key = (ARTIFACT.to_owned(), "w".to_owned());
        let opened = std::fs::File::open(directory.path()).unwrap().into();
        let announced = Announcement {
            directory: opened,
            upper: None,
            component: true,
            is_replica: false,
            started_at_ms: 0,
        };
        resolver.roots.open(key.clone(), 7, announced).unwrap();
        Self { directory, resolver, key }
    }

    fn add_archive(&self) {
        std::fs::write(self.directory.path().join("b.jar"), BOOT).unwrap();
    }

    fn ask(&self) -> PackageOwnership {
        let (sender, receiver) = std::sync::mpsc::channel();
        let reply: Reply = Arc::new(move |reply| sender.send(reply).unwrap());
        let paths = vec![PathQuery { path: ASKED.to_vec(), ..PathQuery::default() }];
        let (artifact, workload_id) = self.key.clone();
        self.resolver.resolve(Query { request_id: 1, artifact, workload_id, paths }, &reply);
        match receiver.recv_timeout(TIMEOUT).unwrap() {
            ResolverReply::Ownership { mut entries, .. } => entries.remove(0),
            ResolverReply::Failed { reason, .. } => panic!("{reason}"),
        }
    }

    /// Whether this is what was published last of its path.
    fn was_published(&self, entry: &PackageOwnership) -> bool {
        self.resolver.published.take_new(std::slice::from_ref(entry)).is_empty()
    }

    fn close(&self) {
        self.resolver.close(&self.key);
        assert!(self.resolver.wait_idle(TIMEOUT));
    }
}

#[test]
fn what_waits_is_answered_at_the_end() {
    let stage = Stage::new();
    let root = stage.resolver.roots.get(&stage.key).unwrap();
    let known = stage.ask();
    assert_eq!((known.state.as_str(), known.owners.len()), (UNRESOLVED, 1));
    assert!(stage.was_published(&known));

    stage.resolver.indexes.spend(&stage.key.0, Duration::from_secs(20));
    stage.add_archive();
    let unknown = stage.ask();
    assert_eq!((unknown.state.as_str(), unknown.owners.len()), (UNRESOLVED, 0));
    assert!(stage.was_published(&unknown), "what was known is taken back");
    assert_eq!(root.asked.waiting(), [ASKED]);

    stage.close();
    assert_eq!(root.asked.waiting().len(), 0);
    assert!(!stage.was_published(&known), "the answer of the end names another owner");
}

/// The agent tells one class of each Java package; another may have come from an archive that came later.
#[test]
fn what_was_answered_is_answered_again_at_the_end() {
    let stage = Stage::new();
    let known = stage.ask();
    assert!(stage.was_published(&known));
    stage.add_archive();
    stage.close();
    assert!(!stage.was_published(&known), "the answer of the end names another owner");
}
