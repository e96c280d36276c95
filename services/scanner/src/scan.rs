//! One scan, from a target to its events.
//! It must never depend on the order of threads or hash maps: two runs on one input give the same result.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_catalog::tree::{DirectoryOptions, DirectoryTree, TreeError};
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
/// Most bytes of all warnings of a manifest: with names and layers it must fit into one record.
const WARNINGS_MAX_BYTES: usize = 256 * 1024;
/// Longest text of a warning, in bytes.
const WARNING_TEXT_MAX_BYTES: usize = 600;

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
    scan_until(target, component, options, &AtomicBool::new(false))
}

/// As [`scan`], ending early once `cancelled` is set.
///
/// # Errors
/// See [`ScanError`]; [`ScanError::Cancelled`] if it ended early.
pub fn scan_until(
    target: &Target,
    component: Option<&Component>,
    options: &ScanOptions<'_>,
    cancelled: &AtomicBool,
) -> Result<Scan, ScanError> {
    let started_at_ms = now_ms();
    let outcome = read(target, component, options, cancelled);
    if cancelled.load(Ordering::Relaxed) {
        return Err(ScanError::Cancelled);
    }
    let (artifact, outcome) = outcome?;
    (options.progress)(&format!("{} packages found", outcome.packages.len()));
    let scan_id = random_id();
    let key = artifact.key.to_string();
    let mut packages: Vec<ScanPackage> =
        outcome.packages.iter().map(|record| events::package(record, &key, &scan_id)).collect();
    packages.sort_by(|a, b| (&a.purl, &a.package_id).cmp(&(&b.purl, &b.package_id)));
    let mut warnings = artifact.warnings;
    for package in &mut packages {
        if events::fit(package) {
            warnings.push(too_large(&package.purl));
        }
    }
    let distribution = outcome.os_release.as_ref();
    let mut findings = assess::assess(
        &packages,
        &outcome.packages,
        distribution,
        options.database.as_deref(),
        &key,
        &scan_id,
    );
    assess::say_identification(&mut findings, &outcome.packages);
    assess::say_linkage(&mut findings, &outcome.packages);
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

fn open_directory(path: &Path, cross_mounts: bool) -> Result<DirectoryTree, ScanError> {
    DirectoryTree::open(path, DirectoryOptions { cross_mounts }).map_err(|error| match error {
        TreeError::NotFound { .. } => {
            ScanError::Open { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() }
        }
        error => error.into(),
    })
}

fn read(
    target: &Target,
    component: Option<&Component>,
    options: &ScanOptions<'_>,
    cancelled: &AtomicBool,
) -> Result<(Artifact, CatalogOutcome), ScanError> {
    match target {
        Target::Directory(path) => {
            let component = component.ok_or_else(|| {
                ScanError::BadTarget(
                    "a directory belongs to a component; name it with -a, -c and -V".to_owned(),
                )
            })?;
            let tree = open_directory(path, true)?;
            let name = path.display().to_string();
            Ok((
                Artifact {
                    key: ArtifactKey::Component(component.clone()),
                    source: "fs",
                    names: vec![name],
                    aliases: Vec::new(),
                    platform: None,
                    layers: Vec::new(),
                    warnings: Vec::new(),
                },
                catalog(&tree),
            ))
        }
        Target::Host(path) => {
            let tree = open_directory(path, false)?;
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
            let image = image::read(
                source,
                &image::Reading { docker_host: options.docker_host, progress: options.progress, cancelled },
            )?;
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

/// [`ScanArtifact::package_hash`] of a component's directory as it is now, without assessing anything.
///
/// # Errors
/// [`ScanError::Tree`] if the directory cannot be opened.
pub fn directory_package_hash(path: &std::path::Path) -> Result<String, ScanError> {
    let tree = DirectoryTree::open(path, DirectoryOptions { cross_mounts: true })?;
    Ok(package_hash(catalog(&tree).packages.iter().map(|package| package.package_id.as_str())))
}

/// SHA-256 over the sorted package ids, joined by newlines; lowercase hexadecimal.
pub fn package_hash<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let mut ids: Vec<&str> = ids.collect();
    ids.sort_unstable();
    hex::encode(Sha256::digest(ids.join("\n").as_bytes()))
}

fn too_large(purl: &str) -> Warning {
    Warning {
        code: "package-cut".to_owned(),
        subject: purl.to_owned(),
        message: "its metadata are too large for one record; what did not fit was left out".to_owned(),
        remedy: "check whether its package database is damaged".to_owned(),
    }
}

/// A text of a warning, cut so that a manifest full of warnings stays within one record.
pub(crate) fn shortened(text: &str) -> String {
    if text.len() <= WARNING_TEXT_MAX_BYTES {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(WARNING_TEXT_MAX_BYTES);
    format!("{}…", &text[..end])
}

fn bounded(mut warnings: Vec<Warning>) -> Vec<Warning> {
    let count = warnings.len();
    let mut size_bytes = 0;
    let mut fitting = 0;
    for warning in &mut warnings {
        for text in [&mut warning.subject, &mut warning.message, &mut warning.remedy] {
            *text = shortened(text);
            size_bytes += text.len();
        }
        size_bytes += warning.code.len();
        if size_bytes > WARNINGS_MAX_BYTES || fitting == WARNINGS_MAX {
            break;
        }
        fitting += 1;
    }
    if fitting < count {
        warnings.truncate(fitting.min(WARNINGS_MAX - 1));
        warnings.push(Warning {
            code: "more-warnings".to_owned(),
            subject: String::new(),
            message: format!("{} more warnings were left out", count - warnings.len()),
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
