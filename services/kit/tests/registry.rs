//! A real schema registry: PLIMSOLL_TEST_SCHEMA_REGISTRY. Without it these tests say so and pass, except under CI=true.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use plimsoll_kit::config::{KafkaConfig, SchemaRegistryConfig};
use plimsoll_kit::registry::*;
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::topics::TOPICS;

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    if value.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is not set");
        println!("skipped: {name} is not set (cargo xtask stack up --only kafka,registry)");
    }
    value
}

fn registry_config() -> Option<SchemaRegistryConfig> {
    let url = variable("PLIMSOLL_TEST_SCHEMA_REGISTRY")?;
    Some(SchemaRegistryConfig { url: Some(url), ..Default::default() })
}

#[test]
fn schemas_are_kept_and_incompatible_ones_refused() {
    let Some(config) = registry_config() else { return };
    let subject = format!("kit-test-{}-value", std::process::id());
    let schema = |fields: &str| format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    let first = schema(r#"{"name":"a","type":"string","default":""}"#);
    let wider = schema(r#"{"name":"a","type":"string","default":""},{"name":"b","type":"long","default":0}"#);
    let broken = schema(r#"{"name":"a","type":"long","default":0}"#);

    let registry = HttpRegistry::new(&config).unwrap();
    registry.check().unwrap();
    let id = prepare_subject(&registry, &subject, &first).unwrap();
    assert_eq!(prepare_subject(&registry, &subject, &first).unwrap(), id);
    let wider_id = registry.register(&subject, &wider).unwrap();
    assert_ne!(wider_id, id);
    let error = registry.register(&subject, &broken).unwrap_err();
    assert!(matches!(error, RegistryError::Refused { status: 409, .. }), "{error}");
    assert!(error.to_string().contains(&subject), "{error}");

    // Another client has an empty cache.
    let other = HttpRegistry::new(&config).unwrap();
    assert_eq!(other.register(&subject, &first).unwrap(), id);
    let fetched: serde_json::Value = serde_json::from_str(&other.schema(wider_id).unwrap()).unwrap();
    assert_eq!(fetched, serde_json::from_str::<serde_json::Value>(&wider).unwrap());
    let unknown = other.schema(2_000_000_000).unwrap_err();
    assert!(matches!(unknown, RegistryError::UnknownSchema { .. }), "{unknown}");
}

#[test]
fn a_pipeline_is_prepared_twice_alike() {
    let (Some(registry), Some(server)) = (registry_config(), variable("PLIMSOLL_TEST_KAFKA")) else { return };
    let kafka = KafkaConfig {
        brokers: vec![server],
        partitions: 2,
        topic_prefix: format!("kit-test-{}-prepared", std::process::id()),
        ..Default::default()
    };
    let connections = Connections::open(&kafka, &registry).unwrap();
    let created = connections.prepare_once().unwrap().created;
    assert_eq!(created.len(), connections.topic_specs().len());
    let again = Connections::open(&kafka, &registry).unwrap();
    assert!(again.prepare_once().unwrap().created.is_empty());
    let codec = (connections.codec(), again.codec());
    assert_eq!(
        codec.0.topic::<plimsoll_schemas::events::ScanPackage>(),
        TOPICS[2].full_name(&kafka.topic_prefix)
    );

    let other = KafkaConfig { partitions: 3, ..kafka };
    let error = Connections::open(&other, &registry).unwrap().prepare_once().unwrap_err();
    assert!(!error.is_retriable());
    assert!(error.to_string().contains("has 2 partitions, not 3"), "{error}");
}

/// A registry behind basic authentication, as far as a client can tell: it answers 401 to anything else.
fn guarded(expected: &'static str) -> String {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let allowed = head.iter().any(|line| {
                let (name, value) = line.split_once(": ").unwrap_or_default();
                name.eq_ignore_ascii_case("authorization") && value == expected
            });
            let answer = if allowed { ("200 OK", "[]") } else { ("401 Unauthorized", "{}") };
            let (status, body) = answer;
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn basic_authentication() {
    use plimsoll_kit::config::Sensitive;
    // RFC 7617, section 2: "Aladdin" with the password "open sesame".
    let url = guarded("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    let mut config = SchemaRegistryConfig { url: Some(url), ..Default::default() };
    let error = HttpRegistry::new(&config).unwrap().check().unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { status: 401, .. }), "{error}");
    assert!(error.to_string().contains("schema_registry.username"), "{error}");
    config.username = Some("Aladdin".to_owned());
    config.password = Some(Sensitive::new("open sesame".to_owned()));
    HttpRegistry::new(&config).unwrap().check().unwrap();
    config.password = Some(Sensitive::new("open barley".to_owned()));
    HttpRegistry::new(&config).unwrap().check().unwrap_err();
}
