//! A wish for a scan, through a real broker.

use std::time::{Duration, Instant};

use plimsoll_kit::broker::{ReaderOptions, TopicPartition};
use plimsoll_kit::config::{KafkaConfig, SchemaRegistryConfig};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::events::ScanRequest;

use crate::support::{RunningPortal, closed_url, server};

#[test]
fn a_scan_request_reaches_the_broker() {
    let (Some(broker), Some(registry)) =
        (server("PLIMSOLL_TEST_KAFKA"), server("PLIMSOLL_TEST_SCHEMA_REGISTRY"))
    else {
        return;
    };
    let kafka = KafkaConfig {
        brokers: vec![broker],
        topic_prefix: format!("portal-test-{}", std::process::id()),
        partitions: 1,
        ..KafkaConfig::default()
    };
    let registry = SchemaRegistryConfig { url: Some(registry), ..SchemaRegistryConfig::default() };
    let portal = RunningPortal::start(&closed_url(), "plimsoll", |config| {
        config.kafka = kafka.clone();
        config.schema_registry = registry.clone();
    });
    let wish =
        r#"{"source":"fs","target":"/srv/app","application":"backend","component":"py app","version":"1.0"}"#;
    let answer = portal.post("/api/v1/scan-requests", wish);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let accepted = answer.json();
    assert_eq!(accepted["artifact"], "component/backend/py%20app/1.0");

    let connections = Connections::open(&kafka, &registry).unwrap();
    let codec = connections.codec();
    let topic = TopicPartition::new(codec.topic::<ScanRequest>(), 0);
    let mut found: Vec<ScanRequest> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    plimsoll_kit::broker::read_to_end(
        &*connections.broker,
        &topic,
        0,
        ReaderOptions::default(),
        deadline,
        |record| {
            let (key, value) = (record.key.unwrap(), record.value.unwrap());
            found.push(codec.decode(&key, &value).unwrap());
        },
    )
    .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].request_id, accepted["request_id"].as_str().unwrap());
    assert_eq!((found[0].source.as_str(), found[0].target.as_str()), ("fs", "/srv/app"));
    assert_eq!((found[0].reason.as_str(), found[0].component.as_str()), ("user", "py app"));
}
