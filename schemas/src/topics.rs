//! The table of topics, from `topics.yaml`.
//! It must never name a topic in code elsewhere: services look topics up by their event type.

/// A topic of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name without prefix and generation, for example `scan.packages`.
    pub name: &'static str,
    /// Name of the schema file without ending.
    pub schema: &'static str,
    /// The Avro schema of the values.
    pub schema_json: &'static str,
    /// Whether the newest record of each key is kept for ever; else records are deleted after their retention.
    pub compact: bool,
    /// Retention in milliseconds; -1 for compacted topics.
    pub retention_ms: i64,
    /// Services that write the topic.
    pub producers: &'static [&'static str],
    /// Services that read the topic.
    pub consumers: &'static [&'static str],
    /// Whether the topic has a dead letter topic beside it.
    pub dead_letter: bool,
}

include!(concat!(env!("OUT_DIR"), "/topics.rs"));

impl Topic {
    /// Full name in Kafka below a prefix: `<prefix>.<name>.v1`.
    pub fn full_name(&self, prefix: &str) -> String {
        full_name(prefix, self.name)
    }

    /// Name of the dead letter topic below a prefix: `<prefix>.<name>.v1.dlq`.
    pub fn dead_letter_name(&self, prefix: &str) -> String {
        format!("{}.dlq", self.full_name(prefix))
    }
}

/// Full name in Kafka of the topic `name` below `prefix`.
pub fn full_name(prefix: &str, name: &str) -> String {
    format!("{prefix}.{name}.v1")
}

/// Looks a topic up by its name without prefix and generation.
pub fn find(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

/// Looks a topic up by its full name below `prefix`.
pub fn find_full(prefix: &str, full: &str) -> Option<&'static Topic> {
    let name = full.strip_prefix(prefix)?.strip_prefix('.')?.strip_suffix(".v1")?;
    find(name)
}

/// Whether `service` reads the topic.
pub fn consumed_by(service: &str) -> impl Iterator<Item = &'static Topic> {
    TOPICS.iter().filter(move |topic| topic.consumers.contains(&service))
}
