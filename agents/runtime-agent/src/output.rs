//! Where events go: a broker, or whatever the cli puts there; and the thread that brings them.
//! It must never free what the kernel holds before it is delivered, spooled, or counted as lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use plimsoll_kit::broker::{BrokerError, OutgoingRecord, Producer, ProducerOptions};
use plimsoll_schemas::codec::{Codec, CodecError, EncodedRecord};
use plimsoll_schemas::events::{RuntimeAlert, RuntimeUsage, RuntimeWorkload, ScanRequest};
use serde::{Deserialize, Serialize};

use crate::spool::Spool;

/// Longest wait for the broker's acknowledgement of one batch.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait between two tries to bring what is spooled.
const RETRY: Duration = Duration::from_secs(1);

/// An event of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RuntimeEvent {
    /// `runtime.workloads`.
    Workload(RuntimeWorkload),
    /// `runtime.usage`.
    Usage(RuntimeUsage),
    /// `runtime.alerts`.
    Alert(RuntimeAlert),
    /// `scan.requests`.
    ScanRequest(ScanRequest),
}

impl RuntimeEvent {
    /// The workload that it is about; empty if it is about none.
    pub fn workload_id(&self) -> &str {
        match self {
            Self::Workload(event) => &event.workload_id,
            Self::Usage(event) => &event.workload_id,
            Self::Alert(event) => &event.workload_id,
            Self::ScanRequest(_) => "",
        }
    }

    /// What it stands for when it is lost: observations, or one.
    pub fn weight(&self) -> u64 {
        match self {
            Self::Usage(event) => event.items.len() as u64,
            Self::Workload(_) | Self::Alert(_) => 1,
            Self::ScanRequest(_) => 0,
        }
    }
}

/// Events could not be delivered; all of the batch are to be sent again.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The broker's fault.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The registry's fault, or the event's.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The receiver is gone.
    #[error("{0}")]
    Closed(String),
}

/// Takes events.
pub trait Output: Send {
    /// Delivers all events, or says that they are to be sent again. Doubles are harmless: uses are joined.
    ///
    /// # Errors
    /// [`OutputError`].
    fn publish(&mut self, events: &[RuntimeEvent]) -> Result<(), OutputError>;
}

impl<F: FnMut(&[RuntimeEvent]) -> Result<(), OutputError> + Send> Output for F {
    fn publish(&mut self, events: &[RuntimeEvent]) -> Result<(), OutputError> {
        self(events)
    }
}

/// How the agent's producer is opened: it gives up early, since what it cannot bring is spooled.
pub fn producer_options(client_id: impl Into<String>) -> ProducerOptions {
    ProducerOptions {
        max_block: Duration::from_secs(1),
        delivery_timeout: DELIVERY_TIMEOUT * 2,
        ..ProducerOptions::idempotent(client_id)
    }
}

/// Publishes to a broker.
pub struct BrokerOutput {
    codec: Arc<Codec>,
    producer: Box<dyn Producer>,
}

impl BrokerOutput {
    /// Over an open producer.
    pub fn new(codec: Arc<Codec>, producer: Box<dyn Producer>) -> Self {
        Self { codec, producer }
    }

    fn encode(&self, event: &RuntimeEvent) -> Result<EncodedRecord, CodecError> {
        match event {
            RuntimeEvent::Workload(event) => self.codec.encode(event),
            RuntimeEvent::Usage(event) => self.codec.encode(event),
            RuntimeEvent::Alert(event) => self.codec.encode(event),
            RuntimeEvent::ScanRequest(event) => self.codec.encode(event),
        }
    }
}

impl Output for BrokerOutput {
    fn publish(&mut self, events: &[RuntimeEvent]) -> Result<(), OutputError> {
        let span = tracing::info_span!("publish", events = events.len());
        let _entered = span.enter();
        for event in events {
            let encoded = match self.encode(event) {
                Ok(encoded) => encoded,
                Err(error) if error.is_retriable() => return Err(error.into()),
                Err(error) => {
                    // Sending it again cannot help; the workload's next event tells the same or more.
                    tracing::error!(%error, workload = event.workload_id(), "an event cannot be encoded");
                    continue;
                }
            };
            let mut record =
                OutgoingRecord::new(encoded.topic, encoded.partition, encoded.key, encoded.value);
            plimsoll_kit::telemetry::inject_current(&mut record.headers);
            self.producer.send(&record)?;
        }
        self.producer.flush(DELIVERY_TIMEOUT)?;
        Ok(())
    }
}

/// Events of one flush, and up to where the kernel may forget once they are safe.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<RuntimeEvent>,
    /// Position in the ring buffer; 0: none.
    pub acknowledge: u64,
}

/// Observations lost on the way out, by workload.
pub type OutputLosses = Arc<Mutex<HashMap<String, u64>>>;

/// Brings batches to `output` until `batches` is closed. What cannot be delivered goes to the spool, what finds no room
/// there is counted. `acknowledge` frees the kernel's copy.
pub fn deliver(
    batches: &Receiver<Batch>,
    mut output: Box<dyn Output>,
    mut spool: Spool,
    losses: &OutputLosses,
    acknowledge: impl Fn(u64),
) {
    let mut next_try = Instant::now();
    let mut away = false;
    loop {
        let wait = if spool.is_empty() { Duration::from_secs(3600) } else { RETRY };
        let batch = match batches.recv_timeout(wait) {
            Ok(batch) => batch,
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => Batch::default(),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
        };
        if !spool.is_empty() && Instant::now() >= next_try {
            away = !bring_spooled(&mut spool, &mut *output);
            next_try = Instant::now() + RETRY;
        }
        // Behind what is spooled nothing may overtake: the order of a workload's events tells its end.
        let direct = spool.is_empty() && !away || spool.is_empty() && Instant::now() >= next_try;
        let delivered = batch.events.is_empty() || direct && publish(&mut *output, &batch.events, &mut away);
        if !delivered {
            next_try = next_try.max(Instant::now());
            keep(&mut spool, &batch.events, losses);
        }
        if batch.acknowledge > 0 {
            acknowledge(batch.acknowledge);
        }
    }
    if !spool.is_empty() {
        bring_spooled(&mut spool, &mut *output);
    }
}

fn publish(output: &mut dyn Output, events: &[RuntimeEvent], away: &mut bool) -> bool {
    match output.publish(events) {
        Ok(()) => {
            if std::mem::take(away) {
                tracing::info!("events are delivered again");
            }
            true
        }
        Err(error) => {
            if !std::mem::replace(away, true) {
                tracing::warn!(%error, "events cannot be delivered: they are spooled");
            }
            false
        }
    }
}

/// Brings what is spooled, oldest first; `true` when all of it is gone.
fn bring_spooled(spool: &mut Spool, output: &mut dyn Output) -> bool {
    while let Some(events) = spool.oldest() {
        if let Err(error) = output.publish(&events) {
            tracing::debug!(%error, "spooled events cannot be delivered yet");
            return false;
        }
        spool.remove_oldest();
    }
    tracing::info!("spooled events were delivered");
    true
}

fn keep(spool: &mut Spool, events: &[RuntimeEvent], losses: &OutputLosses) {
    if let Err(error) = spool.append(events) {
        tracing::error!(%error, "events are lost");
        let mut losses = losses.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events.iter().filter(|event| event.weight() > 0) {
            *losses.entry(event.workload_id().to_owned()).or_default() += event.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(workload: &str, items: usize) -> RuntimeEvent {
        RuntimeEvent::Usage(RuntimeUsage {
            workload_id: workload.into(),
            items: vec![Default::default(); items],
            ..Default::default()
        })
    }

    /// What arrives while the first `failures` deliveries fail, what is lost, and what was acknowledged.
    fn check(failures: usize, budget_bytes: u64, batches: Vec<Batch>) -> (Vec<RuntimeEvent>, u64, Vec<u64>) {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path(), budget_bytes).unwrap();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = crossbeam_channel::unbounded();
        for batch in batches {
            sender.send(batch).unwrap();
        }
        drop(sender);
        let (mut left, seen) = (failures, Arc::clone(&arrived));
        let output = move |events: &[RuntimeEvent]| {
            if left > 0 {
                left -= 1;
                return Err(OutputError::Closed("away".into()));
            }
            seen.lock().unwrap().extend_from_slice(events);
            Ok(())
        };
        let losses = OutputLosses::default();
        let acknowledged = Mutex::new(Vec::new());
        deliver(&receiver, Box::new(output), spool, &losses, |position| {
            acknowledged.lock().unwrap().push(position);
        });
        let lost = losses.lock().unwrap().values().sum();
        let events = arrived.lock().unwrap().clone();
        (events, lost, acknowledged.into_inner().unwrap())
    }

    fn batches() -> Vec<Batch> {
        (1..=3).map(|n| Batch { events: vec![usage(&n.to_string(), 2)], acknowledge: n }).collect()
    }

    #[test]
    fn delivers_in_order() {
        let (events, lost, acknowledged) = check(0, 1 << 20, batches());
        assert_eq!(events.iter().map(RuntimeEvent::workload_id).collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!((lost, acknowledged), (0, vec![1, 2, 3]));
    }

    #[test]
    fn keeps_the_order_over_an_outage() {
        let (events, lost, acknowledged) = check(1, 1 << 20, batches());
        assert_eq!(events.iter().map(RuntimeEvent::workload_id).collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!((lost, acknowledged), (0, vec![1, 2, 3]));
    }

    #[test]
    fn counts_what_finds_no_room() {
        let (events, lost, acknowledged) = check(usize::MAX, 10, batches());
        assert!(events.is_empty());
        assert_eq!((lost, acknowledged), (6, vec![1, 2, 3]));
    }
}
