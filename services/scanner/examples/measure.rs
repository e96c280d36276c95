//! What a scan costs: wall time, packages found, greatest memory of the process.
//!
//! `measure fs DIRECTORY`, `measure image archive:FILE`, `measure files COUNT`: an image of so many files, made for the
//! occasion and streamed into the scanner, or `measure programs COUNT`: a directory of so many ELF programs, one in a
//! hundred of them made by Go's linker. It must never be part of a test: figures belong to a machine.

// A tool for people.
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::{self, Read as _, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use plimsoll_scanner::{Component, ScanOptions, Target, scan};
use sha2::{Digest, Sha256};

const PACKAGES: usize = 500;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["files", count] => {
            let directory = tempfile::tempdir()?;
            let path = directory.path().join("image.tar");
            let started = Instant::now();
            write_image(&path, count.parse().context("COUNT is no number")?)?;
            println!("made in {:.2} s: {} MB", started.elapsed().as_secs_f64(), path.metadata()?.len() >> 20);
            measure("image", &format!("archive:{}", path.display()))
        }
        ["programs", count] => {
            let directory = tempfile::tempdir()?;
            write_programs(directory.path(), count.parse().context("COUNT is no number")?)?;
            measure("fs", directory.path().to_str().context("no UTF-8")?)?;
            // Again, with what was kept of unchanged files.
            measure("fs", directory.path().to_str().context("no UTF-8")?)
        }
        [source, target] => measure(source, target),
        _ => bail!("usage: measure (fs DIRECTORY | image IMAGE | host ROOT | files COUNT | programs COUNT)"),
    }
}

fn measure(source: &str, target: &str) -> anyhow::Result<()> {
    let component = Component::new("measure", "measure", "1")?;
    let docker_host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let options = ScanOptions { database: None, docker_host: &docker_host, progress: &|_| {} };
    let before = peak_kib()?;
    let started = Instant::now();
    let found = scan(&Target::parse(source, target)?, Some(&component), &options)?;
    println!(
        "scanned in {:.3} s: {} packages, {} warnings; peak resident {:.1} MB (before the scan {:.1} MB)",
        started.elapsed().as_secs_f64(),
        found.packages.len(),
        found.manifest.warnings.len(),
        peak_kib()? as f64 / 1024.0,
        before as f64 / 1024.0
    );
    if std::env::var_os("MEASURE_LIST").is_some() {
        found.packages.iter().for_each(|package| println!("{}", package.purl));
    }
    Ok(())
}

/// Programs in directories of a hundred.
fn write_programs(directory: &Path, count: usize) -> anyhow::Result<()> {
    const GO: &[u8] = include_bytes!("../../catalog/src/golang/fixtures/program.elf");
    // The same without its section names, so that it is a program of nobody's linker.
    let mut other = GO.to_vec();
    for name in [&b".go.buildinfo"[..], b".gopclntab"] {
        let at = other.windows(name.len()).position(|window| window == name).context("no such section")?;
        other[at..at + name.len()].fill(b'x');
    }
    for number in 0..count {
        let below = directory.join(format!("{:06}", number / 100));
        std::fs::create_dir_all(&below)?;
        let path = below.join(format!("program{number}"));
        std::fs::write(&path, if number % 100 == 0 { GO } else { &other })?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}

/// VmHWM of this process, in KiB (proc_pid_status(5)).
fn peak_kib() -> anyhow::Result<u64> {
    let mut status = String::new();
    File::open("/proc/self/status")?.read_to_string(&mut status)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Passes bytes on and digests them.
struct Digesting<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An archive as of `docker save` with one gzipped layer of `count` files: half of them with names that occur once.
fn write_image(path: &Path, count: usize) -> anyhow::Result<()> {
    let layer = tempfile::tempfile_in(path.parent().context("no directory")?)?;
    let packed = GzEncoder::new(io::BufWriter::new(layer), Compression::fast());
    let mut builder = tar::Builder::new(Digesting { inner: packed, hash: Sha256::new() });
    let mut add = |name: &str, data: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, data.as_bytes())
    };
    add("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n")?;
    let mut status = String::new();
    for number in 0..PACKAGES {
        let site = format!("usr/lib/python3/dist-packages/python{number}-1.0.dist-info");
        add(&format!("{site}/METADATA"), &format!("Name: python{number}\nVersion: 1.0\n"))?;
        status += &format!(
            "Package: deb{number}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-{number}\n\n"
        );
    }
    add("var/lib/dpkg/status", &status)?;
    for number in 0..count {
        let package = number / 100;
        let name = match number % 2 {
            0 => format!("srv/node_modules/package{package}/lib/file{}.js", number % 100),
            _ => format!(
                "srv/node_modules/package{package}/lib/{:016x}.js",
                number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ),
        };
        add(&name, "")?;
    }
    let digesting = builder.into_inner()?;
    let diff_id = hex::encode(digesting.hash.finalize());
    let mut layer = digesting.inner.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    let size_bytes = layer.stream_position()?;
    layer.rewind()?;
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#
    );
    let manifest = r#"[{"Config":"config.json","RepoTags":["measure:1"],"Layers":["layer.tar"]}]"#;
    let mut archive = tar::Builder::new(File::create(path)?);
    for (name, data) in [("config.json", config.as_str()), ("manifest.json", manifest)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        archive.append_data(&mut header, name, data.as_bytes())?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(size_bytes);
    archive.append_data(&mut header, "layer.tar", layer)?;
    archive.finish()?;
    Ok(())
}
