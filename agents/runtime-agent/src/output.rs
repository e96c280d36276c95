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
    /// Delivers all events but those that it gives back, which can never be delivered, or says that all are to be sent
    /// again. Doubles are harmless: uses are joined.
    ///
    /// # Errors
    /// [`OutputError`].
    fn publish(&mut self, events: &[RuntimeEvent]) -> Result<Vec<RuntimeEvent>, OutputError>;
}

impl<F: FnMut(&[RuntimeEvent]) -> Result<(), OutputError> + Send> Output for F {
    fn publish(&mut self, events: &[RuntimeEvent]) -> Result<Vec<RuntimeEvent>, OutputError> {
        self(events).map(|()| Vec::new())
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
    fn publish(&mut self, events: &[RuntimeEvent]) -> Result<Vec<RuntimeEvent>, OutputError> {
        let span = tracing::info_span!("publish", events = events.len());
        let _entered = span.enter();
        let mut refused = Vec::new();
        for event in events {
            let encoded = match self.encode(event) {
                Ok(encoded) => encoded,
                Err(error) if error.is_retriable() => return Err(error.into()),
                Err(error) => {
                    // Sending it again cannot help.
                    tracing::error!(%error, workload = event.workload_id(), "an event cannot be encoded");
                    refused.push(event.clone());
                    continue;
                }
            };
            let mut record =
                OutgoingRecord::new(encoded.topic, encoded.partition, encoded.key, encoded.value);
            plimsoll_kit::telemetry::inject_current(&mut record.headers);
            self.producer.send(&record)?;
        }
        self.producer.flush(DELIVERY_TIMEOUT)?;
        Ok(refused)
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
        spool.note(&batch.events);
        if !spool.is_empty() && Instant::now() >= next_try {
            away = !bring_spooled(&mut spool, &mut *output, losses);
            next_try = Instant::now() + RETRY;
        }
        // Behind what is spooled nothing may overtake: the order of a workload's events tells its end.
        let direct = spool.is_empty() && !away || spool.is_empty() && Instant::now() >= next_try;
        let refused = match batch.events.is_empty() {
            true => Some(Vec::new()),
            false => direct.then(|| publish(&mut *output, &batch.events, &mut away)).flatten(),
        };
        match refused {
            Some(refused) => lose(&mut spool, &refused, losses),
            None => {
                next_try = next_try.max(Instant::now());
                keep(&mut spool, &batch.events, losses);
            }
        }
        if batch.acknowledge > 0 {
            acknowledge(batch.acknowledge);
        }
    }
    if !spool.is_empty() && !bring_spooled(&mut spool, &mut *output, losses) {
        tracing::warn!("events stay in the spool until an agent with the same one reaches the broker");
    }
}

/// What can never be delivered; `None` if all is to be sent again.
fn publish(output: &mut dyn Output, events: &[RuntimeEvent], away: &mut bool) -> Option<Vec<RuntimeEvent>> {
    match output.publish(events) {
        Ok(refused) => {
            if std::mem::take(away) {
                tracing::info!("events are delivered again");
            }
            Some(refused)
        }
        Err(error) => {
            if !std::mem::replace(away, true) {
                tracing::warn!(%error, "events cannot be delivered: they are spooled");
            }
            None
        }
    }
}

/// Brings what is spooled, oldest first, and then the losses; `true` when all of it is gone.
fn bring_spooled(spool: &mut Spool, output: &mut dyn Output, losses: &OutputLosses) -> bool {
    loop {
        let (is_spooled, events) = match spool.oldest() {
            Ok(Some(events)) => (true, events),
            Ok(None) => (false, spool.losses()),
            Err(error) => {
                tracing::warn!(%error, "spooled events cannot be read now: trying again");
                return false;
            }
        };
        if events.is_empty() {
            break;
        }
        if is_spooled {
            // Losses are told in a workload's last event, which may be among these.
            spool.note(&events);
        }
        match output.publish(&events) {
            Ok(refused) if is_spooled => {
                lose(spool, &refused, losses);
                spool.remove_oldest();
            }
            // What cannot be told of a workload was never told.
            Ok(_) => break,
            Err(error) => {
                tracing::debug!(%error, "spooled events cannot be delivered yet");
                return false;
            }
        }
    }
    spool.clear();
    tracing::info!("spooled events were delivered");
    true
}

fn keep(spool: &mut Spool, events: &[RuntimeEvent], losses: &OutputLosses) {
    if let Err(error) = spool.append(events) {
        tracing::error!(%error, "events are lost");
        lose(spool, events, losses);
    }
}

/// Counts what is lost: for the agent, and in the spool for what the agent does not know any more, or an agent after it.
fn lose(spool: &mut Spool, events: &[RuntimeEvent], losses: &OutputLosses) {
    spool.lose(events);
    let mut losses = losses.lock().unwrap_or_else(PoisonError::into_inner);
    for event in events.iter().filter(|event| event.weight() > 0) {
        *losses.entry(event.workload_id().to_owned()).or_default() += event.weight();
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

    fn workload(id: &str, stopped_at_ms: i64) -> RuntimeEvent {
        let watched = plimsoll_schemas::events::WatchedInterval {
            probe: "ebpf-files".into(),
            from_first_exec: true,
            ..Default::default()
        };
        RuntimeEvent::Workload(RuntimeWorkload {
            workload_id: id.into(),
            artifact: "image/x".into(),
            boot_id: "boot".into(),
            watched: vec![watched],
            stopped_at_ms,
            ..Default::default()
        })
    }

    /// Workloads with losses as they arrive at last.
    fn losses_of(events: &[RuntimeEvent]) -> Vec<(String, i64)> {
        let mut told = std::collections::BTreeMap::new();
        for event in events {
            let RuntimeEvent::Workload(event) = event else { continue };
            told.insert(event.workload_id.clone(), event.losses.iter().map(|loss| loss.events_lost).sum());
        }
        told.into_iter().filter(|(_, lost)| *lost > 0).collect()
    }

    /// One life: brings batches while the output is there or not; gives what arrived.
    fn life(spool: Spool, batches: Vec<Batch>, mut output: impl Output + 'static) -> Vec<RuntimeEvent> {
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = crossbeam_channel::unbounded();
        batches.into_iter().for_each(|batch| sender.send(batch).unwrap());
        drop(sender);
        struct Seen<F>(F);
        impl<F: FnMut(&[RuntimeEvent]) -> Result<Vec<RuntimeEvent>, OutputError> + Send> Output for Seen<F> {
            fn publish(&mut self, events: &[RuntimeEvent]) -> Result<Vec<RuntimeEvent>, OutputError> {
                (self.0)(events)
            }
        }
        let seen = Arc::clone(&arrived);
        let output = Seen(move |events: &[RuntimeEvent]| {
            let refused = output.publish(events)?;
            seen.lock().unwrap().extend(events.iter().filter(|event| !refused.contains(event)).cloned());
            Ok(refused)
        });
        deliver(&receiver, Box::new(output), spool, &OutputLosses::default(), |_| {});
        arrived.lock().unwrap().clone()
    }

    fn away(_: &[RuntimeEvent]) -> Result<(), OutputError> {
        Err(OutputError::Closed("away".into()))
    }

    fn there(_: &[RuntimeEvent]) -> Result<(), OutputError> {
        Ok(())
    }

    #[test]
    fn what_was_lost_is_told_by_the_next_life_also_of_what_ended() {
        let directory = tempfile::tempdir().unwrap();
        let open = |budget_bytes| Spool::open(directory.path(), budget_bytes).unwrap();
        let batch = |events| Batch { events, acknowledge: 0 };
        let begun = batch(vec![workload("ended", 0), workload("whole", 0)]);
        let last = batch(vec![usage("ended", 3), workload("ended", 7)]);
        // The first batch arrives, the last one finds neither broker nor room.
        let mut deliveries = 0;
        let breaks = move |_: &[RuntimeEvent]| {
            deliveries += 1;
            if deliveries == 1 { Ok(()) } else { away(&[]) }
        };
        assert_eq!(losses_of(&life(open(10), vec![begun, last], breaks)), []);
        assert_eq!(life(open(10), Vec::new(), away), []);
        let told = life(open(10), Vec::new(), there);
        assert_eq!(losses_of(&told), [("ended".to_owned(), 4)]);
        assert!(matches!(&told[..], [RuntimeEvent::Workload(event)] if event.stopped_at_ms == 7));
        assert_eq!(life(open(10), Vec::new(), there), [], "told once");
    }

    #[test]
    fn a_loss_that_the_next_life_tells_leaves_a_spooled_end_as_it_is() {
        const BUDGET_BYTES: u64 = 10_000;
        let directory = tempfile::tempdir().unwrap();
        let open = || Spool::open(directory.path(), BUDGET_BYTES).unwrap();
        let batch = |events| Batch { events, acknowledge: 0 };
        let mut deliveries = 0;
        let breaks = move |_: &[RuntimeEvent]| {
            deliveries += 1;
            if deliveries == 1 { Ok(()) } else { away(&[]) }
        };
        // For the second batch there is no room.
        let events = [vec![workload("w", 0)], vec![usage("w", 1_000)], vec![workload("w", 7)]];
        assert_eq!(losses_of(&life(open(), events.map(batch).into(), breaks)), []);
        let told = life(open(), Vec::new(), there);
        assert_eq!(losses_of(&told), [("w".to_owned(), 1_000)]);
        let ended =
            |event: &RuntimeEvent| matches!(event, RuntimeEvent::Workload(event) if event.stopped_at_ms == 7);
        assert!(told.len() == 2 && told.iter().all(ended), "{told:?}");
    }

    #[test]
    fn a_damaged_list_of_workloads_is_a_loss_of_all_that_can_still_be_named() {
        for damage in [&b"{garbage\n"[..], b"\xff\xfe\n"] {
            let directory = tempfile::tempdir().unwrap();
            let open = || Spool::open(directory.path(), 1 << 20).unwrap();
            let batch = |events| Batch { events, acknowledge: 0 };
            let spooled = vec![batch(vec![workload("a", 0)]), batch(vec![workload("b", 0)])];
            assert_eq!(life(open(), spooled, away), []);
            let list = directory.path().join("workloads");
            let whole = std::fs::read(&list).unwrap();
            // The first line is damaged: what stands behind it is read all the same.
            std::fs::write(&list, [damage, &whole].concat()).unwrap();
            let told: Vec<String> =
                losses_of(&life(open(), Vec::new(), there)).into_iter().map(|(id, _)| id).collect();
            assert_eq!(told, ["a", "b"], "{damage:?}");
        }
    }

    #[test]
    fn what_can_never_be_delivered_is_a_loss() {
        struct Refuses;
        impl Output for Refuses {
            fn publish(&mut self, events: &[RuntimeEvent]) -> Result<Vec<RuntimeEvent>, OutputError> {
                let is_usage = |event: &&RuntimeEvent| matches!(event, RuntimeEvent::Usage(_));
                Ok(events.iter().filter(is_usage).cloned().collect())
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path(), 1 << 20).unwrap();
        let events = vec![workload("w", 0), usage("w", 5), workload("other", 0)];
        let told = life(spool, vec![Batch { events, acknowledge: 1 }], Refuses);
        assert_eq!(losses_of(&told), [("w".to_owned(), 5)]);
    }

    #[test]
    fn what_cannot_be_read_is_a_loss_of_all_whose_it_may_be() {
        for (damage, expect) in [
            (&b"{garbage\n"[..], &["first", "second"][..]),
            (b"\xff\xfe\n", &["first", "second"]),
            (b"", &["first", "second"]),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let open = || Spool::open(directory.path(), 1 << 20).unwrap();
            let batch = |events| Batch { events, acknowledge: 0 };
            // `delivered` was never spooled; the others wait in two segments.
            let spooled = vec![
                batch(vec![workload("first", 0), usage("first", 1)]),
                batch(vec![workload("second", 0), usage("second", 1)]),
            ];
            assert_eq!(life(open(), spooled, away), []);
            std::fs::write(directory.path().join(format!("{:020}.jsonl", 0)), damage).unwrap();
            let arrived = life(open(), vec![batch(vec![workload("delivered", 0)])], there);
            let told: Vec<String> = losses_of(&arrived).into_iter().map(|(id, _)| id).collect();
            assert_eq!(told, expect, "{damage:?}");
            assert!(arrived.iter().any(|event| event.workload_id() == "second" && event.weight() == 1));
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
        }
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
