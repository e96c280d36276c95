-- Which blocks the sink cut the history topics into. Written before a block, so that a group whose committed offset
-- went back finds the same blocks again, which ClickHouse then knows (infra/adr/sink-plans.md).

CREATE TABLE IF NOT EXISTS sink_plans
(
    group_id        LowCardinality(String),
    topic           LowCardinality(String),
    topic_partition UInt32,
    block_begin     Int64 COMMENT 'Offset of the first record',
    block_end       Int64 COMMENT 'Offset behind the last record',
    planned_at      DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY (group_id, topic, topic_partition, block_begin)
-- A day longer than the topics keep their records.
TTL toDateTime(planned_at) + INTERVAL 8 DAY;
