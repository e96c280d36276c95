//! What a look into one program or script finds: a native image, an interpreter with packages in it, a bundle.
//! It must never read more of a file than the bounds below say, nor anything that is not regular.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use super::bundle::{self, Made};
use super::elf::Elf;
use super::{Unmeasurable, may_be_bundle, python};
use crate::hooks::language::Language;

/// Most that is read of a script's begin, in bytes.
pub const HEAD_MAX_BYTES: u64 = 256 << 10;
/// Most that is read of its end, in bytes.
pub const TAIL_MAX_BYTES: u64 = 4 << 10;

/// Section of a native image that holds its heap (GraalVM, also after `strip`).
const NATIVE_IMAGE_SECTION: &[u8] = b".svm_heap";
/// Symbol that each program with Node.js, Bun or Deno in it offers to addons (Node-API).
const NODE_SYMBOL: &str = "napi_module_register";
/// Symbols that programs with these interpreters in them offer to extensions, and what such programs are made by.
const LINKED: &[(Language, &str, &str)] = &[
    (Language::Ruby, "rb_define_method", "Ruby linked into it"),
    (Language::Php, "zend_parse_parameters", "PHP linked into it (FrankenPHP, static-php)"),
];

/// What a look into a program or a script found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Packages in it cannot be measured.
    Hidden(Unmeasurable),
    /// A script that needs no other file: if no package was loaded, it may hold them.
    Alone(Unmeasurable),
}

/// Looks into a program for a native image's heap, or for an interpreter, and into a script for the marks of a bundler.
pub fn of_file(opened: File, path: &[u8]) -> Option<Found> {
    let metadata = opened.metadata().ok().filter(std::fs::Metadata::is_file)?;
    if may_be_bundle(path) { of_script(opened, &metadata, path) } else { of_program(&opened, path) }
}

fn of_program(opened: &File, path: &[u8]) -> Option<Found> {
    let program = Elf::open(opened)?;
    let place = String::from_utf8_lossy(path);
    if program.has_section(NATIVE_IMAGE_SECTION) {
        let reason = format!(
            "/{place} is a native image of GraalVM: its classes were compiled into the program, where no probe sees them; \
             run the application on a JVM under observation"
        );
        return Some(Found::Hidden(Unmeasurable { ecosystem: "maven", reason }));
    }
    if let Some(found) = python::of_program(&program, path) {
        return Some(Found::Hidden(found));
    }
    let own = Language::of_program(path);
    let linked = LINKED.iter().find(|(language, symbol, _)| own != Some(*language) && program.offers(symbol));
    if let Some((language, _, what)) = linked {
        let reason = format!(
            "/{place} has {what}, and may carry the packages too, where no probe sees them; run the application's files \
             on the interpreter's own program under observation"
        );
        return Some(Found::Hidden(Unmeasurable { ecosystem: language.ecosystem(), reason }));
    }
    let is_runtime = own == Some(Language::Node);
    (!is_runtime && program.offers(NODE_SYMBOL)).then(|| {
        let reason = format!(
            "/{place} carries a JavaScript runtime (a single executable application, pkg, nexe, Electron), and may carry \
             the packages too, where no probe sees them; run the application's files on Node.js under observation"
        );
        Found::Hidden(Unmeasurable { ecosystem: "npm", reason })
    })
}

fn of_script(mut opened: File, metadata: &std::fs::Metadata, path: &[u8]) -> Option<Found> {
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    opened.by_ref().take(HEAD_MAX_BYTES).read_to_end(&mut head).ok()?;
    if metadata.len() > HEAD_MAX_BYTES {
        opened.seek(SeekFrom::Start(metadata.len() - TAIL_MAX_BYTES)).ok()?;
        opened.take(TAIL_MAX_BYTES).read_to_end(&mut tail).ok()?;
    }
    let place = String::from_utf8_lossy(path);
    let unmeasurable = |reason| Unmeasurable { ecosystem: "npm", reason };
    let remedy = "run the application without bundling its packages (as externals) under observation";
    match bundle::judge(&head, &tail) {
        Made::By(bundler) => Some(Found::Hidden(unmeasurable(format!(
            "/{place} was made by {bundler} of modules that are not files any more, where no probe sees them; {remedy}"
        )))),
        Made::Minified => Some(Found::Hidden(unmeasurable(format!(
            "/{place} is as dense as minifiers and bundlers write: packages in it would be no files any more, where no \
             probe sees them; {remedy}, or format the file if it is no bundle"
        )))),
        Made::Alone => Some(Found::Alone(unmeasurable(format!(
            "no package was loaded, and /{place} needs no other file: it may be a bundle that holds them, where no probe \
             sees them; {remedy}"
        )))),
        Made::AsOneOfMany => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_looked_into() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("main.js");
        let long = format!("{}\n// @bun", " ".repeat(300_000));
        let alone = "function add(first, second) {\n  return first + second;\n}\n".repeat(100);
        let dense = "const a=require('a');module.exports=(b,c)=>a(b,c)||a(c,b);".repeat(5);
        for (text, expected) in [
            ("const express = require('express');\n", None),
            (&dense, Some("format the file if it is no bundle")),
            ("/******/ (() => { // webpackBootstrap\n", Some("made by webpack")),
            (&long, Some("made by Bun")),
            (&alone, Some("no package was loaded")),
            ("", None),
        ] {
            std::fs::write(&file, text).unwrap();
            let found = of_file(File::open(&file).unwrap(), b"app/main.js");
            let says = |text: &str| match &found {
                Some(Found::Hidden(found) | Found::Alone(found)) => found.reason.contains(text),
                None => false,
            };
            assert_eq!(found.is_some(), expected.is_some(), "{text:.60}");
            assert!(expected.is_none_or(says), "{text:.60}: {found:?}");
        }
        assert_eq!(of_file(File::open(directory.path()).unwrap(), b"x.js"), None);
    }

    #[test]
    fn programs_are_looked_into() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("app");
        let check = |declared: &str, path: &str, damage: fn(&mut Vec<u8>), expected: Option<&str>| {
            let code = directory.path().join("app.c");
            std::fs::write(&code, format!("{declared}; int main(void) {{ return 0; }}")).unwrap();
            let built = std::process::Command::new("cc")
                .args(["-s", "-rdynamic", "-Wl,--hash-style=gnu"])
                .arg(&code)
                .arg("-o")
                .arg(&file)
                .status();
            assert!(built.unwrap().success());
            let mut bytes = std::fs::read(&file).unwrap();
            damage(&mut bytes);
            std::fs::write(&file, bytes).unwrap();
            let found = match of_file(File::open(&file).unwrap(), path.as_bytes()) {
                Some(Found::Hidden(found)) => Some(found.key()),
                _ => None,
            };
            assert_eq!(found.as_deref(), expected, "{declared} {path}");
        };
        let heap = "__attribute__((section(\".svm_heap\"))) int heap = 1";
        let maven = Some("not-measurable:maven");
        check(heap, "opt/app", |_| {}, maven);
        check("__attribute__((section(\".other\"))) int heap = 1", "opt/app", |_| {}, None);
        check(heap, "opt/app", |bytes| bytes.truncate(100), None);
        check(heap, "opt/app", |bytes| bytes[40..48].fill(0xff), None);
        check(heap, "opt/app", |bytes| bytes[58..64].fill(0xff), None);
        let addons = "int a(void) { return 1; } void napi_module_register(void) {} void napi_b(void) {}";
        check(addons, "opt/server", |_| {}, Some("not-measurable:npm"));
        check(addons, "usr/bin/node", |_| {}, None);
        check(addons, "opt/node_modules/bun/bin/bun.exe", |_| {}, None);
        check("void napi_module_registered(void) {}", "opt/server", |_| {}, None);
        check("void rb_define_method(void) {}", "opt/server", |_| {}, Some("not-measurable:gem"));
        check("void rb_define_method(void) {}", "usr/bin/ruby3.1", |_| {}, None);
        check(
            "void zend_parse_parameters(void) {}",
            "opt/phpserver",
            |_| {},
            Some("not-measurable:composer"),
        );
        check("void zend_parse_parameters(void) {}", "usr/bin/php8.2", |_| {}, None);
        // A name that begins as an interpreter's does.
        let python = "void PyModule_Create2(void) {}";
        check(python, "opt/pythonapp", |_| {}, Some("not-measurable:pypi"));
        check(python, "usr/bin/python3.11-dbg", |_| {}, None);
    }
}
