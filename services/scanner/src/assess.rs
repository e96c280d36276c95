//! Findings of packages: asks the vulnerability database, and keeps one thing from being counted twice.
//! It must never turn "not assessed" into "nothing found".

use std::collections::HashMap;

use plimsoll_catalog::{OsRelease, PackageRecord, is_java_library_of};
use plimsoll_schemas::events::{Finding, ScanFindings, ScanPackage};
use plimsoll_schemas::words::package_kind;
use plimsoll_vulndb::{Assessment, Database, PackageQuery};

/// Most findings of one record; longer lists are chunked.
pub const FINDINGS_PER_CHUNK: usize = 400;
/// Most bytes of findings of one record, which must stay below the codec's bound.
const CHUNK_MAX_BYTES: usize = 600 * 1024;
/// Most advisories of which `feeds` says why they do not apply.
const NOT_APPLICABLE_MAX: usize = 50;
/// Affected packages that a reason names.
const IMPORTS_SHOWN_MAX: usize = 5;
/// Stands in `feeds` where the distribution's own package was assessed instead.
const BY_OS_PACKAGE: &str = "by the operating system's package";

/// The complete findings of each package, in their order. `records` are the packages as the catalog knows them.
pub fn assess(
    packages: &[ScanPackage],
    records: &[PackageRecord],
    distribution: Option<&OsRelease>,
    database: Option<&Database>,
    artifact: &str,
    scan_id: &str,
) -> Vec<ScanFindings> {
    let base = ScanFindings {
        artifact: artifact.to_owned(),
        scan_id: scan_id.to_owned(),
        ..ScanFindings::default()
    };
    let Some(database) = database else {
        return packages
            .iter()
            .map(|package| ScanFindings {
                package_id: package.package_id.clone(),
                not_assessed_reason: "no vulnerability database was given".to_owned(),
                not_assessed_remedy: "build one with `plimsoll db build` and scan again".to_owned(),
                ..base.clone()
            })
            .collect();
    };
    let base = ScanFindings { database_version: database.version().to_owned(), ..base };
    let hints: HashMap<&str, &[String]> = records
        .iter()
        .filter_map(|record| Some((record.package_id.as_str(), record.group_hints.as_deref()?)))
        .collect();
    let assessments: Vec<Assessment> = packages
        .iter()
        .map(|package| database.match_package(&query(package, distribution, &hints)))
        .collect();
    let by_id: HashMap<&str, usize> =
        packages.iter().enumerate().map(|(index, package)| (package.package_id.as_str(), index)).collect();
    let mut out = Vec::with_capacity(packages.len());
    for (package, assessment) in packages.iter().zip(&assessments) {
        let base = ScanFindings { package_id: package.package_id.clone(), ..base.clone() };
        let carrier = by_id.get(package.provided_by.as_str()).copied();
        if carrier.is_some_and(|index| is_same_component(package, &packages[index], &assessments[index])) {
            out.push(ScanFindings { assessed: true, feeds: vec![BY_OS_PACKAGE.to_owned()], ..base });
            continue;
        }
        match assessment {
            Assessment::NotAssessed { reason, remedy, .. } => out.push(ScanFindings {
                not_assessed_reason: reason.clone(),
                not_assessed_remedy: remedy.clone(),
                ..base
            }),
            Assessment::Assessed { feeds, findings, not_applicable, .. } => {
                let why = not_applicable.iter().take(NOT_APPLICABLE_MAX);
                let why = why.map(|one| format!("{} does not apply: {}", one.id, one.reason));
                let feeds = feeds.iter().cloned().chain(why).collect();
                let upgrade = database.upgrade(&query(package, distribution, &hints), findings);
                let base = ScanFindings {
                    assessed: true,
                    feeds,
                    upgrade_left: upgrade.as_ref().map_or(0, |upgrade| upgrade.left as i32),
                    upgrade_to: upgrade.map(|upgrade| upgrade.version).unwrap_or_default(),
                    ..base
                };
                push_chunks(&mut out, &base, findings);
            }
        }
    }
    out
}

fn push_chunks(out: &mut Vec<ScanFindings>, base: &ScanFindings, findings: &[plimsoll_vulndb::Finding]) {
    let first = out.len();
    let mut chunk = ScanFindings { ..base.clone() };
    let mut chunk_bytes = 0;
    for found in findings {
        let found = finding(found);
        let size_bytes = size_bytes(&found);
        if chunk.findings.len() == FINDINGS_PER_CHUNK
            || (!chunk.findings.is_empty() && chunk_bytes + size_bytes > CHUNK_MAX_BYTES)
        {
            out.push(std::mem::replace(&mut chunk, ScanFindings { ..base.clone() }));
            chunk_bytes = 0;
        }
        chunk_bytes += size_bytes;
        chunk.findings.push(found);
    }
    out.push(chunk);
    let count = (out.len() - first) as i32;
    for (number, chunk) in (0..).zip(&mut out[first..]) {
        chunk.chunk = number;
        chunk.chunk_count = count;
    }
}

/// Adds to the reason of each match by what its package was identified, where the catalog says so: a match may be as
/// wrong as that.
pub fn say_identification(findings: &mut [ScanFindings], packages: &[PackageRecord]) {
    let identified_by: HashMap<&str, &str> = packages
        .iter()
        .filter(|package| !package.identified_by.is_empty())
        .map(|package| (package.package_id.as_str(), package.identified_by))
        .collect();
    for chunk in findings {
        let Some(identified_by) = identified_by.get(chunk.package_id.as_str()) else { continue };
        for finding in &mut chunk.findings {
            finding.match_reason.push_str("; the package was identified by its ");
            finding.match_reason.push_str(identified_by);
        }
    }
}

/// Adds to the reason of each match whether the affected packages of a Go module are linked into the program, where both
/// the advisory and the program tell. The finding stays: what is not linked in today may be tomorrow.
pub fn say_linkage(findings: &mut [ScanFindings], packages: &[PackageRecord]) {
    let linked: HashMap<&str, &[String]> = packages
        .iter()
        .filter_map(|package| Some((package.package_id.as_str(), package.linked_packages.as_deref()?)))
        .collect();
    for chunk in findings {
        let Some(linked) = linked.get(chunk.package_id.as_str()) else { continue };
        for finding in chunk.findings.iter_mut().filter(|finding| !finding.imports.is_empty()) {
            let affected = finding.imports.iter().filter(|import| linked.contains(import));
            let affected: Vec<&str> = affected.map(String::as_str).collect();
            let text = if affected.is_empty() {
                "no function of the affected packages is linked into the program".to_owned()
            } else {
                let more = affected.len().saturating_sub(IMPORTS_SHOWN_MAX);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let shown = affected.iter().take(IMPORTS_SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
                format!("functions of {shown}{more} are linked into the program")
            };
            finding.match_reason.push_str("; ");
            finding.match_reason.push_str(&text);
        }
    }
}

/// About what a finding takes in a record, in bytes.
fn size_bytes(finding: &Finding) -> usize {
    let lists = [&finding.aliases, &finding.advisories, &finding.fixed_versions, &finding.imports];
    let texts = [
        &finding.id,
        &finding.severity,
        &finding.cvss_vector,
        &finding.source,
        &finding.match_reason,
        &finding.summary,
    ];
    lists.into_iter().flatten().chain(texts).map(|text| text.len() + 3).sum::<usize>() + 48
}

/// A language package inside an OS package is that package's matter only if the OS package is the distribution's
/// own, its feed covers the release, and both are the same component (DESIGN, section 9).
fn is_same_component(package: &ScanPackage, carrier: &ScanPackage, assessment: &Assessment) -> bool {
    let covered = matches!(assessment, Assessment::Assessed { .. });
    let is_embedded = package.locations.iter().any(|location| !location.nested_path.is_empty());
    let names = [carrier.name.as_str(), carrier.source_name.as_str()];
    covered
        && !is_embedded
        && carrier.kind == package_kind::OS
        && distribution_place(package)
        && names.iter().any(|name| !name.is_empty() && is_named_after(package, name))
}

/// Whether all copies lie where the distribution's own packages put them; what a vendor's package brings lies in
/// `opt`, or in an application's own directory. Python's policy names no single place.
fn distribution_place(package: &ScanPackage) -> bool {
    let directories: &[&str] = match package.ecosystem.as_str() {
        "pypi" => return true,
        "maven" => &["usr/share/java/", "usr/share/maven-repo/"],
        "npm" => &["usr/share/nodejs/", "usr/lib/nodejs/", "usr/lib/"],
        "gem" => &["usr/share/rubygems-integration/", "usr/share/ruby-", "usr/lib/"],
        "composer" => &["usr/share/php/", "usr/share/pear/"],
        _ => return false,
    };
    !package.locations.is_empty()
        && package.locations.iter().all(|location| {
            let in_place =
                directories.iter().any(|directory| location.path.starts_with(directory.as_bytes()));
            // A dependency that a package bundles below itself is another component.
            let bundled = package.ecosystem == "npm" && has_component(&location.path, b"node_modules");
            in_place && !bundled
        })
}

fn has_component(path: &[u8], name: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|component| component == name)
}

/// Whether an OS package (or its source package) is called as the distribution's policy calls the one of this
/// component. What is in doubt stays two things: a finding twice is better than none.
fn is_named_after(package: &ScanPackage, carrier: &str) -> bool {
    let name = normal(&package.name);
    let carrier = normal(carrier);
    let bare = |prefixes: &[&str]| -> String {
        let stripped = prefixes.iter().find_map(|prefix| carrier.strip_prefix(prefix));
        stripped.unwrap_or(&carrier).to_owned()
    };
    match package.ecosystem.as_str() {
        "pypi" => {
            let bare = bare(&["python3-", "python-"]);
            // Debian writes PyYAML as python3-yaml and keeps the source package pyyaml.
            bare == name
                || name.strip_prefix("py") == Some(&bare)
                || name.strip_prefix("python-") == Some(&bare)
        }
        "npm" => bare(&["node-"]) == name.trim_start_matches('@').replace('/', "-"),
        "gem" => bare(&["ruby-"]) == name,
        "composer" => {
            let (vendor, project) = name.split_once('/').unwrap_or(("", &name));
            let bare = bare(&["php-"]);
            bare == format!("{vendor}-{project}") || (vendor == project && bare == project)
        }
        "maven" => is_java_library_of(&name, &carrier),
        _ => false,
    }
}

fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

fn query<'a>(
    package: &'a ScanPackage,
    distribution: Option<&'a OsRelease>,
    group_hints: &HashMap<&str, &'a [String]>,
) -> PackageQuery<'a> {
    let os = package.kind == package_kind::OS;
    PackageQuery {
        ecosystem: &package.ecosystem,
        name: &package.name,
        version: &package.version,
        source_name: &package.source_name,
        source_version: &package.source_version,
        distro_id: distribution.filter(|_| os).map_or("", |release| release.id.as_str()),
        platform: if package.ecosystem == "golang" { &package.architecture } else { "" },
        distro_version: distribution.filter(|_| os).map_or("", |release| release.version_id.as_str()),
        group_hints: group_hints.get(package.package_id.as_str()).copied(),
    }
}

fn finding(found: &plimsoll_vulndb::Finding) -> Finding {
    Finding {
        id: found.id.clone(),
        aliases: found.aliases.clone(),
        advisories: found.advisories.clone(),
        severity: found.severity.as_str().to_owned(),
        cvss_vector: found.cvss_vector.clone(),
        cvss_score: found.cvss_score,
        known_exploited: found.known_exploited,
        epss: found.epss,
        fixed_versions: found.fixed_versions.clone(),
        source: found.source.clone(),
        match_reason: found.match_reason.clone(),
        summary: found.summary.clone(),
        published_ms: found.published_ms,
        modified_ms: found.modified_ms,
        imports: found.imports.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_schemas::events::Location;

    fn package(kind: &str, ecosystem: &str, name: &str, source: &str) -> ScanPackage {
        ScanPackage {
            kind: kind.into(),
            ecosystem: ecosystem.into(),
            name: name.into(),
            source_name: source.into(),
            package_id: name.into(),
            ..ScanPackage::default()
        }
    }

    fn assessed() -> Assessment {
        Assessment::Assessed {
            database_version: String::new(),
            feeds: Vec::new(),
            findings: Vec::new(),
            not_applicable: Vec::new(),
        }
    }

    /// `(ecosystem, name, path, nested path)` inside of `(OS package, its source)`: matched once or not.
    fn check(inner: (&str, &str, &str, &str), carrier: (&str, &str), expected: bool) {
        let (ecosystem, name, path, nested_path) = inner;
        let mut package = package("application", ecosystem, name, "");
        package.locations =
            vec![Location { path: path.into(), nested_path: nested_path.into(), ..Location::default() }];
        let carrier = self::package("os", "debian", carrier.0, carrier.1);
        let found = is_same_component(&package, &carrier, &assessed());
        assert_eq!(found, expected, "{ecosystem} {name} at {path} in {}", carrier.name);
    }

    #[test]
    fn the_same_component_is_matched_once() {
        for (name, carrier, source, expected) in [
            ("pyyaml", "python3-yaml", "pyyaml", true),
            ("requests", "python3-requests", "requests", true),
            ("python-dateutil", "python3-dateutil", "python-dateutil", true),
            ("zope-interface", "python3-zope.interface", "zope.interface", true),
            // A copy inside somebody else's package keeps its own findings.
            ("urllib3", "vendor-agent", "vendor-agent", false),
            ("urllib3", "python3-pip", "python-pip", false),
        ] {
            check(("pypi", name, "usr/lib/python3/dist-packages/x", ""), (carrier, source), expected);
        }
    }

    #[test]
    fn of_java_only_the_distributions_own_library_is() {
        let core = "org.apache.logging.log4j:log4j-core";
        let debian = ("liblog4j2-java", "apache-log4j2");
        check(("maven", core, "usr/share/java/log4j-core-2.19.0.jar", ""), debian, true);
        check(
            ("maven", "commons-io:commons-io", "usr/share/java/commons-io.jar", ""),
            ("libcommons-io-java", "commons-io"),
            true,
        );
        // A jar that a vendor's package brings, in its own place or in the distribution's, or within another jar.
        check(
            ("maven", core, "opt/vendor/lib/log4j-core-2.14.1.jar", ""),
            ("vendor-agent", "vendor-agent"),
            false,
        );
        check(
            ("maven", core, "usr/share/java/log4j-core-2.14.1.jar", ""),
            ("vendor-agent", "vendor-agent"),
            false,
        );
        check(("maven", core, "opt/log4j/log4j-core-2.14.1.jar", ""), debian, false);
        check(("maven", core, "usr/share/java/all.jar", "lib/log4j-core.jar"), debian, false);
        check(
            ("maven", core, "usr/share/java/log4j-core.jar", ""),
            ("libspring-core-java", "libspring-java"),
            false,
        );
    }

    #[test]
    fn scripting_languages_follow_the_names_of_their_policies() {
        let lodash = "usr/share/nodejs/lodash/package.json";
        check(("npm", "lodash", lodash, ""), ("node-lodash", "node-lodash"), true);
        check(
            ("npm", "@types/node", "usr/share/nodejs/@types/node/package.json", ""),
            ("node-types-node", "x"),
            true,
        );
        check(
            ("npm", "lodash", "usr/share/nodejs/npm/node_modules/lodash/package.json", ""),
            ("node-lodash", "x"),
            false,
        );
        check(("npm", "lodash", lodash, ""), ("npm", "npm"), false);
        check(("npm", "lodash", "opt/app/lodash/package.json", ""), ("node-lodash", "node-lodash"), false);
        let rack = "usr/share/rubygems-integration/all/specifications/rack-2.2.6.gemspec";
        check(("gem", "rack", rack, ""), ("ruby-rack", "ruby-rack"), true);
        check(
            ("gem", "json", "usr/lib/ruby/gems/3.1.0/specifications/default/json.gemspec", ""),
            ("libruby3.1", "ruby3.1"),
            false,
        );
        let kernel = "usr/share/php/Symfony/Component/HttpKernel/composer.json";
        check(("composer", "symfony/http-kernel", kernel, ""), ("php-symfony-http-kernel", "symfony"), true);
        check(("composer", "twig/twig", "usr/share/php/Twig", ""), ("php-twig", "php-twig"), true);
        check(("composer", "psr/log", "usr/share/php/Psr/Log", ""), ("php-log", "php-log"), false);
        check(
            ("composer", "twig/twig", "usr/share/webmail/vendor/twig", ""),
            ("php-twig", "php-twig"),
            false,
        );
    }

    #[test]
    fn linked_modules_keep_their_findings() {
        check(("golang", "stdlib", "usr/bin/tool", ""), ("stdlib", "stdlib"), false);
        check(
            ("golang", "golang.org/x/net", "usr/bin/tool", ""),
            ("golang-golang-x-net-dev", "golang.org/x/net"),
            false,
        );
        check(("cargo", "ripgrep", "usr/bin/rg", ""), ("ripgrep", "ripgrep"), false);
    }

    #[test]
    fn without_a_feed_the_inner_package_keeps_its_findings() {
        let not_assessed = Assessment::NotAssessed {
            code: plimsoll_vulndb::NotAssessedCode::NoFeed,
            reason: String::new(),
            remedy: String::new(),
        };
        let carrier = package("os", "debian", "python3-yaml", "pyyaml");
        assert!(!is_same_component(&package("application", "pypi", "pyyaml", ""), &carrier, &not_assessed));
    }

    #[test]
    fn without_a_database_nothing_is_assessed() {
        let found = assess(&[package("os", "debian", "a", "a")], &[], None, None, "host/x", "s");
        assert!(!found[0].assessed && !found[0].not_assessed_reason.is_empty());
    }

    #[test]
    fn long_lists_are_chunked() {
        let findings = vec![plimsoll_vulndb::Finding::default(); FINDINGS_PER_CHUNK + 1];
        let mut out = Vec::new();
        push_chunks(&mut out, &ScanFindings::default(), &findings);
        assert_eq!(out.iter().map(|f| f.findings.len()).collect::<Vec<_>>(), [FINDINGS_PER_CHUNK, 1]);
        assert!(out.iter().all(|f| f.chunk_count == 2));
        assert_eq!(out.iter().map(|f| f.chunk).collect::<Vec<_>>(), [0, 1]);
        out.clear();
        push_chunks(&mut out, &ScanFindings::default(), &[]);
        assert_eq!((out.len(), out[0].chunk_count), (1, 1));
        out.clear();
        let long =
            plimsoll_vulndb::Finding { summary: "x".repeat(CHUNK_MAX_BYTES / 2), ..Default::default() };
        push_chunks(&mut out, &ScanFindings::default(), &[long.clone(), long.clone(), long]);
        assert_eq!(out.iter().map(|f| f.findings.len()).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
