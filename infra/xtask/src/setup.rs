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
pub const C_COMPILER: Need = program("cc", || found("cc"), &["gcc", "libc6-dev"]);
pub const DOCKER: Need = program(
    "dockerd, containerd and docker",
    || found("dockerd") && found("containerd") && found("docker"),
    &["docker.io"],
);

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

/// All that `cargo xtask test` needs.
pub fn everything() -> anyhow::Result<()> {
    ensure(&[JAVA, MAVEN, NPM, C_COMPILER, DOCKER])
}

/// Install those of the needs that are missing.
pub fn ensure(needs: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.present)()).collect();
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
