//! What the catalog found, as the events of the scan topics.
//! It must never decide anything: it renames.

use plimsoll_catalog::{OsRelease, PackageRecord};
use plimsoll_schemas::events::{Location, OperatingSystem, ScanPackage, Warning};

/// A package as an event; the envelope is stamped when it is published.
pub fn package(record: &PackageRecord, artifact: &str, scan_id: &str) -> ScanPackage {
    let locations = record.locations.iter().map(|location| Location {
        path: location.path.clone(),
        layer: location.layer.clone(),
        nested_path: location.nested_path.clone(),
    });
    ScanPackage {
        artifact: artifact.to_owned(),
        scan_id: scan_id.to_owned(),
        package_id: record.package_id.clone(),
        purl: record.purl.clone(),
        name: record.name.clone(),
        version: record.version.clone(),
        kind: record.kind.as_str().to_owned(),
        ecosystem: record.ecosystem.to_owned(),
        source_name: record.source_name.clone(),
        source_version: record.source_version.clone(),
        architecture: record.architecture.clone(),
        licenses: record.licenses.clone(),
        locations: locations.collect(),
        dependencies: record.dependencies.clone(),
        essential: record.essential,
        provided_by: record.provided_by.clone(),
        observable_by: record.observable_by.iter().map(|probe| (*probe).to_owned()).collect(),
        not_measurable_reason: record.not_measurable_reason.clone(),
        loadable_file_count: i64::try_from(record.loadable_file_count).unwrap_or(i64::MAX),
        provides: record.provides.clone(),
        ..ScanPackage::default()
    }
}

/// A distribution as an event's part.
pub fn operating_system(os: &OsRelease) -> OperatingSystem {
    OperatingSystem {
        id: os.id.clone(),
        version_id: os.version_id.clone(),
        codename: os.codename.clone(),
        pretty_name: os.pretty_name.clone(),
        id_like: os.id_like.clone(),
    }
}

/// A warning of the catalog as an event's part.
pub fn warning(warning: &plimsoll_catalog::Warning) -> Warning {
    Warning {
        code: warning.code.to_owned(),
        subject: warning.subject.clone(),
        message: warning.message.clone(),
        remedy: warning.remedy.clone(),
    }
}
