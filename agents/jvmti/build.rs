//! Compiles the JVMTI agent: C without any library, so that one file loads on glibc from 2.17 on and on musl.

use std::env;
use std::path::PathBuf;

const OPTIONS: [&str; 20] = [
    "-std=c11",
    "-Os",
    "-g0",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-shared",
    "-nostdlib",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fvisibility=hidden",
    // Old linkers read one hash table, new ones the other.
    "-Wl,--hash-style=both",
    "-Wl,-z,now",
    "-Wl,-z,noexecstack",
    "-Wl,--no-undefined",
    "-Wl,--build-id=none",
    "-Wl,-s",
];

fn main() {
    println!("cargo::rerun-if-changed=src");
    if let Err(message) = compile() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

fn compile() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set; build with cargo"));
    let library = PathBuf::from(variable("OUT_DIR")?).join("agent.so");
    // Each has an option that the other's compiler refuses; helpers for atomics would come from a library.
    let own = match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "-fcf-protection=none",
        "aarch64" => "-mno-outline-atomics",
        other => {
            return Err(format!(
                "the JVMTI agent knows the system calls of x86_64 and aarch64, not of {other}"
            ));
        }
    };
    let compiler = cc::Build::new()
        .try_get_compiler()
        .map_err(|error| format!("no C compiler: {error}; `apt install gcc`, or name one with CC"))?;
    let mut command = compiler.to_command();
    command.args(OPTIONS).arg(own).arg("src/agent.c").arg("-o").arg(&library);
    let output = command.output().map_err(|error| {
        format!(
            "{} does not run: {error}; `apt install gcc`, or name another with CC",
            compiler.path().display()
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | ");
    Err(format!("{command:?} failed (`apt install gcc binutils`, or name another compiler with CC): {said}"))
}
