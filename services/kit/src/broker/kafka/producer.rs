//! The Kafka producer: idempotent, optionally transactional, with a bounded queue.
//! Never forgets a failed delivery, and never calls an unknown outcome a failure.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use super::client::{self, Hints};
use super::errors;
use super::offsets_list;
use super::revival::Revival;
use crate::broker::types::{OutgoingRecord, ProducerOptions, TransactionOffsets};
use crate::broker::{BrokerError, BrokerErrorKind as Kind, BrokerResult, Producer};

/// How long deliveries may take before the brokers are asked whether they are there.
const DRAIN_STEP: Duration = Duration::from_secs(5);

/// The first failed delivery since it was last asked for.
#[derive(Default)]
struct Failures {
    count: u64,
    first: Option<(RDKafkaErrorCode, String)>,
}

struct Context {
    hints: Hints,
    failures: Mutex<Failures>,
    /// Told at each delivery: there is room in the queue.
    room: Condvar,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.hints.set(code, reason);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        if let Err((error, message)) = result {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.count += 1;
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            failures
                .first
                .get_or_insert_with(|| (code, format!("{}[{}]", message.topic(), message.partition())));
        } else {
            self.hints.clear();
        }
        self.room.notify_all();
    }
}

pub(super) struct KafkaProducer {
    servers: String,
    options: ProducerOptions,
    producer: ThreadedProducer<Context>,
    initialised: bool,
    revival: Revival,
}

impl KafkaProducer {
    pub fn open(servers: String, mut config: ClientConfig, options: ProducerOptions) -> BrokerResult<Self> {
        config
            .set("client.id", &options.client_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", options.linger.as_millis().to_string())
            .set("queue.buffering.max.messages", options.queue_max_records.to_string())
            .set("queue.buffering.max.kbytes", (options.queue_max_bytes / 1024).max(1).to_string())
            .set("delivery.timeout.ms", options.delivery_timeout.as_millis().to_string())
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "500");
        if config.get("compression.type").is_none() {
            config.set("compression.type", "lz4");
        }
        if let Some(id) = &options.transactional_id {
            config
                .set("transactional.id", id)
                .set("transaction.timeout.ms", options.transaction_timeout.as_millis().to_string());
        }
        let context = Context { hints: Hints::default(), failures: Mutex::default(), room: Condvar::new() };
        let producer = ThreadedProducer::from_config_and_context(&config, context)
            .map_err(|error| errors::from_kafka(&servers, "opening a producer", &error, None))?;
        let revival = Revival::new(&servers);
        Ok(Self { servers, options, producer, initialised: false, revival })
    }

    fn context(&self) -> &Arc<Context> {
        self.producer.context()
    }

    fn error(&self, kind: Kind, what: &str, reason: &str) -> BrokerError {
        let reason = match self.context().hints.reason() {
            Some(hint) if matches!(kind, Kind::Retriable | Kind::OutcomeUnknown | Kind::DeliveryFailed) => {
                format!("{reason} ({hint})")
            }
            _ => reason.to_owned(),
        };
        errors::error(kind, &self.servers, what, &reason)
    }

    /// Failed deliveries since the last call, as one error.
    fn take_failures(&self) -> BrokerResult<()> {
        let mut failures = self.context().failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = std::mem::take(&mut failures.count);
        let Some((code, place)) = failures.first.take() else { return Ok(()) };
        drop(failures);
        let kind = match errors::kind_of(code) {
            // The queue gave them up after all retries; they are gone.
            Kind::Retriable | Kind::QueueFull if self.options.transactional_id.is_some() => {
                Kind::AbortTransaction
            }
            Kind::Retriable | Kind::QueueFull => Kind::DeliveryFailed,
            kind => kind,
        };
        let what = format!("{count} records were not delivered, the first to {place}");
        Err(self.error(kind, &what, &code.to_string()))
    }

    /// Waits until the queue is empty; whether it is. Lingering records go at once.
    fn drain(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let client = self.producer.client().native_ptr();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let step_ms = i32::try_from(left.min(DRAIN_STEP).as_millis()).unwrap_or(i32::MAX);
            // SAFETY: the client lives as long as `self.producer`; its own thread serves the delivery reports
            // meanwhile. rdkafka's flush would wait in steps of 100 ms, longer than a whole transaction.
            let answer = unsafe { rdkafka::bindings::rd_kafka_flush(client, step_ms) };
            if answer == rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return true;
            }
            if left <= DRAIN_STEP {
                return false;
            }
            // SAFETY: as above.
            unsafe { self.revival.look(client) };
        }
    }

    /// Calls `call` with the time left until it works, fails for good, or `deadline` passes (then `at_deadline`).
    fn retry(
        &self,
        what: &str,
        deadline: Instant,
        at_deadline: Kind,
        call: impl Fn(Duration) -> Result<(), KafkaError>,
    ) -> BrokerResult<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Err(error) = call(left.max(Duration::from_millis(1))) else { return Ok(()) };
            let KafkaError::Transaction(inner) = &error else {
                return Err(errors::from_kafka(&self.servers, what, &error, None));
            };
            if inner.txn_requires_abort() {
                return Err(self.error(Kind::AbortTransaction, what, &inner.string()));
            }
            if inner.is_fatal() {
                let kind = match errors::kind_of(inner.code()) {
                    Kind::Fenced => Kind::Fenced,
                    _ => self.fatal_kind(),
                };
                return Err(self.error(kind, what, &inner.string()));
            }
            // A call that timed out or may be repeated goes on in the background; the same call picks it up.
            let again = inner.is_retriable() || errors::kind_of(inner.code()) == Kind::Retriable;
            if !again {
                return Err(self.error(errors::kind_of(inner.code()), what, &inner.string()));
            }
            if left.is_zero() {
                return Err(self.error(at_deadline, what, &inner.string()));
            }
            if inner.code() != RDKafkaErrorCode::OperationTimedOut {
                std::thread::sleep(Duration::from_millis(20).min(left));
            }
        }
    }

    /// What a fatal state of the client was caused by.
    fn fatal_kind(&self) -> Kind {
        match self.producer.client().fatal_error() {
            Some((code, _)) if errors::kind_of(code) == Kind::Fenced => Kind::Fenced,
            _ => Kind::Fatal,
        }
    }

    fn require_transactional(&self) -> BrokerResult<()> {
        if self.options.transactional_id.is_some() {
            return Ok(());
        }
        Err(self.error(Kind::Misuse, "transaction", "this producer has no transactional id"))
    }
}

impl Producer for KafkaProducer {
    fn send(&mut self, record: &OutgoingRecord) -> BrokerResult<()> {
        let deadline = Instant::now() + self.options.max_block;
        let partition = i32::try_from(record.partition).unwrap_or(i32::MAX);
        loop {
            let mut headers = None;
            if !record.headers.is_empty() {
                let list = OwnedHeaders::new_with_capacity(record.headers.len());
                headers =
                    Some(record.headers.iter().fold(list, |list, (name, value)| {
                        list.insert(Header { key: name, value: Some(value) })
                    }));
            }
            let message = BaseRecord {
                topic: &record.topic,
                partition: Some(partition),
                payload: record.value.as_deref(),
                key: Some(&*record.key),
                timestamp: record.timestamp_ms,
                headers,
                delivery_opaque: (),
            };
            let Err((error, _)) = self.producer.send::<[u8], [u8]>(message) else { return Ok(()) };
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            let what = format!("sending to {}[{}]", record.topic, record.partition);
            let left = deadline.saturating_duration_since(Instant::now());
            match errors::kind_of(code) {
                Kind::QueueFull if !left.is_zero() => {
                    let context = self.context();
                    let guard = context.failures.lock().unwrap_or_else(PoisonError::into_inner);
                    let _ = context.room.wait_timeout(guard, left.min(Duration::from_millis(20)));
                }
                Kind::RecordTooLarge => {
                    let reason = format!("the record has {} bytes: {code}", record.size_bytes());
                    return Err(self.error(Kind::RecordTooLarge, &what, &reason));
                }
                Kind::Misuse => {
                    // Outside a transaction, or the transaction is to be aborted for an earlier failure.
                    self.take_failures()?;
                    return Err(self.error(Kind::AbortTransaction, &what, &code.to_string()));
                }
                Kind::Fatal | Kind::Fenced => {
                    return Err(self.error(self.fatal_kind(), &what, &code.to_string()));
                }
                kind => return Err(self.error(kind, &what, &code.to_string())),
            }
        }
    }

    fn flush(&mut self, timeout: Duration) -> BrokerResult<()> {
        let emptied = self.drain(timeout);
        self.take_failures()?;
        if emptied {
            return Ok(());
        }
        let reason = format!("{} records are still queued after {timeout:?}", self.in_flight());
        Err(self.error(Kind::Retriable, "delivering records", &reason))
    }

    fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    fn init_transactions(&mut self, timeout: Duration) -> BrokerResult<()> {
        self.require_transactional()?;
        let what = "taking over the transactional id";
        self.retry(what, Instant::now() + timeout, Kind::Retriable, |left| {
            self.producer.init_transactions(left)
        })?;
        self.initialised = true;
        Ok(())
    }

    fn begin_transaction(&mut self) -> BrokerResult<()> {
        self.require_transactional()?;
        if !self.initialised {
            self.init_transactions(self.options.transaction_timeout)?;
        }
        // What failed before belongs to the transaction before.
        let _ = self.take_failures();
        self.retry("beginning a transaction", Instant::now(), Kind::Retriable, |_| {
            self.producer.begin_transaction()
        })
    }

    fn commit_transaction(
        &mut self,
        offsets: Option<TransactionOffsets>,
        timeout: Duration,
    ) -> BrokerResult<()> {
        self.require_transactional()?;
        let deadline = Instant::now() + timeout;
        let emptied = self.drain(timeout);
        self.take_failures().map_err(|error| match error.kind() {
            Kind::Fenced | Kind::Fatal => error,
            _ => BrokerError::new(Kind::AbortTransaction, error),
        })?;
        if !emptied {
            let reason = format!("{} records were not delivered within {timeout:?}", self.in_flight());
            return Err(self.error(Kind::AbortTransaction, "committing", &reason));
        }
        if let Some(TransactionOffsets { offsets, group }) = offsets {
            let Some(metadata) = group.inner.downcast_ref::<ConsumerGroupMetadata>() else {
                return Err(self.error(
                    Kind::Misuse,
                    "committing",
                    "the group metadata belongs to another broker",
                ));
            };
            let list = offsets_list(&offsets)
                .map_err(|error| errors::from_kafka(&self.servers, "committing", &error, None))?;
            // Until the commit itself is asked for, giving up is an abort.
            self.retry("adding offsets to the transaction", deadline, Kind::AbortTransaction, |left| {
                self.producer.send_offsets_to_transaction(&list, metadata, left)
            })?;
        }
        self.retry("committing", deadline, Kind::OutcomeUnknown, |left| {
            self.producer.commit_transaction(left)
        })
    }

    fn abort_transaction(&mut self, timeout: Duration) -> BrokerResult<()> {
        self.require_transactional()?;
        let done = self.retry("aborting", Instant::now() + timeout, Kind::Retriable, |left| {
            self.producer.abort_transaction(left)
        });
        // The records were to fail.
        let _ = self.take_failures();
        done
    }
}
