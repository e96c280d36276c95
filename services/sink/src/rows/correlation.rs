//! Rows of correlation.*: the latest state of artifacts, packages, findings, usage and alerts.
//! It must never compute: what a row says, its event said.

use plimsoll_schemas::events::{
    CorrelationAlert, CorrelationArtifact, CorrelationFinding, CorrelationPackage, CorrelationUsage, Finding,
};
use plimsoll_schemas::identity;

use super::key::{self, KeyError};
use super::scan::system_columns;
use super::value::{Bytes, Json, OptionalJson};
use super::{Row, StateEvent, StateTable};

impl StateEvent for CorrelationArtifact {
    const TABLE: StateTable = StateTable::Artifacts;

    fn from_key(artifact: &str, entity: &[u8]) -> Result<Self, KeyError> {
        if !entity.is_empty() {
            return Err(KeyError::NotEmpty);
        }
        Ok(Self { artifact: artifact.to_owned(), ..Self::default() })
    }

    fn columns(&self, row: &mut impl Row) {
        row.column("artifact", &self.artifact);
        row.column("scanned", &self.scanned);
        row.column("scan_id", &self.scan_id);
        row.column("source", &self.source);
        row.column("names", &self.names);
        row.column("aliases", &self.aliases);
        system_columns(self.os.as_ref(), self.platform.as_ref(), row);
        row.column("scanner_version", &self.scanner_version);
        row.column("database_version", &self.database_version);
        row.column("scanned_at_ms", &self.scanned_at_ms);
        row.column("package_count", &self.package_count);
        row.column("vulnerable_package_count", &self.vulnerable_package_count);
        row.column("finding_count", &self.finding_count);
        let texts = |text: fn(&plimsoll_schemas::events::Cell) -> &String| -> Vec<String> {
            self.cells.iter().map(|cell| text(cell).clone()).collect()
        };
        row.column("cells.kind", &texts(|cell| &cell.kind));
        row.column("cells.vulnerable", &texts(|cell| &cell.vulnerable));
        row.column("cells.use", &texts(|cell| &cell.r#use));
        let counts: Vec<i64> = self.cells.iter().map(|cell| cell.package_count).collect();
        row.column("cells.package_count", &counts);
        row.column("component_count", &self.component_count);
        row.column("components", &Json(&self.components));
        row.column("workload_count", &self.workload_count);
        row.column("live_workload_count", &self.live_workload_count);
        row.column("unowned_path_count", &self.unowned_path_count);
        row.column("unresolved_path_count", &self.unresolved_path_count);
        row.column("alert_count", &self.alert_count);
        row.column("warnings", &Json(&self.warnings));
        row.column("unidentified_reason", &self.unidentified_reason);
        row.column("moved_to", &self.moved_to);
        row.column("emitted_at_ms", &self.emitted_at_ms);
    }
}

impl StateEvent for CorrelationPackage {
    const TABLE: StateTable = StateTable::ArtifactPackages;

    fn from_key(artifact: &str, entity: &[u8]) -> Result<Self, KeyError> {
        let [package_id] = key::parts(entity)?;
        Ok(Self { artifact: artifact.to_owned(), package_id, ..Self::default() })
    }

    fn columns(&self, row: &mut impl Row) {
        row.column("artifact", &self.artifact);
        row.column("package_id", &self.package_id);
        row.column("purl", &self.purl);
        row.column("name", &self.name);
        row.column("package_version", &self.version);
        row.column("kind", &self.kind);
        row.column("ecosystem", &self.ecosystem);
        row.column("scanned", &self.scanned);
        row.column("scan_id", &self.scan_id);
        row.column("source_name", &self.source_name);
        row.column("source_version", &self.source_version);
        row.column("architecture", &self.architecture);
        row.column("licenses", &self.licenses);
        row.column("locations", &Json(&self.locations));
        row.column("vulnerable", &self.vulnerable);
        row.column("not_assessed_reason", &self.not_assessed_reason);
        row.column("severity", &self.severity);
        row.column("known_exploited", &self.known_exploited);
        row.column("vulnerability_count", &self.vulnerability_count);
        row.column("vulnerabilities", &Json(&self.vulnerabilities));
        row.column("use", &self.r#use);
        row.column("use_reason", &self.use_reason);
        row.column("use_remedy", &self.use_remedy);
        row.column("rung", &self.rung);
        row.column("first_used_ms", &self.first_used_ms);
        row.column("last_used_ms", &self.last_used_ms);
        row.column("coverage", &OptionalJson(self.coverage.as_ref()));
        row.column("component_count", &self.component_count);
        row.column("recommendation_code", &self.recommendation_code);
        row.column("recommendation_text", &self.recommendation_text);
        row.column("held_by", &self.held_by);
        row.column("ambiguous_with", &self.ambiguous_with);
        row.column("emitted_at_ms", &self.emitted_at_ms);
    }
}

impl StateEvent for CorrelationFinding {
    const TABLE: StateTable = StateTable::Findings;

    fn from_key(artifact: &str, entity: &[u8]) -> Result<Self, KeyError> {
        let [package_id, vulnerability_id] = key::parts(entity)?;
        Ok(Self { artifact: artifact.to_owned(), package_id, vulnerability_id, ..Self::default() })
    }

    fn columns(&self, row: &mut impl Row) {
        let none = Finding::default();
        let finding = self.finding.as_ref().unwrap_or(&none);
        row.column("artifact", &self.artifact);
        row.column("package_id", &self.package_id);
        row.column("vulnerability_id", &self.vulnerability_id);
        row.column("purl", &self.purl);
        row.column("name", &self.name);
        row.column("package_version", &self.version);
        row.column("kind", &self.kind);
        row.column("ecosystem", &self.ecosystem);
        row.column("aliases", &finding.aliases);
        row.column("advisories", &finding.advisories);
        row.column("severity", &finding.severity);
        row.column("cvss_vector", &finding.cvss_vector);
        row.column("cvss_score", &finding.cvss_score);
        row.column("known_exploited", &finding.known_exploited);
        row.column("epss", &finding.epss);
        row.column("fixed_versions", &finding.fixed_versions);
        row.column("source", &finding.source);
        row.column("match_reason", &finding.match_reason);
        row.column("imports", &finding.imports);
        row.column("summary", &finding.summary);
        row.column("published_ms", &finding.published_ms);
        row.column("modified_ms", &finding.modified_ms);
        row.column("use", &self.r#use);
        row.column("use_reason", &self.use_reason);
        row.column("use_remedy", &self.use_remedy);
        row.column("rung", &self.rung);
        row.column("first_used_ms", &self.first_used_ms);
        row.column("last_used_ms", &self.last_used_ms);
        row.column("coverage", &OptionalJson(self.coverage.as_ref()));
        row.column("priority", &self.priority);
        row.column("priority_reason", &self.priority_reason);
        row.column("emitted_at_ms", &self.emitted_at_ms);
    }
}

impl StateEvent for CorrelationUsage {
    const TABLE: StateTable = StateTable::PackageUsage;

    fn from_key(artifact: &str, entity: &[u8]) -> Result<Self, KeyError> {
        let [component_key, package_id, chunk] = key::parts(entity)?;
        let [application, component, component_version] = identity::parse_component_path(&component_key)?;
        let chunk = chunk.parse().map_err(|_| KeyError::NotNumber(2))?;
        let artifact = artifact.to_owned();
        Ok(Self { artifact, application, component, component_version, package_id, chunk, ..Self::default() })
    }

    fn columns(&self, row: &mut impl Row) {
        row.column("application", &self.application);
        row.column("component", &self.component);
        row.column("component_version", &self.component_version);
        row.column("artifact", &self.artifact);
        row.column("package_id", &self.package_id);
        row.column("chunk", &self.chunk);
        row.column("chunk_count", &self.chunk_count);
        row.column("purl", &self.purl);
        row.column("name", &self.name);
        row.column("package_version", &self.version);
        row.column("kind", &self.kind);
        row.column("ecosystem", &self.ecosystem);
        row.column("scanned", &self.scanned);
        row.column("vulnerable", &self.vulnerable);
        row.column("not_assessed_reason", &self.not_assessed_reason);
        row.column("severity", &self.severity);
        row.column("known_exploited", &self.known_exploited);
        row.column("vulnerability_count", &self.vulnerability_count);
        row.column("vulnerabilities", &Json(&self.vulnerabilities));
        row.column("locations", &Json(&self.locations));
        row.column("use", &self.r#use);
        row.column("use_reason", &self.use_reason);
        row.column("use_remedy", &self.use_remedy);
        row.column("rung", &self.rung);
        row.column("first_used_ms", &self.first_used_ms);
        row.column("last_used_ms", &self.last_used_ms);
        row.column("coverage", &OptionalJson(self.coverage.as_ref()));
        row.column("recommendation_code", &self.recommendation_code);
        row.column("recommendation_text", &self.recommendation_text);
        row.column("held_by", &self.held_by);
        row.column("ambiguous_with", &self.ambiguous_with);
        row.column("file_count", &self.file_count);
        row.column("class_count", &self.class_count);
        row.column("files", &Json(&self.files));
        row.column("classes", &Json(&self.classes));
        row.column("emitted_at_ms", &self.emitted_at_ms);
    }
}

impl StateEvent for CorrelationAlert {
    const TABLE: StateTable = StateTable::Alerts;

    fn from_key(artifact: &str, entity: &[u8]) -> Result<Self, KeyError> {
        let [alert_id] = key::parts(entity)?;
        Ok(Self { artifact: artifact.to_owned(), alert_id, ..Self::default() })
    }

    fn columns(&self, row: &mut impl Row) {
        row.column("artifact", &self.artifact);
        row.column("alert_id", &self.alert_id);
        row.column("workload_id", &self.workload_id);
        row.column("application", &self.application);
        row.column("component", &self.component);
        row.column("component_version", &self.component_version);
        row.column("rule", &self.rule);
        row.column("severity", &self.severity);
        row.column("title", &self.title);
        row.column("process", &OptionalJson(self.process.as_ref()));
        row.column("path", &Bytes(&self.path));
        row.column("evidence", &self.evidence);
        row.column("raised_at_ms", &self.raised_at_ms);
        row.column("owners", &Json(&self.owners));
        row.column("ownership_state", &self.ownership_state);
        row.column("vulnerable", &self.vulnerable);
        row.column("vulnerabilities", &Json(&self.vulnerabilities));
        row.column("emitted_at_ms", &self.emitted_at_ms);
    }
}
