//! What the ecosystems whose packages are linked into programs share: reading ELF files, and records of such packages.
//! Holds no rule of any ecosystem, and never runs a program.

pub(crate) mod elf;
pub(crate) mod search;
#[cfg(test)]
pub(crate) mod testing;

use crate::digest::{DigestedFiles, Digester};
use crate::record::{Location, PackageKind, PackageRecord};
use crate::survey::Survey;
use crate::tree::{HardLinkIdentity, ReadAt};
use elf::Elf;
use plimsoll_schemas::words::probe;
use std::borrow::Cow;
use std::collections::HashMap;

/// Most bytes of one program that are read to find out what is linked into it.
pub(crate) const MAX_READ_BYTES: u64 = 1024 * 1024 * 1024;

/// ELF programs, told from shared libraries: in every tree, whether or not an ecosystem finds anything in them.
pub(crate) static PROGRAMS: Digester =
    Digester { name: "elf-program", files: DigestedFiles::Binaries, digest: digest_program };

/// One byte for a program. What cannot be read is taken for one, so that no probe is said to see all of it.
fn digest_program(file: &dyn ReadAt) -> Vec<u8> {
    let is_program = match Elf::parse(file) {
        Ok(elf) => elf.is_some_and(|elf| elf.is_program().unwrap_or(true)),
        Err(_) => true,
    };
    if is_program { vec![1] } else { Vec::new() }
}

/// Leaves of a package that has an ELF program only the probe that sees each run of it: hooks inside of a language see no
/// program, those of the dynamic linker neither static programs nor the language's modules.
pub(crate) fn only_seen_by_the_kernel(record: &mut PackageRecord) {
    record.observable_by = vec![probe::EBPF_FILES];
    record.loadable_file_count = record.loadable_file_count.max(1);
    record.not_measurable_reason.clear();
}

/// A program or library in which something was found.
pub(crate) struct Program<'t> {
    /// All names of the file, sorted; several where it has hard links.
    pub paths: Vec<Vec<u8>>,
    pub digest: Cow<'t, [u8]>,
}

/// The programs in which `digester` found something, in the order of their first paths.
pub(crate) fn programs<'t>(survey: &mut Survey<'t>, digester: &crate::digest::Digester) -> Vec<Program<'t>> {
    let mut programs: Vec<Program<'t>> = Vec::new();
    let mut by_identity: HashMap<HardLinkIdentity, usize> = HashMap::new();
    for path in survey.binaries.clone() {
        let Some(digest) = survey.digest(&path, digester) else { continue };
        let metadata = match survey.tree.metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) => {
                survey.warnings.unreadable(&error);
                continue;
            }
        };
        let known = *by_identity.entry(metadata.identity).or_insert(programs.len());
        match programs.get_mut(known) {
            Some(program) => program.paths.push(path),
            None => programs.push(Program { paths: vec![path], digest }),
        }
    }
    programs
}

/// What is said of one package of a program.
pub(crate) struct Linked<'a> {
    pub ecosystem: &'static str,
    pub name: &'a str,
    pub version: &'a str,
    /// What the program was built for, as its language calls that; empty where it is not known.
    pub architecture: &'a str,
    pub purl: String,
    pub dependencies: Vec<String>,
    /// Whether it owns the program's path: running the program is a use of it.
    pub is_linked: bool,
    /// Empty if its use can be observed.
    pub not_measurable_reason: &'static str,
    /// Whether the program names a dynamic linker.
    pub has_interpreter: bool,
    pub method: &'static str,
    /// Import paths of what of it is linked in, where the language's programs tell.
    pub packages: Option<Vec<String>>,
}

/// Adds one package of a program and, where an index is wanted, its claim on the program.
pub(crate) fn add(survey: &mut Survey<'_>, paths: &[Vec<u8>], linked: Linked<'_>) {
    let mut record = PackageRecord::new(
        PackageKind::Application,
        linked.ecosystem,
        linked.name.to_owned(),
        linked.version.to_owned(),
    );
    record.architecture = linked.architecture.to_owned();
    record.purl = linked.purl;
    record.dependencies = linked.dependencies;
    record.linked_packages = linked.packages;
    record.locations = paths
        .iter()
        .map(|path| Location {
            path: path.clone(),
            nested_path: Vec::new(),
            layer: survey.tree.layer_of(path).unwrap_or_default().to_owned(),
        })
        .collect();
    for path in paths {
        if survey.set_provider(&mut record, path).is_some() {
            break;
        }
    }
    if linked.not_measurable_reason.is_empty() {
        record.observable_by.push(probe::EBPF_FILES);
        if linked.has_interpreter {
            record.observable_by.push(probe::LD_AUDIT);
        }
    }
    record.not_measurable_reason = linked.not_measurable_reason.to_owned();
    record.loadable_file_count = u64::from(linked.is_linked);
    let Some(package) = survey.add_package(record) else { return };
    if let Some(index) = &mut survey.index
        && linked.is_linked
    {
        for path in paths {
            index.own(&mut survey.canonicalizer, path, package, linked.method);
        }
    }
}

/// Has the index built again when a program changes.
pub(crate) fn watch(survey: &mut Survey<'_>, paths: &[Vec<u8>]) {
    if let Some(index) = &mut survey.index {
        paths.iter().for_each(|path| index.watch(survey.tree, path));
    }
}
