//! Code that no probe can tell apart once it runs: bundles, frozen programs, caches that were filled before. Pure, but for
//! the reading of parts of one file.
//! It must never read more of a file than the bounds below say, nor anything that is not regular.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use plimsoll_schemas::words::probe;

/// Most that is read of a script's begin, in bytes.
pub const HEAD_MAX_BYTES: u64 = 64 << 10;
/// Most that is read of its end, in bytes.
pub const TAIL_MAX_BYTES: u64 = 4 << 10;

/// Most that is read of a program's table of sections, and of their names, in bytes each.
const SECTIONS_MAX_BYTES: usize = 64 << 10;
/// Section of a native image that holds its heap (GraalVM, also after `strip`).
const NATIVE_IMAGE_SECTION: &[u8] = b".svm_heap";

/// An ecosystem whose packages cannot be measured in a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmeasurable {
    /// As in `PackageRecord.ecosystem`.
    pub ecosystem: &'static str,
    /// The reason and the remedy.
    pub reason: String,
}

impl Unmeasurable {
    /// Its key among the probes that are not available.
    pub fn key(&self) -> String {
        format!("{}{}", probe::NOT_MEASURABLE_PREFIX, self.ecosystem)
    }
}

/// What a mapped or opened file's path gives away.
pub fn of_path(path: &[u8]) -> Option<Unmeasurable> {
    let bundle = path.split(|byte| *byte == b'/').any(is_pyinstaller_directory)
        || path.ends_with(b"/_internal/base_library.zip");
    bundle.then(|| Unmeasurable {
        ecosystem: "pypi",
        reason: format!(
            "a program made by PyInstaller ran (/{}): its Python modules are inside the program, where no probe sees \
             them; run the application from installed packages under observation",
            String::from_utf8_lossy(path)
        ),
    })
}

/// `_MEIab12Cd`: where a program of PyInstaller unpacks itself.
fn is_pyinstaller_directory(name: &[u8]) -> bool {
    name.strip_prefix(b"_MEI")
        .is_some_and(|rest| rest.len() >= 5 && rest.iter().all(u8::is_ascii_alphanumeric))
}

/// Packages of a language that a workload loaded from a volume: they hide, or stand in for, those of the image, so that
/// not seeing the image's own proves nothing.
pub fn of_volume(path: &[u8]) -> Option<Unmeasurable> {
    const DIRECTORIES: &[(&str, &str)] = &[
        ("/site-packages/", "pypi"),
        ("/dist-packages/", "pypi"),
        ("/node_modules/", "npm"),
        ("/gems/", "gem"),
        ("/vendor/composer/", "composer"),
    ];
    let rooted = [b"/", path].concat();
    let has = |part: &str| rooted.windows(part.len()).any(|window| window == part.as_bytes());
    let (_, ecosystem) = DIRECTORIES.iter().find(|(part, _)| has(part))?;
    Some(Unmeasurable {
        ecosystem,
        reason: format!(
            "packages were loaded from a volume (/{}), which is no part of the image; run it once without the volume, or \
             scan and run the volume's directory as a component",
            String::from_utf8_lossy(path)
        ),
    })
}

/// PHP was at work before it was watched.
pub fn php_before_the_watch(program: &str) -> Unmeasurable {
    Unmeasurable {
        ecosystem: "composer",
        reason: format!(
            "/{program} ran before it was watched, and OPcache does not read again what it holds; restart it while the \
             agent watches"
        ),
    }
}

/// Whether a script that Node.js loaded is to be looked at: packages by themselves are none of our matter.
pub fn may_be_bundle(path: &[u8]) -> bool {
    let script = [&b".js"[..], b".cjs", b".mjs"].iter().any(|ending| path.ends_with(ending));
    script && !path.windows(b"node_modules/".len()).any(|part| part == b"node_modules/")
}

/// A program or script that nobody could look into: it may be a native image or a bundle.
pub fn not_looked_at(path: &[u8]) -> Unmeasurable {
    let (ecosystem, what) =
        if may_be_bundle(path) { ("npm", "a bundle of packages") } else { ("maven", "a native image") };
    Unmeasurable {
        ecosystem,
        reason: format!(
            "/{} could not be looked into in time, and may be {what}, in which no probe sees them; run it once more \
             under observation, in smaller parts if it runs thousands of programs or scripts",
            String::from_utf8_lossy(path)
        ),
    }
}

/// Looks into a program for a native image's heap, and into a script for the mark of a bundler.
pub fn of_file(opened: File, path: &[u8]) -> Option<Unmeasurable> {
    let metadata = opened.metadata().ok().filter(std::fs::Metadata::is_file)?;
    if may_be_bundle(path) { of_script(opened, &metadata, path) } else { of_program(&opened, path) }
}

fn of_program(opened: &File, path: &[u8]) -> Option<Unmeasurable> {
    has_section(opened, NATIVE_IMAGE_SECTION).then(|| Unmeasurable {
        ecosystem: "maven",
        reason: format!(
            "/{} is a native image of GraalVM: its classes were compiled into the program, where no probe sees them; run \
             the application on a JVM under observation",
            String::from_utf8_lossy(path)
        ),
    })
}

/// Whether a 64-bit ELF file of this machine's byte order has a section of this name (System V ABI, chapter 4).
fn has_section(file: &File, name: &[u8]) -> bool {
    let read = |offset: u64, length: usize| -> Option<Vec<u8>> {
        let mut bytes = vec![0; length.min(SECTIONS_MAX_BYTES)];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    };
    let number = |bytes: &[u8], at: usize, length: usize| -> Option<u64> {
        let mut value = [0; 8];
        value[..length].copy_from_slice(bytes.get(at..at + length)?);
        Some(u64::from_le_bytes(value))
    };
    let names = || -> Option<Vec<u8>> {
        let header = read(0, 64).filter(|header| header.starts_with(b"\x7fELF\x02\x01"))?;
        let (table, size) = (number(&header, 40, 8)?, number(&header, 58, 2)?);
        let strings = number(&header, 62, 2)?;
        let entry = read(table.checked_add(strings.checked_mul(size)?)?, 64)?;
        read(number(&entry, 24, 8)?, usize::try_from(number(&entry, 32, 8)?).ok()?)
    };
    names().is_some_and(|names| names.split(|byte| *byte == 0).any(|one| one == name))
}

fn of_script(mut opened: File, metadata: &std::fs::Metadata, path: &[u8]) -> Option<Unmeasurable> {
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    opened.by_ref().take(HEAD_MAX_BYTES).read_to_end(&mut head).ok()?;
    if metadata.len() > HEAD_MAX_BYTES {
        opened.seek(SeekFrom::Start(metadata.len() - TAIL_MAX_BYTES)).ok()?;
        opened.take(TAIL_MAX_BYTES).read_to_end(&mut tail).ok()?;
    }
    let bundler = bundler_of(&head, &tail)?;
    Some(Unmeasurable {
        ecosystem: "npm",
        reason: format!(
            "/{} was made by {bundler} of modules that are not files any more, where no probe sees them; run the \
             application without bundling its packages (as externals) under observation",
            String::from_utf8_lossy(path)
        ),
    })
}

/// The bundler that left its mark in a script.
fn bundler_of(head: &[u8], tail: &[u8]) -> Option<&'static str> {
    const MARKS: &[(&str, &str)] = &[
        ("webpackBootstrap", "webpack"),
        ("__webpack_require__", "webpack"),
        ("__webpack_modules__", "webpack"),
        // Chunks, which have no bootstrap of their own.
        ("exports.modules=", "webpack"),
        ("exports.modules = {", "webpack"),
        ("webpackChunk", "webpack"),
        ("/*! For license information please see ", "webpack"),
        ("\n// node_modules/", "esbuild"),
        ("__commonJS = (cb", "esbuild"),
        ("__commonJS=(", "esbuild"),
        // The same helper minified: `var s=(r,e)=>()=>(e||r((e={exports:{}}).exports,e),e.exports)`.
        ("={exports:{}}).exports,", "esbuild"),
        ("function getDefaultExportFromCjs", "rollup"),
        ("parcelRequire", "Parcel"),
        ("// @bun", "Bun"),
    ];
    let has = |bytes: &[u8], mark: &str| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
    MARKS.iter().find(|(mark, _)| has(head, mark) || has(tail, mark)).map(|(_, bundler)| *bundler)
}

/// The source whose compiled form OPcache keeps in a file: `<directory>/<32 digits>/<path of the source>.bin`.
pub fn source_of_opcache_file(path: &[u8]) -> Option<&[u8]> {
    let source = path.strip_suffix(b".bin").filter(|source| source.ends_with(b".php"))?;
    let mut at = 0;
    for part in source.split(|byte| *byte == b'/') {
        at += part.len() + 1;
        if part.len() == 32 && part.iter().all(u8::is_ascii_hexdigit) {
            return source.get(at..);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_give_bundles_away() {
        for (path, expected) in [
            ("tmp/_MEIab12Cd/libpython3.11.so.1.0", true),
            ("tmp/_MEI/x", false),
            ("opt/app/_internal/base_library.zip", true),
            ("opt/app/base_library.zip", false),
            ("srv/_MEI-notes/x.py", false),
        ] {
            assert_eq!(of_path(path.as_bytes()).is_some(), expected, "{path}");
        }
    }

    #[test]
    fn volumes_with_packages() {
        for (path, expected) in [
            ("app/node_modules/a/index.js", Some("npm")),
            ("node_modules/a/index.js", Some("npm")),
            ("opt/venv/lib/python3.11/site-packages/yaml/__init__.py", Some("pypi")),
            ("var/lib/gems/3.1.0/gems/rack-2.0.0/lib/rack.rb", Some("gem")),
            ("var/www/html/vendor/composer/ClassLoader.php", Some("composer")),
            ("app/main.py", None),
            ("srv/my_node_modules/x.js", None),
        ] {
            let found = of_volume(path.as_bytes()).map(|found| found.ecosystem);
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn scripts_that_are_looked_at() {
        for (path, expected) in [
            ("app/dist/main.js", true),
            ("app/server.mjs", true),
            ("app/node_modules/a/dist/a.js", false),
            ("app/data.json", false),
        ] {
            assert_eq!(may_be_bundle(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn bundlers_leave_marks() {
        let long = format!("{}\n// @bun", " ".repeat(100_000));
        let directory = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("const express = require('express');\n", None),
            ("/******/ (() => { // webpackBootstrap\n", Some("webpack")),
            ("/*! For license information please see main.js.LICENSE.txt */\n(()=>{", Some("webpack")),
            ("var __commonJS = (cb, mod) => function __require() {", Some("esbuild")),
            ("\"use strict\";\n// node_modules/a/index.js\n", Some("esbuild")),
            (
                "var s=(r,e)=>()=>(e||r((e={exports:{}}).exports,e),e.exports);var a=s(()=>{});",
                Some("esbuild"),
            ),
            (
                "var f=(e,r)=>()=>{try{return r||e((r={exports:{}}).exports,r),r.exports}catch(s){}}",
                Some("esbuild"),
            ),
            ("exports.id=12,exports.ids=[12],exports.modules={7:(e,t,r)=>{}};", Some("webpack")),
            ("exports.id = 12;\nexports.ids = [12];\nexports.modules = {\n", Some("webpack")),
            ("(self.webpackChunkapp=self.webpackChunkapp||[]).push([[12],{}]);", Some("webpack")),
            ("module.exports={exports:{}};\n", None),
            ("var __toESM = (mod) => mod;\n", None),
            ("function getDefaultExportFromCjs (x) {", Some("rollup")),
            (&long, Some("Bun")),
            ("", None),
        ] {
            let file = directory.path().join("main.js");
            std::fs::write(&file, text).unwrap();
            let found = of_file(File::open(&file).unwrap(), b"app/main.js");
            let says = |bundler: &str| found.as_ref().is_some_and(|found| found.reason.contains(bundler));
            assert_eq!(found.is_some(), expected.is_some(), "{text:.60}");
            assert!(expected.is_none_or(says), "{text:.60}: {found:?}");
        }
        assert_eq!(of_file(File::open(directory.path()).unwrap(), b"x.js"), None);
    }

    #[test]
    fn native_images_have_a_heap_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("app");
        let check = |section: &str, damage: fn(&mut Vec<u8>), expected: bool| {
            let source = format!(
                "__attribute__((section(\"{section}\"))) int heap = 1; int main(void) {{ return heap - 1; }}"
            );
            let code = directory.path().join("app.c");
            std::fs::write(&code, source).unwrap();
            let built = std::process::Command::new("cc").arg("-s").arg(&code).arg("-o").arg(&file).status();
            assert!(built.unwrap().success());
            let mut bytes = std::fs::read(&file).unwrap();
            damage(&mut bytes);
            std::fs::write(&file, bytes).unwrap();
            let found = of_file(File::open(&file).unwrap(), b"opt/app");
            assert_eq!(found.is_some(), expected, "{section}");
            assert!(found.is_none_or(|found| found.key() == "not-measurable:maven"));
        };
        check(".svm_heap", |_| {}, true);
        check(".other", |_| {}, false);
        check(".svm_heap", |bytes| bytes.truncate(100), false);
        check(".svm_heap", |bytes| bytes[40..48].fill(0xff), false);
        check(".svm_heap", |bytes| bytes[58..64].fill(0xff), false);
    }

    #[test]
    fn files_of_opcache_name_their_sources() {
        let id = "0123456789abcdef0123456789abcdef";
        for (path, expected) in [
            (format!("var/cache/{id}/srv/app/a.php.bin"), Some("srv/app/a.php")),
            (format!("var/cache/{id}/srv/app/a.php"), None),
            ("var/cache/srv/app/a.php.bin".to_owned(), None),
            (format!("{id}/a.php.bin"), Some("a.php")),
        ] {
            let found = source_of_opcache_file(path.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{path}");
        }
    }
}
