-- History. Rows come in blocks planned by offset range and deduplicated by token; the window outlives any outage.
-- emitted_at is the agent's clock and decides the day; what is kept is decided by our own clock, inserted_at.

CREATE TABLE IF NOT EXISTS usage_events
(
    artifact          String,
    workload_id       String,
    application       String,
    component         String,
    component_version String,
    kind              LowCardinality(String),
    path              String,
    file_identity     String,
    mount             LowCardinality(String),
    name              String,
    rung              LowCardinality(String),
    first_seen_ms     Int64,
    last_seen_ms      Int64,
    probe             LowCardinality(String),
    process           String,
    producer_id       LowCardinality(String),
    boot_id           String,
    sequence          Int64,
    item              UInt32 COMMENT 'Number of the item within its event, from 0',
    emitted_at        DateTime64(3, 'UTC'),
    topic_partition   UInt32,
    topic_offset      Int64,
    inserted_at       DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
PARTITION BY toDate(emitted_at)
ORDER BY (artifact, workload_id, emitted_at, topic_partition, topic_offset, item)
TTL toDateTime(inserted_at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 100000, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS alert_events
(
    artifact          String,
    alert_id          String,
    workload_id       String,
    application       String,
    component         String,
    component_version String,
    rule              LowCardinality(String),
    severity          LowCardinality(String),
    title             String,
    process           String COMMENT 'JSON object',
    path              String,
    file_identity     String,
    evidence          Map(String, String),
    raised_at_ms      Int64,
    producer_id       LowCardinality(String),
    boot_id           String,
    sequence          Int64,
    emitted_at        DateTime64(3, 'UTC'),
    topic_partition   UInt32,
    topic_offset      Int64,
    inserted_at       DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
PARTITION BY toDate(emitted_at)
ORDER BY (artifact, alert_id, emitted_at, topic_partition, topic_offset)
TTL toDateTime(inserted_at) + INTERVAL 365 DAY
SETTINGS non_replicated_deduplication_window = 100000, ttl_only_drop_parts = 1;
