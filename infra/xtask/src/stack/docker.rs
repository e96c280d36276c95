//! A private dockerd with its own containerd, data, sockets and no bridge of its own.
//! It never uses or changes the system's Docker, firewall or network interfaces.

use super::probe::Probe;
use super::server::Server;
use super::{Ports, given, places};
use crate::process::{self, Recorded};
use crate::{http, setup};
use anyhow::{Context, bail};
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const EXPORT: &str = "PLIMSOLL_TEST_DOCKER_HOST";
/// Longest path of a Unix socket (sun_path, 108 bytes with the final zero), less what containerd appends.
const SOCKET_PATH_LIMIT_BYTES: usize = 90;

pub fn prepare(dir: &Path, _: &Ports) -> anyhow::Result<Vec<Server>> {
    if let Some(host) = given("PLIMSOLL_STACK_DOCKER_HOST") {
        let socket =
            host.strip_prefix("unix://").context("PLIMSOLL_STACK_DOCKER_HOST must begin with unix://")?;
        let probe = Probe::Docker { socket: socket.into() };
        return Ok(vec![Server::given("docker", probe, EXPORT, host)]);
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "a private dockerd needs root; run as root, or name a running one in PLIMSOLL_STACK_DOCKER_HOST"
        );
    }
    setup::ensure(&[setup::DOCKER])?;
    let (home, log) = places(dir, "docker")?;
    let sockets = socket_path(&home);
    fs::create_dir_all(&sockets)?;
    let path = |name: &str| home.join(name).display().to_string();
    let (containerd, docker) = (sockets.join("containerd.sock"), sockets.join("docker.sock"));

    fs::write(
        home.join("containerd.toml"),
        format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            path("containerd"),
            sockets.join("containerd-state"),
            containerd
        ),
    )?;
    // An empty file, so that the system's /etc/docker/daemon.json does not apply.
    fs::write(home.join("daemon.json"), "{}\n")?;
    let mut dockerd: Vec<String> =
        ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none"].map(String::from).into();
    for (option, value) in [
        ("--data-root", path("data")),
        ("--exec-root", sockets.join("exec").display().to_string()),
        ("--pidfile", path("dockerd.pid")),
        ("--config-file", path("daemon.json")),
        ("--host", format!("unix://{}", docker.display())),
        ("--containerd", containerd.display().to_string()),
    ] {
        dockerd.extend([option.to_owned(), value]);
    }
    let mut data = vec![home.clone()];
    if !sockets.starts_with(&home) {
        data.push(sockets);
    }
    Ok(vec![
        Server {
            name: "containerd".into(),
            command: Some(vec!["containerd".into(), "--config".into(), path("containerd.toml")]),
            environment: Vec::new(),
            process: None,
            log: log.with_file_name("containerd.log"),
            probe: Probe::UnixSocket { socket: containerd.clone() },
            exports: vec![("PLIMSOLL_TEST_CONTAINERD".into(), containerd.display().to_string())],
            data: data.clone(),
            stale: Vec::new(),
            after_previous: false,
        },
        Server {
            name: "docker".into(),
            command: Some(dockerd),
            environment: Vec::new(),
            process: None,
            log,
            probe: Probe::Docker { socket: docker.clone() },
            exports: vec![(EXPORT.into(), format!("unix://{}", docker.display()))],
            data,
            stale: vec![home.join("dockerd.pid")],
            after_previous: true,
        },
    ])
}

/// Sockets lie beside the data, unless that path is too long for one.
fn socket_path(home: &Path) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    if home.as_os_str().len() + "/containerd-state/".len() <= SOCKET_PATH_LIMIT_BYTES {
        return home.to_path_buf();
    }
    let mut hasher = DefaultHasher::new();
    home.hash(&mut hasher);
    std::env::temp_dir().join(format!("plimsoll-{:016x}", hasher.finish()))
}

/// dockerd waits long for containers that ignore SIGTERM, so end them first.
pub fn before_stop(server: &Server) {
    let Probe::Docker { socket } = &server.probe else { return };
    let Ok(list) = http::unix(socket, "GET", "/containers/json") else { return };
    let Ok(serde_json::Value::Array(containers)) = serde_json::from_str(&list) else { return };
    for id in containers.iter().filter_map(|container| container["Id"].as_str()) {
        // One that ended meanwhile answers with an error, which is as good.
        let _ = http::unix(socket, "POST", &format!("/containers/{id}/kill"));
    }
}

/// What dockerd and containerd leave when they were killed: containers with their shims, and mounts,
/// below which data could not be deleted.
pub fn remove_leftovers(dir: &Path) -> anyhow::Result<()> {
    kill_shims(dir)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let below = dir.join("docker");
    let sockets = socket_path(&below);
    // The latest mount first: one may lie in another.
    for line in mounts.lines().rev() {
        let Some(point) = line.split(' ').nth(4).map(|point| point.replace("\\040", " ")) else { continue };
        if Path::new(&point).starts_with(&below) || Path::new(&point).starts_with(&sockets) {
            unmount(&point, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {point}"))?;
        }
    }
    Ok(())
}

/// Shims know the socket of their containerd, so those of this stack can be told from all others.
fn kill_shims(dir: &Path) -> anyhow::Result<()> {
    let home = dir.join("docker");
    let socket = socket_path(&home).join("containerd.sock");
    let of_this_stack = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.first().is_some_and(|program| String::from_utf8_lossy(program).contains("containerd-shim"))
            && words.windows(2).any(|pair| pair[0] == b"-address" && pair[1] == socket.as_os_str().as_bytes())
    };
    for shim in process::all().filter(|pid| of_this_stack(*pid)) {
        // A container's first process takes the others of its process name space along.
        let containers: Vec<u32> = process::children(shim);
        for pid in containers.into_iter().chain([shim]) {
            if let Some(process) = Recorded::running(pid) {
                process.kill()?;
            }
        }
    }
    Ok(())
}
