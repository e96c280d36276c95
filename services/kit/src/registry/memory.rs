//! A schema registry inside the process, for local mode and tests.
//! Never gives one schema two ids, in this process or another: local mode keeps encoded state between runs.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use plimsoll_schemas::codec::{CodecError, SchemaStore};
use plimsoll_schemas::topics::TOPICS;

use super::{RegistryError, SchemaRegistry};

/// Ids come from the schemas' text, so that they are the same in every process.
pub struct MemoryRegistry {
    schemas: RwLock<HashMap<u32, Arc<str>>>,
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryRegistry {
    /// A registry that knows the schemas of all topics.
    pub fn new() -> Self {
        let registry = Self { schemas: RwLock::default() };
        for topic in TOPICS {
            registry.id(topic.schema_json);
        }
        registry
    }

    fn id(&self, schema: &str) -> u32 {
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        let mut id = fnv1a(schema.as_bytes()) & 0x7fff_ffff;
        while schemas.get(&id).is_some_and(|known| &**known != schema) {
            id = (id + 1) & 0x7fff_ffff;
        }
        schemas.entry(id).or_insert_with(|| schema.into());
        id
    }
}

/// FNV-1a, 32 bits (http://www.isthe.com/chongo/tech/comp/fnv/).
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl SchemaRegistry for MemoryRegistry {
    fn name(&self) -> String {
        "memory".into()
    }
    fn register(&self, _subject: &str, schema_json: &str) -> Result<u32, RegistryError> {
        Ok(self.id(schema_json))
    }
    fn schema(&self, id: u32) -> Result<Arc<str>, RegistryError> {
        let schemas = self.schemas.read().unwrap_or_else(PoisonError::into_inner);
        schemas.get(&id).cloned().ok_or_else(|| RegistryError::UnknownSchema { url: self.name(), id })
    }
    fn set_compatibility(&self, _subject: &str, _level: &str) -> Result<(), RegistryError> {
        Ok(())
    }
    fn check(&self) -> Result<(), RegistryError> {
        Ok(())
    }
}

impl SchemaStore for MemoryRegistry {
    fn id_of(&self, subject: &str, schema: &str) -> Result<u32, CodecError> {
        Ok(self.register(subject, schema)?)
    }
    fn schema_by_id(&self, id: u32) -> Result<Arc<str>, CodecError> {
        Ok(self.schema(id)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_every_process() {
        let (one, two) = (MemoryRegistry::new(), MemoryRegistry::new());
        let first = one.register("s", "\"string\"").unwrap();
        two.register("s", "\"bytes\"").unwrap();
        assert_eq!(two.register("other", "\"string\"").unwrap(), first);
        assert_eq!(&*one.schema(first).unwrap(), "\"string\"");
        assert!(matches!(one.schema(1).unwrap_err(), RegistryError::UnknownSchema { id: 1, .. }));
        for topic in TOPICS {
            assert_eq!(
                one.register("x", topic.schema_json).unwrap(),
                two.register("y", topic.schema_json).unwrap()
            );
        }
    }
}
