//! Compiles the LD_AUDIT library: C without any library, so that it loads on every glibc from 2.17 on; on x86 also for
//! 32-bit programs, to which the linker would else complain on their standard error.

use std::path::PathBuf;

include!("../freestanding/compile.rs");

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=../freestanding");
    if let Err(message) = compile_all() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

fn compile_all() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    compile("src/audit.c", &out.join("native.so"), None)?;
    let small = out.join("32-bit.so");
    match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => compile("src/audit.c", &small, Some("-m32")),
        // No 32-bit compiler comes with the one of aarch64.
        _ => std::fs::write(&small, b"").map_err(|error| format!("{}: {error}", small.display())),
    }
}
