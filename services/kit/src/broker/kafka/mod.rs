//! Kafka (stub while it is being written).
use crate::broker::*;
use crate::config::KafkaConfig;
pub struct KafkaBroker;
impl KafkaBroker { pub fn new(_c: &KafkaConfig) -> BrokerResult<Self> { Err(BrokerError::new(BrokerErrorKind::Configuration, "not yet")) } }
impl Broker for KafkaBroker {
    fn name(&self) -> String { String::new() }
    fn wait_until_reachable(&self, _: Instant) -> BrokerResult<()> { unreachable!() }
    fn ensure_topics(&self, _: &[TopicSpec]) -> BrokerResult<TopicReport> { unreachable!() }
    fn partition_count(&self, _: &str) -> BrokerResult<u32> { unreachable!() }
    fn watermarks(&self, _: &TopicPartition) -> BrokerResult<Watermarks> { unreachable!() }
    fn committed(&self, _: &str, _: &[TopicPartition]) -> BrokerResult<Vec<CommittedOffset>> { unreachable!() }
    fn producer(&self, _: ProducerOptions) -> BrokerResult<Box<dyn Producer>> { unreachable!() }
    fn group_consumer(&self, _: GroupOptions) -> BrokerResult<Box<dyn GroupConsumer>> { unreachable!() }
    fn partition_reader(&self, _: &TopicPartition, _: i64, _: ReaderOptions) -> BrokerResult<Box<dyn PartitionReader>> { unreachable!() }
}
