//! Compiles the LD_AUDIT library: C without any library, so that it loads on every glibc from 2.17 on; on x86 also for
//! 32-bit programs, to which the linker would else complain on their standard error.

use std::env;
use std::path::{Path, PathBuf};

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
    "-fcf-protection=none",
    "-fvisibility=hidden",
    // Old linkers read one hash table, new ones the other.
    "-Wl,--hash-style=both",
    "-Wl,-z,now",
    "-Wl,-z,noexecstack",
    "-Wl,--no-undefined",
    "-Wl,-s",
];

fn main() {
    println!("cargo::rerun-if-changed=src/audit.c");
    if let Err(message) = compile_all() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

fn compile_all() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set; build with cargo"));
    let out = PathBuf::from(variable("OUT_DIR")?);
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    if !matches!(architecture.as_str(), "x86_64" | "aarch64") {
        return Err(format!(
            "the LD_AUDIT library knows the system calls of x86_64 and aarch64, not of {architecture}"
        ));
    }
    compile(&out.join("native.so"), &architecture, None)?;
    let small = out.join("32-bit.so");
    match architecture.as_str() {
        "x86_64" => compile(&small, &architecture, Some("-m32")),
        // No 32-bit compiler comes with the one of aarch64.
        _ => std::fs::write(&small, b"").map_err(|error| format!("{}: {error}", small.display())),
    }
}

fn compile(library: &Path, architecture: &str, width: Option<&str>) -> Result<(), String> {
    let compiler = cc::Build::new()
        .try_get_compiler()
        .map_err(|error| format!("no C compiler: {error}; `apt install gcc`, or name one with CC"))?;
    // Control-flow protection is x86's; elsewhere the option is refused.
    let options = OPTIONS.iter().filter(|option| architecture == "x86_64" || !option.starts_with("-fcf"));
    let mut command = compiler.to_command();
    command.args(options).args(width).arg("src/audit.c").arg("-o").arg(library);
    let output = command.output().map_err(|error| {
        format!(
            "{} does not run: {error}; `apt install gcc`, or name another with CC",
            compiler.path().display()
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let remedy = match width {
        Some(_) => {
            "a C compiler and linker that also build for 32 bits are needed: `apt install gcc binutils`"
        }
        None => "`apt install gcc binutils`, or name another compiler with CC",
    };
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | ");
    Err(format!("{command:?} failed ({remedy}): {said}"))
}
