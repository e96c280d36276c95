//! A broker without transactions, to see what exactly-once costs: the same code over it delivers at least once.
//! Only for measuring: a crash between sending and committing the offsets doubles what was sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_kit::broker::{
    Broker, BrokerResult, CommittedOffset, ConsumerEvent, GroupConsumer, GroupMetadata, GroupOptions,
    OutgoingRecord, PartitionReader, Producer, ProducerOptions, ReaderOptions, TopicPartition, TopicReport,
    TopicSpec, TransactionOffsets, Watermarks,
};

/// Offsets of what is delivered, on their way from the producer's thread to the consumer's.
type Delivered = Arc<Mutex<Vec<CommittedOffset>>>;

pub struct AtLeastOnce {
    inner: Arc<dyn Broker>,
    delivered: Delivered,
}

impl AtLeastOnce {
    pub fn new(inner: Arc<dyn Broker>) -> Self {
        Self { inner, delivered: Delivered::default() }
    }
}

impl Broker for AtLeastOnce {
    fn name(&self) -> String {
        self.inner.name()
    }
    fn wait_until_reachable(&self, deadline: Instant) -> BrokerResult<()> {
        self.inner.wait_until_reachable(deadline)
    }
    fn ensure_topics(&self, topics: &[TopicSpec]) -> BrokerResult<TopicReport> {
        self.inner.ensure_topics(topics)
    }
    fn partition_count(&self, topic: &str) -> BrokerResult<u32> {
        self.inner.partition_count(topic)
    }
    fn watermarks(&self, partition: &TopicPartition) -> BrokerResult<Watermarks> {
        self.inner.watermarks(partition)
    }
    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>> {
        self.inner.committed(group, partitions)
    }
    fn committed_so_far(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> BrokerResult<Vec<CommittedOffset>> {
        self.inner.committed_so_far(group, partitions)
    }
    fn producer(&self, options: ProducerOptions) -> BrokerResult<Box<dyn Producer>> {
        let inner = self.inner.producer(ProducerOptions { transactional_id: None, ..options })?;
        Ok(Box::new(PlainProducer { inner, delivered: self.delivered.clone() }))
    }
    fn group_consumer(&self, options: GroupOptions) -> BrokerResult<Box<dyn GroupConsumer>> {
        let inner = self.inner.group_consumer(GroupOptions { read_committed: false, ..options })?;
        Ok(Box::new(CommittingConsumer { inner, delivered: self.delivered.clone() }))
    }
    fn partition_reader(
        &self,
        partition: &TopicPartition,
        from_offset: i64,
        options: ReaderOptions,
    ) -> BrokerResult<Box<dyn PartitionReader>> {
        self.inner.partition_reader(partition, from_offset, options)
    }
}

struct PlainProducer {
    inner: Box<dyn Producer>,
    delivered: Delivered,
}

impl Producer for PlainProducer {
    fn send(&mut self, record: &OutgoingRecord) -> BrokerResult<()> {
        self.inner.send(record)
    }
    fn flush(&mut self, timeout: Duration) -> BrokerResult<()> {
        self.inner.flush(timeout)
    }
    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
    fn init_transactions(&mut self, _: Duration) -> BrokerResult<()> {
        Ok(())
    }
    fn begin_transaction(&mut self) -> BrokerResult<()> {
        Ok(())
    }
    fn commit_transaction(
        &mut self,
        offsets: Option<TransactionOffsets>,
        timeout: Duration,
    ) -> BrokerResult<()> {
        self.inner.flush(timeout)?;
        let offsets = offsets.map(|offsets| offsets.offsets).unwrap_or_default();
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).extend(offsets);
        Ok(())
    }
    fn abort_transaction(&mut self, _: Duration) -> BrokerResult<()> {
        Ok(())
    }
}

struct CommittingConsumer {
    inner: Box<dyn GroupConsumer>,
    delivered: Delivered,
}

impl GroupConsumer for CommittingConsumer {
    fn poll(&mut self, timeout: Duration, max_records: usize) -> BrokerResult<Vec<ConsumerEvent>> {
        let delivered = std::mem::take(&mut *self.delivered.lock().unwrap_or_else(PoisonError::into_inner));
        if !delivered.is_empty() {
            self.inner.commit(&delivered)?;
        }
        self.inner.poll(timeout, max_records)
    }
    fn assignment(&self) -> Vec<TopicPartition> {
        self.inner.assignment()
    }
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> BrokerResult<()> {
        self.inner.seek(partition, offset)
    }
    fn pause(&mut self, partitions: &[TopicPartition]) -> BrokerResult<()> {
        self.inner.pause(partitions)
    }
    fn resume(&mut self, partitions: &[TopicPartition]) -> BrokerResult<()> {
        self.inner.resume(partitions)
    }
    fn commit(&mut self, offsets: &[CommittedOffset]) -> BrokerResult<()> {
        self.inner.commit(offsets)
    }
    fn committed(&mut self, partitions: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>> {
        self.inner.committed(partitions)
    }
    fn group_metadata(&self) -> BrokerResult<GroupMetadata> {
        self.inner.group_metadata()
    }
    fn close(self: Box<Self>) {
        self.inner.close();
    }
}
