//! Compiles the JVMTI agent: C without any library, so that one file loads on glibc from 2.17 on and on musl.

use std::path::Path;

include!("../freestanding/compile.rs");

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=../freestanding");
    let compiled =
        variable("OUT_DIR").and_then(|out| compile("src/agent.c", &Path::new(&out).join("agent.so"), None));
    if let Err(message) = compiled {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}
