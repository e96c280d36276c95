//! The library loads anywhere: it needs nothing, and calls the JVM by the numbers that the JDK's own headers have.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

use std::path::{Path, PathBuf};
use std::process::Command;

fn readelf(library: &[u8], option: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), library).unwrap();
    let output = Command::new("readelf").args([option, "--wide"]).arg(file.path()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn needs_nothing_and_gives_three_functions() {
    let libraries = [plimsoll_jvmti::LIBRARY, plimsoll_jvmti::LIBRARY_32_BIT];
    for library in libraries.into_iter().filter(|library| !library.is_empty()) {
        check(library);
    }
}

fn check(library: &[u8]) {
    let readelf = |option| readelf(library, option);
    let dynamic = readelf("--dynamic");
    assert!(!dynamic.contains("NEEDED") && !dynamic.contains("VERNEED"), "{dynamic}");
    let symbols = readelf("--dyn-syms");
    // Number, value, size, type, bind, visibility, section, name.
    let mut named: Vec<[&str; 3]> = symbols
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 7 && words[0].starts_with(|letter: char| letter.is_ascii_digit()))
        .map(|words| [words[7], words[4], if words[6] == "UND" { "UND" } else { "here" }])
        .collect();
    named.sort_unstable();
    let functions = [
        ["Agent_OnAttach", "GLOBAL", "here"],
        ["Agent_OnLoad", "GLOBAL", "here"],
        ["Agent_OnUnload", "GLOBAL", "here"],
        // Of the JVM's library, where that lets its names be seen: the agent loads without it, too.
        ["JVM_GetProtectionDomain", "WEAK", "UND"],
    ];
    assert_eq!(named, functions, "{symbols}");
    let segments = readelf("--segments");
    assert!(!segments.contains("TLS") && !segments.contains("RWE"), "{segments}");
}

/// The include folder of a JDK; `None` (said so) without one. In CI there must be one.
fn headers() -> Option<PathBuf> {
    let named = std::env::var_os("JAVA_HOME").map(PathBuf::from);
    let installed = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let homes = named.into_iter().chain(installed.map(|entry| entry.path()));
    let found = homes.map(|home| home.join("include")).find(|include| include.join("jvmti.h").is_file());
    if found.is_none() {
        let lack =
            "no JDK with include/jvmti.h is in JAVA_HOME or /usr/lib/jvm (apt install default-jdk-headless)";
        assert!(std::env::var("CI").is_err(), "in CI this must run: {lack}");
        println!("skipped: {lack}");
    }
    found
}

/// Constants of jvm.h that begin so, with their values as they stand there.
fn constants(prefix: &str) -> Vec<(String, String)> {
    let text = include_str!("../src/jvm.h");
    let words = text.lines().filter_map(|line| {
        let mut words = line.strip_prefix("#define ")?.split_whitespace();
        let (name, value) = (words.next()?, words.next()?);
        Some((name.strip_prefix(prefix)?.to_owned(), value.to_owned()))
    });
    words.filter(|(_, value)| value.starts_with(|letter: char| letter.is_ascii_digit())).collect()
}

/// GET_CLASS_LOADER as GetClassLoader, with the names that are spelled otherwise.
fn camel(name: &str) -> String {
    let words = name.split('_').map(|word| match word {
        "UTF" | "ID" | "A" | "VM" => word.to_owned(),
        _ => word[..1].to_owned() + &word[1..].to_lowercase(),
    });
    words.collect()
}

#[test]
fn numbers_are_those_of_the_jdk() {
    let Some(include) = headers() else { return };
    let mut text = String::from("#include <stddef.h>\n#include <jvmti.h>\n");
    let mut count = 0;
    let mut check = |condition: String| {
        text.push_str(&format!("_Static_assert({condition}, \"{}\");\n", condition.replace('"', "")));
        count += 1;
    };
    for (name, number) in constants("JVMTI_") {
        match name.as_str() {
            "ENABLE" | "DISABLE" | "VERSION_1_2" => check(format!("JVMTI_{name} == {number}")),
            _ => check(format!(
                "offsetof(struct jvmtiInterface_1_, {}) == ({number} - 1) * sizeof(void *)",
                camel(&name)
            )),
        }
    }
    for (name, number) in constants("JNI_") {
        match name.as_str() {
            "OK" | "VERSION_1_6" => check(format!("JNI_{name} == {number}")),
            _ => check(format!(
                "offsetof(struct JNINativeInterface_, {}) == {number} * sizeof(void *)",
                camel(&name)
            )),
        }
    }
    for (name, number) in constants("EVENT_") {
        match name.as_str() {
            "FIRST" => check(format!("JVMTI_MIN_EVENT_TYPE_VAL == {number}")),
            "COUNT" => {}
            _ => {
                check(format!("JVMTI_EVENT_{name} == {number}"));
                let field = camel(&name);
                check(format!("offsetof(jvmtiEventCallbacks, {field}) == ({number} - 50) * sizeof(void *)"));
            }
        }
    }
    check("offsetof(struct JNIInvokeInterface_, GetEnv) == 6 * sizeof(void *)".to_owned());
    assert!(count > 35, "{count}");
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("numbers.c");
    std::fs::write(&source, text).unwrap();
    compile(&include, &source);
}

/// All that runs in other people's processes is compiled for arm64, too; nobody here could run it.
#[test]
fn compiles_for_arm64() {
    let folder = tempfile::tempdir().unwrap();
    for (source, only_checked) in [("src/agent.c", "agent.o"), ("../audit/src/audit.c", "audit.o")] {
        let mut compiler = Command::new("clang");
        compiler.args([
            "--target=aarch64-linux-gnu",
            "-std=c11",
            "-Os",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fPIC",
        ]);
        compiler.args([
            "-ffreestanding",
            "-fno-builtin",
            "-mno-outline-atomics",
            "-I../freestanding",
            "-c",
            source,
        ]);
        let output = compiler.arg("-o").arg(folder.path().join(only_checked)).output().unwrap();
        assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn compile(include: &Path, source: &Path) {
    let mut compiler = Command::new("cc");
    compiler.arg("-fsyntax-only").arg("-I").arg(include).arg("-I").arg(include.join("linux")).arg(source);
    let output = compiler.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
