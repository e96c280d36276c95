//! TLS and SASL against a real Kafka: connected for real, verified by default, refused with words that help.
//! The broker is that of the development stack (PLIMSOLL_TEST_KAFKA_TLS and its like); without it the tests say so and
//! pass, except under CI=true.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::kafka::KafkaBroker;
use plimsoll_kit::broker::*;
use plimsoll_kit::config::{KafkaConfig, SecurityProtocol, Sensitive};

const SOON: Duration = Duration::from_secs(30);
/// A refusal is known at the first try; this is how long it is listened for.
const REFUSAL: Duration = Duration::from_secs(5);

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is not set");
        println!("skipped: {name} is not set (run by cargo xtask test)");
    }
    value
}

fn file(name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(variable("PLIMSOLL_TEST_KAFKA_CERTIFICATES")?).join(name))
}

/// Over TLS with a certificate of one's own.
fn tls() -> Option<KafkaConfig> {
    let mut config = KafkaConfig {
        brokers: vec![variable("PLIMSOLL_TEST_KAFKA_TLS")?],
        security_protocol: SecurityProtocol::Ssl,
        partitions: 1,
        ..KafkaConfig::default()
    };
    config.tls.ca_file = file("ca.pem");
    config.tls.certificate_file = file("client.pem");
    config.tls.key_file = file("client.key");
    Some(config)
}

/// Over TLS with a password.
fn sasl(mechanism: &str) -> Option<KafkaConfig> {
    let user = variable("PLIMSOLL_TEST_KAFKA_USER")?;
    let (user, password) = user.split_once(':').unwrap();
    let mut config = KafkaConfig {
        brokers: vec![variable("PLIMSOLL_TEST_KAFKA_SASL")?],
        security_protocol: SecurityProtocol::SaslSsl,
        partitions: 1,
        ..KafkaConfig::default()
    };
    config.tls.ca_file = file("ca.pem");
    config.sasl.mechanism = mechanism.to_owned();
    config.sasl.username = Some(user.to_owned());
    config.sasl.password = Some(Sensitive::new(password.to_owned()));
    Some(config)
}

/// Makes a topic, writes a record in a transaction and reads it.
fn round_trip(config: &KafkaConfig, name: &str) {
    let broker = KafkaBroker::new(config).unwrap();
    broker.wait_until_reachable(Instant::now() + SOON).unwrap();
    let topic = format!("kit-security-{}-{name}", std::process::id());
    broker.ensure_topics(&[TopicSpec::new(topic.as_str(), 1, CleanupPolicy::Delete)]).unwrap();
    let mut producer = broker.producer(ProducerOptions::transactional("security", &topic)).unwrap();
    producer.init_transactions(SOON).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(&OutgoingRecord::new(topic.as_str(), 0, "key", Some("value"))).unwrap();
    producer.commit_transaction(None, SOON).unwrap();
    let partition = TopicPartition::new(topic.as_str(), 0);
    let deadline = Instant::now() + SOON;
    let mut values = Vec::new();
    while values.is_empty() {
        assert!(Instant::now() < deadline, "the record does not come");
        let record = |record: IncomingRecord| values.push(record.value.unwrap());
        read_to_end(&broker, &partition, 0, ReaderOptions::default(), deadline, record).unwrap();
    }
    assert_eq!(values, ["value"]);
}

/// The broker is not reached, and the message says why and what to look at.
fn refused(config: &KafkaConfig, expect: &[&str]) {
    let broker = KafkaBroker::new(config).unwrap();
    let error = broker.wait_until_reachable(Instant::now() + REFUSAL).unwrap_err();
    let text = error.to_string();
    for part in expect {
        assert!(text.contains(part), "{part} missing in: {text}");
    }
}

#[test]
fn tls_with_a_certificate_of_ones_own() {
    let Some(config) = tls() else { return };
    round_trip(&config, "tls");
    let mut without = config.clone();
    (without.tls.certificate_file, without.tls.key_file) = (None, None);
    refused(&without, &["kafka.tls"]);
}

#[test]
fn passwords_over_tls() {
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let Some(config) = sasl(mechanism) else { return };
        round_trip(&config, &mechanism.to_lowercase());
        let mut wrong = config.clone();
        wrong.sasl.password = Some(Sensitive::new("wrong".to_owned()));
        refused(&wrong, &["uthentication failed", "kafka.sasl"]);
    }
}

#[test]
fn the_server_is_verified_by_default() {
    let Some(config) = sasl("PLAIN") else { return };
    // An authority that did not sign the broker's certificate, and those of the system.
    for authority in [file("stranger.pem"), None] {
        let mut other = config.clone();
        other.tls.ca_file = authority;
        refused(&other, &["certificate verify failed", "kafka.tls"]);
    }
    // The certificate is for another name.
    let mut named = config.clone();
    named.brokers = vec![config.brokers[0].replace("127.0.0.1", "localhost")];
    refused(&named, &["certificate verify failed", "kafka.tls"]);
    // The switch that would turn it off is none.
    let mut off = config;
    off.client.insert("enable.ssl.certificate.verification".into(), "false".into());
    let Err(error) = KafkaBroker::new(&off) else { panic!("verification can be turned off") };
    assert!(error.to_string().contains("enable.ssl.certificate.verification"), "{error}");
}

#[test]
fn the_wrong_protocol_is_said() {
    let Some(mut config) = sasl("PLAIN") else { return };
    config.security_protocol = SecurityProtocol::Plaintext;
    refused(&config, &["kafka.security_protocol"]);
}
