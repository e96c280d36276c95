//! Programs that run others in a way of their own: the dynamic linker, what is executed from memory, emulators. Packages
//! that they use are told, or said not to be measured. Real programs; most under real eBPF.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::support;
use super::support::languages::{Measured, Way, compile, measure, program, set, write};

const FILES: &[(&str, &str)] = &[
    ("lib/site-packages/pack/core.py", "value = 1\n"),
    ("gems/pack-1.0/lib/pack.rb", "VALUE = 1\n"),
    ("vendor/acme/pack/src/Pack.php", "<?php return 1;\n"),
    ("node_modules/pack/index.js", "module.exports = 1;\n"),
];

/// Each interpreter with what loads its package, and the package's file.
const LOADS: &[(&str, &[&str], &str)] = &[
    (
        "python3",
        &["-c", "import sys; sys.path.insert(0, 'lib/site-packages'); import pack.core"],
        "lib/site-packages/pack/core.py",
    ),
    ("ruby", &["-e", "require './gems/pack-1.0/lib/pack'"], "gems/pack-1.0/lib/pack.rb"),
    ("php", &["-r", "require 'vendor/acme/pack/src/Pack.php';"], "vendor/acme/pack/src/Pack.php"),
    ("node", &["-e", "require('./node_modules/pack')"], "node_modules/pack/index.js"),
];

const ECOSYSTEMS: &[&str] = &["pypi", "npm", "gem", "composer", "maven", "golang", "cargo"];

fn application() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), FILES);
    directory
}

fn dynamic_linker() -> PathBuf {
    let places = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    places.into_iter().map(PathBuf::from).find(|path| path.exists()).unwrap()
}

/// The interpreter's own program; `None` (said why) without it.
fn interpreter(name: &str) -> Option<PathBuf> {
    match name {
        "python3" => Some(fs::canonicalize(support::python().get_program()).unwrap()),
        _ => program(name, &format!("apt install {name}")).map(|path| fs::canonicalize(path).unwrap()),
    }
}

fn not_measurable(measured: &Measured) -> Vec<&'static str> {
    let said = measured.workload().unavailable_probes;
    let is_said = |ecosystem: &&&str| said.contains_key(&format!("not-measurable:{ecosystem}"));
    ECOSYSTEMS.iter().filter(is_said).copied().collect()
}

#[test]
fn what_the_dynamic_linker_runs_loads_its_modules() {
    if support::no_ebpf().is_some() {
        return;
    }
    let directory = application();
    // Bundles bring one of their own, under a name of its own.
    let renamed = directory.path().join("loader");
    fs::copy(dynamic_linker(), &renamed).unwrap();
    for linker in [dynamic_linker(), renamed] {
        let mut expected = Vec::new();
        let mut commands = Vec::new();
        for (name, words, loaded) in LOADS {
            let Some(program) = interpreter(name) else { continue };
            let mut command = Command::new(&linker);
            command.args(["--argv0".as_ref(), program.as_os_str(), program.as_os_str()]).args(*words);
            commands.push(command);
            expected.push(*loaded);
        }
        let measured = measure(Way::Ebpf, directory.path(), commands);
        let loaded = measured.modules().into_iter().filter(|path| FILES.iter().any(|(name, _)| name == path));
        assert_eq!(loaded.collect::<std::collections::BTreeSet<_>>(), set(&expected), "{linker:?}");
        assert_eq!(not_measurable(&measured), [""; 0], "{linker:?}");
    }
}

#[test]
fn what_the_dynamic_linker_runs_is_looked_into() {
    if support::no_ebpf().is_some() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let code = "__attribute__((section(\".svm_heap\"))) int heap = 1; int main(void) { return 0; }";
    let image = compile(directory.path(), "app", code, &[]);
    let mut command = Command::new(dynamic_linker());
    command.arg(image);
    assert_eq!(not_measurable(&measure(Way::Ebpf, directory.path(), vec![command])), ["maven"]);
}

#[test]
fn hooks_miss_a_python_that_the_dynamic_linker_runs_isolated() {
    let directory = application();
    let (name, words, _) = LOADS[0];
    let mut plain = support::python();
    plain.args(words);
    let mut isolated = Command::new(dynamic_linker());
    isolated.arg(interpreter(name).unwrap()).arg("-I").args(words);
    let lost = |commands| measure(Way::Hooks, directory.path(), commands).lost("python-import");
    assert_eq!(lost(vec![plain]), 0);
    let mut plain = support::python();
    plain.args(words);
    assert_eq!(lost(vec![plain, isolated]), 1);
}

#[test]
fn emulators_and_programs_in_memory_are_not_measured() {
    if support::no_ebpf().is_some() {
        return;
    }
    let directory = application();
    let root = directory.path();
    let check = |command: Command, says: &str| {
        let measured = measure(Way::Ebpf, root, vec![command]);
        assert_eq!(not_measurable(&measured), ECOSYSTEMS, "{says}");
        for ecosystem in ECOSYSTEMS {
            let reason = &measured.workload().unavailable_probes[&format!("not-measurable:{ecosystem}")];
            assert!(reason.contains(says), "{reason}");
        }
    };
    // Its name is what tells: it reads its guest's files as data, as this does.
    let emulator = root.join("qemu-aarch64-static");
    fs::copy("/bin/cat", &emulator).unwrap();
    let mut emulated = Command::new(&emulator);
    emulated.args([FILES[0].0]);
    check(emulated, "qemu-aarch64-static emulates another processor");

    let copied = "import os, sys; memory = os.memfd_create('x'); os.write(memory, open(sys.argv[1], 'rb').read()); \
                  os.execve(memory, ['worker'] + sys.argv[2:], dict(os.environ))";
    let python = interpreter("python3").unwrap();
    let mut from_memory = support::python();
    from_memory.args(["-c", copied]).arg(&python).args(LOADS[0].1);
    check(from_memory, "executed from memory (as worker)");
}
