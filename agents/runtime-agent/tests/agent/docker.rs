//! Real containers of a real Docker: whose image they are, what of them is seen, and what drifted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use plimsoll_kit::unix::UnixChannel;
use plimsoll_runtime_agent::config::AgentConfig;
use plimsoll_runtime_agent::rules;
use plimsoll_schemas::events::PackageOwnership;
use plimsoll_schemas::resolver_protocol::{ResolverReply, ResolverRequest};
use plimsoll_schemas::words::drift;

use super::support;

struct Docker {
    endpoint: String,
    image: String,
    name: String,
}

impl Docker {
    /// A small image of this machine's own shell; `None` (said why) without a Docker for tests.
    fn with_image(test: &str) -> Option<Self> {
        support::no_ebpf().is_none().then_some(())?;
        let endpoint = support::docker()?;
        let root = tempfile::tempdir().unwrap();
        for program in ["/bin/sh", "/bin/cat", "/bin/sleep", "/bin/cp"] {
            let output = Command::new("ldd").arg(program).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
            for file in libraries.chain([PathBuf::from(program)]) {
                let to = root.path().join(file.strip_prefix("/").unwrap());
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(&file, to).unwrap();
            }
        }
        std::fs::create_dir_all(root.path().join("tmp")).unwrap();
        std::fs::create_dir_all(root.path().join("data")).unwrap();
        std::fs::write(root.path().join("data/of-image"), "x").unwrap();
        // Not another test's image: ids are of content.
        std::fs::write(root.path().join("name"), test).unwrap();
        let name = format!("plimsoll-test-agent-{test}:1");
        let tar =
            Command::new("tar").args(["-C", root.path().to_str().unwrap(), "-c", "."]).output().unwrap();
        let archive = root.path().join("image.tar");
        std::fs::write(&archive, tar.stdout).unwrap();
        let output =
            Command::new("docker").args(["-H", &endpoint, "import"]).arg(&archive).arg(&name).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let image = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Some(Self { endpoint, image, name })
    }

    fn run(&self, arguments: &[&str], script: &str) -> String {
        let mut command = Command::new("docker");
        command.args([
            "-H",
            &self.endpoint,
            "run",
            "--net=none",
            "--label",
            &format!("plimsoll.test={}", self.name),
        ]);
        command.args(arguments).arg(&self.name);
        let output = command.args(["/bin/sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker").args(["-H", &self.endpoint]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn config(&self) -> AgentConfig {
        AgentConfig {
            watch_containers: true,
            docker_endpoint: Some(self.endpoint.clone()),
            identify_timeout_ms: 5_000,
            // Others use this Docker, too.
            only_label: Some(("plimsoll.test".to_owned(), self.name.clone())),
            ..support::config()
        }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // What is left behind is only disk.
        let _ = Command::new("docker").args(["-H", &self.endpoint, "rmi", "-f", &self.image]).output();
    }
}

#[test]
fn an_image_first_seen_running_is_asked_to_be_scanned_once() {
    let Some(docker) = Docker::with_image("scan") else { return };
    let config = AgentConfig { request_scans: true, ..docker.config() };
    let (agent, collected) = support::start(config);
    docker.run(&["--rm"], "exec cat /data/of-image");
    docker.run(&["--rm"], "exec cat /data/of-image");
    collected.wait("both workloads", |collected| collected.workloads().len() == 2);
    agent.stop(false);
    let requests = collected.scan_requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].artifact, format!("image/{}", docker.image));
    assert_eq!(requests[0].target, format!("docker:{}", docker.image));
    assert_eq!((requests[0].source.as_str(), requests[0].reason.as_str()), ("image", "first-seen-running"));
}

#[test]
fn containers_have_their_images_digest() {
    let Some(docker) = Docker::with_image("digest") else { return };
    let (agent, collected) = support::start(docker.config());
    let labels = [
        "--rm",
        "--label",
        "plimsoll.application=backend",
        "--label",
        "plimsoll.component=shell",
        "--label",
        "plimsoll.version=1.0",
    ];
    // Gone before anyone could look: known from the moment it was created.
    docker.run(&labels, "exec cat /data/of-image");
    let artifact = format!("image/{}", docker.image);
    collected.wait("the use", |collected| {
        collected.items().iter().any(|(key, item)| *key == artifact && item.path == b"data/of-image")
    });
    collected.wait("the end", |collected| {
        collected
            .workloads()
            .iter()
            .any(|workload| workload.artifact == artifact && workload.stopped_at_ms > 0)
    });
    agent.stop(false);
    let workload = collected.workloads().into_iter().find(|workload| workload.artifact == artifact).unwrap();
    assert_eq!(workload.image_name, docker.name);
    assert_eq!(
        (workload.application.as_str(), workload.component.as_str(), workload.component_version.as_str()),
        ("backend", "shell", "1.0")
    );
    assert!(workload.watched[0].from_first_exec && workload.losses.is_empty(), "{workload:?}");
    let ours: BTreeSet<PathBuf> = collected
        .items()
        .into_iter()
        .filter(|(key, _)| *key == artifact)
        .map(|(_, item)| Path::new("/").join(String::from_utf8(item.path).unwrap()))
        .collect();
    // Everything is of the image: nothing of what runc read on the host's side.
    let copied = |path: &PathBuf| {
        path.starts_with("/lib")
            || path.starts_with("/lib64")
            || path.starts_with("/usr/lib")
            || path.starts_with("/bin")
            || path.starts_with("/data")
    };
    assert!(ours.iter().all(copied), "{ours:?}");
    assert!(ours.contains(Path::new("/bin/sh")) && ours.contains(Path::new("/bin/cat")), "{ours:?}");
}

#[test]
fn a_container_that_ran_before_is_late_and_a_volume_is_other() {
    let Some(docker) = Docker::with_image("late") else { return };
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("of-volume"), "x").unwrap();
    let mounted = format!("{}:/data", volume.path().display());
    let id = docker.run(&["-d", "--rm", "-v", &mounted], "cat /name; exec sleep 60");
    let (agent, collected) = support::start(docker.config());
    let artifact = format!("image/{}", docker.image);
    collected.wait("the resync", |collected| {
        collected.items().iter().any(|(key, item)| *key == artifact && item.path.ends_with(b"libc.so.6"))
    });
    let started = Instant::now();
    docker.docker(&["exec", &id, "/bin/cat", "/data/of-volume", "/name"]);
    collected.wait("a read through exec", |collected| {
        collected.items().iter().any(|(_, item)| item.path == b"data/of-volume")
    });
    println!("from docker exec to the use: {:?}", started.elapsed());
    docker.docker(&["kill", &id]);
    collected.wait("the end", |collected| {
        collected.workload_of_container(&id).is_some_and(|workload| workload.stopped_at_ms > 0)
    });
    agent.stop(false);
    for (key, item) in collected.items() {
        assert_eq!(key, artifact);
        let expected = if item.path.starts_with(b"data/") { "other" } else { "root" };
        assert_eq!(item.mount, expected, "{item:?}");
    }
    let workload = collected.workload_of_container(&id).unwrap();
    assert!(workload.watched.iter().all(|watch| !watch.from_first_exec), "{workload:?}");
}

#[test]
fn a_container_is_one_workload_to_agents_with_a_gap_between_them() {
    let Some(docker) = Docker::with_image("between") else { return };
    let (first, collected) = support::start(docker.config());
    let id = docker.run(&["-d", "--rm"], "while :; do cat /name; done");
    let is_identified = |collected: &support::Collected| {
        let workload = collected.workload_of_container(&id);
        workload.is_some_and(|workload| workload.artifact == format!("image/{}", docker.image))
    };
    collected.wait("its identity", is_identified);
    first.stop(true);
    let before = collected.workload_of_container(&id).unwrap();
    let (second, collected) = support::start(docker.config());
    collected.wait("its identity", is_identified);
    docker.docker(&["restart", "-t", "0", &id]);
    collected.wait("another run", |collected| {
        let ids: BTreeSet<String> = collected
            .workloads()
            .into_iter()
            .filter(|workload| workload.container_id == id)
            .map(|workload| workload.workload_id)
            .collect();
        ids.len() == 2 && ids.contains(&before.workload_id)
    });
    docker.docker(&["kill", &id]);
    second.stop(true);
    assert!(before.watched[0].from_first_exec && before.losses[0].events_lost > 0, "{before:?}");
    for workload in collected.workloads().iter().filter(|workload| workload.container_id == id) {
        let is_first_run = workload.workload_id == before.workload_id;
        assert_eq!(workload.watched.iter().all(|watch| !watch.from_first_exec), is_first_run, "{workload:?}");
    }
}

/// A resolver that says `new` of what lies below tmp/, and where each frame's descriptors are.
fn fake_resolver(socket: &Path) -> std::thread::JoinHandle<(usize, usize)> {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut channel = UnixChannel::from(stream);
        let (mut roots, mut layers) = (0, 0);
        while let Ok(Some(frame)) = channel.receive(std::time::Duration::from_secs(30)) {
            match serde_json::from_slice(&frame.bytes).unwrap() {
                ResolverRequest::Open { has_upper_directory, .. } => {
                    assert!(has_upper_directory);
                    assert_eq!(frame.descriptors.len(), 2);
                    roots += 1;
                }
                ResolverRequest::Layers { remaining, .. } => {
                    assert_eq!(remaining, 0);
                    layers += frame.descriptors.len();
                }
                ResolverRequest::Close { .. } => return (roots, layers),
                ResolverRequest::Resolve { request_id, artifact, paths, .. } => {
                    let entries = paths.into_iter().map(|query| {
                        let new = query.path.starts_with(b"tmp/");
                        PackageOwnership {
                            artifact: artifact.clone(),
                            file_identity: if new { "sha256:00" } else { "image" }.to_owned(),
                            drift: if new { drift::NEW } else { drift::UNCHANGED }.to_owned(),
                            path: query.path,
                            ..PackageOwnership::default()
                        }
                    });
                    let reply = ResolverReply::Ownership { request_id, entries: entries.collect() };
                    channel.send(&serde_json::to_vec(&reply).unwrap(), &[]).unwrap();
                }
            }
        }
        (roots, layers)
    })
}

#[test]
fn a_program_that_was_added_is_an_alert() {
    let Some(docker) = Docker::with_image("drift") else { return };
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("resolver.sock");
    let resolver = fake_resolver(&socket);
    let (agent, collected) = support::start(AgentConfig { resolver_socket: Some(socket), ..docker.config() });
    docker.run(&["--rm"], "cp /bin/cat /tmp/miner; /tmp/miner /name; exec sleep 0.5");
    collected.wait("the alert", |collected| !collected.alerts().is_empty());
    collected
        .wait("the end", |collected| collected.workloads().iter().any(|workload| workload.stopped_at_ms > 0));
    agent.stop(false);
    let (roots, layers) = resolver.join().unwrap();
    assert_eq!((roots, layers), (1, 1), "a root with its upper directory, and the image's one layer");
    let alerts = collected.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    assert_eq!(alerts[0].rule, rules::PROGRAM_NOT_IN_IMAGE);
    assert_eq!(alerts[0].artifact, format!("image/{}", docker.image));
    assert_eq!(
        (alerts[0].path.as_slice(), alerts[0].file_identity.as_str()),
        (&b"tmp/miner"[..], "sha256:00")
    );
    for (_, item) in collected.items() {
        let expected = if item.path.starts_with(b"tmp/") { "sha256:00" } else { "image" };
        assert_eq!(item.file_identity, expected, "{item:?}");
    }
}
