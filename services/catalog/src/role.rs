//! What a path is within its package, judged by its name alone: code, data, metadata or documentation.
//! Never opens the file; reads of documentation and metadata never count as use.

use crate::tree::path;
use plimsoll_schemas::words::path_role;
use serde::Serialize;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Code,
    Data,
    /// What package managers read: dist-info, dpkg's database.
    Metadata,
    Documentation,
}

impl Role {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => path_role::CODE,
            Self::Data => path_role::DATA,
            Self::Metadata => path_role::METADATA,
            Self::Documentation => path_role::DOCUMENTATION,
        }
    }

    /// Whether reading the path can be a use of its package.
    pub fn can_be_used(self) -> bool {
        matches!(self, Self::Code | Self::Data)
    }
}

/// Directories below any `share/` that hold documentation.
const DOCUMENTATION_DIRECTORIES: [&[u8]; 8] =
    [b"doc", b"man", b"info", b"lintian", b"doc-base", b"gtk-doc", b"help", b"bug"];
/// Directories whose files are meant to be executed.
const PROGRAM_DIRECTORIES: [&[u8]; 5] = [b"bin", b"sbin", b"libexec", b"games", b".bin"];
const CODE_EXTENSIONS: [&[u8]; 23] = [
    b"so", b"py", b"pyc", b"pyo", b"pyd", b"pl", b"pm", b"rb", b"js", b"mjs", b"cjs", b"node", b"php",
    b"jar", b"class", b"ko", b"lua", b"tcl", b"sh", b"el", b"elc", b"wasm", b"dll",
];

/// The role of `path`, relative to the root.
pub fn role_of(path: &[u8]) -> Role {
    if is_package_metadata(path) {
        return Role::Metadata;
    }
    if is_documentation(path) {
        return Role::Documentation;
    }
    let (directory, name) = path::split(path);
    if PROGRAM_DIRECTORIES.contains(&path::file_name(directory)) || is_code_name(name) {
        return Role::Code;
    }
    Role::Data
}

fn is_documentation(path: &[u8]) -> bool {
    let mut before: &[u8] = b"";
    for part in path::parent(path).split(|byte| *byte == b'/') {
        if before == b"share" && DOCUMENTATION_DIRECTORIES.contains(&part) {
            return true;
        }
        before = part;
    }
    false
}

/// What package managers, and runtimes that look for a package, read to learn about packages.
const METADATA_NAMES: [&[u8]; 22] = [
    b"package.json",
    b"package-lock.json",
    b".package-lock.json",
    b"npm-shrinkwrap.json",
    b"yarn.lock",
    b"pnpm-lock.yaml",
    b"pnpm-workspace.yaml",
    b".modules.yaml",
    b".yarn-integrity",
    b".yarn-state.yml",
    b"bower.json",
    b"composer.json",
    b"composer.lock",
    b"Gemfile",
    b"Gemfile.lock",
    b"gems.rb",
    b"gems.locked",
    b"Cargo.lock",
    b"go.sum",
    b"direct_url.json",
    b"vendor.txt",
    b"vendored.txt",
];

fn is_package_metadata(path: &[u8]) -> bool {
    if path.starts_with(b"var/lib/dpkg/") || is_metadata_name(path) {
        return true;
    }
    // Cheap test first: nearly no path holds one of these words.
    if memchr::memmem::find(path, b"-info").is_none() && memchr::memmem::find(path, b"-INFO").is_none() {
        return false;
    }
    path.split(|byte| *byte == b'/')
        .any(|part| part.ends_with(b".dist-info") || part.ends_with(b".egg-info") || part == b"EGG-INFO")
}

fn is_metadata_name(path: &[u8]) -> bool {
    let (directory, name) = path::split(path);
    METADATA_NAMES.contains(&name)
        || [b".gemspec".as_slice(), b".egg-link", b".pth"].iter().any(|end| name.ends_with(end))
        // Written by Composer beside its autoloader, which is code of the application.
        || (path::file_name(directory) == b"composer" && (name == b"installed.json" || name == b"installed.php"))
        || (path::file_name(directory) == b"build_info" && name.ends_with(b".info"))
        || (name.ends_with(b".reg") && memchr::memmem::find(directory, b"/.registry").is_some())
}

/// Whether a file of this name is code wherever it stands: by extension, or a versioned shared library.
pub(crate) fn is_code_name(name: &[u8]) -> bool {
    let extension = memchr::memrchr(b'.', name).map(|dot| &name[dot + 1..]);
    extension.is_some_and(|extension| CODE_EXTENSIONS.contains(&extension)) || is_shared_library(name)
}

/// `libz.so`, `libz.so.1.2`, `x.cpython-311-x86_64-linux-gnu.so`.
pub(crate) fn is_shared_library(name: &[u8]) -> bool {
    name.ends_with(b".so")
        || memchr::memmem::rfind(name, b".so.")
            .is_some_and(|at| name.get(at + 4).is_some_and(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expect: Role) {
        assert_eq!(role_of(path.as_bytes()), expect, "{path}");
    }

    #[test]
    fn roles() {
        check("usr/bin/ls", Role::Code);
        check("opt/venv/bin/flask", Role::Code);
        check("usr/lib/x86_64-linux-gnu/libz.so.1.2.13", Role::Code);
        check("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", Role::Code);
        check("usr/lib/python3/dist-packages/yaml/__init__.py", Role::Code);
        check("usr/share/perl5/Debconf/Log.pm", Role::Code);
        check("usr/share/zoneinfo/UTC", Role::Data);
        check("etc/ld.so.conf", Role::Data);
        check("etc/passwd", Role::Data);
        check("usr/share/doc/bash/copyright", Role::Documentation);
        check("usr/share/man/man1/ls.1.gz", Role::Documentation);
        check("venv/share/man/man1/x.1", Role::Documentation);
        check("usr/share/locale/de/LC_MESSAGES/dpkg.mo", Role::Data);
        check("a/site-packages/six-1.0.dist-info/RECORD", Role::Metadata);
        check("usr/lib/python3/dist-packages/crit-3.egg-info", Role::Metadata);
        check("var/lib/dpkg/info/bash.list", Role::Metadata);
        check("app/node_modules/a/package.json", Role::Metadata);
        check("app/node_modules/a/data.json", Role::Data);
        check("g/specifications/rack-2.2.4.gemspec", Role::Metadata);
        check("app/vendor/composer/installed.json", Role::Metadata);
        check("app/vendor/composer/installed.php", Role::Metadata);
        check("app/vendor/composer/autoload_real.php", Role::Code);
        check("a/site-packages/__editable__.x-1.pth", Role::Metadata);
    }

    /// What a look for packages reads is no use of them, whatever the tool; what only resembles it may be one.
    #[test]
    fn metadata_of_each_ecosystem() {
        for path in [
            "a/site-packages/six-1.0.dist-info/top_level.txt",
            "a/site-packages/six-1.0.dist-info/entry_points.txt",
            "a/site-packages/six-1.0-py3.11.egg/EGG-INFO/PKG-INFO",
            "a/site-packages/six.egg-info/SOURCES.txt",
            "a/site-packages/six.egg-link",
            "a/site-packages/pip/_vendor/vendor.txt",
            "app/package-lock.json",
            "app/node_modules/.package-lock.json",
            "app/npm-shrinkwrap.json",
            "app/node_modules/a/bower.json",
            "app/yarn.lock",
            "app/pnpm-lock.yaml",
            "app/pnpm-workspace.yaml",
            "app/node_modules/.modules.yaml",
            "app/node_modules/.yarn-integrity",
            "app/node_modules/.yarn-state.yml",
            "app/vendor/a/a/composer.json",
            "app/composer.lock",
            "app/Gemfile",
            "app/Gemfile.lock",
            "app/gems.rb",
            "app/gems.locked",
            "g/build_info/rack-2.2.4.info",
            "app/Cargo.lock",
            "app/go.sum",
            "usr/local/lib/php/.registry/.channel.pecl.php.net/redis.reg",
        ] {
            check(path, Role::Metadata);
        }
        for path in [
            "app/my-package.json",
            "app/installed.json",
            "app/node_modules/a/lib/vendor.json",
            "app/build_info/a.txt",
            "app/a.info",
            "etc/wine/user.reg",
            "app/dist-info/names",
            "app/EGG-INFORMATION/names",
        ] {
            check(path, Role::Data);
        }
        check("app/vendor/a/a/installed.php", Role::Code);
        check("app/my-egg-information/gems.py", Role::Code);
    }
}
