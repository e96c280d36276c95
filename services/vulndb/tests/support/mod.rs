//! Makes small exports in the OSV layout and databases from them; never touches real data.
// Each test file uses a part of this.
#![allow(dead_code)]
#![allow(clippy::print_stdout)]

pub mod oracle;

use plimsoll_vulndb::{Assessment, BuildReport, Database, Finding, PackageQuery, build};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use zip::write::SimpleFileOptions;

/// An export directory that goes away with the value.
pub struct Export {
    dir: tempfile::TempDir,
}

impl Export {
    pub fn new() -> Self {
        let export = Export { dir: tempfile::tempdir().unwrap() };
        export.file("kev.json", br#"{"dateReleased":"2025-08-25T00:00:00Z","vulnerabilities":[]}"#);
        export
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("osv")
    }

    pub fn output(&self) -> PathBuf {
        self.dir.path().join("vulnerabilities.db")
    }

    pub fn file(&self, name: &str, content: &[u8]) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Adds `<ecosystem>/all.zip` with these entries.
    pub fn zip(&self, ecosystem: &str, entries: &[(&str, &[u8])]) {
        self.file(&format!("{ecosystem}/all.zip"), &zip_bytes(entries));
    }

    /// Adds records, named by their position.
    pub fn records(&self, ecosystem: &str, records: &[&str]) {
        let named: Vec<(String, &[u8])> =
            records.iter().enumerate().map(|(i, json)| (format!("{i}.json"), json.as_bytes())).collect();
        let entries: Vec<(&str, &[u8])> = named.iter().map(|(name, json)| (name.as_str(), *json)).collect();
        self.zip(ecosystem, &entries);
    }

    pub fn build(&self) -> BuildReport {
        build(&self.path(), &self.output(), &mut |_| ()).unwrap()
    }

    pub fn database(&self) -> Database {
        let _ = self.build();
        Database::open(&self.output()).unwrap()
    }
}

pub fn zip_bytes(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub fn pypi<'a>(name: &'a str, version: &'a str) -> PackageQuery<'a> {
    PackageQuery { ecosystem: "pypi", name, version, ..PackageQuery::default() }
}

/// A package of a language's ecosystem.
pub fn application<'a>(ecosystem: &'a str, name: &'a str, version: &'a str) -> PackageQuery<'a> {
    PackageQuery { ecosystem, name, version, ..PackageQuery::default() }
}

pub fn debian<'a>(release: &'a str, source: &'a str, version: &'a str) -> PackageQuery<'a> {
    PackageQuery {
        ecosystem: "debian",
        name: "a-binary-package",
        version: "0",
        source_name: source,
        source_version: version,
        distro_id: "debian",
        distro_version: release,
        platform: "",
        group_hints: None,
    }
}

/// Ids of the findings; panics if the package was not assessed.
pub fn ids(database: &Database, query: &PackageQuery<'_>) -> Vec<String> {
    findings(database, query).into_iter().map(|finding| finding.id).collect()
}

pub fn findings(database: &Database, query: &PackageQuery<'_>) -> Vec<Finding> {
    match database.match_package(query) {
        Assessment::Assessed { findings, .. } => findings,
        other => panic!("{query:?} was not assessed: {other:?}"),
    }
}

/// The OSV sample beside the workspace, or `None` after saying so.
pub fn sample_export() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/osv");
    let dir = std::env::var_os("PLIMSOLL_OSV_DIR").map_or(beside, PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: no OSV export at {} (set PLIMSOLL_OSV_DIR)", dir.display());
    None
}

/// The sample and its database, built once in each test program; `None` where the sample is absent.
pub fn sample_database() -> Option<(&'static Path, &'static Path)> {
    static BUILT: OnceLock<Option<(PathBuf, tempfile::TempDir)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let export = sample_export()?;
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let _ = build(&export, &directory.path().join("sample.db"), &mut |_| ()).unwrap();
        Some((export, directory))
    });
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let (export, directory) = built.as_ref()?;
    Some((export, PATH.get_or_init(|| directory.path().join("sample.db"))))
}

/// Whether a tool that a test compares with can be run; its absence is a failure in CI.
pub fn tool_present(what: &str, present: bool) -> bool {
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(present || !ci, "{what} is needed in CI");
    if !present {
        println!("skipped: {what} is not here");
    }
    present
}

/// Every version that a record of the sample names for an ecosystem: listed ones and boundaries.
pub fn versions_of_sample(export: &Path, ecosystem: &str) -> BTreeSet<String> {
    let file = fs::File::open(export.join(ecosystem).join("all.zip")).unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    let mut versions = BTreeSet::new();
    for index in 0..archive.len() {
        let record: serde_json::Value = serde_json::from_reader(archive.by_index(index).unwrap()).unwrap();
        let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
        for affected in list(&record["affected"]) {
            versions.extend(list(&affected["versions"]).iter().filter_map(|v| Some(v.as_str()?.to_owned())));
            for range in list(&affected["ranges"]).iter().filter(|range| range["type"] != "GIT") {
                for event in list(&range["events"]) {
                    let texts = event.as_object().into_iter().flat_map(|event| event.values());
                    versions.extend(texts.filter_map(|v| Some(v.as_str()?.to_owned())));
                }
            }
        }
    }
    versions
}
