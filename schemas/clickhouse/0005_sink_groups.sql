-- Which consumer group fills this database: another one would insert the history a second time.

CREATE TABLE IF NOT EXISTS sink_groups
(
    topic_prefix String,
    group_id     String,
    since        DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY (topic_prefix, group_id);
