//! Rows of scan.*: manifests.
//! It must never compute: what a row says, its event said.

use plimsoll_schemas::events::{OperatingSystem, Platform, ScanArtifact};

use super::key::{self, KeyError};
use super::value::Json;
use super::{Row, StateEvent, StateTable};

impl StateEvent for ScanArtifact {
    const TABLE: StateTable = StateTable::Scans;

    fn from_key(artifact: &str, entity: &[u8]) -> Result<Self, KeyError> {
        let [scan_id] = key::parts(entity)?;
        Ok(Self { artifact: artifact.to_owned(), scan_id, ..Self::default() })
    }

    fn columns(&self, row: &mut impl Row) {
        row.column("artifact", &self.artifact);
        row.column("scan_id", &self.scan_id);
        row.column("application", &self.application);
        row.column("component", &self.component);
        row.column("component_version", &self.component_version);
        row.column("source", &self.source);
        row.column("names", &self.names);
        row.column("aliases", &self.aliases);
        system_columns(self.os.as_ref(), self.platform.as_ref(), row);
        row.column("layers", &Json(&self.layers));
        row.column("package_count", &self.package_count);
        row.column("package_hash", &self.package_hash);
        row.column("scanner_version", &self.scanner_version);
        row.column("database_version", &self.database_version);
        row.column("started_at_ms", &self.started_at_ms);
        row.column("completed_at_ms", &self.completed_at_ms);
        row.column("warnings", &Json(&self.warnings));
        row.column("emitted_at_ms", &self.emitted_at_ms);
    }
}

/// Operating system and platform, empty where the scan found none.
pub fn system_columns(os: Option<&OperatingSystem>, platform: Option<&Platform>, row: &mut impl Row) {
    let (no_os, no_platform) = (OperatingSystem::default(), Platform::default());
    let os = os.unwrap_or(&no_os);
    let platform = platform.unwrap_or(&no_platform);
    row.column("os_id", &os.id);
    row.column("os_version_id", &os.version_id);
    row.column("os_codename", &os.codename);
    row.column("os_pretty_name", &os.pretty_name);
    row.column("platform_os", &platform.os);
    row.column("platform_architecture", &platform.architecture);
    row.column("platform_variant", &platform.variant);
}
