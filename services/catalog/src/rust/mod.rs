//! Rust programs: the crates that `cargo auditable` noted in them, and, for want of that, what a Cargo.lock declares.
//! Never calls a declared crate linked, and never guesses crates of a program that carries no list.

mod lock;
mod section;

use crate::binary::elf::Elf;
use crate::binary::{self};
use crate::bounds::LeftOut;
use crate::digest::{DigestedFiles, Digester, ReadAt};
use crate::not_measurable;
use crate::purl::Purl;
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{FileKind, path};
use crate::{Ecosystem, Wanted};
use section::{Problem, Program};
use std::collections::BTreeSet;
use std::io;

const ECOSYSTEM: &str = "cargo";
const METHOD: &str = "cargo-auditable";
const LOCK: &[u8] = b"Cargo.lock";
/// Most of a Cargo.lock that is read, in bytes; one with 1,000 crates has 300 KB.
const MAX_LOCK_BYTES: usize = 16 * 1024 * 1024;
/// What stands beside the Cargo.lock of a published crate that was fetched as a dependency: nobody builds by that lock.
const FETCHED_MARKS: [&[u8]; 3] = [b".cargo-ok", b".cargo-checksum.json", b".cargo_vcs_info.json"];
/// Most programs without a list that a warning names.
const MAX_NAMED_PROGRAMS: usize = 5;

static DIGESTER: Digester = Digester { name: ECOSYSTEM, files: DigestedFiles::Binaries, digest };

pub(crate) struct Rust;

impl Ecosystem for Rust {
    fn wanted(&self, path: &[u8]) -> Option<Wanted> {
        is_lock(path).then_some(Wanted::Content { max_bytes: MAX_LOCK_BYTES })
    }

    fn is_marker(&self, path: &[u8], kind: FileKind) -> bool {
        kind == FileKind::Regular && is_lock(path)
    }

    fn database_of<'p>(&self, _: &'p [u8]) -> Option<&'p [u8]> {
        None
    }

    fn is_database_entry(&self, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn digesters(&self) -> &'static [Digester] {
        std::slice::from_ref(&DIGESTER)
    }

    fn survey(&self, survey: &mut Survey<'_>, markers: &[Vec<u8>]) {
        let mut built = BTreeSet::new();
        let mut without_list: Vec<Vec<u8>> = Vec::new();
        for found in binary::programs(survey, &DIGESTER) {
            binary::watch(survey, &found.paths);
            match serde_json::from_slice::<Program>(&found.digest) {
                Ok(program) => add(survey, &found.paths, program, &mut built, &mut without_list),
                Err(_) => warn(survey, &found.paths[0], Problem::TooLong),
            }
        }
        if !without_list.is_empty() {
            warn_without_list(survey, &without_list);
        }
        for marker in markers {
            add_declared(survey, marker, &built);
        }
    }
}

fn is_lock(path: &[u8]) -> bool {
    path.last() == Some(&b'k') && path::file_name(path) == LOCK
}

/// What is kept of a program: JSON, empty for anything that rustc did not make.
fn digest(file: &dyn ReadAt) -> Vec<u8> {
    let read = || -> io::Result<Option<Program>> {
        let Some(elf) = Elf::parse(file)? else { return Ok(None) };
        section::read(&elf)
    };
    let program = match read() {
        Ok(None) => return Vec::new(),
        Ok(Some(program)) => program,
        Err(_) => Program::without_crates(Problem::Unreadable),
    };
    // Only maps with keys that are no text could fail.
    serde_json::to_vec(&program).unwrap_or_default()
}

fn purl(name: &str, version: &str) -> String {
    Purl { package_type: ECOSYSTEM, name, version, ..Purl::default() }.build()
}

/// Adds the crates of a program. `built` gets its roots, `without_list` its path if it has no list.
fn add(
    survey: &mut Survey<'_>,
    paths: &[Vec<u8>],
    program: Program,
    built: &mut BTreeSet<(String, String)>,
    without_list: &mut Vec<Vec<u8>>,
) {
    match program.problem {
        Some(Problem::NoList) => without_list.push(paths[0].clone()),
        Some(problem) => warn(survey, &paths[0], problem),
        None => {}
    }
    let name_of = |index: &usize| program.crates.get(*index).map(|one| one.name.clone());
    // Crates that only the build needed (build scripts, macros) are not in the program.
    for one in program.crates.iter().filter(|one| !one.is_build_only) {
        if one.is_root {
            built.insert((one.name.clone(), one.version.clone()));
        }
        let linked = binary::Linked {
            ecosystem: ECOSYSTEM,
            name: &one.name,
            version: &one.version,
            architecture: "",
            purl: purl(&one.name, &one.version),
            dependencies: one.dependencies.iter().filter_map(name_of).collect(),
            is_linked: true,
            not_measurable_reason: "",
            has_interpreter: program.has_interpreter,
            method: METHOD,
            packages: None,
        };
        binary::add(survey, paths, linked);
    }
}

/// Adds what a Cargo.lock declares, unless a program of the artifact was built from it and says so itself.
fn add_declared(survey: &mut Survey<'_>, marker: &[u8], built: &BTreeSet<(String, String)>) {
    let directory = path::parent(marker);
    let is_fetched =
        FETCHED_MARKS.iter().any(|mark| survey.tree.metadata(&path::join(directory, mark)).is_ok());
    if is_fetched {
        return;
    }
    let Some(text) = survey.read_optional(marker, MAX_LOCK_BYTES) else { return };
    let mut left_out = LeftOut::default();
    let declared = lock::parse(&text, &mut left_out);
    survey.left_out(marker, &left_out);
    let Some(declared) = declared else {
        survey.warnings.push(
            "cargo-lock-damaged",
            &path::display(marker),
            "it is no Cargo.lock that can be read",
            "make it anew with `cargo generate-lockfile`, then scan again",
        );
        return;
    };
    let is_own = |one: &lock::Declared| one.source.is_empty();
    if declared.iter().any(|one| is_own(one) && built.contains(&(one.name.clone(), one.version.clone()))) {
        return;
    }
    let layer = survey.tree.layer_of(marker).unwrap_or_default().to_owned();
    for one in declared {
        let mut record = PackageRecord::new(PackageKind::Application, ECOSYSTEM, one.name, one.version);
        record.purl = purl(&record.name, &record.version);
        record.dependencies = one.dependencies;
        record.locations =
            vec![Location { path: marker.to_vec(), nested_path: Vec::new(), layer: layer.clone() }];
        record.not_measurable_reason = not_measurable::DECLARED_IN_CARGO_LOCK.to_owned();
        if survey.add_package(record).is_none() {
            return;
        }
    }
}

fn warn_without_list(survey: &mut Survey<'_>, programs: &[Vec<u8>]) {
    let named: Vec<String> =
        programs.iter().take(MAX_NAMED_PROGRAMS).map(|program| path::display(program)).collect();
    let more = programs.len() - named.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    survey.warnings.push(
        "rust-without-crate-list",
        &named[0],
        format!("written in Rust, without a list of the crates in it: {}{rest}", named.join(", ")),
        "build with `cargo auditable build`; what is linked into these programs is not known otherwise",
    );
}

fn warn(survey: &mut Survey<'_>, at: &[u8], problem: Problem) {
    let (code, message) = match problem {
        Problem::NoList => ("rust-without-crate-list", "written in Rust, without a list of the crates in it"),
        Problem::Damaged => ("rust-crate-list-damaged", "its list of crates (.dep-v0) cannot be read"),
        Problem::LongComment => (
            "rust-compiler-unknown",
            "its section .comment is longer than what is read of it, so whether rustc made it is not known",
        ),
        Problem::TooLong => {
            ("rust-crate-list-too-long", "its list of crates (.dep-v0) is too long to be read")
        }
        Problem::Unreadable => ("unreadable-file", "could not be read to its end"),
    };
    let remedy = "build it again with `cargo auditable build`, then scan again";
    survey.warnings.push(code, &path::display(at), message, remedy);
}

#[cfg(test)]
mod tests;
