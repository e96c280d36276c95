//! The local copy of `correlator.state`: what the topic holds up to a position, and perhaps some of what lies behind.
//! It must never hold what the topic does not hold: it is written only after the commit.
//!
//! The position is a lower bound. Reading the topic from there to its end makes the copy whole again, since each
//! record carries an entire entity and the last one counts. So a store that is old, half written or empty costs time
//! and never truth.

mod disk;
mod memory;

use std::path::Path;

pub use disk::DiskStore;
pub use memory::MemoryStore;
use plimsoll_correlator_core::{Artifact, EntityKey, StateError};
use plimsoll_schemas::key::SEPARATOR;

/// A store that cannot be used. The machine's disk or its owner is at fault.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the directory.
    #[error("the state in {0} is in use by another process; stop it, or set state.directory to another")]
    Locked(String),
    /// The disk failed, or what is on it is damaged.
    #[error(
        "the state in {directory} cannot be used: {reason}; remove the directory, it is rebuilt from Kafka"
    )]
    Damaged {
        /// The directory.
        directory: String,
        /// What the storage engine said.
        reason: String,
    },
    /// An entity that this version cannot read.
    #[error(transparent)]
    Entity(#[from] StateError),
    /// A key or value that is not of our form.
    #[error(
        "the local state holds a malformed entry; remove `correlator` in state.directory, it is rebuilt from Kafka"
    )]
    Malformed,
}

/// One write: the key and its new value; `None` removes it.
pub type Write = (Vec<u8>, Option<Vec<u8>>);

/// An ordered map of bytes with atomic batches.
pub trait Store: Send + Sync {
    /// Writes all or nothing.
    ///
    /// # Errors
    /// [`StoreError`] of the disk.
    fn write(&self, writes: &[Write]) -> Result<(), StoreError>;

    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`] of the disk.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Entries from `from` on in the order of keys, until `each` returns false.
    ///
    /// # Errors
    /// [`StoreError`] of the disk.
    fn scan(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError>;

    /// Brings what was written to the disk.
    ///
    /// # Errors
    /// [`StoreError`] of the disk.
    fn sync(&self) -> Result<(), StoreError>;
}

/// Opens the store in a directory, or one in memory.
///
/// # Errors
/// [`StoreError`] if the directory is in use or cannot be used.
pub fn open(directory: Option<&Path>) -> Result<Box<dyn Store>, StoreError> {
    Ok(match directory {
        Some(directory) => Box::new(DiskStore::open(directory)?),
        None => Box::new(MemoryStore::default()),
    })
}

/// Up to where a partition of the state topic is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Everything before this offset is held.
    pub offset: i64,
    /// When it was written, milliseconds since the Unix epoch.
    pub written_at_ms: i64,
}

const DATA: u8 = b'd';
const POSITION: u8 = b'p';

/// Keys removed in one write when a partition is cleared.
const CLEAR_MAX_ENTRIES: usize = 10_000;

fn partition_prefix(kind: u8, partition: u32) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

/// Key of the entity whose message key in the state topic is `message_key`.
pub fn data_key(partition: u32, message_key: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + size_of::<u32>() + message_key.len());
    key.push(DATA);
    key.extend_from_slice(&partition.to_be_bytes());
    key.extend_from_slice(message_key);
    key
}

/// Value of an entity: its format, then its body.
pub fn data_value(format: i32, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(size_of::<i32>() + body.len());
    value.extend_from_slice(&format.to_be_bytes());
    value.extend_from_slice(body);
    value
}

/// The write that records a position.
pub fn position_write(partition: u32, position: Position) -> Write {
    let mut value = position.offset.to_be_bytes().to_vec();
    value.extend_from_slice(&position.written_at_ms.to_be_bytes());
    (partition_prefix(POSITION, partition), Some(value))
}

/// The position of a partition; `None` if nothing is held.
///
/// # Errors
/// [`StoreError`] of the disk.
pub fn position(store: &dyn Store, partition: u32) -> Result<Option<Position>, StoreError> {
    let Some(value) = store.get(&partition_prefix(POSITION, partition))? else { return Ok(None) };
    let (Some(offset), Some(written)) = (value.get(..8), value.get(8..16)) else { return Ok(None) };
    let number = |bytes: &[u8]| bytes.try_into().map(i64::from_be_bytes).unwrap_or(0);
    Ok(Some(Position { offset: number(offset), written_at_ms: number(written) }))
}

/// Removes everything of a partition.
///
/// # Errors
/// [`StoreError`] of the disk.
pub fn clear(store: &dyn Store, partition: u32) -> Result<(), StoreError> {
    // The position first: a half cleared partition must not look like a whole one.
    store.write(&[(partition_prefix(POSITION, partition), None)])?;
    let prefix = partition_prefix(DATA, partition);
    loop {
        let mut writes: Vec<Write> = Vec::new();
        store.scan(&prefix, &mut |key, _| {
            if !key.starts_with(&prefix) || writes.len() == CLEAR_MAX_ENTRIES {
                return false;
            }
            writes.push((key.to_vec(), None));
            true
        })?;
        if writes.is_empty() {
            return Ok(());
        }
        store.write(&writes)?;
    }
}

/// Loads an artifact with all its entities.
///
/// # Errors
/// [`StoreError`] of the disk, or an entity that this version cannot read.
pub fn load_artifact(store: &dyn Store, partition: u32, artifact: &str) -> Result<Artifact, StoreError> {
    let mut prefix = data_key(partition, artifact.as_bytes());
    prefix.push(SEPARATOR);
    let mut entities: Vec<(String, Vec<u8>, i32, Vec<u8>)> = Vec::new();
    let mut malformed = false;
    store.scan(&prefix, &mut |key, value| {
        let Some(rest) = key.strip_prefix(prefix.as_slice()) else { return false };
        match split_entity(rest, value) {
            Some(entity) => entities.push(entity),
            None => malformed = true,
        }
        !malformed
    })?;
    if malformed {
        return Err(StoreError::Malformed);
    }
    let entities = entities
        .iter()
        .map(|(kind, id, format, body)| (kind.as_str(), id.as_slice(), *format, body.as_slice()));
    Ok(Artifact::load(artifact, entities)?)
}

fn split_entity(rest: &[u8], value: &[u8]) -> Option<(String, Vec<u8>, i32, Vec<u8>)> {
    let separator = rest.iter().position(|byte| *byte == SEPARATOR)?;
    let kind = String::from_utf8(rest[..separator].to_vec()).ok()?;
    let (format, body) = value.split_at_checked(4)?;
    Some((kind, rest[separator + 1..].to_vec(), i32::from_be_bytes(format.try_into().ok()?), body.to_vec()))
}

/// The artifacts of a partition on which a tick may have an effect. Costs one seek per artifact.
///
/// # Errors
/// [`StoreError`] of the disk.
pub fn open_artifacts(store: &dyn Store, partition: u32) -> Result<Vec<String>, StoreError> {
    let prefix = partition_prefix(DATA, partition);
    let mut open = Vec::new();
    let mut from = prefix.clone();
    loop {
        let mut found: Option<Vec<u8>> = None;
        store.scan(&from, &mut |key, _| {
            if key.starts_with(&prefix) {
                found = Some(key.to_vec());
            }
            false
        })?;
        let Some(key) = found else { return Ok(open) };
        let rest = &key[prefix.len()..];
        let Some(end) = rest.iter().position(|byte| *byte == SEPARATOR) else {
            return Err(StoreError::Malformed);
        };
        let artifact = std::str::from_utf8(&rest[..end]).map_err(|_| StoreError::Malformed)?;
        let mark = plimsoll_schemas::key::message_key(
            artifact,
            &[EntityKey::OPEN_KIND.as_bytes(), &[SEPARATOR]].concat(),
        );
        if store.get(&data_key(partition, &mark))?.is_some() {
            open.push(artifact.to_owned());
        }
        // Behind all entities of this artifact.
        from = key[..prefix.len() + end].to_vec();
        from.push(SEPARATOR + 1);
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_correlator_core::{Event, Order};
    use plimsoll_schemas::events::RuntimeWorkload;
    use plimsoll_schemas::key::message_key;

    use super::*;

    fn fill(store: &dyn Store, partition: u32, key: &str) -> Artifact {
        let mut artifact = Artifact::new(key);
        let record = RuntimeWorkload {
            workload_id: "w".into(),
            application: "a".into(),
            emitted_at_ms: 5,
            ..RuntimeWorkload::default()
        };
        artifact.apply(Event::Workload(record), Order::default()).unwrap();
        let finished = artifact.finish();
        let writes: Vec<Write> = finished
            .changes
            .iter()
            .map(|change| {
                let id = [change.kind.as_bytes(), &[SEPARATOR], &change.entity].concat();
                let key = data_key(partition, &message_key(key, &id));
                (key, change.body.as_ref().map(|body| data_value(1, body)))
            })
            .collect();
        store.write(&writes).unwrap();
        artifact
    }

    fn check(store: &dyn Store) {
        let artifact = fill(store, 1, "host/a");
        fill(store, 1, "host/ab");
        fill(store, 2, "host/b");
        let loaded = load_artifact(store, 1, "host/a").unwrap();
        assert_eq!(loaded.entity_count(), artifact.entity_count());
        assert_eq!(loaded.outputs(), artifact.outputs());
        assert_eq!(load_artifact(store, 2, "host/a").unwrap().entity_count(), 0);
        assert_eq!(open_artifacts(store, 1).unwrap(), ["host/a", "host/ab"]);
        assert_eq!(position(store, 1).unwrap(), None);
        let at = Position { offset: 7, written_at_ms: 9 };
        store.write(&[position_write(1, at)]).unwrap();
        assert_eq!(position(store, 1).unwrap(), Some(at));
        clear(store, 1).unwrap();
        assert_eq!(position(store, 1).unwrap(), None);
        assert_eq!(open_artifacts(store, 1).unwrap(), Vec::<String>::new());
        assert_eq!(open_artifacts(store, 2).unwrap(), ["host/b"]);
        store.sync().unwrap();
    }

    #[test]
    fn both_stores_do_the_same() {
        check(&MemoryStore::default());
        let directory = tempfile::tempdir().unwrap();
        check(&DiskStore::open(directory.path()).unwrap());
        let again = DiskStore::open(directory.path()).unwrap();
        assert_eq!(open_artifacts(&again, 2).unwrap(), ["host/b"], "it outlives its process");
        let locked = DiskStore::open(directory.path()).err().map(|error| error.to_string());
        assert!(locked.unwrap().contains("in use by another process"));
    }
}
