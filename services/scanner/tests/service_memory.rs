//! The service over the memory broker and its faults: what Kafka would do only by chance.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/pipeline.rs"]
#[allow(dead_code)]
mod pipeline;

use std::path::Path;

use pipeline::{Pipeline, Published};
use plimsoll_kit::broker::BrokerErrorKind;
use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::dead_letter::REASON_HEADER;
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_kit::transport::Connections;
use plimsoll_scanner::config::ScannerConfig;
use plimsoll_schemas::events::ScanRequest;

struct Service {
    pipeline: Pipeline,
    broker: MemoryBroker,
    context: ServiceContext,
    thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
}

impl Service {
    fn new() -> Self {
        let broker = MemoryBroker::new();
        let connections = Connections::from_memory(broker.clone());
        connections.prepare_once().unwrap();
        let pipeline = Pipeline::over(connections, String::new(), String::new());
        let context = ServiceContext::detached(ServiceInfo::new("scanner", "0"));
        Self { pipeline, broker, context, thread: None }
    }

    fn start(&mut self, engine_patience_ms: u64) {
        let mut config = ScannerConfig::default();
        config.docker.host = "unix:///nowhere/docker.sock".into();
        config.scanner.engine_patience_ms = engine_patience_ms;
        let (connections, context) = (self.pipeline.connections.clone(), self.context.clone());
        self.thread = Some(std::thread::spawn(move || {
            plimsoll_scanner::service::serve(config, &connections, &context)
        }));
    }

    fn end(mut self) -> Published {
        let published = self.pipeline.answered();
        self.context.shutdown.trigger();
        self.thread.take().unwrap().join().unwrap().unwrap();
        published
    }
}

fn application(directory: &Path) -> ScanRequest {
    let info = directory.join("site-packages/six-1.16.0.dist-info");
    std::fs::create_dir_all(&info).unwrap();
    std::fs::write(info.join("METADATA"), "Name: six\nVersion: 1.16.0\n").unwrap();
    ScanRequest {
        artifact: "component/backend/pythonapp/1.0".into(),
        application: "backend".into(),
        component: "pythonapp".into(),
        component_version: "1.0".into(),
        source: "fs".into(),
        target: directory.display().to_string(),
        reason: "user".into(),
        ..ScanRequest::default()
    }
}

#[test]
fn failed_commits_publish_once() {
    for (kind, applied) in [
        (BrokerErrorKind::OutcomeUnknown, true),
        (BrokerErrorKind::OutcomeUnknown, false),
        (BrokerErrorKind::AbortTransaction, false),
        (BrokerErrorKind::Fenced, false),
    ] {
        let mut service = Service::new();
        let request = application(service.pipeline.directory.path());
        service.pipeline.request(&request);
        service.broker.fail_next_commit(kind, applied);
        service.start(0);
        let published = service.end();
        assert_eq!(published.scans.len(), 1, "{kind:?}, applied: {applied}");
        published.scans[0].assert_whole();
        assert!(published.halves.is_empty() && published.letters.is_empty(), "{kind:?}");
    }
}

#[test]
fn failed_sends_publish_once() {
    for kind in [BrokerErrorKind::QueueFull, BrokerErrorKind::DeliveryFailed] {
        let mut service = Service::new();
        let request = application(service.pipeline.directory.path());
        service.pipeline.request(&request);
        service.broker.fail_next_send(kind);
        service.start(0);
        let published = service.end();
        assert_eq!(published.scans.len(), 1, "{kind:?}");
        assert!(published.halves.is_empty() && published.letters.is_empty(), "{kind:?}");
    }
}

#[test]
fn a_scan_that_no_record_can_hold_is_refused_and_others_go_on() {
    let mut service = Service::new();
    let request = application(service.pipeline.directory.path());
    service.pipeline.request(&request);
    service.pipeline.request(&request);
    service.broker.fail_next_send(BrokerErrorKind::RecordTooLarge);
    service.start(0);
    let published = service.end();
    assert_eq!((published.scans.len(), published.letters.len()), (1, 1));
    assert_eq!(published.letters[0].header(REASON_HEADER).unwrap(), b"scan-too-large");
}

#[test]
fn a_broker_that_goes_away_is_waited_for() {
    let mut service = Service::new();
    let request = application(service.pipeline.directory.path());
    service.start(0);
    service.pipeline.request(&request);
    service.pipeline.answered();
    service.broker.set_available(false);
    std::thread::sleep(std::time::Duration::from_millis(700));
    service.broker.set_available(true);
    service.pipeline.request(&request);
    assert_eq!(service.end().scans.len(), 2);
}

#[test]
fn an_engine_that_is_away_is_waited_for_and_then_given_up() {
    let mut service = Service::new();
    let artifact = format!("image/sha256:{}", "0".repeat(64));
    service.pipeline.request(&ScanRequest {
        artifact,
        source: "image".into(),
        target: "docker:web".into(),
        ..ScanRequest::default()
    });
    let request = application(service.pipeline.directory.path());
    service.pipeline.request(&request);
    service.start(1_500);
    let published = service.end();
    assert_eq!((published.scans.len(), published.letters.len()), (1, 1));
    assert_eq!(published.letters[0].header(REASON_HEADER).unwrap(), b"engine-unavailable");
}
