//! Which files of a Node.js package could be loaded, and so which probe can see that it is used.
//! Never looks into another copy: a nested `node_modules` is another tree of packages.

use super::manifest::Manifest;
use crate::bounds::bound;
use crate::not_measurable;
use crate::role::is_shared_library;
use crate::tree::{FileKind, FileTree, Walk, path};
use plimsoll_schemas::words::{NODE_SETTINGS, probe};
use serde::{Deserialize, Serialize};

/// Most files looked at to count those of one package.
pub(super) const MAX_COUNTED_FILES: usize = bound(200_000, 2_000);

/// The files of one package, by what loads them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// JavaScript and native addons: modules for every loader.
    modules: u64,
    /// WebAssembly: mostly read and instantiated, which no hook inside of Node.js sees.
    #[serde(default)]
    web_assembly: u64,
    /// JSON files: modules when required. Whether they were only read, the kernel cannot tell: it takes them for loaded.
    data_modules: u64,
    /// Those of them that tools read as settings, which the agent does not take for loaded.
    #[serde(default)]
    settings: u64,
    /// Shared libraries, which no hook inside of Node.js sees.
    libraries: u64,
    /// Other files in a `bin` directory, mostly native programs.
    programs: u64,
    type_declarations: u64,
    /// Whether there are more files than were looked at.
    #[serde(default)]
    pub is_cut: bool,
}

impl Counts {
    pub fn of(tree: &dyn FileTree, directory: &[u8], manifest: &Manifest) -> Self {
        let entries = entry_paths(directory, manifest);
        let mut counts = Self::default();
        let mut seen = 0;
        // What cannot be walked counts nothing; the walk of the whole tree has warned of it.
        let _ = tree.walk(directory, &mut |path, kind| {
            seen += 1;
            if seen > MAX_COUNTED_FILES {
                counts.is_cut = true;
                return Walk::Stop;
            }
            if kind == FileKind::Directory {
                let name = path::file_name(path);
                return if name == super::MODULES || name == b".git" {
                    Walk::SkipDirectory
                } else {
                    Walk::Continue
                };
            }
            counts.add(path, &entries);
            Walk::Continue
        });
        counts
    }

    /// The same for the members of an archive.
    pub fn of_names<'n>(
        names: impl Iterator<Item = &'n [u8]>,
        directory: &[u8],
        manifest: &Manifest,
    ) -> Self {
        let entries = entry_paths(directory, manifest);
        let mut counts = Self::default();
        names.for_each(|name| counts.add(name, &entries));
        counts
    }

    fn add(&mut self, path: &[u8], entries: &[Vec<u8>]) {
        let (directory, name) = path::split(path);
        let extension = memchr::memrchr(b'.', name).map_or(&b""[..], |dot| &name[dot + 1..]);
        match extension {
            b"js" | b"mjs" | b"cjs" | b"node" => self.modules += 1,
            b"wasm" => self.web_assembly += 1,
            _ if entries.iter().any(|entry| entry == path) => self.modules += 1,
            b"json" if name != super::MANIFEST => {
                self.data_modules += 1;
                self.settings += u64::from(NODE_SETTINGS.contains(&name));
            }
            b"ts" | b"mts" | b"cts" => self.type_declarations += 1,
            _ if is_shared_library(name) => self.libraries += 1,
            b"" | b"exe" if path::file_name(directory) == b"bin" => self.programs += 1,
            _ => {}
        }
    }

    pub fn loadable(&self) -> u64 {
        self.modules + self.web_assembly + self.data_modules + self.libraries + self.programs
    }

    /// The probes that would see every kind of use of these files. A probe that would miss one must not stand here: it
    /// could not tell that the package is unused.
    pub fn observable_by(&self) -> Vec<&'static str> {
        let mut probes = Vec::new();
        let has_seen_data = self.data_modules > 0 && self.settings == 0;
        if self.modules + self.web_assembly + self.libraries + self.programs > 0 || has_seen_data {
            probes.push(probe::EBPF_FILES);
        }
        // Of what was not looked at nothing is known.
        let only_others = self.modules == 0 && self.programs + self.web_assembly > 0;
        let is_seen_inside = !self.is_cut && self.libraries == 0 && !only_others;
        if self.modules + self.data_modules > 0 && is_seen_inside {
            probes.push(probe::NODE_MODULE);
        }
        if self.loadable() == self.libraries && self.libraries > 0 && !self.is_cut {
            probes.push(probe::LD_AUDIT);
        }
        probes
    }

    pub fn not_measurable_reason(&self) -> &'static str {
        match self {
            _ if self.loadable() > 0 => "",
            Self { type_declarations: 1.., .. } => not_measurable::ONLY_TYPES,
            _ => not_measurable::NO_LOADABLE_FILE,
        }
    }
}

/// The files of the programs and the main module.
fn entry_paths(directory: &[u8], manifest: &Manifest) -> Vec<Vec<u8>> {
    let files = manifest.entry_files.iter();
    files.map(|file| path::normalize_from(directory, file.trim_start_matches('/').as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[&str], count: u64, probes: &str) {
        let mut counts = Counts::default();
        files.iter().for_each(|file| counts.add(file.as_bytes(), &[b"x/main".to_vec()]));
        assert_eq!(
            (counts.loadable(), counts.observable_by().join(",")),
            (count, probes.to_owned()),
            "{files:?}"
        );
        assert_eq!(counts.not_measurable_reason().is_empty(), count > 0, "{files:?}");
    }

    #[test]
    fn what_can_be_seen() {
        check(&["x/index.js", "x/package.json", "x/a.json"], 2, "ebpf-files,node-module");
        check(&["x/index.js", "x/x.wasm"], 2, "ebpf-files,node-module");
        check(&["x/x.wasm", "x/a.json", "x/package.json"], 2, "ebpf-files");
        check(&["x/x.wasm"], 1, "ebpf-files");
        check(&["x/build/Release/addon.node"], 1, "ebpf-files,node-module");
        check(&["x/main", "x/readme"], 1, "ebpf-files,node-module");
        check(&["x/data/a.json", "x/package.json"], 1, "ebpf-files,node-module");
        check(&["x/tsconfig.json", "x/a.json", "x/package.json"], 2, "node-module");
        check(&["x/index.d.ts", "x/package.json"], 0, "");
        check(&["x/style.css"], 0, "");
        check(&["x/bin/esbuild"], 1, "ebpf-files");
        check(&["x/index.js", "x/lib/libvips.so.42"], 2, "ebpf-files");
        check(&["x/lib/libvips.so.42"], 1, "ebpf-files,ld-audit");
    }
}
