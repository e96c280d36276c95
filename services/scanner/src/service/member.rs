//! The scanner's place in its group: one request at a time, and still a member while a long scan runs.
//! It must never drop a request, nor let a partition go while one of its requests is being worked on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use plimsoll_kit::broker::{
    Broker, BrokerError, BrokerErrorKind, CommittedOffset, ConsumerEvent, GroupConsumer, GroupOptions,
    IncomingRecord, TopicPartition, TransactionOffsets,
};
use plimsoll_kit::lifecycle::{Liveness, Readiness, ServiceContext, ShutdownToken};
use plimsoll_kit::transport::Connections;

/// Longest wait for a request before the loop looks around.
const POLL_TIMEOUT: Duration = Duration::from_millis(200);
/// Wait after an error of the broker that mends itself.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How long the group waits for the request under way before its partition is let go. Below Kafka's
/// max.poll.interval.ms (300 s), after which the group would take it by force.
const HAND_OVER_MAX: Duration = Duration::from_secs(240);
/// A loop that is silent for longer counts as stuck.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Whose the request under way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Owner {
    /// Still this member's.
    Us,
    /// Another's: discard what was done of it.
    Another,
}

/// A member of the scanner's group.
pub struct Member {
    consumer: Box<dyn GroupConsumer>,
    broker: Arc<dyn Broker>,
    group: String,
    /// Partition of the request under way, while it is ours.
    working_on: Option<TopicPartition>,
    /// Since when the group wants our partitions back.
    wanted_back: Option<Instant>,
    readiness: Readiness,
    liveness: Liveness,
}

impl Member {
    /// Joins the group; does not wait for the broker.
    pub fn join(
        connections: &Connections,
        group: &str,
        instance: &str,
        topic: &str,
        context: &ServiceContext,
    ) -> anyhow::Result<Self> {
        let mut options = GroupOptions::new(group, vec![topic.to_owned()]);
        options.instance_id = Some(instance.to_owned());
        let consumer = connections.broker.group_consumer(options).context("joining the scanner's group")?;
        Ok(Self {
            consumer,
            broker: connections.broker.clone(),
            group: group.to_owned(),
            working_on: None,
            wanted_back: None,
            readiness: context.health.readiness("group"),
            liveness: context.health.liveness("request-loop", SILENCE_MAX),
        })
    }

    /// The next request, if one came within a moment. Partitions that the group wanted back go now.
    ///
    /// # Errors
    /// What waiting does not mend.
    pub fn next(&mut self, shutdown: &ShutdownToken) -> anyhow::Result<Option<IncomingRecord>> {
        self.finish_request();
        self.wanted_back = None;
        self.liveness.beat();
        let events = match self.consumer.poll(POLL_TIMEOUT, 1) {
            Ok(events) => events,
            Err(error) => {
                self.failed(error)?;
                shutdown.wait(RETRY_INTERVAL);
                return Ok(None);
            }
        };
        let mut request = None;
        for event in events {
            match event {
                ConsumerEvent::Record(record) if request.is_none() => request = Some(record),
                other => self.note(other),
            }
        }
        if let Some(record) = &request {
            self.working_on = Some(record.topic_partition());
            self.pause();
        }
        Ok(request)
    }

    /// Waits, and keeps the membership alive meanwhile.
    pub fn stay(&mut self, wait: Duration) -> Owner {
        self.liveness.beat();
        if let Some(since) = self.wanted_back {
            if since.elapsed() < HAND_OVER_MAX {
                // The next poll would give the partitions away, and the group waits for it.
                std::thread::sleep(wait);
                return Owner::Us;
            }
            tracing::warn!(
                "the group waited {HAND_OVER_MAX:?} for a scan; its request goes to another replica"
            );
            self.working_on = None;
            self.wanted_back = None;
        }
        match self.consumer.poll(wait, 1) {
            Ok(events) => events.into_iter().for_each(|event| self.note(event)),
            // What does not mend itself is told again by `next`.
            Err(error) => {
                tracing::debug!("{error}");
                std::thread::sleep(wait);
            }
        }
        if self.working_on.is_some() { Owner::Us } else { Owner::Another }
    }

    /// Whether the request was answered already, by an attempt whose outcome had been unknown.
    ///
    /// # Errors
    /// As [`GroupConsumer::committed`].
    pub fn is_answered(&mut self, request: &IncomingRecord) -> Result<bool, BrokerError> {
        let committed = self.consumer.committed(&[request.topic_partition()])?;
        Ok(committed.iter().any(|committed| committed.offset > request.offset))
    }

    /// What the answer's transaction commits.
    ///
    /// # Errors
    /// As [`GroupConsumer::group_metadata`].
    pub fn offsets(&self, request: &IncomingRecord) -> Result<TransactionOffsets, BrokerError> {
        let offset = CommittedOffset::new(request.topic_partition(), request.next_offset());
        Ok(TransactionOffsets { offsets: vec![offset], group: self.consumer.group_metadata()? })
    }

    fn finish_request(&mut self) {
        if self.working_on.take().is_none() {
            return;
        }
        let assignment = self.consumer.assignment();
        if let Err(error) = self.consumer.resume(&assignment) {
            // Only partitions that go now cannot be resumed; others are read again from what was committed.
            tracing::debug!("{error}");
        }
    }

    fn pause(&mut self) {
        let assignment = self.consumer.assignment();
        if let Err(error) = self.consumer.pause(&assignment) {
            // Records that come nevertheless are sought back.
            tracing::debug!("{error}");
        }
    }

    fn note(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned(partitions) => {
                tracing::info!(count = partitions.len(), "partitions of scan requests assigned");
                self.readiness.ready();
                if self.working_on.is_some() || self.wanted_back.is_some() {
                    self.pause();
                }
            }
            ConsumerEvent::Revoked(_) => self.wanted_back = self.working_on.as_ref().map(|_| Instant::now()),
            ConsumerEvent::Lost(_) => {
                tracing::warn!("the group went on without this scanner; its requests go to another replica");
                self.working_on = None;
            }
            ConsumerEvent::Record(record) => {
                let partition = record.topic_partition();
                if let Err(error) = self.consumer.seek(&partition, record.offset) {
                    tracing::error!(
                        "{partition} at {}: {error}; the request waits for a restart",
                        record.offset
                    );
                }
            }
            ConsumerEvent::EndOfPartition(_) => {}
        }
    }

    fn failed(&mut self, error: BrokerError) -> anyhow::Result<()> {
        match error.kind() {
            BrokerErrorKind::OffsetOutOfRange => self.skip_expired(&error),
            BrokerErrorKind::Fenced => Err(anyhow::Error::from(error).context(
                "another scanner runs under the same name; give each replica its own scanner.instance",
            )),
            BrokerErrorKind::AbortTransaction => Ok(()),
            _ if error.is_retriable() => {
                tracing::warn!("{error}");
                Ok(())
            }
            _ => Err(error.into()),
        }
    }

    /// Requests that the topic's retention removed while no scanner ran are gone: says so and goes on behind them.
    fn skip_expired(&mut self, error: &BrokerError) -> anyhow::Result<()> {
        let assignment = self.consumer.assignment();
        let committed = self.broker.committed(&self.group, &assignment)?;
        let mut skipped = false;
        for place in committed {
            let low = self.broker.watermarks(&place.partition)?.low;
            if place.offset < low {
                let count = low - place.offset;
                tracing::error!("{}: {count} scan requests expired unanswered; ask again", place.partition);
                self.consumer.seek(&place.partition, low)?;
                skipped = true;
            }
        }
        if skipped { Ok(()) } else { Err(error.clone().into()) }
    }
}
