//! Compares what came out with what must have: nothing lost, nothing doubled, nothing else.
//! It must never pass because there was nothing to compare.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use plimsoll_kit::broker::{ReaderOptions, TopicPartition, read_to_end};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::event::Event as _;
use plimsoll_schemas::events::CorrelationPackage;
use plimsoll_schemas::topics::TOPICS;

use crate::generate::{Load, artifact, package_id};

const READ_LIMIT: Duration = Duration::from_secs(600);

/// Compares `correlation.packages` with the load, and looks into the dead letters; the number of packages.
///
/// # Errors
/// The first difference.
pub fn check(connections: &Connections, load: &Load) -> anyhow::Result<usize> {
    let topic = connections.codec().topic::<CorrelationPackage>();
    let count = check_topic(connections, load, &topic)?;
    for topic in TOPICS.iter().filter(|topic| topic.dead_letter) {
        let name = topic.dead_letter_name(&connections.prefix);
        for partition in 0..connections.partitions {
            let marks = connections.broker.watermarks(&TopicPartition::new(name.as_str(), partition))?;
            ensure!(marks.high == marks.low, "{name} has dead letters in partition {partition}");
        }
    }
    Ok(count)
}

/// Compares a topic of [`CorrelationPackage`]s.
///
/// # Errors
/// The first difference.
pub fn check_topic(connections: &Connections, load: &Load, topic: &str) -> anyhow::Result<usize> {
    let codec = connections.codec();
    let mut found: BTreeMap<(String, String), (String, i64)> = BTreeMap::new();
    for partition in 0..connections.partitions {
        let at = TopicPartition::new(topic, partition);
        let mut failed = None;
        let deadline = Instant::now() + READ_LIMIT;
        read_to_end(&*connections.broker, &at, 0, ReaderOptions::default(), deadline, |record| {
            let (Some(key), Some(value)) = (record.key, record.value) else {
                failed = Some(format!("{at}: a tombstone at {}", record.offset));
                return;
            };
            match codec.decode::<CorrelationPackage>(&key, &value) {
                Ok(event) => {
                    let state = (event.r#use.clone(), event.vulnerability_count);
                    found.insert((event.artifact().to_owned(), event.package_id), state);
                }
                Err(error) => failed = Some(format!("{at}: {error}")),
            }
        })?;
        if let Some(failed) = failed {
            bail!("{failed}");
        }
    }
    let mut compared = 0;
    for number in 0..load.artifacts {
        for (package, expected) in load.expected(number).into_iter().enumerate() {
            let key = (artifact(number), package_id(package));
            let Some((usage, vulnerabilities)) = found.remove(&key) else { bail!("{key:?} is missing") };
            let wanted = if expected.used { "used" } else { "unused" };
            ensure!(usage == wanted, "{key:?} is {usage}, not {wanted}");
            ensure!(
                vulnerabilities == expected.vulnerabilities,
                "{key:?}: {vulnerabilities} vulnerabilities"
            );
            compared += 1;
        }
    }
    ensure!(found.is_empty(), "{} packages too many: {:?}", found.len(), found.keys().next());
    ensure!(compared > 0, "there was nothing to compare");
    Ok(compared)
}
