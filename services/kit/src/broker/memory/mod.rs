//! A broker inside the process, for local mode and tests: transactions, groups, retention and fencing as Kafka has
//! them, plus faults on demand. Never persists anything, and never grows without back-pressure.

mod consumer;
mod group;
mod log;
mod producer;
mod snapshot;

pub use self::snapshot::SnapshotError;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::group::{Group, Member};
use self::log::{PartitionLog, TransactionNumber};
use super::types::{
    CommittedOffset, GroupOptions, ProducerOptions, ReaderOptions, TopicPartition, TopicReport, TopicSpec,
    Watermarks,
};
use super::{Broker, BrokerError, BrokerErrorKind, BrokerResult, GroupConsumer, PartitionReader, Producer};

/// A partition above this size is shrunk: compacted, or cut before what its groups have committed.
pub const PARTITION_SHRINK_BYTES: usize = 8 * 1024 * 1024;
/// A partition above this size takes no more records until its groups have gone on: back-pressure.
pub const PARTITION_MAX_BYTES: usize = 512 * 1024 * 1024;
/// Records above this size are refused, as by Kafka's default.
pub const RECORD_MAX_BYTES: usize = 1024 * 1024;

struct Topic {
    spec: TopicSpec,
    partitions: Vec<PartitionLog>,
}

struct OpenTransaction {
    number: TransactionNumber,
    touched: Vec<TopicPartition>,
    expires: Instant,
}

#[derive(Default)]
struct TransactionalId {
    epoch: u64,
    open: Option<OpenTransaction>,
    /// Ended without a word to its partitions; each is ended by the id's next transaction there.
    forgotten: Vec<OpenTransaction>,
}

struct CommitFault {
    kind: BrokerErrorKind,
    applied: bool,
}

/// Where the end of a transaction is not heard.
enum Unheard {
    /// In all its partitions, and by the group's offsets.
    Everywhere,
    /// In its partitions of this topic.
    In(String),
}

struct State {
    available: bool,
    next_number: u64,
    topics: HashMap<String, Topic>,
    groups: HashMap<String, Group>,
    transactional: HashMap<String, TransactionalId>,
    commit_faults: VecDeque<CommitFault>,
    forget_next_end: Option<Unheard>,
    /// For each of the next sends, whether and how it fails.
    send_faults: VecDeque<Option<BrokerErrorKind>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The memory broker. Clones share everything.
#[derive(Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBroker {
    /// An empty broker. Topics must be made by `ensure_topics`, as in production.
    pub fn new() -> Self {
        let state = State {
            available: true,
            next_number: 1,
            topics: HashMap::new(),
            groups: HashMap::new(),
            transactional: HashMap::new(),
            commit_faults: VecDeque::new(),
            forget_next_end: None,
            send_faults: VecDeque::new(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Fault: `false` makes every call fail with `Retriable` until `true`.
    pub fn set_available(&self, available: bool) {
        self.shared.lock().available = available;
        self.shared.changed.notify_all();
    }

    /// Fault: the next `commit_transaction` fails with `kind`; with `applied` it takes effect all the same, as when
    /// the answer was lost (`OutcomeUnknown`).
    pub fn fail_next_commit(&self, kind: BrokerErrorKind, applied: bool) {
        self.shared.lock().commit_faults.push_back(CommitFault { kind, applied });
    }

    /// Fault: the next `commit_transaction` or `abort_transaction` is acknowledged, but neither its partitions nor its
    /// group's offsets hear of it, as when Kafka finds no leader for them: the transaction stays open there until the
    /// same transactional id ends another one.
    pub fn forget_next_end(&self) {
        self.shared.lock().forget_next_end = Some(Unheard::Everywhere);
    }

    /// As [`MemoryBroker::forget_next_end`], but only the partitions of this topic do not hear of it.
    pub fn forget_next_end_in(&self, topic: &str) {
        self.shared.lock().forget_next_end = Some(Unheard::In(topic.to_owned()));
    }

    /// Fault: the next `send` fails with `kind`.
    pub fn fail_next_send(&self, kind: BrokerErrorKind) {
        self.fail_send_after(0, kind);
    }

    /// Fault: `sends` more succeed, the one after them fails with `kind`.
    pub fn fail_send_after(&self, sends: usize, kind: BrokerErrorKind) {
        let mut state = self.shared.lock();
        state.send_faults.extend(std::iter::repeat_n(None, sends));
        state.send_faults.push_back(Some(kind));
    }

    /// Fault: retention removes everything before `low`.
    pub fn truncate(&self, partition: &TopicPartition, low: i64) -> BrokerResult<()> {
        self.shared.lock().log_mut(partition)?.truncate(low);
        Ok(())
    }

    /// Fault: the group's coordinator drops all members, as when their sessions expired; they are told `Lost`.
    pub fn expire_members(&self, group: &str) {
        let mut state = self.shared.lock();
        if let Some(group) = state.groups.get_mut(group) {
            group.members.clear();
            group.rebalancing = true;
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // State is changed only by steps that do not panic half-way; a poisoned lock is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

fn unknown_topic(partition: &TopicPartition) -> BrokerError {
    BrokerError::new(
        BrokerErrorKind::UnknownTopic,
        format_args!("memory broker: {partition} does not exist; create it by ensure_topics"),
    )
}

impl State {
    fn check_available(&self) -> BrokerResult<()> {
        if self.available {
            return Ok(());
        }
        Err(BrokerError::new(BrokerErrorKind::Retriable, "memory broker is set unavailable; try again later"))
    }

    fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn log(&self, partition: &TopicPartition) -> BrokerResult<&PartitionLog> {
        let topic = self.topics.get(&*partition.topic).ok_or_else(|| unknown_topic(partition))?;
        topic.partitions.get(partition.partition as usize).ok_or_else(|| unknown_topic(partition))
    }

    fn log_mut(&mut self, partition: &TopicPartition) -> BrokerResult<&mut PartitionLog> {
        let topic = self.topics.get_mut(&*partition.topic).ok_or_else(|| unknown_topic(partition))?;
        topic.partitions.get_mut(partition.partition as usize).ok_or_else(|| unknown_topic(partition))
    }

    /// Ends the open transaction of an id without a word to some of its partitions.
    fn forget_transaction(&mut self, transactional_id: &str, unheard: &Unheard, commit: bool) {
        let Some(id) = self.transactional.get_mut(transactional_id) else { return };
        let Some(open) = &mut id.open else { return };
        let is_forgotten = |partition: &TopicPartition| match unheard {
            Unheard::Everywhere => true,
            Unheard::In(topic) => *partition.topic == **topic,
        };
        let (touched, heard) = std::mem::take(&mut open.touched).into_iter().partition(is_forgotten);
        open.touched = heard;
        id.forgotten.push(OpenTransaction { number: open.number, touched, expires: open.expires });
        self.end_transaction(transactional_id, commit);
    }

    /// Ends the open transaction of an id.
    fn end_transaction(&mut self, transactional_id: &str, commit: bool) {
        let Some(id) = self.transactional.get_mut(transactional_id) else { return };
        let Some(open) = id.open.take() else { return };
        let mut ends: Vec<(TransactionNumber, TopicPartition)> = Vec::new();
        for partition in open.touched {
            for forgotten in &mut id.forgotten {
                let before = forgotten.touched.len();
                forgotten.touched.retain(|touched| *touched != partition);
                if forgotten.touched.len() < before {
                    ends.push((forgotten.number, partition.clone()));
                }
            }
            ends.push((open.number, partition));
        }
        id.forgotten.retain(|forgotten| !forgotten.touched.is_empty());
        for (number, partition) in ends {
            if let Ok(log) = self.log_mut(&partition) {
                log.end_transaction(number, commit);
            }
        }
    }

    /// Aborts transactions that were open for too long, and fences their producers.
    fn expire_transactions(&mut self, now: Instant) {
        let expired: Vec<String> = self
            .transactional
            .iter()
            .filter(|(_, id)| id.open.as_ref().is_some_and(|open| open.expires <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in expired {
            self.end_transaction(&name, false);
            if let Some(id) = self.transactional.get_mut(&name) {
                id.epoch += 1;
            }
        }
    }

    fn advance_group(&mut self, name: &str, now: Instant) {
        let topics = &self.topics;
        if let Some(group) = self.groups.get_mut(name) {
            group.advance(now, |topic| {
                topics.get(topic).map_or(0, |t| u32::try_from(t.partitions.len()).unwrap_or(u32::MAX))
            });
        }
    }

    /// The lowest offset that a group which reads the topic has not committed yet; `None`: no group reads it.
    fn needed_from(&self, partition: &TopicPartition) -> Option<i64> {
        self.groups
            .values()
            .filter_map(|group| {
                let reads = group.members.values().any(|m| m.topics.iter().any(|t| **t == *partition.topic));
                let committed = group.committed.get(partition).map(|c| c.offset);
                committed.or(reads.then_some(0))
            })
            .min()
    }

    fn append(
        &mut self,
        partition: &TopicPartition,
        record: super::IncomingRecord,
        transaction: Option<TransactionNumber>,
    ) -> BrokerResult<()> {
        let log = self.log_mut(partition)?;
        log.append(record, transaction);
        if log.size_bytes() > PARTITION_SHRINK_BYTES {
            let needed_from = self.needed_from(partition);
            let cleanup =
                self.topics.get(&*partition.topic).map_or(super::CleanupPolicy::Delete, |t| t.spec.cleanup);
            self.log_mut(partition)?.shrink(cleanup, PARTITION_SHRINK_BYTES, needed_from);
        }
        Ok(())
    }
}

impl Broker for MemoryBroker {
    fn name(&self) -> String {
        "memory broker".into()
    }

    fn wait_until_reachable(&self, deadline: Instant) -> BrokerResult<()> {
        let mut state = self.shared.lock();
        loop {
            let checked = state.check_available();
            let left = deadline.saturating_duration_since(Instant::now());
            if checked.is_ok() || left.is_zero() {
                return checked;
            }
            state = self.shared.wait(state, left);
        }
    }

    fn ensure_topics(&self, topics: &[TopicSpec]) -> BrokerResult<TopicReport> {
        let mut state = self.shared.lock();
        state.check_available()?;
        let mut report = TopicReport::default();
        let mut differences = Vec::new();
        for spec in topics {
            match state.topics.get(&*spec.name) {
                Some(topic) => {
                    differences.extend(super::topic_differences(
                        spec,
                        u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
                        Some(topic.spec.cleanup.as_str()),
                    ));
                    report.existing.push(spec.name.to_string());
                }
                None => {
                    let partitions = (0..spec.partitions).map(|_| PartitionLog::default()).collect();
                    state.topics.insert(spec.name.to_string(), Topic { spec: spec.clone(), partitions });
                    // Members that wait for this topic get it by a rebalance.
                    for group in state.groups.values_mut() {
                        if group.members.values().any(|m| m.topics.iter().any(|t| **t == *spec.name)) {
                            group.rebalancing = true;
                        }
                    }
                    report.created.push(spec.name.to_string());
                }
            }
        }
        drop(state);
        self.shared.changed.notify_all();
        super::refuse_differences(&self.name(), differences)?;
        Ok(report)
    }

    fn partition_count(&self, topic: &str) -> BrokerResult<u32> {
        let state = self.shared.lock();
        state.check_available()?;
        let found = state.topics.get(topic).ok_or_else(|| unknown_topic(&TopicPartition::new(topic, 0)))?;
        Ok(u32::try_from(found.partitions.len()).unwrap_or(u32::MAX))
    }

    fn watermarks(&self, partition: &TopicPartition) -> BrokerResult<Watermarks> {
        let mut state = self.shared.lock();
        state.check_available()?;
        state.expire_transactions(Instant::now());
        Ok(state.log(partition)?.watermarks())
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>> {
        let state = self.shared.lock();
        state.check_available()?;
        state.groups.get(group).map_or(Ok(Vec::new()), |group| group.committed(partitions))
    }

    fn committed_so_far(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> BrokerResult<Vec<CommittedOffset>> {
        let state = self.shared.lock();
        state.check_available()?;
        Ok(state.groups.get(group).map_or(Vec::new(), |group| group.committed_so_far(partitions)))
    }

    fn producer(&self, options: ProducerOptions) -> BrokerResult<Box<dyn Producer>> {
        Ok(Box::new(producer::MemoryProducer::new(self.shared.clone(), options)))
    }

    fn group_consumer(&self, options: GroupOptions) -> BrokerResult<Box<dyn GroupConsumer>> {
        let mut state = self.shared.lock();
        let id = state.next_number();
        let member = Member {
            instance_id: options.instance_id.clone(),
            topics: options.topics.clone(),
            assignment: Vec::new(),
            told: false,
            joined: false,
            detached_until: None,
            session_timeout: options.session_timeout,
        };
        state.groups.entry(options.group.clone()).or_default().join(id, member);
        drop(state);
        self.shared.changed.notify_all();
        Ok(Box::new(consumer::MemoryConsumer::new(self.shared.clone(), options, id)))
    }

    fn partition_reader(
        &self,
        partition: &TopicPartition,
        from_offset: i64,
        options: ReaderOptions,
    ) -> BrokerResult<Box<dyn PartitionReader>> {
        Ok(Box::new(consumer::MemoryReader::new(
            self.shared.clone(),
            partition.clone(),
            from_offset,
            options,
        )))
    }
}
