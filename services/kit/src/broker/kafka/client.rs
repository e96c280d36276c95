//! Client settings from our configuration, and what the client tells between calls (logs, lost connections).
//! Never lets tuning override a setting that the guarantees rest on.

use std::sync::{Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::errors;
use crate::broker::{BrokerErrorKind, BrokerResult};
use crate::config::KafkaConfig;

/// Settings that `kafka.client` must not touch, because the guarantees of DESIGN section 4 rest on them.
const RESERVED: [&str; 20] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "enable.ssl.certificate.verification",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "max.in.flight",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "request.required.acks",
    "retries",
    "security.protocol",
    "transactional.id",
    "log.queue",
];

/// The settings that all clients of one broker share.
pub(super) fn base_config(config: &KafkaConfig) -> BrokerResult<ClientConfig> {
    let servers = config.brokers.join(",");
    let wrong = |reason: &str| {
        Err(errors::error(BrokerErrorKind::Configuration, &servers, "reading the configuration", reason))
    };
    if !config.is_configured() {
        return wrong("kafka.brokers is empty");
    }
    if config.partitions == 0 {
        return wrong("kafka.partitions is 0");
    }
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &servers);
    client.set("security.protocol", config.security_protocol.as_str());
    client.set("socket.timeout.ms", config.request_timeout_ms.max(1000).to_string());
    client.set("socket.nagle.disable", "true");
    // Back quickly after an outage, without hammering.
    client.set("reconnect.backoff.ms", "50");
    client.set("reconnect.backoff.max.ms", "2000");
    client.set("allow.auto.create.topics", "false");
    if config.security_protocol.uses_sasl() {
        client.set("sasl.mechanism", &config.sasl.mechanism);
        let (Some(username), Some(password)) = (&config.sasl.username, &config.sasl.password) else {
            return wrong(
                "kafka.security_protocol asks for kafka.sasl.username and kafka.sasl.password_file",
            );
        };
        client.set("sasl.username", username);
        client.set("sasl.password", password.expose());
    }
    if config.security_protocol.uses_tls() {
        client.set("ssl.endpoint.identification.algorithm", "https");
        let files = [
            ("ssl.ca.location", "kafka.tls.ca_file", &config.tls.ca_file),
            ("ssl.certificate.location", "kafka.tls.certificate_file", &config.tls.certificate_file),
            ("ssl.key.location", "kafka.tls.key_file", &config.tls.key_file),
        ];
        for (setting, key, file) in files {
            let Some(file) = file else { continue };
            // OpenSSL's own message would not name the file.
            if let Err(error) = std::fs::File::open(file) {
                return wrong(&format!("{key}: cannot read {}: {error}", file.display()));
            }
            client.set(setting, file.to_string_lossy());
        }
        if let Some(password) = &config.tls.key_password {
            client.set("ssl.key.password", password.expose());
        }
    }
    for (setting, value) in &config.client {
        if RESERVED.contains(&setting.as_str()) {
            return wrong(&format!(
                "kafka.client.{setting} cannot be set: exactly-once delivery rests on it"
            ));
        }
        client.set(setting, value);
    }
    // `kafka.client.debug` asks for more than the client's own level would let through.
    let level =
        if config.client.contains_key("debug") { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info };
    client.set_log_level(level);
    Ok(client)
}

/// Settings of everything that reads.
pub(super) fn reading(
    config: &mut ClientConfig,
    client_id: &str,
    read_committed: bool,
    prefetch_kbytes: usize,
) {
    config
        .set("client.id", client_id)
        .set("isolation.level", if read_committed { "read_committed" } else { "read_uncommitted" })
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("group.protocol", "classic")
        .set("queued.max.messages.kbytes", prefetch_kbytes.to_string());
    // The defaults stall for a second when a queue is full, fetch too little ahead for small records, and look only
    // every five minutes for topics that were not there, or had no leader, when the group was joined.
    for (setting, value) in [
        ("fetch.queue.backoff.ms", "5"),
        ("queued.min.messages", "100000"),
        ("fetch.wait.max.ms", "100"),
        ("fetch.error.backoff.ms", "100"),
        ("topic.metadata.refresh.interval.ms", "10000"),
    ] {
        if config.get(setting).is_none() {
            config.set(setting, value);
        }
    }
}

/// The last thing that connections said, for messages of calls that fail later.
#[derive(Default)]
pub(super) struct Hints {
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Hints {
    pub fn set(&self, code: RDKafkaErrorCode, reason: &str) {
        // "All brokers are down" repeats what the one before said in more detail.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
            *last = Some((code, reason.to_owned()));
        }
    }

    pub fn reason(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, reason)| reason.clone())
    }

    /// Whether the last word was that we are not let in.
    pub fn refused(&self) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .filter(|(code, _)| errors::kind_of(*code) == BrokerErrorKind::Unauthorized)
            .map(|(_, reason)| reason.clone())
    }

    pub fn clear(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Passes the client's log on.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "kafka", "{facility}: {message}");
        }
        // Lost connections come back by themselves; calls that fail for them say so.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "kafka", "{facility}: {message}");
        }
        _ => tracing::debug!(target: "kafka", "{facility}: {message}"),
    }
}

/// Context of clients without a group and without records: metadata and administration.
#[derive(Default)]
pub(super) struct PlainContext {
    pub hints: Hints,
}

impl ClientContext for PlainContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Calls on this client report their own failures.
        if !matches!(level, RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning) {
            log(level, facility, message);
        }
    }
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.hints.set(code, reason);
        }
    }
}

impl rdkafka::consumer::ConsumerContext for PlainContext {}
