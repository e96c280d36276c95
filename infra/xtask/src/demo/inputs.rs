//! What the demo scans and runs: its application with a virtual environment, and a container image of the same.
//! It never commits or keeps anything outside of target and the cache of downloads.

use crate::{cache, paths, run, setup};
use anyhow::{Context, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image's tag in the demo's Docker.
pub const IMAGE: &str = "plimsoll-demo/webimage:1.0";
const BASE_IMAGE: &str = "plimsoll-demo/base:bookworm";
const SUITE: &str = "bookworm";
/// What the image's system has beyond the essential packages.
const SYSTEM_PACKAGES: &str = "python3,python3-venv";
/// Packages without wheels for this Python, built here without their optional C parts so that they fit everywhere.
const BUILT_FROM_SOURCE: &str = "MarkupSafe,PyYAML";
/// What builds those two.
const BUILD_TOOLS: [&str; 2] = ["setuptools==65.7.0", "wheel==0.40.0"];

/// The demo's own files in the repository.
pub fn sources() -> PathBuf {
    paths::workspace().join("infra/demo")
}

/// A Python that the application's old packages run with, with its version as in `cp311`.
pub struct Python {
    program: PathBuf,
    tag: String,
}

impl Python {
    /// The distribution's own is preferred: its files belong to packages.
    pub fn find() -> anyhow::Result<Self> {
        const PROBE: &str = "import sys, venv, ensurepip; print('cp%d%d' % sys.version_info[:2])";
        let mut seen = Vec::new();
        for name in ["/usr/bin/python3", "python3.11", "python3"] {
            let Ok(tag) = run::output(run::command(name).args(["-c", PROBE])) else { continue };
            let tag = tag.trim().to_owned();
            if tag == "cp311" {
                let program = paths::find_program(name).unwrap_or_else(|| name.into());
                return Ok(Self { program, tag });
            }
            seen.push(format!("{name} is {tag}"));
        }
        bail!(
            "the demo's old packages need Python 3.11 with venv ({}); on Debian 12: apt-get install python3-venv",
            if seen.is_empty() { "no Python with venv was found".into() } else { seen.join(", ") }
        )
    }

    fn command(&self) -> Command {
        quiet(run::command(&self.program))
    }
}

/// pip's settings that do not matter here.
fn quiet(mut command: Command) -> Command {
    command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PYTHONWARNINGS", "ignore");
    command
}

/// The wheels of all requirements, fetched by name with the user's own pip settings and kept in the cache.
pub fn wheels(python: &Python) -> anyhow::Result<PathBuf> {
    let requirements = sources().join("pythonapp/requirements.txt");
    let content = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let key = cache::mark(&format!("{content}{BUILT_FROM_SOURCE}{BUILD_TOOLS:?}{}", std::env::consts::ARCH));
    let name = format!("demo-wheels-{}-{key}", python.tag);
    cache::entry(&name, "the demo's Python packages with pip", |directory, log| {
        let tools = directory.join("tools");
        run::logged(python.command().args(["-m", "venv"]).arg(&tools), log)?;
        let pip = || {
            let mut pip = quiet(run::command(tools.join("bin/pip")));
            pip.arg("--quiet");
            pip
        };
        run::logged(pip().arg("install").args(BUILD_TOOLS), log)?;
        let mut build = pip();
        build.args(["wheel", "--no-deps", "--no-build-isolation", "--no-cache-dir"]);
        build.args(["--prefer-binary", "--no-binary", BUILT_FROM_SOURCE, "--wheel-dir"]).arg(directory);
        // Both do without their C parts when no compiler works.
        build.env("CC", "false").arg("--requirement").arg(&requirements);
        run::logged(&mut build, log)?;
        fs::remove_dir_all(&tools)?;
        Ok(())
    })
}

/// `mydir/pythonapp` below `directory`: the application with its virtual environment; returns its path.
pub fn application(python: &Python, wheels: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let application = directory.join("mydir/pythonapp");
    copy(&sources().join("pythonapp"), &application)?;
    let environment = application.join("venv");
    let made_from = directory.join("venv-made-from");
    let key = format!("{} {}", python.program.display(), wheels.display());
    if environment.join("bin/python").exists() && fs::read_to_string(&made_from).is_ok_and(|made| made == key)
    {
        return Ok(application);
    }
    if environment.exists() {
        fs::remove_dir_all(&environment)?;
    }
    let log = directory.join("logs/venv.log");
    run::logged(python.command().args(["-m", "venv"]).arg(&environment), &log)?;
    let mut pip = quiet(run::command(environment.join("bin/pip")));
    pip.args(["--quiet", "install", "--no-index", "--no-deps", "--find-links"]).arg(wheels);
    pip.arg("--requirement").arg(application.join("requirements.txt"));
    run::logged(&mut pip, &log)?;
    fs::write(&made_from, key)?;
    Ok(application)
}

/// Build the image in the Docker of this endpoint, from a Debian system made by mmdebstrap.
pub fn image(docker_host: &str, wheels: &Path, directory: &Path) -> anyhow::Result<()> {
    let base = system(SYSTEM_PACKAGES)?;
    let docker = || {
        let mut docker = run::command("docker");
        // Without BuildKit, which is not in every Docker.
        docker.env("DOCKER_HOST", docker_host).env("DOCKER_BUILDKIT", "0");
        docker
    };
    let log = directory.join("logs/image.log");
    run::logged(docker().arg("import").arg(&base).arg(BASE_IMAGE), &log)?;
    let context = directory.join("image");
    if context.exists() {
        fs::remove_dir_all(&context)?;
    }
    copy(&sources().join("pythonapp"), &context.join("pythonapp"))?;
    copy(wheels, &context.join("wheels"))?;
    fs::copy(sources().join("pythonapp/requirements.txt"), context.join("requirements.txt"))?;
    let mut build = docker();
    build.args(["build", "--network", "host", "--tag", IMAGE, "--build-arg", &format!("BASE={BASE_IMAGE}")]);
    build.arg("--file").arg(sources().join("image/Dockerfile")).arg(&context);
    run::logged(&mut build, &log)
}

/// A tar of a Debian system with these packages (separated by commas) and its package database, kept in the cache.
pub fn system(packages: &str) -> anyhow::Result<PathBuf> {
    let key = cache::mark(&format!("{SUITE} {packages}"));
    let directory = cache::entry(
        &format!("demo-base-{SUITE}-{key}"),
        "a Debian system with mmdebstrap",
        |directory, log| {
            setup::ensure(&[setup::MMDEBSTRAP])?;
            let mut mmdebstrap = run::command("mmdebstrap");
            mmdebstrap.args(["--variant=minbase", &format!("--include={packages}"), SUITE]);
            mmdebstrap.arg(directory.join("base.tar")).args(apt_sources());
            run::logged(&mut mmdebstrap, log)
        },
    )?;
    Ok(directory.join("base.tar"))
}

/// This machine's own list of Debian mirrors if it is of the same release; else mmdebstrap's default is used.
fn apt_sources() -> Option<PathBuf> {
    ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"].iter().map(PathBuf::from).find(
        |file| {
            fs::read_to_string(file).is_ok_and(|text| {
                text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(SUITE))
            })
        },
    )
}

/// Copies a tree in place of what is there.
pub fn fresh_copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot empty {}", to.display()))?;
    }
    copy(from, to)
}

/// Copies a tree of files and directories over what is there.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    ensure!(from.is_dir(), "{} is missing", from.display());
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() == "__pycache__" {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
