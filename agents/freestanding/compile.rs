// Compiles C without any library, so that one file loads on every C library. Included by the build.rs of `../audit` and
// `../jvmti`, whose working directory is their own folder.
// It must never need more than a C compiler and its linker.

const OPTIONS: [&str; 21] = [
    "-std=c11",
    "-O2",
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
    "-I../freestanding",
    // Old linkers read one hash table, new ones the other.
    "-Wl,--hash-style=both",
    "-Wl,-z,now",
    "-Wl,-z,noexecstack",
    "-Wl,--no-undefined",
    "-Wl,--build-id=none",
    "-Wl,-s",
];

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set; build with cargo"))
}

/// Compiles `source` to a shared object; `width` is the compiler's option for programs of another width.
fn compile(source: &str, library: &std::path::Path, width: Option<&str>) -> Result<(), String> {
    // Each has an option that the other's compiler refuses; helpers for atomics would come from a library.
    let own = match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "-fcf-protection=none",
        "aarch64" => "-mno-outline-atomics",
        other => {
            return Err(format!("{source} knows the system calls of x86_64 and aarch64, not of {other}"));
        }
    };
    let compiler = cc::Build::new()
        .try_get_compiler()
        .map_err(|error| format!("no C compiler: {error}; `apt install gcc`, or name one with CC"))?;
    let mut command = compiler.to_command();
    command.args(OPTIONS).arg(own).args(width).arg(source).arg("-o").arg(library);
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
