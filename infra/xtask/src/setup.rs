//! Programs and headers that builds, tests and the development stack need: looks for them, installs what is missing.
//! It never changes the system unless it runs as root where apt-get is; else it names what to install.

use crate::{paths, run};
use anyhow::bail;
use std::path::Path;

/// Something that must be there, and the Debian packages that bring it.
pub struct Need {
    pub what: &'static str,
    pub present: fn() -> bool,
    pub packages: &'static [&'static str],
}

pub const JAVA: Need =
    Need { what: "Java 17 or newer", present: || java().is_some(), packages: &["openjdk-17-jre-headless"] };
pub const MAVEN: Need = program("mvn", || found("mvn"), &["maven"]);
pub const NPM: Need = program("npm", || found("npm"), &["nodejs", "npm"]);
pub const OPENSSL: Need = program("openssl", || found("openssl"), &["openssl"]);
pub const C_COMPILER: Need = program("cc", || found("cc"), &["gcc", "libc6-dev"]);
pub const DOCKER: Need = program(
    "dockerd, containerd and docker",
    || found("dockerd") && found("containerd") && found("docker"),
    &["docker.io"],
);

pub const PYTHON: Need = program("Python 3 with venv", python_with_venv, &["python3", "python3-venv"]);
pub const GO: Need = program("go", || found("go"), &["golang-go"]);
pub const MMDEBSTRAP: Need = program("mmdebstrap", || found("mmdebstrap"), &["mmdebstrap"]);

const fn program(what: &'static str, present: fn() -> bool, packages: &'static [&'static str]) -> Need {
    Need { what, present, packages }
}

fn found(program: &str) -> bool {
    paths::find_program(program).is_some()
}

/// A Java runtime of version 17 or newer: that of `JAVA_HOME`, else the one on the search path.
pub fn java() -> Option<std::path::PathBuf> {
    const OLDEST: u32 = 17;
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.into_iter().chain(paths::find_program("java")).find(|java| {
        let Ok(output) = run::command(java).arg("-version").output() else { return false };
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let version = text.split('"').nth(1).and_then(|v| v.split(['.', '-', '+']).next()?.parse().ok());
        version.is_some_and(|version: u32| version >= OLDEST)
    })
}

/// What compiling the workspace needs.
const BUILD: &[Need] = &[
    C_COMPILER,
    program("g++, make", || found("g++") && found("make"), &["build-essential"]),
    program("cmake", || found("cmake"), &["cmake"]),
    program("pkg-config", || found("pkg-config"), &["pkg-config"]),
    program("clang with the BPF target", || found("clang"), &["clang", "llvm"]),
    program("bpftool", || found("bpftool"), &["bpftool"]),
    program("libbpf headers", || header("bpf/bpf_helpers.h"), &["libbpf-dev"]),
    program("libelf headers", || header("libelf.h"), &["libelf-dev"]),
    program("zlib headers", || header("zlib.h"), &["zlib1g-dev"]),
    program("OpenSSL headers", || header("openssl/ssl.h"), &["libssl-dev"]),
    // librdkafka includes them for its OAuth code even though it does not link libcurl.
    program("libcurl headers", || header("curl/curl.h"), &["libcurl4-openssl-dev"]),
];

/// What the tests and the demo need beside the servers.
const TESTS: &[Need] = &[
    JAVA,
    MAVEN,
    NPM,
    DOCKER,
    program("docker compose", || compose().is_some(), &["docker-compose"]),
    MMDEBSTRAP,
    program(
        "Chromium",
        || found("chromium") || found("chromium-browser") || found("google-chrome"),
        &["chromium"],
    ),
    PYTHON,
    program("pypy3", || found("pypy3"), &["pypy3"]),
    program("jython", || found("jython"), &["jython"]),
    program("uWSGI with Python", || found("uwsgi-core"), &["uwsgi-core", "uwsgi-plugin-python3"]),
    program("ruby with bundler", || found("ruby") && found("bundle"), &["ruby", "bundler"]),
    program("php", || found("php"), &["php-cli", "php-mbstring", "php-xml"]),
    program("php-fpm", php_fpm, &["php-fpm"]),
    program("composer", || found("composer"), &["composer"]),
    GO,
    // Counts instructions where no processor does.
    program("qemu-user", qemu_user, &["qemu-user"]),
    // Hooks that load into other programs are tested on both C libraries.
    program("musl-gcc", || found("musl-gcc"), &["musl", "musl-tools"]),
];

fn qemu_user() -> bool {
    found(&format!("qemu-{}", std::env::consts::ARCH))
}

/// Debian names it by its version.
fn php_fpm() -> bool {
    std::fs::read_dir("/usr/sbin").is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("php-fpm"))
    })
}

fn header(name: &str) -> bool {
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["/usr/include".into(), "/usr/local/include".into(), format!("/usr/include/{multiarch}")]
        .iter()
        .any(|directory: &String| Path::new(directory).join(name).is_file())
}

fn python_with_venv() -> bool {
    let mut python = run::command("python3");
    run::output(python.args(["-c", "import venv, ensurepip"])).is_ok()
}

/// Compose as Docker's plugin, else as the program of its own that it used to be.
pub fn compose() -> Option<Vec<&'static str>> {
    let plugin = found("docker") && run::output(run::command("docker").args(["compose", "version"])).is_ok();
    if plugin {
        return Some(vec!["docker", "compose"]);
    }
    found("docker-compose").then(|| vec!["docker-compose"])
}

/// All that `cargo xtask test` needs.
pub fn everything() -> anyhow::Result<()> {
    // One list, so that apt runs once.
    let needs: Vec<&Need> = BUILD.iter().chain(TESTS).collect();
    ensure_all(&needs)?;
    kernel_file_systems();
    disk_space();
    Ok(())
}

/// What a whole run writes below the target folder, from an empty one: programs, servers, images.
const RUN_BYTES: u64 = 12 << 30;

/// A full disk fails in whatever writes next, mostly the linker, by a bus error: this says it first.
fn disk_space() {
    let target = crate::paths::target();
    let existing = target.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            println!("disk: {:.1} GiB free", gibibytes(free));
            if free < RUN_BYTES {
                eprintln!(
                    "xtask: an empty target folder needs up to {:.0} GiB; when the disk fills up, remove old \
                     files, or set CARGO_TARGET_DIR to a larger disk",
                    gibibytes(RUN_BYTES)
                );
            }
        }
        Err(error) => eprintln!("xtask: cannot tell the free space of {}: {error}", existing.display()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// What `cargo xtask demo` needs; containers only where this runs as root.
pub fn demo(root: bool) -> anyhow::Result<()> {
    let mut needs: Vec<&Need> = BUILD.iter().chain([&JAVA, &MAVEN, &NPM, &PYTHON]).collect();
    if root {
        needs.extend([&DOCKER, &MMDEBSTRAP]);
    }
    ensure_all(&needs)?;
    kernel_file_systems();
    Ok(())
}

/// eBPF wants tracefs and bpffs mounted; without them the agent says what is missing, so this only warns.
pub fn kernel_file_systems() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (kind, point) in [("tracefs", "/sys/kernel/tracing"), ("bpf", "/sys/fs/bpf")] {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounted = mounts.lines().any(|line| line.split(' ').nth(1) == Some(point));
        if mounted || !Path::new(point).is_dir() {
            continue;
        }
        let mounting = rustix::mount::mount(kind, point, kind, rustix::mount::MountFlags::empty(), None);
        if let Err(error) = mounting {
            eprintln!("xtask: cannot mount {kind} on {point} ({error}); eBPF tests may miss it");
        }
    }
}

/// Install those of the needs that are missing.
pub fn ensure(needs: &[Need]) -> anyhow::Result<()> {
    ensure_all(&needs.iter().collect::<Vec<_>>())
}

fn ensure_all(needs: &[&Need]) -> anyhow::Result<()> {
    let missing: Vec<&&Need> = needs.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages.iter().copied()).collect();
    let what = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    if !rustix::process::geteuid().is_root() || !found("apt-get") {
        bail!(
            "missing: {what}. Install it (on Debian: apt-get install {}) and run this again",
            packages.join(" ")
        );
    }
    eprintln!("xtask: installing {what}: apt-get install {}", packages.join(" "));
    apt(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(&packages);
    apt(&arguments)?;
    match missing.iter().find(|need| !(need.present)()) {
        Some(need) => bail!("{} is still missing after installing {}", need.what, need.packages.join(" ")),
        None => Ok(()),
    }
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    // Another apt may run on a machine that has just started.
    const LOCK_WAIT: &str = "DPkg::Lock::Timeout=300";
    let mut command = run::command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", LOCK_WAIT]).args(arguments);
    run::streamed(&mut command)
}
