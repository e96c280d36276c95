//! Which files a gem owns: its directories, or its part of Ruby's own library or of Debian's `vendor_ruby`.
//! Never credits a gem with a file that its gemspec, its directory or its OS package does not name.

use super::Place;
use super::gemspec::GemSpec;
use crate::bounds::{LeftOut, bound};
use crate::role::{Role, role_of};
use crate::survey::Survey;
use crate::tree::{FileKind, FileTree, Walk, path};
use std::collections::{BTreeMap, HashMap};

/// Most files looked at to count those of one gem.
const MAX_COUNTED_FILES: usize = bound(200_000, 2_000);
/// Most directories of extensions of one root.
const MAX_EXTENSION_DIRECTORIES: usize = 64;

/// What a gem owns. Paths are relative to the root.
#[derive(Debug, Default)]
pub(crate) struct OwnedFiles {
    pub files: Vec<Vec<u8>>,
    pub directories: Vec<Vec<u8>>,
    pub loadable_file_count: u64,
    /// Whether any of the places it should have exists.
    pub is_found: bool,
    pub left_out: LeftOut,
}

impl OwnedFiles {
    fn add_file(&mut self, file: Vec<u8>) {
        self.is_found = true;
        self.loadable_file_count += u64::from(is_loadable(&file));
        self.files.push(file);
    }

    /// What the gem called `name` has in each directory of compiled extensions.
    fn add_extensions(&mut self, tree: &dyn FileTree, directories: &[Vec<u8>], name: &[u8]) {
        if directories.len() > MAX_EXTENSION_DIRECTORIES {
            self.left_out.beyond(MAX_EXTENSION_DIRECTORIES, "directories of extensions");
        }
        for extensions in directories.iter().take(MAX_EXTENSION_DIRECTORIES) {
            self.add_directory(tree, path::join(extensions, name));
        }
    }

    fn add_directory(&mut self, tree: &dyn FileTree, directory: Vec<u8>) {
        if !is_directory(tree, &directory) {
            return;
        }
        self.is_found = true;
        let mut seen = 0;
        // What cannot be walked counts nothing; the walk of the whole tree has warned of it.
        let _ = tree.walk(&directory, &mut |path, kind| {
            seen += 1;
            if kind != FileKind::Directory {
                self.loadable_file_count += u64::from(is_loadable(path));
            }
            if seen > MAX_COUNTED_FILES {
                self.left_out.beyond(MAX_COUNTED_FILES, "files in one directory of it");
                return Walk::Stop;
            }
            Walk::Continue
        });
        self.directories.push(directory);
    }
}

/// Ruby source, extensions, jars of JRuby, programs.
fn is_loadable(path: &[u8]) -> bool {
    let name = path::file_name(path);
    // C sources' build scripts and the gem's own tasks are run when it is built, not when it is used.
    let is_build = name == b"extconf.rb" || name == b"Rakefile" || name.ends_with(b".gemspec");
    let is_program = path::file_name(path::parent(path)) == b"exe";
    !is_build && (is_program || role_of(path) == Role::Code)
}

fn is_directory(tree: &dyn FileTree, path: &[u8]) -> bool {
    tree.resolve(path).is_ok_and(|found| found.metadata.kind == FileKind::Directory)
}

/// Directories found once for all gems of a root.
#[derive(Debug, Default)]
pub(crate) struct Libraries {
    /// Root → Ruby's own library directories for it.
    standard: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    /// Root → `extensions/PLATFORM/API`.
    extensions: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    /// By the number of the OS package.
    carried: HashMap<u32, Carried>,
}

impl Libraries {
    /// `lib/ruby/3.1.0` and its directories by architecture, for the root `lib/ruby/gems/3.1.0`.
    fn standard(&mut self, tree: &dyn FileTree, root: &[u8]) -> &[Vec<u8>] {
        self.standard.entry(root.to_vec()).or_insert_with(|| {
            let (gems, version) = path::split(root);
            let ruby = path::parent(gems);
            let library = path::join(ruby, version);
            let mut found = subdirectories(tree, &library);
            found.retain(|directory| tree.metadata(&path::join(directory, b"rbconfig.rb")).is_ok());
            // Debian keeps what depends on the architecture in lib/TRIPLET/ruby.
            if path::file_name(ruby) == b"ruby" {
                for beside in subdirectories(tree, path::parent(ruby)) {
                    let directory = path::join(&path::join(&beside, b"ruby"), version);
                    if is_directory(tree, &directory) {
                        found.push(directory);
                    }
                }
            }
            found.insert(0, library);
            found
        })
    }

    fn extensions(&mut self, tree: &dyn FileTree, root: &[u8]) -> &[Vec<u8>] {
        self.extensions.entry(root.to_vec()).or_insert_with(|| {
            let mut found = Vec::new();
            for platform in subdirectories(tree, &path::join(root, b"extensions")) {
                found.extend(subdirectories(tree, &platform));
            }
            // One more, so that each gem of the root can tell.
            found.truncate(MAX_EXTENSION_DIRECTORIES + 1);
            found
        })
    }
}

fn subdirectories(tree: &dyn FileTree, directory: &[u8]) -> Vec<Vec<u8>> {
    let entries = tree.list(directory).unwrap_or_default();
    entries
        .iter()
        .filter(|entry| entry.kind == FileKind::Directory)
        .map(|entry| path::join(directory, &entry.name))
        .collect()
}

/// Finds the files of one gem; `provider` is the OS package that carries its gemspec.
pub(crate) fn find(
    survey: &Survey<'_>,
    libraries: &mut Libraries,
    spec: &GemSpec,
    place: Place<'_>,
    provider: Option<u32>,
) -> OwnedFiles {
    let tree = survey.tree;
    let mut owned = OwnedFiles::default();
    let full_name = spec.full_name().into_bytes();
    let root = match place {
        Place::Git { directory } => {
            owned.add_directory(tree, directory.to_vec());
            let root = path::parent(path::parent(path::parent(directory)));
            let name = path::file_name(directory);
            owned.add_extensions(tree, libraries.extensions(tree, root), name);
            return owned;
        }
        Place::Installed { root } | Place::Default { root } => root,
    };
    owned.add_directory(tree, path::join(&path::join(root, b"gems"), &full_name));
    owned.add_extensions(tree, libraries.extensions(tree, root), &full_name);
    for program in spec.executables.iter().filter(|program| !program.contains('/')) {
        let stub = path::join(&path::join(root, b"bin"), program.as_bytes());
        if tree.metadata(&stub).is_ok() {
            owned.files.push(stub);
        }
    }
    if let Place::Default { .. } = place {
        find_default(tree, libraries.standard(tree, root), spec, &mut owned);
    } else if owned.loadable_file_count == 0
        && let Some(provider) = provider
        && let Some(list) = survey.os_files.get(&provider)
    {
        find_carried(
            libraries.carried.entry(provider).or_insert_with(|| Carried::of(list)),
            spec,
            &mut owned,
        );
    }
    owned
}

/// Files of a default gem, as its gemspec lists them, with or without `lib/`; else those named like the gem.
fn find_default(tree: &dyn FileTree, standard: &[Vec<u8>], spec: &GemSpec, owned: &mut OwnedFiles) {
    let before = owned.files.len();
    for listed in &spec.files {
        let bare = spec
            .require_paths
            .iter()
            .find_map(|below| listed.strip_prefix(below.as_str())?.strip_prefix('/'))
            .unwrap_or(listed);
        for directory in standard {
            let file = path::normalize_from(directory, bare.trim_start_matches('/').as_bytes());
            if tree.metadata(&file).is_ok_and(|found| found.kind == FileKind::Regular) {
                owned.add_file(file);
            }
        }
    }
    if owned.files.len() > before {
        return;
    }
    let name = spec.name.replace('-', "/");
    for directory in standard {
        for file in [format!("{name}.rb"), format!("{name}.so")] {
            let file = path::join(directory, file.as_bytes());
            if tree.metadata(&file).is_ok() {
                owned.add_file(file);
            }
        }
        owned.add_directory(tree, path::join(directory, name.as_bytes()));
    }
}

/// Debian puts a gem's files into `vendor_ruby`: they are those of the OS package that carries the gemspec.
fn find_carried(carried: &Carried, spec: &GemSpec, owned: &mut OwnedFiles) {
    if carried.gemspec_count == 1 {
        carried.files.values().for_each(|file| owned.add_file(file.clone()));
        return;
    }
    // A package with several gems: what the gemspec lists.
    for listed in &spec.files {
        let below = listed.strip_prefix("lib/").unwrap_or(listed);
        if let Some(file) = carried.files.get(below.as_bytes()) {
            owned.add_file(file.clone());
        }
    }
}

/// The library files of one OS package that carries gems.
#[derive(Debug)]
struct Carried {
    gemspec_count: usize,
    /// As it is required → path.
    files: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Carried {
    fn of(list: &[u8]) -> Self {
        let mut carried = Self { gemspec_count: 0, files: BTreeMap::new() };
        for line in list.split(|byte| *byte == b'\n') {
            carried.gemspec_count += usize::from(Place::of(line).is_some());
            if let Some(below) = below_library(line) {
                carried.files.insert(below.to_vec(), line.to_vec());
            }
        }
        carried
    }
}

/// The part of a path that is required: below `vendor_ruby`, or below `vendor_ruby/VERSION` for extensions.
fn below_library(path: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::find(path, b"/vendor_ruby/")?;
    let below = &path[at + b"/vendor_ruby/".len()..];
    let (first, rest) =
        memchr::memchr(b'/', below).map_or((below, &b""[..]), |at| (&below[..at], &below[at + 1..]));
    let is_version = first.first().is_some_and(u8::is_ascii_digit);
    if is_version && !rest.is_empty() { Some(rest) } else { Some(below) }
}
