//! How right findings of Maven packages are whose group had to be guessed: each jar of a local repository is scanned with
//! what names its group taken away, and what is found is compared with what its place in the repository says it is.
//!
//! `maven_guesses OSV_DIR REPOSITORY`, twice: with the advisories of OSV_DIR, and as if every name that OSV_DIR and the
//! repository know had one. It must never be part of a test: figures belong to a machine.

// A tool for people.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use plimsoll_scanner::{Component, Scan, ScanOptions, Target, scan};
use plimsoll_vulndb::{Assessment, Database, PackageQuery};
use zip::write::SimpleFileOptions;

/// Jars that are scanned at once, each in a directory of its own; copies of them take so much of the disk.
const BATCH: usize = 50;
const NAMES: &str = "META-INF/maven/";
/// As long, so that no offset changes.
const HIDDEN: &str = "META-INF/mavex/";

struct Jar {
    path: PathBuf,
    /// `group:artifact`, as the repository says.
    name: String,
    version: String,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let usage = "usage: maven_guesses OSV_DIR REPOSITORY (for example ~/.m2/repository)";
    let (osv, repository) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let mut jars = Vec::new();
    find(&repository, &repository, &mut jars)?;
    jars.sort_by(|a, b| a.path.cmp(&b.path));
    let directory = tempfile::tempdir()?;
    println!("{} jars with classes in {}", jars.len(), repository.display());
    println!("\nwith the advisories of {}:", osv.display());
    measure(&jars, &build(&osv, &directory.path().join("real.db"))?)?;
    let mut names = names_of(&osv.join("Maven/all.zip"))?;
    names.extend(jars.iter().map(|jar| jar.name.clone()));
    println!("\nas if each of {} names had an advisory for every version:", names.len());
    let all = directory.path().join("all");
    write_advisories(&all, &names)?;
    measure(&jars, &build(&all, &directory.path().join("all.db"))?)
}

/// Jars called as their place says, so that no classifier hides what is in them.
fn find(root: &Path, directory: &Path, jars: &mut Vec<Jar>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            find(root, &path, jars)?;
            continue;
        }
        let parts: Vec<&str> =
            path.strip_prefix(root)?.components().filter_map(|part| part.as_os_str().to_str()).collect();
        let [group @ .., artifact, version, file] = &parts[..] else { continue };
        if *file == format!("{artifact}-{version}.jar") && has_classes(&path) {
            let name = format!("{}:{artifact}", group.join("."));
            jars.push(Jar { name, version: (*version).to_owned(), path });
        }
    }
    Ok(())
}

fn has_classes(path: &Path) -> bool {
    let archive = std::fs::File::open(path).ok().and_then(|file| zip::ZipArchive::new(file).ok());
    archive.is_some_and(|archive| archive.file_names().flatten().any(|name| name.ends_with(".class")))
}

fn build(osv: &Path, output: &Path) -> anyhow::Result<Arc<Database>> {
    let _ = plimsoll_vulndb::build(osv, output, &mut |_| ())?;
    Ok(Arc::new(Database::open(output)?))
}

fn names_of(zip: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(zip)?)?;
    let mut names = BTreeSet::new();
    for index in 0..archive.len() {
        let mut text = String::new();
        archive.by_index(index)?.read_to_string(&mut text)?;
        let record: serde_json::Value = serde_json::from_str(&text)?;
        let packages =
            record["affected"].as_array().into_iter().flatten().map(|affected| &affected["package"]);
        names.extend(packages.filter_map(|package| Some(package["name"].as_str()?.to_owned())));
    }
    Ok(names)
}

fn write_advisories(osv: &Path, names: &BTreeSet<String>) -> anyhow::Result<()> {
    std::fs::create_dir_all(osv.join("Maven"))?;
    let mut zip = zip::ZipWriter::new(std::fs::File::create(osv.join("Maven/all.zip"))?);
    for name in names {
        zip.start_file(format!("{}.json", name.replace(':', "_")), SimpleFileOptions::default())?;
        let ranges = serde_json::json!([{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }] }]);
        let affected =
            serde_json::json!([{ "package": { "ecosystem": "Maven", "name": name }, "ranges": ranges }]);
        zip.write_all(serde_json::json!({ "id": name, "affected": affected }).to_string().as_bytes())?;
    }
    zip.finish()?;
    Ok(())
}

#[derive(Default)]
struct Figures {
    groups: BTreeMap<&'static str, usize>,
    findings: BTreeMap<&'static str, usize>,
    /// One line for each jar with something wrong or missing.
    lines: Vec<String>,
}

fn measure(jars: &[Jar], database: &Arc<Database>) -> anyhow::Result<()> {
    let mut figures = Figures::default();
    for batch in jars.chunks(BATCH) {
        let (whole, hidden) = (scan_copies(batch, database, false)?, scan_copies(batch, database, true)?);
        for (number, jar) in batch.iter().enumerate() {
            figures.add(jar, &Found::of(number, &whole), &Found::of(number, &hidden), database);
        }
    }
    println!("groups: {:?}\nfindings: {:?}", figures.groups, figures.findings);
    figures.lines.iter().for_each(|line| println!("  {line}"));
    Ok(())
}

/// Scans copies of the jars, `number/file` each.
fn scan_copies(jars: &[Jar], database: &Arc<Database>, hide: bool) -> anyhow::Result<Scan> {
    let root = tempfile::tempdir()?;
    for (number, jar) in jars.iter().enumerate() {
        let mut bytes = std::fs::read(&jar.path)?;
        let mut at = 0;
        while hide && let Some(found) = position(&bytes[at..], NAMES.as_bytes()) {
            at += found;
            bytes[at..at + NAMES.len()].copy_from_slice(HIDDEN.as_bytes());
        }
        let directory = root.path().join(number.to_string());
        std::fs::create_dir(&directory)?;
        std::fs::write(directory.join(jar.path.file_name().context("a jar has a name")?), bytes)?;
    }
    let target = Target::parse("fs", root.path().to_str().context("no UTF-8")?)?;
    let options =
        ScanOptions { database: Some(database.clone()), docker_host: "unix:///nowhere", progress: &|_| {} };
    Ok(scan(&target, Some(&Component::new("measure", "guesses", "1")?), &options)?)
}

fn position(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// What a scan says of one jar.
#[derive(Default)]
struct Found {
    /// Names of the jar itself, not of what lies in it.
    names: BTreeSet<String>,
    ids: BTreeSet<String>,
    /// Advisories that are said not to apply, with the reason.
    not_applicable: Vec<String>,
    not_assessed: bool,
}

impl Found {
    fn of(number: usize, scan: &Scan) -> Self {
        let mut found = Self::default();
        let begin = format!("{number}/");
        for package in &scan.packages {
            let is_its = |path: &[u8]| path.starts_with(begin.as_bytes());
            if !package.locations.iter().any(|at| is_its(&at.path) && at.nested_path.is_empty()) {
                continue;
            }
            found.names.insert(package.name.clone());
            for chunk in scan.findings.iter().filter(|chunk| chunk.package_id == package.package_id) {
                found.ids.extend(chunk.findings.iter().map(|finding| finding.id.clone()));
                found
                    .not_applicable
                    .extend(chunk.feeds.iter().filter(|feed| feed.contains("does not apply")).cloned());
                found.not_assessed |= !chunk.assessed;
            }
        }
        found
    }
}

impl Figures {
    fn add(&mut self, jar: &Jar, whole: &Found, hidden: &Found, database: &Database) {
        let query = PackageQuery {
            ecosystem: "maven",
            name: &jar.name,
            version: &jar.version,
            ..PackageQuery::default()
        };
        let truth: BTreeSet<String> = match database.match_package(&query) {
            Assessment::Assessed { findings, .. } => findings.into_iter().map(|finding| finding.id).collect(),
            Assessment::NotAssessed { .. } => BTreeSet::new(),
        };
        let guess = hidden.names.iter().map(String::as_str).collect::<Vec<_>>().join(" + ");
        let group = if hidden.names.contains(&jar.name) {
            "right"
        } else if hidden.names.iter().any(|name| name.contains(':')) {
            "wrong"
        } else {
            "none"
        };
        *self.groups.entry(group).or_default() += 1;
        let mut count = |word, ids: usize| *self.findings.entry(word).or_default() += ids;
        let missing: Vec<&String> = truth.difference(&hidden.ids).collect();
        // What is merged into the jar is there, whether or not its coordinates can be read.
        let wrong: Vec<&String> = hidden
            .ids
            .iter()
            .filter(|id| !truth.contains(id.as_str()) && !whole.ids.contains(id.as_str()))
            .collect();
        let said = |id: &&&String| hidden.not_applicable.iter().any(|text| text.starts_with(id.as_str()));
        count("of the jars", truth.len());
        count("right", truth.len() - missing.len());
        count(
            "right by another than the guessed name",
            if group == "right" { 0 } else { truth.len() - missing.len() },
        );
        count("wrong", wrong.len());
        count("missing", missing.len());
        count("missing, but said not to apply", missing.iter().filter(said).count());
        count("missing, but not assessed", if hidden.not_assessed { missing.len() } else { 0 });
        if !missing.is_empty() || !wrong.is_empty() {
            self.lines.push(format!(
                "{} {} guessed as {guess}: wrong {wrong:?}, missing {missing:?}{}",
                jar.name,
                jar.version,
                if hidden.not_assessed { ", not assessed" } else { "" }
            ));
        }
    }
}
