//! A broker that is away, a queue that fills, and a file system that hangs.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{IMAGE, OpenRoot, SOON, Stage, brief, debian};
use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_schemas::resolver_protocol::ResolverReply;
use rustix::fs::{Mode, OFlags};

#[test]
fn a_broker_that_is_away_delays_publication_and_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    debian(
        directory.path(),
        &[("libz1", "1", &["usr/lib/libz.so.1", "usr/lib/b", "usr/lib/c", "usr/lib/d"])],
    );
    let broker = MemoryBroker::new();
    broker.set_available(false);
    let stage = Stage::over(broker, |settings| settings.queue_max_events = 3);
    let mut agent = stage.agent();
    let root = directory.path().to_str().unwrap();
    agent.open(OpenRoot { artifact: IMAGE, workload: "w", root, ..Default::default() });
    for path in ["usr/lib/libz.so.1", "usr/lib/b", "usr/lib/c"] {
        assert_eq!(brief(&agent.one(IMAGE, "w", path)), "owned libz1@1 image unknown");
    }
    // What is queued already is answered on; what is new has no room.
    assert_eq!(agent.one(IMAGE, "w", "usr/lib/b").state, "owned");
    let asked = agent.ask(IMAGE, "w", &[b"usr/lib/d"]);
    match agent.reply() {
        Some(ResolverReply::Failed { request_id, reason }) => {
            assert_eq!(request_id, asked);
            assert!(reason.contains("ask again"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.metric("publish_refused_total"), 1.0);
    stage.broker.set_available(true);
    assert_eq!(stage.resolver.flush(SOON), 0);
    assert_eq!(agent.one(IMAGE, "w", "usr/lib/d").state, "owned");
    assert_eq!(stage.published().len(), 4);

    // Away again, and back: nothing is lost, and what a failed send left undecided comes at most twice.
    stage.broker.set_available(false);
    for path in ["usr/lib/e", "usr/lib/f"] {
        assert_eq!(agent.one(IMAGE, "w", path).state, "unowned");
    }
    stage.broker.set_available(true);
    assert_eq!(stage.resolver.flush(SOON), 0);
    let mut paths: Vec<Vec<u8>> = stage.published().into_iter().map(|event| event.path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 6);
    assert_eq!(stage.metric("publish_lost_total"), 0.0);
}

/// A FUSE file system whose server never answers. Dropping it aborts it.
struct Hanging {
    _device: File,
    at: std::path::PathBuf,
}

impl Hanging {
    fn mount(at: &Path) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let mounted = device.and_then(|device| {
            let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
            let data = std::ffi::CString::new(options).unwrap();
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("hanging", at, "fuse", flags, Some(data.as_c_str()))?;
            Ok(Self { _device: device, at: at.to_owned() })
        });
        mounted
            .inspect_err(|error| {
                assert!(std::env::var_os("CI").is_none(), "FUSE cannot be mounted here: {error}");
                println!("skipped: FUSE cannot be mounted here ({error}); run as root");
            })
            .ok()
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_file_system_that_hangs_holds_up_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let (good, stuck) = (directory.path().join("good"), directory.path().join("stuck"));
    debian(&good, &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    std::fs::create_dir(&stuck).unwrap();
    let Some(hanging) = Hanging::mount(&stuck) else { return };
    // Opening it for reading would hang this test, too.
    let root = rustix::fs::open(&stuck, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();

    let stage = Stage::with(|settings| settings.request_deadline_ms = 1_500);
    let mut agent = stage.agent();
    let path = "usr/lib/libz.so.1";
    let text = good.to_str().unwrap();
    agent.open(OpenRoot { artifact: IMAGE, workload: "good", root: text, ..Default::default() });
    assert_eq!(agent.one(IMAGE, "good", path).state, "owned");
    for (artifact, workload) in [("host/stuck", "stuck"), (IMAGE, "stuck")] {
        let request = plimsoll_schemas::resolver_protocol::ResolverRequest::Open {
            artifact: artifact.into(),
            workload_id: workload.into(),
            has_upper_directory: false,
            component: false,
            started_at_ms: 0,
        };
        agent.send(&request, &[std::os::fd::AsFd::as_fd(&root)]);
    }
    let begun = Instant::now();
    let (host, replica) =
        (agent.ask("host/stuck", "stuck", &[path.as_bytes()]), agent.ask(IMAGE, "stuck", &[path.as_bytes()]));
    // Others are answered meanwhile, by the same connection.
    let asked = agent.ask(IMAGE, "good", &[path.as_bytes()]);
    match agent.reply() {
        Some(ResolverReply::Ownership { request_id, entries }) => {
            assert_eq!((request_id, brief(&entries[0]).as_str()), (asked, "owned libz1@1 image unknown"));
        }
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_millis(1_400), "{:?}", begun.elapsed());
    for _ in 0..2 {
        match agent.reply() {
            Some(ResolverReply::Ownership { request_id, entries }) if request_id == host => {
                assert_eq!(brief(&entries[0]), "unresolved  image unknown");
                assert!(entries[0].reason.contains("hangs"), "{}", entries[0].reason);
            }
            // Known from the other container of the image.
            Some(ResolverReply::Ownership { request_id, entries }) if request_id == replica => {
                assert_eq!(brief(&entries[0]), "owned libz1@1 image unknown");
                assert!(entries[0].reason.contains("another container"), "{}", entries[0].reason);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stage.metric("workers"), 2.0, "one thread for each root that hangs");
    // At once now: the thread is still out there.
    let begun = Instant::now();
    assert_eq!(agent.one("host/stuck", "stuck", path).state, "unresolved");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(stage.published().iter().filter(|event| event.state == "unresolved").count(), 1);

    // The threads come back when the file system goes.
    drop(hanging);
    let deadline = Instant::now() + SOON;
    while stage.metric("workers") > 0.0 {
        assert!(Instant::now() < deadline, "the workers are still stuck");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_slow_root_tells_after_the_deadline_is_published() {
    let directory = tempfile::tempdir().unwrap();
    let (good, stuck) = (directory.path().join("good"), directory.path().join("stuck"));
    debian(&good, &[("libz1", "1", &["usr/lib/libz.so.1", "usr/lib/b"])]);
    std::fs::create_dir(&stuck).unwrap();
    let Some(hanging) = Hanging::mount(&stuck) else { return };
    let root = rustix::fs::open(&stuck, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();

    // The only thread hangs, so whatever is asked of another root comes too late for sure.
    let stage = Stage::with(|settings| (settings.request_deadline_ms, settings.max_workers) = (1, 1));
    let mut agent = stage.agent();
    let request = plimsoll_schemas::resolver_protocol::ResolverRequest::Open {
        artifact: "host/stuck".into(),
        workload_id: "stuck".into(),
        has_upper_directory: false,
        component: false,
        started_at_ms: 0,
    };
    agent.send(&request, &[std::os::fd::AsFd::as_fd(&root)]);
    let text = good.to_str().unwrap();
    agent.open(OpenRoot { artifact: IMAGE, workload: "w", root: text, ..Default::default() });
    assert_eq!(agent.one("host/stuck", "stuck", "usr/lib/libz.so.1").state, "unresolved");
    for path in ["usr/lib/libz.so.1", "usr/lib/b"] {
        assert_eq!(brief(&agent.one(IMAGE, "w", path)), "unresolved  image unknown");
    }
    let owned = || stage.published().iter().filter(|event| event.state == "owned").count();
    assert_eq!(owned(), 0);
    drop(hanging);
    let deadline = Instant::now() + SOON;
    while owned() < 2 {
        assert!(Instant::now() < deadline, "{:?}", stage.published());
        std::thread::yield_now();
    }
}
