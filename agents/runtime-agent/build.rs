//! Compiles the eBPF programs with clang. Without clang the build fails and says what to install, unless
//! PLIMSOLL_WITHOUT_EBPF=1 asks for an agent without them.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const COMPILERS: [&str; 8] =
    ["clang", "clang-20", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(with_ebpf)");
    println!("cargo::rerun-if-env-changed=PLIMSOLL_WITHOUT_EBPF");
    println!("cargo::rerun-if-env-changed=PLIMSOLL_CLANG");
    println!("cargo::rerun-if-changed=bpf");
    if env::var("PLIMSOLL_WITHOUT_EBPF").is_ok_and(|value| value == "1") {
        return;
    }
    if let Err(message) = compile() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
    println!("cargo::rustc-cfg=with_ebpf");
}

fn compile() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set; build with cargo"));
    let target = match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => {
            return Err(format!(
                "no eBPF programs for {other}: set PLIMSOLL_WITHOUT_EBPF=1 to build without"
            ));
        }
    };
    let out = PathBuf::from(variable("OUT_DIR")?);
    let clang = compiler()?;
    // Twice: pointers with types need Linux 6.2; the loader chooses.
    for (name, define) in [("typed.bpf.o", "TYPED_POINTERS"), ("plain.bpf.o", "PLAIN_POINTERS")] {
        let output = Command::new(&clang)
            .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror", "-Wno-unused-function"])
            .args([format!("-D__TARGET_ARCH_{target}"), format!("-D{define}")])
            // The headers of the libbpf that is linked, so that both are of one version.
            .arg(format!("-I{}", variable("DEP_BPF_INCLUDE")?))
            .args(["-c", "bpf/observe.bpf.c", "-o"])
            .arg(out.join(name))
            .output()
            .map_err(|error| format!("{clang} does not run: {error}"))?;
        if !output.status.success() {
            return Err(format!("{clang}: {}", String::from_utf8_lossy(&output.stderr).replace('\n', " | ")));
        }
    }
    Ok(())
}

fn compiler() -> Result<String, String> {
    if let Ok(given) = env::var("PLIMSOLL_CLANG") {
        return Ok(given);
    }
    COMPILERS
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
        .map(str::to_owned)
        .ok_or_else(|| {
            "clang is missing: `apt install clang` (14 or newer), or name it with PLIMSOLL_CLANG, or set \
             PLIMSOLL_WITHOUT_EBPF=1 to build an agent without eBPF"
                .to_owned()
        })
}
