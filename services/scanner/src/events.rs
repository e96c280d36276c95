//! What the catalog found, as the events of the scan topics.
//! It must never decide anything: it renames, and keeps each event within one record.

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
        identified_by: record.identified_by.to_owned(),
        loadable_file_count: i64::try_from(record.loadable_file_count).unwrap_or(i64::MAX),
        provides: record.provides.clone(),
        ..ScanPackage::default()
    }
}

/// Longest text of a package that is kept, in bytes; the catalog bounds names and versions likewise.
const TEXT_MAX_BYTES: usize = 4_200;
/// Most bytes of all lists of a package together: the record must stay below the codec's bound.
const LISTS_MAX_BYTES: usize = 512 * 1024;

/// Cuts what no honest package has, so that one package cannot keep a whole scan out of the pipeline. Tells whether
/// anything was cut.
pub fn fit(package: &mut ScanPackage) -> bool {
    let mut cut = false;
    for text in [&mut package.source_name, &mut package.source_version, &mut package.architecture] {
        if text.len() > TEXT_MAX_BYTES {
            text.clear();
            cut = true;
        }
    }
    let mut left_bytes = LISTS_MAX_BYTES;
    let mut fits = |size_bytes: usize| {
        let fits = size_bytes <= TEXT_MAX_BYTES && size_bytes <= left_bytes;
        left_bytes -= if fits { size_bytes } else { 0 };
        cut |= !fits;
        fits
    };
    package
        .locations
        .retain(|place| fits(place.path.len() + place.nested_path.len() + place.layer.len() + 6));
    package.dependencies.retain(|name| fits(name.len() + 2));
    package.provides.retain(|name| fits(name.len() + 2));
    package.licenses.retain(|name| fits(name.len() + 2));
    cut
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_record_can_hold_is_cut() {
        let codec = plimsoll_kit::transport::Connections::memory().codec();
        let names = |count: usize, length: usize| vec!["x".repeat(length); count];
        let cases = [
            (ScanPackage { dependencies: names(2_000, 100), ..ScanPackage::default() }, false),
            (ScanPackage { dependencies: names(2_000, 1_000), ..ScanPackage::default() }, true),
            (ScanPackage { provides: names(1, 10_000), ..ScanPackage::default() }, true),
            (ScanPackage { source_name: "x".repeat(900_000), ..ScanPackage::default() }, true),
            (
                ScanPackage {
                    locations: vec![Location { path: vec![b'x'; 4_000], ..Location::default() }; 500],
                    ..ScanPackage::default()
                },
                true,
            ),
        ];
        for (mut package, expected) in cases {
            assert_eq!(fit(&mut package), expected);
            codec.encode_value(&package).unwrap();
        }
    }
}
