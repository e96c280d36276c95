//! What could not be answered in time is answered when its workload ends, and published.

use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::words::ownership_state::UNRESOLVED;

use super::*;
use crate::index_cache::tests::{ARTIFACT, ASKED, BOOT, settle};
use crate::roots::Announcement;

#[test]
fn the_rest_is_answered_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.jar"), BOOT).unwrap();
    settle();
    let context = ServiceContext::detached(ServiceInfo::new("package-resolver", "0"));
    let connections = Connections::from_memory(MemoryBroker::new());
    let publisher = Arc::new(Publisher::start(connections, &context, "p", 1_000).unwrap());
    let resolver = Resolver::new(ResolverSettings::default(), publisher, &context.metrics).unwrap();
    let key = (ARTIFACT.to_owned(), "w".to_owned());
    let opened = std::fs::File::open(directory.path()).unwrap().into();
    let announced = Announcement { directory: opened, upper: None, component: true, is_replica: false };
    resolver.roots.open(key.clone(), 7, announced).unwrap();
    let root = resolver.roots.get(&key).unwrap();

    let timeout = Duration::from_secs(30);
    let ask = || {
        let (sender, receiver) = std::sync::mpsc::channel();
        let reply: Reply = Arc::new(move |reply| sender.send(reply).unwrap());
        let paths = vec![PathQuery { path: ASKED.to_vec(), inode: 0 }];
        let query = Query { request_id: 1, artifact: key.0.clone(), workload_id: key.1.clone(), paths };
        resolver.resolve(query, &reply);
        match receiver.recv_timeout(timeout).unwrap() {
            ResolverReply::Ownership { mut entries, .. } => entries.remove(0),
            ResolverReply::Failed { reason, .. } => panic!("{reason}"),
        }
    };
    let known = ask();
    assert_eq!((known.state.as_str(), known.owners.len()), (UNRESOLVED, 1));
    assert!(resolver.published.take_new(std::slice::from_ref(&known)).is_empty(), "it was published");

    resolver.indexes.spend(&key.0, Duration::from_secs(20));
    std::fs::write(directory.path().join("b.jar"), BOOT).unwrap();
    let unknown = ask();
    assert_eq!((unknown.state.as_str(), unknown.owners.len()), (UNRESOLVED, 0));
    assert!(resolver.published.take_new(&[unknown]).is_empty(), "what was known is taken back");
    assert_eq!(root.unanswered.paths(), [ASKED]);

    resolver.close(&key);
    assert!(resolver.wait_idle(timeout));
    assert_eq!(root.unanswered.paths().len(), 0);
    assert_eq!(resolver.published.take_new(&[known]).len(), 1, "the answer of the end names another owner");
}
