//! The schemas that the records of local state were written with, kept beside it: the next version of this program has
//! others. It must never let a record be taken for damaged because of the version that wrote it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use plimsoll_kit::broker::memory::MemoryBroker;
use plimsoll_kit::broker::{ReaderOptions, TopicPartition, read_to_end};
use plimsoll_kit::transport::Connections;
use plimsoll_schemas::codec;
use plimsoll_schemas::topics::TOPICS;

const FILE: &str = "local.schemas";
/// Longest time to read one partition of the saved state.
const READ_MAX: Duration = Duration::from_secs(60);

/// Connections to the saved broker, which know the schemas of all its records.
///
/// # Errors
/// If a record was written with a schema that is not kept: the message names the file and the remedy.
pub fn connect(directory: &Path, broker: &MemoryBroker) -> anyhow::Result<Connections> {
    let connections = Connections::from_memory(broker.clone());
    connections.prepare_once()?;
    for schema in kept(directory)? {
        connections.registry.register(FILE, &schema)?;
    }
    for topic in TOPICS {
        let topic: Arc<str> = topic.full_name(&connections.prefix).into();
        for partition in 0..connections.partitions {
            let partition = TopicPartition::new(Arc::clone(&topic), partition);
            let mut ids = BTreeSet::new();
            let deadline = Instant::now() + READ_MAX;
            read_to_end(broker, &partition, 0, ReaderOptions::default(), deadline, |record| {
                ids.extend(record.value.as_deref().and_then(codec::schema_id));
            })?;
            for id in ids {
                connections.registry.schema(id).with_context(|| {
                    format!(
                        "{} was written by another version of plimsoll; remove it, then scan and run again",
                        directory.join("local.state").display()
                    )
                })?;
            }
        }
    }
    Ok(connections)
}

/// Keeps the schemas of this version beside those that were kept before.
///
/// # Errors
/// If the file cannot be written; the old one stays then.
pub fn keep(directory: &Path) -> anyhow::Result<()> {
    let mut schemas = kept(directory)?;
    let before = schemas.len();
    schemas.extend(TOPICS.iter().map(|topic| topic.schema_json.to_owned()));
    if schemas.len() == before {
        return Ok(());
    }
    let (path, new) = (directory.join(FILE), directory.join("local.schemas.new"));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(&schemas)?).and_then(|()| file.sync_all())?;
    std::fs::rename(&new, &path).with_context(|| format!("replacing {}", path.display()))
}

fn kept(directory: &Path) -> anyhow::Result<BTreeSet<String>> {
    let path = directory.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is damaged; remove it and local.state, then scan and run again", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_kit::broker::{Broker as _, OutgoingRecord, ProducerOptions};

    #[test]
    fn records_of_another_version_need_its_schemas() {
        let directory = tempfile::tempdir().unwrap();
        let broker = MemoryBroker::new();
        let old = "{\"type\":\"record\",\"name\":\"Old\",\"fields\":[]}";
        let writer = Connections::from_memory(broker.clone());
        writer.prepare_once().unwrap();
        let id = writer.registry.register("old", old).unwrap();
        let topic = TOPICS[0].full_name(&writer.prefix);
        let mut value = vec![0];
        value.extend_from_slice(&id.to_be_bytes());
        let mut producer = broker.producer(ProducerOptions::idempotent("test")).unwrap();
        producer.send(&OutgoingRecord::new(topic, 0, b"key".to_vec(), Some(value))).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();

        let told = format!("{:#}", connect(directory.path(), &broker).err().unwrap());
        assert!(told.contains("local.state") && told.contains("remove it"), "{told}");
        keep(directory.path()).unwrap();
        assert!(connect(directory.path(), &broker).is_err(), "this version's schemas only");
        std::fs::write(directory.path().join(FILE), serde_json::to_vec(&[old]).unwrap()).unwrap();
        keep(directory.path()).unwrap();
        connect(directory.path(), &broker).unwrap();
    }
}
