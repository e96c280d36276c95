//! What the tests of the schemas share: every event type, example files, and a registry in memory.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use plimsoll_schemas::codec::{Codec, CodecError, SchemaStore};

/// Calls `check::<Event>(schema name)` for every event type. A test in `topics.rs` holds that none is missing.
#[macro_export]
macro_rules! every_event {
    ($check:ident) => {{
        use plimsoll_schemas::events::*;
        $check::<ScanRequest>("scan_request");
        $check::<ScanArtifact>("scan_artifact");
        $check::<ScanPackage>("scan_package");
        $check::<ScanFindings>("scan_findings");
        $check::<PackageOwnership>("package_ownership");
        $check::<RuntimeWorkload>("runtime_workload");
        $check::<RuntimeUsage>("runtime_usage");
        $check::<RuntimeAlert>("runtime_alert");
        $check::<CorrelationPackage>("correlation_package");
        $check::<CorrelationUsage>("correlation_usage");
        $check::<CorrelationFinding>("correlation_finding");
        $check::<CorrelationArtifact>("correlation_artifact");
        $check::<CorrelationAlert>("correlation_alert");
        $check::<CorrelatorState>("correlator_state");
    }};
}

/// A file or folder of the crate.
pub fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The text of a file of the crate.
pub fn read(relative: &str) -> String {
    let path = path(relative);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names in a folder of the crate, sorted; none if there is no such folder.
pub fn list(relative: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path(relative)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A registry that gives any schema an id.
#[derive(Default)]
pub struct Registry(Mutex<Vec<Arc<str>>>);

impl SchemaStore for Registry {
    fn id_of(&self, _: &str, schema: &str) -> Result<u32, CodecError> {
        let mut known = self.0.lock().unwrap();
        let index = known.iter().position(|one| &**one == schema).unwrap_or_else(|| {
            known.push(schema.into());
            known.len() - 1
        });
        Ok(index as u32 + 1)
    }

    fn schema_by_id(&self, id: u32) -> Result<Arc<str>, CodecError> {
        let known = self.0.lock().unwrap();
        known.get((id as usize).wrapping_sub(1)).cloned().ok_or(CodecError::UnknownSchema(id))
    }
}

/// A codec of four partitions over a registry of its own.
pub fn codec() -> (Codec, Arc<Registry>) {
    let registry = Arc::new(Registry::default());
    (Codec::new(registry.clone(), "test", 4), registry)
}

/// A body in the Confluent wire format.
pub fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), body].concat()
}
