//! One scan, from a target to its events.
//! It must never depend on the order of threads or hash maps: two runs on one input give the same result.

use std::sync::Arc;

use plimsoll_catalog::tree::{DirectoryOptions, DirectoryTree, FileKind, FileTree, Walk};
use plimsoll_catalog::{CatalogOutcome, catalog};
use plimsoll_kit::clock::now_ms;
use plimsoll_kit::host::{machine_id, node_name, random_id};
use plimsoll_schemas::events::{Layer, Platform, ScanArtifact, ScanFindings, ScanPackage, Warning};
use plimsoll_schemas::identity::ArtifactKey;
use plimsoll_vulndb::Database;
use sha2::{Digest, Sha256};

use crate::target::{Component, Target};
use crate::{ScanError, assess, events, image};

/// Most warnings in a manifest; the last one says how many more.
pub const WARNINGS_MAX: usize = 1_000;

/// How to scan.
pub struct ScanOptions<'a> {
    /// Vulnerability database; without it packages are not assessed.
    pub database: Option<Arc<Database>>,
    /// Container engine, for example `unix:///var/run/docker.sock`.
    pub docker_host: &'a str,
    /// Is told what goes on, for people.
    pub progress: &'a dyn Fn(&str),
}

/// One whole scan: what one transaction carries. Envelopes are not stamped yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// The manifest, to be published last.
    pub manifest: ScanArtifact,
    /// Packages, sorted by purl and id.
    pub packages: Vec<ScanPackage>,
    /// The complete findings of each package, in the packages' order.
    pub findings: Vec<ScanFindings>,
}

struct Artifact {
    key: ArtifactKey,
    source: &'static str,
    names: Vec<String>,
    aliases: Vec<String>,
    platform: Option<Platform>,
    layers: Vec<Layer>,
    warnings: Vec<Warning>,
}

/// Scans a target. A directory needs a component; an image or host may have one.
///
/// # Errors
/// See [`ScanError`]; what could be read in part gives warnings instead.
pub fn scan(
    target: &Target,
    component: Option<&Component>,
    options: &ScanOptions<'_>,
) -> Result<Scan, ScanError> {
    let started_at_ms = now_ms();
    let (artifact, outcome) = read(target, component, options)?;
    (options.progress)(&format!("{} packages found", outcome.packages.len()));
    let scan_id = random_id();
    let key = artifact.key.to_string();
    let mut packages: Vec<ScanPackage> =
        outcome.packages.iter().map(|record| events::package(record, &key, &scan_id)).collect();
    packages.sort_by(|a, b| (&a.purl, &a.package_id).cmp(&(&b.purl, &b.package_id)));
    let distribution = outcome.os_release.as_ref();
    let findings = assess::assess(&packages, distribution, options.database.as_deref(), &key, &scan_id);
    let mut warnings = artifact.warnings;
    warnings.extend(outcome.warnings.iter().map(events::warning));
    let manifest = ScanArtifact {
        artifact: key,
        application: component.map(|c| c.application().to_owned()).unwrap_or_default(),
        component: component.map(|c| c.component().to_owned()).unwrap_or_default(),
        component_version: component.map(|c| c.version().to_owned()).unwrap_or_default(),
        scan_id,
        source: artifact.source.to_owned(),
        names: artifact.names,
        aliases: artifact.aliases,
        os: distribution.map(events::operating_system),
        platform: artifact.platform,
        layers: artifact.layers,
        package_count: packages.len() as i64,
        package_hash: package_hash(packages.iter().map(|package| package.package_id.as_str())),
        scanner_version: env!("CARGO_PKG_VERSION").to_owned(),
        database_version: options.database.as_ref().map(|db| db.version().to_owned()).unwrap_or_default(),
        started_at_ms,
        completed_at_ms: now_ms(),
        warnings: bounded(warnings),
        ..ScanArtifact::default()
    };
    Ok(Scan { manifest, packages, findings })
}

fn read(
    target: &Target,
    component: Option<&Component>,
    options: &ScanOptions<'_>,
) -> Result<(Artifact, CatalogOutcome), ScanError> {
    match target {
        Target::Directory(path) => {
            let component = component.ok_or_else(|| {
                ScanError::BadTarget(
                    "a directory belongs to a component; name it with -a, -c and -V".to_owned(),
                )
            })?;
            let tree = DirectoryTree::open(path, DirectoryOptions { cross_mounts: true })?;
            let warnings = unreadable(&tree)?;
            let name = path.display().to_string();
            Ok((
                Artifact {
                    key: ArtifactKey::Component(component.clone()),
                    source: "fs",
                    names: vec![name],
                    aliases: Vec::new(),
                    platform: None,
                    layers: Vec::new(),
                    warnings,
                },
                catalog(&tree),
            ))
        }
        Target::Host(path) => {
            let tree = DirectoryTree::open(path, DirectoryOptions { cross_mounts: false })?;
            Ok((
                Artifact {
                    key: ArtifactKey::host(&machine_id()?)?,
                    source: "host",
                    names: vec![node_name()],
                    aliases: Vec::new(),
                    platform: None,
                    layers: Vec::new(),
                    warnings: Vec::new(),
                },
                catalog(&tree),
            ))
        }
        Target::Image(source) => {
            let image = image::read(source, options.docker_host, options.progress)?;
            let outcome = catalog(&image.tree);
            Ok((
                Artifact {
                    key: ArtifactKey::Image(image.config_digest),
                    source: "image",
                    names: image.names,
                    aliases: image.aliases,
                    platform: Some(image.platform),
                    layers: image.layers,
                    warnings: image.warnings,
                },
                outcome,
            ))
        }
    }
}

/// Directories below the root that could not be read: packages in them would be missing without a word.
fn unreadable(tree: &DirectoryTree) -> Result<Vec<Warning>, ScanError> {
    let mut visit = |_: &[u8], _: FileKind| Walk::Continue;
    let summary = tree.walk(b"", &mut visit)?;
    let mut warnings: Vec<Warning> = summary
        .unreadable
        .iter()
        .map(|error| Warning {
            code: "unreadable-directory".to_owned(),
            subject: error.path().to_owned(),
            message: format!("{error}; packages in it are missing from this scan"),
            remedy: "run the scan as a user who may read it".to_owned(),
        })
        .collect();
    warnings.sort_by(|a, b| a.subject.cmp(&b.subject));
    Ok(warnings)
}

/// SHA-256 over the sorted package ids, joined by newlines; lowercase hexadecimal.
pub fn package_hash<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let mut ids: Vec<&str> = ids.collect();
    ids.sort_unstable();
    hex::encode(Sha256::digest(ids.join("\n").as_bytes()))
}

fn bounded(mut warnings: Vec<Warning>) -> Vec<Warning> {
    let count = warnings.len();
    if count > WARNINGS_MAX {
        warnings.truncate(WARNINGS_MAX - 1);
        warnings.push(Warning {
            code: "more-warnings".to_owned(),
            subject: String::new(),
            message: format!("{} more warnings were left out", count - WARNINGS_MAX + 1),
            remedy: "deal with the first ones, then scan again".to_owned(),
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_hash_ignores_order() {
        assert_eq!(package_hash(["b", "a"].into_iter()), package_hash(["a", "b"].into_iter()));
        assert_ne!(package_hash(["ab"].into_iter()), package_hash(["a", "b"].into_iter()));
    }

    #[test]
    fn too_many_warnings_are_counted() {
        let warning = Warning::default();
        let kept = bounded(vec![warning; WARNINGS_MAX + 5]);
        assert_eq!(kept.len(), WARNINGS_MAX);
        assert_eq!(kept[WARNINGS_MAX - 1].message, "6 more warnings were left out");
        assert_eq!(bounded(vec![Warning::default(); 3]).len(), 3);
    }
}
