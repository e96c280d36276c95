//! Images of a real container engine (PLIMSOLL_TEST_DOCKER_HOST), against the same image saved to a file.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use plimsoll_scanner::{Scan, ScanError, ScanOptions, Target, scan};
use support::File::Text;
use support::{OS_RELEASE, STATUS, layer};

/// The engine's endpoint; `None` where there is none, which CI does not allow.
fn engine() -> Option<String> {
    let endpoint = std::env::var("PLIMSOLL_TEST_DOCKER_HOST").ok();
    if endpoint.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must set PLIMSOLL_TEST_DOCKER_HOST (cargo xtask test does)"
        );
        eprintln!("skipped: PLIMSOLL_TEST_DOCKER_HOST is not set");
    }
    endpoint
}

fn docker(endpoint: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("docker")
        .args(["-H", endpoint])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}");
    output.stdout
}

fn scan_image(target: &str, endpoint: &str) -> Result<Scan, ScanError> {
    let options = ScanOptions { database: None, docker_host: endpoint, progress: &|_| {} };
    scan(&Target::parse("image", target).unwrap(), None, &options)
}

struct Image<'a> {
    endpoint: &'a str,
    name: String,
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        docker(self.endpoint, &["image", "rm", "-f", &self.name], b"");
    }
}

#[test]
fn an_image_of_the_engine_is_its_saved_archive() {
    let Some(endpoint) = engine() else { return };
    let image = Image { endpoint: &endpoint, name: format!("plimsoll-scanner-test:{}", std::process::id()) };
    let root = layer(&[("etc/os-release", Text(OS_RELEASE)), ("var/lib/dpkg/status", Text(STATUS))]);
    docker(&endpoint, &["import", "-", &image.name], &root);
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("saved.tar");
    std::fs::write(&archive, docker(&endpoint, &["save", &image.name], b"")).unwrap();

    let live = scan_image(&format!("docker:{}", image.name), &endpoint).unwrap();
    let saved = scan_image(&format!("archive:{}", archive.display()), &endpoint).unwrap();
    assert_eq!(live.manifest.artifact, saved.manifest.artifact);
    assert_eq!(live.manifest.package_hash, saved.manifest.package_hash);
    assert_eq!(live.manifest.package_count, 2);
    assert_eq!(live.manifest.names, std::slice::from_ref(&image.name));

    // The engine's own word for the image leads to the same artifact.
    let inspected = docker(&endpoint, &["image", "inspect", "-f", "{{.Id}}", &image.name], b"");
    let id = String::from_utf8(inspected).unwrap().trim().to_owned();
    let by_id = scan_image(&format!("docker:{id}"), &endpoint).unwrap();
    assert_eq!(by_id.manifest.artifact, live.manifest.artifact);
    let config = live.manifest.artifact.trim_start_matches("image/").to_owned();
    assert!(id == config || live.manifest.aliases.contains(&id), "{id} is neither the key nor an alias");

    let missing = scan_image("docker:plimsoll-no-such-image", &endpoint).unwrap_err();
    assert!(matches!(missing, ScanError::NoSuchImage { .. }), "{missing}");
}
