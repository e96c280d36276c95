//! One pass over an artifact that all ecosystems share: one walk, one set of packages, one set of claims.
//! Holds no rule of any ecosystem, and never fails as a whole: what cannot be read becomes a warning.

use crate::binary::PROGRAMS;
use crate::bounds::{LeftOut, bound};
use crate::canonical::{Canonicalizer, KnownLinks};
use crate::digest::{DigestedFiles, Digester, is_binary_name};
use crate::os_release::{self, OsRelease};
use crate::ownership::OwnershipIndex;
use crate::ownership::builder::{IndexBuilder, MAX_INDEXED_PATHS};
use crate::record::PackageRecord;
use crate::role::is_shared_library;
use crate::tree::{FileKind, FileTree, Walk, path};
use crate::warning::Warnings;
use crate::{CatalogOutcome, ECOSYSTEMS, linked};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Most packages of one artifact.
pub const MAX_PACKAGES: usize = bound(500_000, 20_000);
/// Most files that an ecosystem marks as its databases.
pub const MAX_MARKERS: usize = bound(1_000_000, 30_000);

/// Most ELF files that ecosystems look into.
pub const MAX_BINARIES: usize = 500_000;

/// Where container engines keep the files of containers, which are artifacts of their own and no part of their host.
const FOREIGN_ROOTS: [&[u8]; 7] = [
    b"var/lib/docker",
    b"var/lib/containerd",
    b"var/lib/containers",
    b"var/lib/kubelet/pods",
    b"var/lib/rancher",
    b"run/containerd",
    b"run/docker",
];

/// What the ecosystems see and fill.
pub(crate) struct Survey<'t> {
    pub tree: &'t dyn FileTree,
    pub os_release: Option<OsRelease>,
    pub warnings: Warnings,
    pub canonicalizer: Canonicalizer<'t>,
    /// `None` when only packages are asked for.
    pub index: Option<IndexBuilder>,
    /// Marked files that lie in an OS package, and which package that is. Filled before application ecosystems run.
    pub os_owned: HashMap<Vec<u8>, u32>,
    /// The files of those OS packages that carry such markers, each ended by a newline.
    pub os_files: HashMap<u32, Vec<u8>>,
    /// ELF programs and shared libraries of the tree, sorted; links to them are left out, hard links are not. A tree
    /// of image layers leaves out those without any digest.
    pub binaries: Vec<Vec<u8>>,
    binary_names: HashSet<Vec<u8>>,
    packages: Vec<PackageRecord>,
    by_id: HashMap<String, u32>,
    has_more_packages: bool,
}

impl<'t> Survey<'t> {
    pub fn run(tree: &'t dyn FileTree, with_index: bool) -> Self {
        let mut warnings = Warnings::default();
        let os_release = os_release::read(tree, &mut warnings);
        let Found { mut markers, links, mut binaries } = find_markers(tree, &mut warnings);
        binaries.sort_unstable();
        let mut survey = Self {
            tree,
            os_release,
            warnings,
            canonicalizer: Canonicalizer::new(tree, links),
            index: with_index.then(IndexBuilder::new),
            os_owned: HashMap::new(),
            os_files: HashMap::new(),
            binary_names: binaries.iter().map(|path| path::file_name(path).to_vec()).collect(),
            binaries,
            packages: Vec::new(),
            by_id: HashMap::new(),
            has_more_packages: false,
        };
        for (ecosystem, marked) in ECOSYSTEMS.iter().zip(&mut markers) {
            marked.sort_unstable();
            ecosystem.survey(&mut survey, marked);
        }
        if survey.index.as_ref().is_some_and(|index| index.is_full) {
            let message = format!("more than {MAX_INDEXED_PATHS} owned paths, or no room for their names");
            survey.warnings.push("too-many-paths", "", message, "scan a part of the artifact");
        }
        survey
    }

    /// The canonical path of an ELF file that a package lists in any spelling.
    pub fn binary_at(&mut self, listed: &[u8]) -> Option<Vec<u8>> {
        // Most listed files are none, so that their directories need not be looked at.
        if !self.binary_names.contains(path::file_name(listed)) {
            return None;
        }
        let canonical = self.canonicalizer.file(listed);
        self.binaries.binary_search(&canonical).is_ok().then_some(canonical)
    }

    /// Whether an ELF program stands at a path that a package lists, in any spelling.
    pub fn is_program(&mut self, listed: &[u8]) -> bool {
        self.binary_at(listed).is_some_and(|path| self.is_program_at(&path))
    }

    /// Whether an ELF program stands below a directory, those called as in `but` left out.
    pub fn has_program_below(&mut self, directory: &[u8], but: &[&[u8]]) -> bool {
        let mut prefix = self.canonicalizer.directory(directory).to_vec();
        prefix.push(b'/');
        let first = self.binaries.partition_point(|path| *path < prefix);
        let is_own = |path: &&Vec<u8>| {
            let mut directories = path::parent(&path[prefix.len()..]).split(|byte| *byte == b'/');
            !directories.any(|name| but.contains(&name))
        };
        let below = self.binaries[first..].iter().take_while(|path| path.starts_with(&prefix));
        let own: Vec<Vec<u8>> = below.filter(is_own).cloned().collect();
        own.iter().any(|path| self.is_program_at(path))
    }

    /// A library that can be run, as the C library can, is one all the same.
    fn is_program_at(&mut self, path: &[u8]) -> bool {
        let name = path::file_name(path);
        let is_library = is_shared_library(name) || name.ends_with(b".node");
        !is_library && self.digest(path, &PROGRAMS).is_some()
    }

    /// Adds a package and gives its number; one that is there already only gets the new locations.
    pub fn add_package(&mut self, mut record: PackageRecord) -> Option<u32> {
        if self.packages.len() >= MAX_PACKAGES {
            if !std::mem::replace(&mut self.has_more_packages, true) {
                let subject = record.locations.first().map_or_else(String::new, |at| path::display(&at.path));
                let message =
                    format!("more than {MAX_PACKAGES} packages; this one and the rest are left out");
                self.warnings.push("too-many-packages", &subject, message, "scan a part of the artifact");
            }
            return None;
        }
        record.complete();
        if let Some(index) = self.by_id.get(&record.package_id) {
            let present = &mut self.packages[*index as usize];
            for location in record.locations {
                if !present.locations.contains(&location) {
                    present.locations.push(location);
                }
            }
            return Some(*index);
        }
        let index = self.packages.len() as u32;
        self.by_id.insert(record.package_id.clone(), index);
        self.packages.push(record);
        Some(index)
    }

    /// Notes in `record` the OS package whose files hold `marker`, the record of the installation; every ecosystem calls
    /// this. It is a fact only: whether both are the same component, which is then matched once, is judged where
    /// findings are made (DESIGN section 9). Gives the number of that OS package.
    pub fn set_provider(&self, record: &mut PackageRecord, marker: &[u8]) -> Option<u32> {
        let number = *self.os_owned.get(marker)?;
        let provider = self.package(number);
        record.provided_by = provider.package_id.clone();
        record.provided_by_name = provider.name.clone();
        Some(number)
    }

    pub fn package(&self, index: u32) -> &PackageRecord {
        &self.packages[index as usize]
    }

    /// A file that may be absent; anything else that keeps it from being read becomes a warning.
    pub fn read_optional(&mut self, path: &[u8], max_bytes: usize) -> Option<Cow<'t, [u8]>> {
        match self.tree.read(path, max_bytes) {
            Ok(contents) => {
                if contents.truncated {
                    self.warnings.truncated(&path::display(path), max_bytes);
                }
                Some(contents.bytes)
            }
            Err(error) => {
                if !error.is_not_found() {
                    self.warnings.unreadable(&error);
                }
                None
            }
        }
    }

    /// Warns of what was left out of a file, if anything.
    pub fn left_out(&mut self, path: &[u8], left_out: &LeftOut) {
        if !left_out.is_empty() {
            self.warnings.left_out(&path::display(path), left_out);
        }
    }

    /// What the ecosystem's own digester made of a file, if anything; a file that cannot be looked into is a warning.
    pub fn digest(&mut self, path: &[u8], digester: &Digester) -> Option<Cow<'t, [u8]>> {
        match self.tree.digest(path, digester) {
            Ok(digest) => digest,
            Err(error) => {
                if !error.is_not_found() {
                    self.warnings.unreadable(&error);
                }
                None
            }
        }
    }

    /// Text, lossy where it is no UTF-8; then with a warning naming the file and the package.
    pub fn text<'a>(&mut self, bytes: &'a [u8], file: &[u8], package: &str) -> Cow<'a, str> {
        let text = String::from_utf8_lossy(bytes);
        if matches!(text, Cow::Owned(_)) {
            self.warnings.push(
                "invalid-utf8",
                &path::display(file),
                format!("a field of package {package:?} is no UTF-8; the bad bytes were replaced"),
                "reinstall the package or repair its metadata",
            );
        }
        text
    }

    pub fn finish(self) -> CatalogOutcome {
        let mut packages = self.packages;
        for package in &mut packages {
            package.locations.sort();
        }
        packages.sort_by(|a, b| (&a.purl, &a.package_id).cmp(&(&b.purl, &b.package_id)));
        CatalogOutcome { os_release: self.os_release, packages, warnings: self.warnings.finish() }
    }

    pub fn finish_with_index(mut self) -> (CatalogOutcome, OwnershipIndex) {
        let builder = self.index.take().unwrap_or_else(IndexBuilder::new);
        let aliases = self.canonicalizer.take_aliases();
        let index = builder.finish(self.tree, &self.packages, aliases);
        (self.finish(), index)
    }
}

/// What one walk of the tree found.
struct Found {
    /// Paths that each ecosystem marked.
    markers: Vec<Vec<Vec<u8>>>,
    links: KnownLinks,
    binaries: Vec<Vec<u8>>,
}

fn find_markers(tree: &dyn FileTree, warnings: &mut Warnings) -> Found {
    let looks_into_binaries = ECOSYSTEMS
        .iter()
        .flat_map(|ecosystem| ecosystem.digesters())
        .any(|digester| matches!(digester.files, DigestedFiles::Binaries));
    let mut binaries = Vec::new();
    let mut markers: Vec<Vec<Vec<u8>>> = ECOSYSTEMS.iter().map(|_| Vec::new()).collect();
    let mut links = KnownLinks::default();
    let mut links_to_packages = Vec::new();
    let mut count = 0;
    let summary = tree.walk(b"", &mut |path, kind| {
        let marked_as = match kind {
            FileKind::Directory if FOREIGN_ROOTS.contains(&path) => return Walk::SkipDirectory,
            FileKind::Directory => FileKind::Directory,
            FileKind::Symlink => {
                links.add(path);
                if linked::is_of_packages(path) && links_to_packages.len() < MAX_MARKERS {
                    links_to_packages.push(path.to_vec());
                }
                FileKind::Regular
            }
            // Links to a database are followed when it is read (uv, Bazel and Nix install so); a pipe or device in its
            // place is refused then, with a warning.
            _ => FileKind::Regular,
        };
        if looks_into_binaries
            && kind == FileKind::Regular
            && is_binary_name(path)
            && binaries.len() < MAX_BINARIES
            && tree.is_binary(path)
        {
            binaries.push(path.to_vec());
        }
        for (ecosystem, marked) in ECOSYSTEMS.iter().zip(&mut markers) {
            if count < MAX_MARKERS && ecosystem.is_marker(path, marked_as) {
                marked.push(path.to_vec());
                count += 1;
            }
        }
        Walk::Continue
    });
    linked::warn(tree, &links_to_packages, warnings);
    let remedy = "scan a part of the artifact";
    match summary {
        Ok(summary) => {
            summary.unreadable.iter().for_each(|error| warnings.unreadable(error));
            if summary.unreadable_count > summary.unreadable.len() as u64 {
                let message = format!("{} directories could not be read in all", summary.unreadable_count);
                warnings.push("unreadable-directory", "", message, "run as a user who may read them");
            }
            if summary.incomplete || count >= MAX_MARKERS || binaries.len() >= MAX_BINARIES {
                let message = format!("too many files: stopped after {} of them", summary.entries);
                warnings.push("too-many-files", "", message, remedy);
            }
            links.complete = summary.unreadable_count == 0 && !summary.incomplete && !summary.partial;
        }
        Err(error) => warnings.unreadable(&error),
    }
    Found { markers, links, binaries }
}
