//! Publishes ownership from a bounded queue on a thread of its own; answers do not wait for a broker that is away.
//! Never drops an event silently: a full queue refuses, and what cannot be sent at all is counted and logged.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{BrokerErrorKind, OutgoingRecord, Producer, ProducerOptions};
use plimsoll_kit::clock;
use plimsoll_kit::lifecycle::{ServiceContext, ShutdownToken};
use plimsoll_kit::metrics::{Counter, Gauge};
use plimsoll_kit::transport::{Connections, TransportError};
use plimsoll_schemas::codec::{Codec, CodecError};
use plimsoll_schemas::event::Stamper;
use plimsoll_schemas::events::PackageOwnership;

/// Events sent before their delivery is waited for.
const BATCH_MAX_EVENTS: usize = 1_000;
/// How long one delivery is waited for before the broker counts as away.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the producer waits for room.
const SEND_MAX_BLOCK: Duration = Duration::from_secs(1);
/// How long the thread may take to end, once asked to.
const THREAD_END_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Between two warnings about the same trouble.
const WARN_INTERVAL: Duration = Duration::from_secs(30);

/// The queue is full: ask again later.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} ownership events wait for the broker, the most that resolver.queue_max_events allows; ask again when the broker is back"
)]
pub struct QueueFull(usize);

/// Up to which event something was queued.
#[derive(Debug, Clone, Copy)]
pub struct Receipt(u64);

struct State {
    queue: VecDeque<PackageOwnership>,
    /// Events queued, and delivered, since the start.
    queued: u64,
    delivered: u64,
    /// The last delivery worked.
    available: bool,
    ended: bool,
    fatal: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    progress: Condvar,
    max_events: usize,
    stamper: Stamper,
    published: Counter,
    refused: Counter,
    lost: Counter,
    waiting: Gauge,
}

/// See the module's documentation. Dropping it without [`Publisher::end`] gives up what waits.
pub struct Publisher {
    shared: Arc<Shared>,
    stop: ShutdownToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Publisher {
    /// Starts the thread. It makes the topics first and tries until the broker is there; `context.shutdown` is
    /// triggered when publishing can never work.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        connections: Connections,
        context: &ServiceContext,
        producer_id: &str,
        max_events: usize,
    ) -> std::io::Result<Self> {
        let metrics = &context.metrics;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                queued: 0,
                delivered: 0,
                available: true,
                ended: false,
                fatal: None,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            max_events,
            stamper: Stamper::new(producer_id, plimsoll_kit::host::random_id()),
            published: metrics.counter("published", "Ownership events delivered to the broker"),
            refused: metrics
                .counter("publish_refused", "Ownership events refused because the queue was full"),
            lost: metrics.counter("publish_lost", "Ownership events that could not be delivered at all"),
            waiting: metrics.gauge("publish_waiting", "Ownership events that wait for the broker"),
        });
        let stop = ShutdownToken::new();
        // The publisher outlives the request to end, so that it can deliver what waits.
        let own = ServiceContext { shutdown: stop.clone(), ..context.clone() };
        let (thread_shared, service_shutdown) = (shared.clone(), context.shutdown.clone());
        let client_id = producer_id.to_owned();
        let thread = std::thread::Builder::new().name("publisher".into()).spawn(move || {
            let shared = thread_shared;
            let run = AssertUnwindSafe(|| run(&shared, &connections, &own, &client_id));
            let result = std::panic::catch_unwind(run);
            if let Err(error) =
                result.unwrap_or_else(|_| Err(anyhow::anyhow!("the publisher's thread panicked")))
            {
                tracing::error!("ownership cannot be published: {error:#}");
                shared.lock().fatal = Some(format!("{error:#}"));
                service_shutdown.trigger();
            }
            let mut state = shared.lock();
            state.ended = true;
            state.available = false;
            drop(state);
            shared.progress.notify_all();
        })?;
        Ok(Self { shared, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Queues events, all of them or none.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn publish(&self, events: Vec<PackageOwnership>) -> Result<Receipt, QueueFull> {
        let mut state = self.shared.lock();
        if state.queue.len() + events.len() > self.shared.max_events || state.ended {
            self.shared.refused.inc_by(events.len() as u64);
            return Err(QueueFull(state.queue.len()));
        }
        let now_ms = clock::now_ms();
        for mut event in events {
            self.shared.stamper.stamp(&mut event, now_ms);
            state.queue.push_back(event);
            state.queued += 1;
        }
        self.shared.waiting.set(state.queue.len() as i64);
        let receipt = Receipt(state.queued);
        drop(state);
        self.shared.work.notify_one();
        Ok(receipt)
    }

    /// Waits until all up to `receipt` is delivered, but not for a broker that is away. Whether it is delivered.
    pub fn wait(&self, receipt: Receipt, timeout: Duration) -> bool {
        self.wait_while(timeout, |state| state.delivered < receipt.0 && state.available)
            .is_some_and(|state| state.delivered >= receipt.0)
    }

    /// Waits until everything queued so far is delivered; how many events still wait.
    pub fn flush(&self, timeout: Duration) -> usize {
        let upto = self.shared.lock().queued;
        drop(self.wait_while(timeout, |state| state.delivered < upto && !state.ended));
        self.shared.lock().queue.len()
    }

    /// Delivers what waits within `timeout` and ends. What is left then is counted as lost.
    ///
    /// # Errors
    /// Why publishing could never work.
    pub fn end(&self, timeout: Duration) -> Result<(), String> {
        self.flush(timeout);
        self.stop.trigger();
        self.shared.work.notify_all();
        // Not joined when it is held up in a call to a broker that is away: the process ends without it.
        let has_ended = self.wait_while(THREAD_END_TIMEOUT, |state| !state.ended).is_some();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|_| has_ended) {
            // A panic there was turned into `fatal`.
            let _ = thread.join();
        }
        let left = self.shared.lock().queue.len();
        if left > 0 {
            self.shared.lost.inc_by(left as u64);
            tracing::error!(
                events = left,
                "ended before the broker took all ownership events; agents ask again when they reconnect"
            );
        }
        match self.shared.lock().fatal.take() {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    fn wait_while(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&State) -> bool,
    ) -> Option<MutexGuard<'_, State>> {
        let waited =
            self.shared.progress.wait_timeout_while(self.shared.lock(), timeout, |state| condition(state));
        let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        (!result.timed_out()).then_some(state)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.trigger();
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first events of the queue, which stay in it until they are delivered. Empty at the end.
    fn next_batch(&self, stop: &ShutdownToken) -> Vec<PackageOwnership> {
        let mut state = self.lock();
        while state.queue.is_empty() && !stop.is_triggered() {
            // Bounded, since the token does not notify this condition.
            let waited = self.work.wait_timeout(state, Duration::from_millis(200));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.queue.iter().take(BATCH_MAX_EVENTS).cloned().collect()
    }

    fn delivered(&self, count: usize) {
        let mut state = self.lock();
        state.queue.drain(..count);
        state.delivered += count as u64;
        state.available = true;
        self.waiting.set(state.queue.len() as i64);
        drop(state);
        self.progress.notify_all();
    }

    fn unavailable(&self) {
        self.lock().available = false;
        self.progress.notify_all();
    }
}

fn run(
    shared: &Shared,
    connections: &Connections,
    context: &ServiceContext,
    client_id: &str,
) -> anyhow::Result<()> {
    // Answers do not wait for a broker that was never there.
    match connections.prepare_once() {
        Ok(_) => context.health.readiness("transport").ready(),
        Err(_) => {
            shared.unavailable();
            match connections.prepare(context) {
                Err(TransportError::Ended) => return Ok(()),
                prepared => drop(prepared?),
            }
        }
    }
    let codec = connections.codec();
    let mut sender = Sender { shared, connections, codec, client_id, producer: None, encoded: Vec::new() };
    let mut last_warning: Option<Instant> = None;
    loop {
        let batch = shared.next_batch(&context.shutdown);
        if batch.is_empty() {
            return Ok(());
        }
        while let Err(error) = sender.deliver(&batch) {
            shared.unavailable();
            if last_warning.is_none_or(|last| last.elapsed() >= WARN_INTERVAL) {
                tracing::warn!("ownership waits to be published: {error}");
                last_warning = Some(Instant::now());
            }
            if context.shutdown.wait(RETRY_INTERVAL) {
                return Ok(());
            }
        }
        shared.delivered(batch.len());
        shared.published.inc_by(batch.len() as u64);
    }
}

/// One batch on its way.
struct Sender<'s> {
    shared: &'s Shared,
    connections: &'s Connections,
    codec: Arc<Codec>,
    client_id: &'s str,
    producer: Option<Box<dyn Producer>>,
    /// Records of the batch.
    encoded: Vec<OutgoingRecord>,
}

impl Sender<'_> {
    /// Encodes, sends and waits for the delivery. After an error it is called again with the same batch.
    fn deliver(&mut self, batch: &[PackageOwnership]) -> anyhow::Result<()> {
        self.encoded.clear();
        for event in batch {
            match self.codec.encode(event) {
                Ok(record) => self.encoded.push(OutgoingRecord::new(
                    record.topic,
                    record.partition,
                    record.key,
                    record.value,
                )),
                Err(error) if error.is_retriable() => return Err(error.into()),
                Err(error) => self.lose(&error),
            }
        }
        let mut producer = match self.producer.take() {
            Some(producer) => producer,
            None => self.connections.broker.producer(ProducerOptions {
                max_block: SEND_MAX_BLOCK,
                ..ProducerOptions::idempotent(self.client_id)
            })?,
        };
        for record in &self.encoded {
            match producer.send(record) {
                Err(error) if error.kind() == BrokerErrorKind::RecordTooLarge => {
                    self.shared.lost.inc();
                    tracing::error!("an ownership event cannot be published: {error}");
                }
                sent => sent?,
            }
        }
        // A producer that failed is dropped here: its records are sent again by the next one, which is harmless.
        producer.flush(FLUSH_TIMEOUT)?;
        self.producer = Some(producer);
        Ok(())
    }

    fn lose(&self, error: &CodecError) {
        self.shared.lost.inc();
        tracing::error!("an ownership event cannot be published: {error}");
    }
}
