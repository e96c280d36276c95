//! Compiles the LD_AUDIT library: C without any library, so that it loads on every glibc from 2.17 on.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src/audit.c");
    if let Err(message) = compile() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

fn compile() -> Result<(), String> {
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set; build with cargo")?;
    let library = PathBuf::from(out).join("libplimsoll_audit.so");
    let compiler = cc::Build::new()
        .try_get_compiler()
        .map_err(|error| format!("no C compiler: {error}; apt install gcc"))?;
    let output = compiler
        .to_command()
        .args(["-std=c11", "-Os", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-nostdlib"])
        .args(["-ffreestanding", "-fno-stack-protector", "-fvisibility=hidden", "-fno-builtin", "-g0"])
        // Both hash tables: glibc 2.17 reads either, tools of other ages one of them.
        .args(["-Wl,--hash-style=both", "-Wl,-z,now", "-Wl,--no-undefined", "-Wl,-s"])
        .arg("src/audit.c")
        .arg("-o")
        .arg(&library)
        .output()
        .map_err(|error| format!("{:?} does not run: {error}; apt install gcc", compiler.path()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).replace('\n', " | "));
    }
    Ok(())
}
