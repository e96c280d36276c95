//! The real program over real Kafka, schema registry and container engine: whole scans, refusals, kills, replicas.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/pipeline.rs"]
#[allow(dead_code)]
mod pipeline;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pipeline::{Pipeline, PublishedScan, servers, wait_for};
use plimsoll_kit::broker::{IncomingRecord, OutgoingRecord};
use plimsoll_kit::dead_letter::{DETAIL_HEADER, REASON_HEADER, REFUSED_BY_HEADER};
use plimsoll_schemas::events::ScanRequest;
use plimsoll_schemas::identity::{ArtifactKey, ComponentKey};
use support::File::Text;
use support::{OS_RELEASE, STATUS, docker_archive, layer};

/// A directory with `count` Python packages.
fn application(directory: &Path, name: &str, count: usize) -> PathBuf {
    let root = directory.join(name);
    for number in 0..count {
        let info = root.join(format!("site-packages/package{number}-1.0.dist-info"));
        std::fs::create_dir_all(&info).unwrap();
        std::fs::write(info.join("METADATA"), format!("Name: package{number}\nVersion: 1.0\n")).unwrap();
    }
    root
}

fn of_directory(root: &Path, name: &str) -> ScanRequest {
    let key = ComponentKey::new("backend", name, "1.0").unwrap();
    ScanRequest {
        artifact: ArtifactKey::Component(key).to_string(),
        application: "backend".into(),
        component: name.into(),
        component_version: "1.0".into(),
        request_id: format!("request-{name}"),
        source: "fs".into(),
        target: root.display().to_string(),
        reason: "user".into(),
        ..ScanRequest::default()
    }
}

fn of_image(artifact: &str, target: String, reason: &str) -> ScanRequest {
    ScanRequest {
        artifact: artifact.into(),
        request_id: "request-image".into(),
        source: "image".into(),
        target,
        reason: reason.into(),
        ..ScanRequest::default()
    }
}

/// An image archive, and its artifact key.
fn image(directory: &Path) -> (PathBuf, String) {
    let path = directory.join("image.tar");
    let layers = [
        layer(&[("etc/os-release", Text(OS_RELEASE)), ("var/lib/dpkg/status", Text(STATUS))]),
        layer(&[("app/run.py", Text("print(1)"))]),
    ];
    let config = docker_archive(&path, &layers);
    (path, format!("image/{config}"))
}

fn header(record: &IncomingRecord, name: &str) -> String {
    String::from_utf8(record.header(name).unwrap().to_vec()).unwrap()
}

#[test]
fn requests_become_whole_scans() {
    let Some(servers) = servers() else { return };
    let mut pipeline = Pipeline::on(servers, "whole");
    let root = application(pipeline.directory.path(), "pythonapp", 50);
    let (archive, image_key) = image(pipeline.directory.path());
    pipeline.request(&of_directory(&root, "pythonapp"));
    pipeline.request(&of_image(&image_key, format!("archive:{}", archive.display()), "user"));
    // Who asks by name does not know the digest: the request carries the component's key.
    let by_name = ScanRequest {
        source: "image".into(),
        target: format!("archive:{}", archive.display()),
        ..of_directory(&root, "web")
    };
    pipeline.request(&by_name);
    let scanner = pipeline.start("a", &[]);
    let published = pipeline.answered();
    scanner.terminate();
    assert!(published.halves.is_empty() && published.letters.is_empty(), "{published:?}");
    published.scans.iter().for_each(PublishedScan::assert_whole);
    let mut found: Vec<(&str, i64, &str)> = published
        .scans
        .iter()
        .map(|scan| {
            let manifest = &scan.manifest;
            (manifest.artifact.as_str(), manifest.package_count, manifest.component.as_str())
        })
        .collect();
    found.sort_unstable();
    let expected =
        [("component/backend/pythonapp/1.0", 50, "pythonapp"), (&image_key, 2, ""), (&image_key, 2, "web")];
    assert_eq!(found, expected);
    let scan = published.scans.iter().find(|scan| scan.manifest.component == "web").unwrap();
    assert_eq!(scan.manifest.layers.len(), 2);
    assert_eq!(scan.manifest.producer_id, format!("{}-scanner-a", pipeline.connections.prefix));
    assert!(
        scan.findings.iter().all(|findings| !findings.assessed && !findings.not_assessed_reason.is_empty())
    );
}

#[test]
fn refused_requests_become_dead_letters() {
    let Some(servers) = servers() else { return };
    let mut pipeline = Pipeline::on(servers, "refused");
    let root = application(pipeline.directory.path(), "app", 1);
    let (archive, image_key) = image(pipeline.directory.path());
    let archive = format!("archive:{}", archive.display());
    let other = format!("image/sha256:{}", "0".repeat(64));
    let topic = pipeline.topic::<ScanRequest>();
    for (key, value) in
        [(&b"key"[..], Some(&b"no avro"[..])), (b"", None), (b"x", Some(&[0, 0, 0, 0, 99, 1]))]
    {
        let value = value.map(<[u8]>::to_vec);
        pipeline.send(&OutgoingRecord::new(topic.as_str(), 1, key.to_vec(), value));
    }
    let cases = [
        (
            "scan-failed",
            "/no/such/image.tar",
            of_image(&image_key, "archive:/no/such/image.tar".into(), "user"),
        ),
        ("scan-failed", "/no/such/directory", of_directory(Path::new("/no/such/directory"), "gone")),
        ("other-artifact", "points elsewhere", of_image(&other, archive.clone(), "user")),
        ("invalid", "unknown source", ScanRequest { source: "vm".into(), ..of_directory(&root, "vm") }),
        ("invalid", "-a, -c and -V", ScanRequest { component: String::new(), ..of_directory(&root, "half") }),
    ];
    for (_, _, request) in &cases {
        pipeline.request(request);
    }
    pipeline.request(&of_directory(&root, "app"));
    let scanner = pipeline.start("a", &[]);
    let published = pipeline.answered();
    assert_eq!(published.scans.len(), 1, "the request behind them all is answered");
    assert_eq!(published.letters.len(), 3 + cases.len());
    for letter in &published.letters {
        assert!(header(letter, REFUSED_BY_HEADER).starts_with("scanner/"));
    }
    let undecodable: Vec<&IncomingRecord> =
        published.letters.iter().filter(|letter| header(letter, REASON_HEADER) == "undecodable").collect();
    assert_eq!(undecodable.len(), 3);
    assert!(undecodable.iter().any(|letter| letter.value.as_deref() == Some(b"no avro")), "as received");
    for (reason, detail, request) in &cases {
        let found = published.letters.iter().any(|letter| {
            header(letter, REASON_HEADER) == *reason && header(letter, DETAIL_HEADER).contains(detail)
        });
        let log = scanner.log();
        assert!(found, "{reason} for {}:\n{log}", request.target);
    }
}

#[test]
fn an_image_first_seen_running_is_scanned_once() {
    let Some(servers) = servers() else { return };
    let mut pipeline = Pipeline::on(servers, "once");
    let (archive, key) = image(pipeline.directory.path());
    let target = format!("archive:{}", archive.display());
    let first_seen = of_image(&key, target.clone(), "first-seen-running");
    pipeline.request(&first_seen);
    pipeline.request(&first_seen);
    let scanner = pipeline.start("a", &[]);
    assert_eq!(pipeline.answered().scans.len(), 1);
    scanner.terminate();
    // A new life knows it from the topic, as another replica would. People always get a scan.
    pipeline.request(&first_seen);
    let _scanner = pipeline.start("a", &[]);
    assert_eq!(pipeline.answered().scans.len(), 1);
    pipeline.request(&of_image(&key, target, "user"));
    assert_eq!(pipeline.answered().scans.len(), 2);
}

#[test]
fn killed_in_the_middle_no_half_of_a_scan_is_seen() {
    let Some(servers) = servers() else { return };
    let mut pipeline = Pipeline::on(servers, "killed");
    let root = application(pipeline.directory.path(), "app", 600);
    let kills = 4;
    for kill in 0..kills {
        pipeline.request(&of_directory(&root, &format!("app{kill}")));
        let scanner = pipeline.start("a", &["telemetry.log_level=debug"]);
        // While it scans, and while the records of a transaction are on their way.
        let moment = if kill % 2 == 0 { "publishing" } else { "assigned" };
        wait_for(moment, || scanner.log_of_life(kill).contains(moment).then_some(()));
        scanner.kill();
    }
    let scanner = pipeline.start("a", &[]);
    let published = pipeline.answered();
    scanner.terminate();
    assert!(published.halves.is_empty(), "{} records of scans without a manifest", published.halves.len());
    assert!(published.letters.is_empty());
    published.scans.iter().for_each(PublishedScan::assert_whole);
    let scanned: BTreeSet<&str> =
        published.scans.iter().map(|scan| scan.manifest.artifact.as_str()).collect();
    assert_eq!(scanned.len(), kills, "each request is answered");
    println!("{} scans for {kills} requests after {kills} kills", published.scans.len());
}

#[test]
fn replicas_share_requests_and_never_scan_one_artifact_at_once() {
    let Some(servers) = servers() else { return };
    let mut pipeline = Pipeline::on(servers, "replicas");
    let root = application(pipeline.directory.path(), "app", 100);
    let mut requests = 0;
    let mut ask = |pipeline: &mut Pipeline| {
        for number in 0..12 {
            pipeline.request(&of_directory(&root, &format!("app{number}")));
            requests += 1;
        }
    };
    ask(&mut pipeline);
    let first = pipeline.start("a", &[]);
    wait_for("the first scans", || (pipeline.published().scans.len() > 2).then_some(()));
    // A replica joins and another leaves while requests are worked on.
    let second = pipeline.start("b", &[]);
    wait_for("the second replica to join", || second.log().contains("assigned").then_some(()));
    ask(&mut pipeline);
    wait_for("some more scans", || (pipeline.published().scans.len() > 14).then_some(()));
    first.terminate();
    ask(&mut pipeline);
    let published = pipeline.answered();
    second.terminate();
    assert!(published.halves.is_empty() && published.letters.is_empty());
    assert_eq!(published.scans.len(), requests, "each request is answered once");
    let producers: BTreeSet<&str> =
        published.scans.iter().map(|scan| scan.manifest.producer_id.as_str()).collect();
    assert_eq!(producers.len(), 2, "both replicas worked: {producers:?}");
    let mut times: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
    for scan in &published.scans {
        scan.assert_whole();
        let manifest = &scan.manifest;
        let time = (manifest.started_at_ms, manifest.completed_at_ms);
        times.entry(&manifest.artifact).or_default().push(time);
    }
    for (artifact, mut times) in times {
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{artifact} at once: {times:?}");
    }
}

/// Passes bytes between a port that the test opens late and the broker.
fn forward(listener: TcpListener, to: String) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count) = from.read(&mut buffer) {
                if count == 0 || to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    };
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&to) else { continue };
            copy(client.try_clone().unwrap(), server.try_clone().unwrap());
            copy(server, client);
        }
    });
}

#[test]
fn a_broker_that_is_down_at_start_is_waited_for() {
    let Some(servers) = servers() else { return };
    let mut pipeline = Pipeline::on(servers, "late");
    let root = application(pipeline.directory.path(), "app", 1);
    pipeline.request(&of_directory(&root, "app"));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let broker = format!("kafka.brokers={address}");
    let settings = [broker.as_str(), "kafka.start_timeout_ms=500", "kafka.request_timeout_ms=1000"];
    let mut scanner = pipeline.start("a", &settings);
    wait_for("the scanner to say what it waits for", || {
        (scanner.log().contains("waiting") && scanner.log().contains(&address.to_string())).then_some(())
    });
    assert!(!scanner.has_ended());
    forward(TcpListener::bind(address).unwrap(), pipeline.kafka.clone());
    assert_eq!(pipeline.answered().scans.len(), 1);
    scanner.terminate();
}

/// A stack of the test's own; stopped when dropped.
struct Stack {
    xtask: PathBuf,
    directory: tempfile::TempDir,
}

impl Stack {
    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.xtask);
        command.arg("stack").args(arguments).arg("--dir").arg(self.directory.path()).stdout(Stdio::null());
        assert!(command.status().unwrap().success(), "xtask stack {arguments:?}");
    }

    fn variable(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("env")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap().to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = Command::new(&self.xtask)
            .args(["stack", "down", "--dir"])
            .arg(self.directory.path())
            .stdout(Stdio::null())
            .status();
    }
}

#[test]
fn a_broker_that_goes_away_while_scanning_costs_no_request() {
    let Some((_, registry)) = servers() else { return };
    let Some(xtask) = std::env::var_os("PLIMSOLL_XTASK").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "CI must set PLIMSOLL_XTASK (cargo xtask test does)");
        println!("skipped: PLIMSOLL_XTASK is not set");
        return;
    };
    let stack = Stack { xtask, directory: tempfile::tempdir().unwrap() };
    stack.run(&["up", "--only", "kafka"]);
    let kafka = stack.variable("PLIMSOLL_TEST_KAFKA");
    let mut pipeline = Pipeline::on((kafka, registry), "outage");
    let root = application(pipeline.directory.path(), "app", 500);
    let mut scanner = pipeline.start("a", &[]);
    for number in 0..8 {
        pipeline.request(&of_directory(&root, &format!("app{number}")));
    }
    wait_for("the first scan", || (!pipeline.published().scans.is_empty()).then_some(()));
    stack.run(&["kill", "kafka"]);
    wait_for("the scanner to notice", || {
        let log = scanner.log();
        (log.contains("WARN") && log.contains("kafka") || log.contains("tried again")).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    assert!(!scanner.has_ended(), "{}", scanner.log());
    stack.run(&["restart", "kafka"]);
    let published = pipeline.answered();
    scanner.terminate();
    assert!(published.halves.is_empty() && published.letters.is_empty());
    published.scans.iter().for_each(PublishedScan::assert_whole);
    let scanned: BTreeSet<&str> =
        published.scans.iter().map(|scan| scan.manifest.artifact.as_str()).collect();
    assert_eq!(scanned.len(), 8);
    assert_eq!(published.scans.len(), 8, "no scan is published twice");
}

#[test]
fn images_of_the_engine_are_scanned_by_their_id() {
    let Some(servers) = servers() else { return };
    let Ok(engine) = std::env::var("PLIMSOLL_TEST_DOCKER_HOST") else {
        assert!(std::env::var_os("CI").is_none(), "CI must set PLIMSOLL_TEST_DOCKER_HOST");
        println!("skipped: PLIMSOLL_TEST_DOCKER_HOST is not set");
        return;
    };
    let mut pipeline = Pipeline::on(servers, "engine");
    let name = format!("plimsoll-scanner-service-test:{}", std::process::id());
    let docker = |arguments: &[&str], input: &[u8]| {
        let mut child = Command::new("docker")
            .args(["-H", &engine])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "docker {arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let root = layer(&[("etc/os-release", Text(OS_RELEASE)), ("var/lib/dpkg/status", Text(STATUS))]);
    let id = docker(&["import", "-", &name], &root);
    let artifact = format!("image/{id}");
    pipeline.request(&of_image(&artifact, format!("docker:{id}"), "first-seen-running"));
    let absent = format!("sha256:{}", "1".repeat(64));
    pipeline.request(&of_image(&format!("image/{absent}"), format!("docker:{absent}"), "first-seen-running"));
    let scanner = pipeline.start("a", &[&format!("docker.host={engine}")]);
    let published = pipeline.answered();
    scanner.terminate();
    docker(&["image", "rm", "-f", &name], b"");
    assert_eq!(published.scans.len(), 1);
    let scan = &published.scans[0];
    scan.assert_whole();
    assert_eq!((scan.manifest.package_count, scan.manifest.names.as_slice()), (2, &[name][..]));
    assert_eq!(published.letters.len(), 1);
    assert!(header(&published.letters[0], DETAIL_HEADER).contains("docker pull"));
}
