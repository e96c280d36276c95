//! Who reads decides: sources are modules to what carries an interpreter of their language, and data to all others.
//! Real programs under real eBPF; without it nothing of this is told.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::support;
use super::support::languages::{Measured, Way, compile, measure, program, set, with_python, write};
use super::support::servers::{free_port, get, serve};

/// Sources of packages, and a bundle. None of them runs by itself.
const BUNDLE: &str = "dist/main.js";
const FILES: &[(&str, &str)] = &[
    ("lib/site-packages/pack/core.py", "value = 1\n"),
    ("gems/pack-1.0/lib/pack.rb", "VALUE = 1\n"),
    ("vendor/acme/pack/src/Pack.php", "<?php return 1;\n"),
    ("node_modules/pack/index.js", "module.exports = 1;\n"),
    ("node_modules/pack/module.mjs", "export default 1;\n"),
    ("node_modules/pack/common.cjs", "module.exports = 1;\n"),
    (BUNDLE, "/******/ (() => { // webpackBootstrap\nvar __webpack_modules__ = {};\n/******/ })();\n"),
];

/// What programs unpacked, and what runtimes keep: where it runs from there, no probe knows whose it is.
const UNPACKED: &[(&str, &str)] = &[
    ("frozen/_internal/base_library.zip", "PK"),
    ("tmp/_MEIab12Cd/libpython3.11.so.1.0", ""),
    (".bun/install/cache/pack@1.0.0/index.js", "module.exports = 1;\n"),
    ("pex/installed_wheels/0/pack.whl/core.py", "value = 1\n"),
];

/// Reads what it is given, as a backup does.
const READER: &str = r#"
#include <fcntl.h>
#include <unistd.h>
int main(int count, char **names)
{
	char bytes[4096];
	for (int i = 1; i < count; i++) {
		int file = open(names[i], O_RDONLY);
		if (file < 0)
			return 1;
		while (read(file, bytes, sizeof(bytes)) > 0)
			;
		close(file);
	}
	return 0;
}
"#;

/// Names of the sources, with those of one language left out.
fn sources(without: &[&str]) -> Vec<&'static str> {
    let names = FILES.iter().map(|(name, _)| *name);
    names.filter(|name| !without.iter().any(|ending| name.ends_with(ending))).collect()
}

/// What was read as data of these.
fn read_of(measured: &Measured) -> BTreeSet<String> {
    let root = fs::canonicalize(measured.root()).unwrap();
    let read = support::languages::below(&root, measured.paths("file"));
    read.into_iter().filter(|path| FILES.iter().any(|(name, _)| name == path)).collect()
}

fn loaded_of(measured: &Measured) -> BTreeSet<String> {
    measured.modules().into_iter().filter(|path| FILES.iter().any(|(name, _)| name == path)).collect()
}

fn assert_only_read(who: &str, measured: &Measured, names: &[&str]) {
    assert_eq!((loaded_of(measured), read_of(measured)), (set(&[]), set(names)), "{who}");
    let said = measured.workload().unavailable_probes;
    assert!(!said.keys().any(|key| key.starts_with("not-measurable:")), "{who}: {said:?}");
}

/// An application of some sources and a bundle; `None` (said why) without eBPF.
fn application() -> Option<tempfile::TempDir> {
    if support::no_ebpf().is_some() {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), FILES);
    Some(directory)
}

#[test]
fn sources_are_data_to_what_interprets_none_of_them() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    let reader = compile(root, "backup", READER, &[]);
    // A name that begins as an interpreter's does.
    let named = root.join("pythonapp");
    fs::copy(&reader, &named).unwrap();
    write(root, UNPACKED);
    let (sources, unpacked) = (sources(&[]), UNPACKED.iter().map(|(name, _)| *name));
    let all: Vec<_> = sources.iter().copied().chain(unpacked).collect();
    let with = |program: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words);
        command
    };
    for command in [
        with(&reader, &all),
        with(&named, &all),
        with(Path::new("tar"), &[&["-cf", "copy.tar"][..], &all].concat()),
        with(Path::new("sha256sum"), &all),
        with(Path::new("cp"), &[&["--parents"][..], &all, &["copy/"]].concat()),
    ] {
        fs::create_dir_all(root.join("copy")).unwrap();
        let who = format!("{command:?}");
        assert_only_read(&who, &measure(Way::Ebpf, root, vec![command]), &sources);
        fs::remove_dir_all(root.join("copy")).unwrap();
    }
}

#[test]
fn sources_are_data_to_interpreters_of_other_languages() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    let check = |who: &str, own: &[&str], words: &[&str]| {
        let names = sources(own);
        let mut command = match who {
            "python3" => support::python(),
            _ => {
                let Some(found) = program(who, &format!("apt install {who}")) else { return };
                Command::new(found)
            }
        };
        command.args(words).args(&names);
        assert_only_read(who, &measure(Way::Ebpf, root, vec![command]), &names);
    };
    check("python3", &[".py"], &["-c", "import sys; [open(name).read() for name in sys.argv[1:]]"]);
    check("ruby", &[".rb"], &["-e", "ARGV.each { |name| File.read(name) }"]);
    check(
        "php",
        &[".php"],
        &["-r", "foreach (array_slice($argv, 1) as $name) file_get_contents($name);", "--"],
    );
    let script = "process.argv.slice(1).forEach((name) => require('fs').readFileSync(name))";
    check("node", &["js"], &["-e", script, "--"]);
}

#[test]
fn a_bundle_that_is_served_to_browsers_does_not_run_here() {
    let Some(directory) = application() else { return };
    let root = directory.path();
    let port = free_port();
    let mut command = support::python();
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
    let mut served = vec![BUNDLE];
    served.extend(sources(&[".py", BUNDLE]));
    let measured = serve(Way::Ebpf, root, command, Signal::TERM, |server| {
        for path in &served {
            let answer = get(port, &format!("/{path}"), server);
            assert!(answer.contains("200 OK"), "{path}: {answer}");
        }
    });
    assert_only_read("http.server", &measured, &served);
    // Where a JavaScript runtime reads it, it may run.
    if program("node", "apt install nodejs").is_some() {
        let mut node = Command::new("node");
        node.arg(BUNDLE);
        let said = measure(Way::Ebpf, root, vec![node]).workload().unavailable_probes;
        assert!(said.contains_key("not-measurable:npm"), "{said:?}");
    }
}

/// Python's shared library, among the flags for its use.
fn library_of(flags: &[String]) -> String {
    let of = |option: &str| flags.iter().find_map(|flag| flag.strip_prefix(option)).unwrap();
    format!("{}/lib{}.so", of("-L"), of("-l"))
}

/// A program that runs a line of Python.
fn embedding(root: &Path, name: &str, flags: &[String], line: &str) -> PathBuf {
    let code = format!(
        "#include <Python.h>\nint main(void) {{ Py_Initialize(); PyRun_SimpleString(\"{line}\"); Py_Finalize(); return 0; }}\n"
    );
    compile(root, name, &code, flags)
}

#[test]
fn what_carries_python_loads_python_and_reads_the_rest() {
    let Some(directory) = application() else { return };
    let Some(flags) = with_python() else { return };
    let root = directory.path();
    let others = sources(&[".py"]);
    let line = format!(
        "import sys; sys.path.insert(0, 'lib/site-packages'); import pack.core; [open(name).read() for name in {others:?}]"
    )
    .replace('"', "'");
    // The second begins as an interpreter's name does, and is judged only once it has mapped the library.
    for name in ["server", "pythonapp"] {
        let server = embedding(root, name, &flags, &line);
        let measured = measure(Way::Ebpf, root, vec![Command::new(server)]);
        let loaded: BTreeSet<_> =
            measured.modules().into_iter().filter(|path| path.contains("/pack/")).collect();
        assert!(loaded.contains("lib/site-packages/pack/core.py"), "{name}: {loaded:?}");
        assert_eq!(read_of(&measured), set(&others), "{name}");
        let said = measured.workload().unavailable_probes;
        assert!(!said.keys().any(|key| key.starts_with("not-measurable:")), "{name}: {said:?}");
    }
}

/// As PyCall does.
#[test]
fn an_interpreter_that_carries_another_loads_both() {
    let Some(directory) = application() else { return };
    let (Some(flags), Some(ruby)) = (with_python(), program("ruby", "apt install ruby")) else { return };
    let root = directory.path();
    let script = format!(
        "require 'fiddle'; python = Fiddle.dlopen('{}'); require './gems/pack-1.0/lib/pack'\n\
         Fiddle::Function.new(python['Py_Initialize'], [], Fiddle::TYPE_VOID).call\n\
         run = Fiddle::Function.new(python['PyRun_SimpleString'], [Fiddle::TYPE_VOIDP], Fiddle::TYPE_INT)\n\
         exit run.call(\"import sys; sys.path.insert(0, 'lib/site-packages'); import pack.core; \
         open('vendor/acme/pack/src/Pack.php').read()\") == 0\n",
        library_of(&flags)
    );
    let mut command = Command::new(ruby);
    command.args(["-e", &script]);
    let measured = measure(Way::Ebpf, root, vec![command]);
    let expected = ["gems/pack-1.0/lib/pack.rb", "lib/site-packages/pack/core.py"];
    assert_eq!(loaded_of(&measured), set(&expected));
    assert_eq!(read_of(&measured), set(&["vendor/acme/pack/src/Pack.php"]));
}

#[test]
fn a_frozen_program_is_noticed_beside_others_that_carry_python() {
    let Some(directory) = application() else { return };
    let Some(flags) = with_python() else { return };
    let root = directory.path();
    let line = "import sys; sys.path.insert(0, 'lib/site-packages'); import pack.core";
    let server = embedding(root, "server", &flags, line);
    let again = embedding(root, "again", &flags, line);
    // All of Python's interface and no start of it stands for one whose modules are inside, as Nuitka's are.
    let code = "#include <Python.h>\nint main(void) { puts(Py_GetVersion()); return 0; }\n";
    let frozen = compile(root, "frozen", code, &flags);
    let named = root.join("pythonapp");
    fs::copy(&frozen, &named).unwrap();
    let run = |programs: &[&PathBuf]| {
        let commands = programs.iter().map(Command::new).collect();
        let measured = measure(Way::Ebpf, root, commands);
        measured.workload().unavailable_probes.get("not-measurable:pypi").cloned().unwrap_or_default()
    };
    assert_eq!(run(&[&server, &again, &server]), "", "each of them starts Python from files");
    for frozen in [&frozen, &named] {
        let name = frozen.file_name().unwrap().to_str().unwrap();
        for order in [[&server, frozen, &again], [frozen, &server, &again], [&server, &again, frozen]] {
            let reason = run(&order);
            assert!(reason.contains(&format!("/{name} carries Python")), "{order:?}: {reason:?}");
        }
    }
}

/// Code by other names than the language's own: scripts of programs are loaded, and of the rest it is told that it may be
/// code. What is data by its name, and what tools read, is neither.
#[test]
fn what_may_be_code_is_told_from_data() {
    type Words = &'static [&'static str];
    const CASES: &[(&str, Words, Words, Words, Words)] = &[
        (
            "python3",
            &["-c", "import sys; [open(name).read() for name in sys.argv[1:]]"],
            &["venv/bin/tool", "pack/run.pyw"],
            &["pack/task", "pack/conf.tmpl"],
            &["pack/data.csv", "pack/LICENSE", "pack/a.pth", "pack/error.html"],
        ),
        (
            "node",
            &["-e", "process.argv.slice(1).forEach((name) => require('fs').readFileSync(name))", "--"],
            &["node_modules/.bin/tool", "node_modules/a/src/i.es6"],
            &["node_modules/a/lib/run", "node_modules/a/cli"],
            &["node_modules/a/logo.PNG", "node_modules/a/package.json", "node_modules/a/README"],
        ),
        (
            "ruby",
            &["-e", "ARGV.each { |name| File.read(name) }"],
            &["gems/a-1/exe/tool"],
            &["gems/a-1/lib/tasks/deploy.thor", "gems/a-1/views/a.erb", "gems/a-1/lib/Runfile"],
            &["gems/a-1/a.gemspec", "gems/a-1/sig/a.rbs", "gems/a-1/app.css"],
        ),
        (
            "php",
            &["-r", "foreach (array_slice($argv, 1) as $name) file_get_contents($name);", "--"],
            &["vendor/bin/tool"],
            &["vendor/a/a/templates/error.html", "vendor/a/a/x.class", "vendor/a/a/a.tpl"],
            &["vendor/a/a/composer.json", "vendor/a/a/app.js", "vendor/a/a/a.xml"],
        ),
    ];
    if support::no_ebpf().is_some() {
        return;
    }
    for (who, words, loaded, may_be_code, data) in CASES {
        let directory = tempfile::tempdir().unwrap();
        let names: Vec<&str> = [*loaded, *may_be_code, *data].concat();
        write(directory.path(), &names.iter().map(|name| (*name, "1\n")).collect::<Vec<_>>());
        let mut command = match *who {
            "python3" => support::python(),
            _ => {
                let Some(found) = program(who, &format!("apt install {who}")) else { continue };
                Command::new(found)
            }
        };
        command.args(*words).args(&names);
        let measured = measure(Way::Ebpf, directory.path(), vec![command]);
        let told = |kind: &str, rung: &str| -> BTreeSet<String> {
            let items = measured.collected.items().into_iter().map(|(_, item)| item);
            let told = items.filter(|item| item.kind == kind && item.rung == rung);
            let paths = told.map(|item| String::from_utf8(item.path).unwrap());
            paths.filter(|path| names.contains(&path.as_str())).collect()
        };
        assert_eq!(told("module", "loaded"), set(loaded), "{who}");
        assert_eq!(told("module", "accessed"), set(may_be_code), "{who}");
        assert_eq!(told("file", "accessed"), set(data), "{who}");
    }
}
